//! How a run ended, told from facts in a fixed order of trust: our exit record, then the engine, then the boot id.

mod evidence;

pub use evidence::{Evidence, Silence};

use crate::record::{ExecError, ExitRecord};
use serde::{Deserialize, Serialize};

/// How a run ended, for good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// The three ways a run can end.
    pub result: RunResult,
    /// Stable code of why.
    pub reason: Reason,
    /// Exit code of the main process, when it exited, or could not be executed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// Signal that ended the main process, when one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// What the engine or the kernel said, word for word, at most 2000 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// The three ways a run can end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunResult {
    /// The job exited with code 0 and our record says so.
    Succeeded,
    /// Anything else that nobody asked for.
    Failed,
    /// Ended on the user's request.
    Cancelled,
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $code:literal,)*) => {
        /// Why a run ended as it did. The codes are stable: scripts and the database hold them.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum Reason {
            $($(#[$doc])* #[serde(rename = $code)] $name,)*
        }
        impl Reason {
            /// The stable code.
            pub fn code(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }
            /// The reason with this code.
            pub fn from_code(code: &str) -> Option<Self> {
                match code { $($code => Some(Self::$name),)* _ => None }
            }
            /// Every reason there is.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];
        }
    };
}

reasons! {
    /// Exit code 0.
    Ok = "ok",
    /// The main process exited with another code.
    ExitCode = "exit_code",
    /// A signal ended the main process, and nobody we know of sent it.
    Signal = "signal",
    /// The kernel ended a process of the container for want of memory.
    OutOfMemory = "out_of_memory",
    /// The run's own time limit ended it.
    TimeLimit = "time_limit",
    /// The user asked us to end it.
    Stopped = "stopped",
    /// The container was killed or stopped from outside, not by us.
    KilledByOther = "killed_by_other",
    /// The program named by the order or the image does not exist in the image.
    CommandNotFound = "command_not_found",
    /// That program exists and cannot be executed.
    CommandNotExecutable = "command_not_executable",
    /// The working directory could not be entered.
    WorkingDirectory = "working_directory",
    /// The image is not on the host and its registry does not have it either.
    ImageMissing = "image_missing",
    /// The registry refused: credentials are missing, wrong or not enough.
    ImageDenied = "image_denied",
    /// The image could not be fetched for another reason.
    ImagePull = "image_pull",
    /// The engine refused to create or start the container.
    EngineRefused = "engine_refused",
    /// The engine has no way to hand out GPUs.
    GpuUnavailable = "gpu_unavailable",
    /// The host had no GPU for it: none, none free, or none such.
    GpuRefused = "gpu_refused",
    /// The lock of one of its GPUs was held by somebody else when it was started; the job was not.
    GpuTaken = "gpu_taken",
    /// It waited for a GPU for as long as its order allowed.
    WaitExpired = "wait_expired",
    /// The engine went down and took the container with it.
    EngineRestart = "engine_restart",
    /// The host was restarted under the run.
    HostReboot = "host_reboot",
    /// Somebody removed the container before its end was recorded.
    ContainerRemoved = "container_removed",
    /// The job has ended, and the engine, which alone knows how, does not answer. The only reason that gives way to
    /// another: as soon as the engine answers, it is told anew.
    EngineSilent = "engine_silent",
    /// Secrets did not reach the job, so it was never started.
    SecretsMissing = "secrets_missing",
    /// The record of the run could not be written or is damaged.
    RecordDamaged = "record_damaged",
    /// The job exited with code 0 and did not leave an output that its recipe demands.
    OutputMissing = "output_missing",
    /// The container is gone and nothing says how it ended.
    Unknown = "unknown",
    /// The order never reached the host.
    NotLaunched = "not_launched",
    /// The user interrupted before the host had acknowledged the order.
    Interrupted = "interrupted",
    /// The host was given up, or another machine answers at its address.
    HostLost = "host_lost",
    /// The run succeeded and its host was gone before its outputs were here.
    OutputsLost = "outputs_lost",
}

const SIGKILL: i32 = 9;

/// Tells from evidence how a run ended. Without a valid exit record nothing ever succeeded.
pub fn judge(evidence: &Evidence) -> Verdict {
    match &evidence.exit {
        Some(exit) => judge_exit(exit, evidence),
        None => judge_engine(evidence),
    }
}

fn failed(reason: Reason) -> Verdict {
    Verdict {
        result: RunResult::Failed,
        reason,
        exit_code: None,
        signal: None,
        detail: None,
    }
}

fn judge_exit(exit: &ExitRecord, evidence: &Evidence) -> Verdict {
    let verdict = |result, reason| Verdict {
        result,
        reason,
        exit_code: exit.code,
        signal: exit.signal,
        detail: None,
    };
    if let Some(error) = &exit.exec_error {
        return Verdict {
            exit_code: exit.code.or_else(|| error.exit_code()),
            signal: exit.signal,
            detail: error.detail(),
            ..judge_unstarted(error, evidence)
        };
    }
    // A job that tidies up and exits with 0 because it was asked to end, by whomever, has not done all of its work.
    let asked_to_end = exit.timed_out
        || exit.asked_to_end().is_some()
        || (evidence.was_stopped() && !exit.forwarded.is_empty());
    let code_0 = exit.code == Some(0);
    if code_0 && !asked_to_end {
        return verdict(RunResult::Succeeded, Reason::Ok);
    }
    if exit.timed_out {
        return verdict(RunResult::Failed, Reason::TimeLimit);
    }
    if evidence.was_stopped() {
        return verdict(RunResult::Cancelled, Reason::Stopped);
    }
    // A job that outlived the death of a child by memory and then failed names the memory, not its exit code.
    if exit.oom_kills > 0 && !code_0 {
        return verdict(RunResult::Failed, Reason::OutOfMemory);
    }
    let reason = if ended_by_what_was_passed_on(exit) {
        who_took_it(evidence).unwrap_or(match evidence.may_be_going_down() {
            true => Reason::EngineSilent,
            false => Reason::KilledByOther,
        })
    } else if exit.signal.is_some() {
        Reason::Signal
    } else {
        Reason::ExitCode
    };
    verdict(RunResult::Failed, reason)
}

fn judge_unstarted(error: &ExecError, evidence: &Evidence) -> Verdict {
    let reason = match error {
        ExecError::NotFound { .. } => Reason::CommandNotFound,
        ExecError::NotExecutable { .. } => Reason::CommandNotExecutable,
        ExecError::WorkingDirectory { .. } => Reason::WorkingDirectory,
        ExecError::SecretsMissing => Reason::SecretsMissing,
        ExecError::Record { .. } => Reason::RecordDamaged,
        ExecError::GpuLock { .. } => Reason::GpuTaken,
        ExecError::GpuHidden { .. } => Reason::GpuUnavailable,
    };
    let waited_for_secrets = reason == Reason::SecretsMissing && evidence.was_stopped();
    Verdict {
        result: if waited_for_secrets {
            RunResult::Cancelled
        } else {
            RunResult::Failed
        },
        ..failed(reason)
    }
}

/// Whether a signal from outside has ended the job: one that asks for it, or the very one it died of, also as a shell
/// tells of it. A job that was told something by SIGUSR1 or SIGHUP an hour ago has its own reasons.
fn ended_by_what_was_passed_on(exit: &ExitRecord) -> bool {
    let signal = exit.signal.or_else(|| shells_signal(exit.code?));
    exit.asked_to_end().is_some() || signal.is_some_and(|signal| exit.forwarded.contains(&signal))
}

/// The signal that an exit code stands for.
fn shells_signal(code: i32) -> Option<i32> {
    (129..=192).contains(&code).then(|| code - 128)
}

/// What took the whole container away.
fn who_took_it(evidence: &Evidence) -> Option<Reason> {
    if evidence.went_with_host() {
        Some(Reason::HostReboot)
    } else {
        evidence.went_with_engine().then_some(Reason::EngineRestart)
    }
}

/// Neither a record nor a container.
fn judge_without_container(evidence: &Evidence) -> Verdict {
    let stopped = Verdict {
        result: RunResult::Cancelled,
        ..failed(Reason::Stopped)
    };
    match &evidence.silence {
        // It may have succeeded, before whatever happened since. Only a stop that found it alive is known to come first.
        Some(silence) if silence.engine_captured => {
            let asked = evidence.stop_requested_at.zip(silence.seen_alive_at);
            match asked.is_some_and(|(asked, alive)| asked <= alive) {
                true => stopped,
                false => failed(Reason::EngineSilent),
            }
        }
        _ if evidence.was_stopped() => stopped,
        _ if evidence.went_with_host() => failed(Reason::HostReboot),
        _ if evidence.went_with_engine() => failed(Reason::EngineRestart),
        Some(_) => failed(Reason::EngineSilent),
        None => failed(Reason::ContainerRemoved),
    }
}

fn judge_engine(evidence: &Evidence) -> Verdict {
    let Some(container) = &evidence.container else {
        return judge_without_container(evidence);
    };
    let code = container.exit_code.and_then(|code| i32::try_from(code).ok());
    let signal = code.and_then(shells_signal);
    let detail = container.error.clone().filter(|error| !error.is_empty());
    let with = |result, reason| Verdict {
        result,
        reason,
        exit_code: code.filter(|_| signal.is_none()),
        signal,
        detail: detail.clone(),
    };
    if container.started_at.is_none() {
        let reason = if evidence.was_stopped() {
            return with(RunResult::Cancelled, Reason::Stopped);
        } else if evidence.went_with_host() {
            Reason::HostReboot
        } else if detail.is_some() {
            Reason::EngineRefused
        } else {
            Reason::NotLaunched
        };
        return with(RunResult::Failed, reason);
    }
    // The code that an engine names after a restart of the host is whatever its version writes there, also 0.
    if evidence.went_with_host() {
        return with(RunResult::Failed, Reason::HostReboot);
    }
    if evidence.was_stopped() {
        return with(RunResult::Cancelled, Reason::Stopped);
    }
    // A child that died for want of memory is no failure of a job that went on and succeeded.
    if container.oom_killed && !(container.engine_capture && code == Some(0)) {
        return with(RunResult::Failed, Reason::OutOfMemory);
    }
    if evidence.went_with_engine() {
        return with(RunResult::Failed, Reason::EngineRestart);
    }
    if container.engine_capture {
        // The engine's word is all there is for a run that opted out of `init`.
        return match code {
            Some(0) => with(RunResult::Succeeded, Reason::Ok),
            _ if signal == Some(SIGKILL) => with(RunResult::Failed, Reason::KilledByOther),
            _ if signal.is_some() => with(RunResult::Failed, Reason::Signal),
            _ => with(RunResult::Failed, Reason::ExitCode),
        };
    }
    match signal {
        Some(_) => with(RunResult::Failed, Reason::KilledByOther),
        // PID 1 always leaves a record; without one something took it away or kept it from being written.
        None => with(RunResult::Failed, Reason::RecordDamaged),
    }
}

#[cfg(test)]
mod tests;
