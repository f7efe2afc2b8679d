//! What a host wrote down about the way of a run, as quotations for ends that say themselves why.

use super::Case;
use super::words::ANSWER;
use crate::diagnosis::rules::Found;
use crate::model::signal::signal_name;
use chrono::{DateTime, SecondsFormat, Utc};
use farrun_protocol::diagnostics::{AGENT, EVENTS, SETTLED};
use farrun_protocol::record::Settled;

impl Case<'_> {
    /// With the record of the end: when the job began and ended, how, and what else it says of that.
    pub(in crate::diagnosis) fn with_record(&self, found: Found) -> Found {
        let run = self.facts.run;
        let settled = self.evidence.settled.as_ref();
        let mut fields = Vec::new();
        let mut time = |name: &str, at: Option<DateTime<Utc>>| {
            fields.extend(at.map(|at| format!("{name}: {}", moment(at))));
        };
        time(
            "started_at",
            run.started_at
                .or_else(|| settled.and_then(|settled| settled.started_at)),
        );
        time(
            "ended_at",
            run.ended_at
                .or_else(|| settled.and_then(|settled| settled.ended_at)),
        );
        time("booted_at", settled.and_then(|settled| settled.booted_at));
        time(
            "engine_started_at",
            settled.and_then(|settled| settled.engine_started_at),
        );
        fields.extend(self.exit_code().map(|code| format!("exit_code: {code}")));
        fields.extend(
            self.signal()
                .map(|signal| format!("signal: {signal} ({})", signal_name(Some(signal)))),
        );
        fields.extend(settled.map(of_pid_1).unwrap_or_default());
        let file = settled.map_or(ANSWER, |_| SETTLED);
        match fields.is_empty() {
            true => found,
            false => found.quoting(file, &fields.join(", ")),
        }
    }

    /// With the last of the engine's events about the container that is one of these.
    pub(in crate::diagnosis) fn with_events(&self, found: Found, actions: &[&str]) -> Found {
        let mut events = self.evidence.events.iter().rev();
        let Some(event) = events.find(|event| actions.contains(&event.action.as_str())) else {
            return found;
        };
        let at = event
            .at()
            .map(|at| format!("{} ", moment(at)))
            .unwrap_or_default();
        found.quoting(EVENTS, &format!("{at}{}: {}", event.action, event.words()))
    }

    /// With the host's word on why a file of the evidence is not there, where nothing else is quoted.
    pub(in crate::diagnosis) fn with_absence(&self, found: Found, file: &str) -> Found {
        let mut missing = self.evidence.missing.iter();
        match missing.find(|missing| missing.file == file && found.quotes.is_empty()) {
            Some(missing) => found.quoting(file, &missing.why),
            None => found,
        }
    }

    /// With the last step of this kind that an agent took.
    pub(in crate::diagnosis) fn with_step(&self, found: Found, kind: &str) -> Found {
        let mut steps = self.evidence.agent.iter().rev();
        match steps.find(|step| step.event == kind) {
            Some(step) => found.quoting(AGENT, &format!("{} {kind}", moment(step.at))),
            None => found,
        }
    }
}

/// What PID 1 knows of why it ended.
fn of_pid_1(settled: &Settled) -> Vec<String> {
    let mut fields = Vec::new();
    if let Some(exit) = &settled.exit {
        if exit.timed_out {
            fields.push("timed_out: true".to_owned());
        }
        if !exit.forwarded.is_empty() {
            let names: Vec<String> = exit
                .forwarded
                .iter()
                .map(|signal| signal_name(Some(*signal)))
                .collect();
            fields.push(format!("forwarded: {}", names.join(" ")));
        }
    }
    fields.extend(
        settled
            .engine_error
            .as_ref()
            .map(|error| format!("engine_error: {error}")),
    );
    fields
}

/// A moment as records have it, to the millisecond.
fn moment(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Millis, true)
}
