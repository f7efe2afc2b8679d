//! How the run ended, as rows ask about it.

use super::Case;
use crate::diagnosis::rules::Found;
use crate::diagnosis::{Certainty, MemoryContext};
use farrun_protocol::diagnostics::SETTLED;
use farrun_protocol::verdict::Reason;

impl<'a> Case<'a> {
    /// Something certain when the run ended for this reason.
    pub(in crate::diagnosis) fn reason_is(&self, reason: Reason) -> Option<Found> {
        (self.reason() == Some(reason)).then(|| {
            let found = Found::certain();
            match self.said.iter().find(|said| !said.quote.is_empty()) {
                Some(said) => found.quoting(said.file, &said.quote),
                None => found,
            }
        })
    }

    /// As [`Self::reason_is`], unless what was said about the start is known better.
    pub(in crate::diagnosis) fn unexplained(&self, reason: Reason) -> Option<Found> {
        let known = self.said_by.iter().any(Option::is_some);
        self.reason_is(reason).filter(|_| !known)
    }

    pub(super) fn reason(&self) -> Option<Reason> {
        let settled = self.evidence.settled.as_ref();
        self.facts
            .run
            .reason
            .or_else(|| settled.map(|settled| settled.verdict.reason))
    }

    /// Exit code of the main process.
    pub(in crate::diagnosis) fn exit_code(&self) -> Option<i32> {
        let settled = self.evidence.settled.as_ref();
        self.facts
            .run
            .exit_code
            .or_else(|| settled.and_then(|settled| settled.verdict.exit_code))
    }

    /// Whether the main process ended by itself, with this code.
    pub(in crate::diagnosis) fn exited_with(&self, code: i32) -> bool {
        self.reason() == Some(Reason::ExitCode) && self.exit_code() == Some(code) && self.signal().is_none()
    }

    /// Signal that ended the main process.
    pub(in crate::diagnosis) fn signal(&self) -> Option<i32> {
        let settled = self.evidence.settled.as_ref();
        self.facts
            .run
            .signal
            .or_else(|| settled.and_then(|settled| settled.verdict.signal))
    }

    /// Whether SIGKILL ended the main process, or it passed on that one of its own was.
    pub(in crate::diagnosis) fn was_killed(&self) -> bool {
        self.signal() == Some(9) || self.exit_code() == Some(137)
    }

    /// Whether the job ended by `signal` and nobody outside is known to have sent it.
    pub(in crate::diagnosis) fn ended_by(&self, signal: i32, sure: Certainty) -> Option<Found> {
        let by_itself = matches!(self.reason(), None | Some(Reason::ExitCode | Reason::Signal));
        let ended = self.signal() == Some(signal) || self.exit_code() == Some(128 + signal);
        let words = match self.signal() {
            Some(signal) => format!("signal {signal}"),
            None => format!("exit code {}", 128 + signal),
        };
        (by_itself && ended).then(|| Found::with(sure).quoting(SETTLED, &words))
    }

    /// A line near the end that a shell wrote when it ended with `code`.
    pub(in crate::diagnosis) fn of_the_shell(&self, code: i32, pattern: &str) -> Option<Found> {
        if self.exit_code() != Some(code) {
            return None;
        }
        let found = self.in_log(pattern);
        Some(
            found.unwrap_or_else(|| {
                Found::with(Certainty::Likely).quoting(SETTLED, &format!("exit code {code}"))
            }),
        )
    }

    /// Processes of the container that the kernel ended for want of memory, as PID 1 and the cgroup counted.
    pub(in crate::diagnosis) fn oom_kills(&self) -> u64 {
        let exit = self
            .evidence
            .settled
            .as_ref()
            .and_then(|settled| settled.exit.as_ref());
        let counted = self.evidence.counter(&[
            "memory.events.oom_kill",
            "memory.oom_control.oom_kill",
            "oom_kill",
        ]);
        exit.map_or(0, |exit| exit.oom_kills).max(counted.unwrap_or(0))
    }

    /// Whether the record of the end has the engine's flag.
    pub(in crate::diagnosis) fn engine_says_oom(&self) -> bool {
        let container = self
            .evidence
            .settled
            .as_ref()
            .and_then(|settled| settled.container.as_ref());
        container.is_some_and(|container| container.oom_killed) || self.reason() == Some(Reason::OutOfMemory)
    }

    /// The engine's id of the container.
    pub(in crate::diagnosis) fn container_id(&self) -> Option<&str> {
        let own = self.facts.run.container_id.as_deref();
        let inspected = Some(self.evidence.container.id.as_str());
        // Shorter words would be found in many a line.
        own.or(inspected).filter(|id| id.len() >= 12)
    }

    /// Memory of the container and of the host.
    pub(in crate::diagnosis) fn memory(&self) -> &MemoryContext {
        &self.context.memory
    }
}
