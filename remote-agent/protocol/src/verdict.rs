//! How a run ended, told from facts in a fixed order of trust: our exit record, then the engine, then the boot id.

use serde::{Deserialize, Serialize};

/// How a run ended, for good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// The three ways a run can end.
    pub result: RunResult,
    /// Stable code of why.
    pub reason: Reason,
    /// Exit code of the main process, when it exited.
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

/// What is known about a container that no longer runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// `exit.json`, when it is valid.
    pub exit: Option<crate::record::ExitRecord>,
    /// Whether PID 1 had claimed the run (its command was or may have been executed).
    pub claimed: bool,
    /// What the engine says; none when it has no such container.
    pub container: Option<crate::record::ContainerFacts>,
    /// Whether a stop was asked for through us.
    pub stop_requested: bool,
    /// Boot id when the container was started, and now.
    pub boot_id_then: Option<String>,
    /// Boot id now.
    pub boot_id_now: Option<String>,
    /// Whether the engine process is younger than the container's end.
    pub engine_restarted: bool,
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

fn judge_exit(exit: &crate::record::ExitRecord, evidence: &Evidence) -> Verdict {
    use crate::record::ExecError;
    let verdict = |result, reason| Verdict {
        result,
        reason,
        exit_code: exit.code,
        signal: exit.signal,
        detail: None,
    };
    if let Some(error) = &exit.exec_error {
        let reason = match error {
            ExecError::NotFound { .. } => Reason::CommandNotFound,
            ExecError::NotExecutable { .. } => Reason::CommandNotExecutable,
            ExecError::WorkingDirectory { .. } => Reason::WorkingDirectory,
            ExecError::SecretsMissing => Reason::SecretsMissing,
            ExecError::Record { .. } => Reason::RecordDamaged,
            ExecError::GpuLock { .. } => Reason::GpuTaken,
            ExecError::GpuHidden { .. } => Reason::GpuUnavailable,
        };
        let result = if evidence.stop_requested && reason == Reason::SecretsMissing {
            RunResult::Cancelled
        } else {
            RunResult::Failed
        };
        return Verdict {
            detail: error.detail(),
            ..verdict(result, reason)
        };
    }
    // A job that tidies up and exits with 0 because it was asked to end, by whomever, has not done all of its work.
    let asked_to_end = exit.timed_out
        || exit.asked_to_end().is_some()
        || (evidence.stop_requested && !exit.forwarded.is_empty());
    let code_0 = exit.code == Some(0);
    if code_0 && !asked_to_end {
        return verdict(RunResult::Succeeded, Reason::Ok);
    }
    if exit.timed_out {
        return verdict(RunResult::Failed, Reason::TimeLimit);
    }
    if evidence.stop_requested {
        return verdict(RunResult::Cancelled, Reason::Stopped);
    }
    // A job that outlived the death of a child by memory and then failed names the memory, not its exit code.
    if exit.oom_kills > 0 && !code_0 {
        return verdict(RunResult::Failed, Reason::OutOfMemory);
    }
    if !exit.forwarded.is_empty() {
        let reason = if evidence.engine_restarted {
            Reason::EngineRestart
        } else {
            Reason::KilledByOther
        };
        return verdict(RunResult::Failed, reason);
    }
    let reason = if exit.signal.is_some() {
        Reason::Signal
    } else {
        Reason::ExitCode
    };
    verdict(RunResult::Failed, reason)
}

fn judge_engine(evidence: &Evidence) -> Verdict {
    let rebooted =
        matches!((&evidence.boot_id_then, &evidence.boot_id_now), (Some(then), Some(now)) if then != now);
    let Some(container) = &evidence.container else {
        return match () {
            () if evidence.stop_requested => Verdict {
                result: RunResult::Cancelled,
                ..failed(Reason::Stopped)
            },
            () if rebooted => failed(Reason::HostReboot),
            () => failed(Reason::ContainerRemoved),
        };
    };
    let code = container.exit_code.and_then(|code| i32::try_from(code).ok());
    let signal = code
        .filter(|code| (129..=192).contains(code))
        .map(|code| code - 128);
    let detail = container.error.clone().filter(|error| !error.is_empty());
    let with = |result, reason| Verdict {
        result,
        reason,
        exit_code: code.filter(|_| signal.is_none()),
        signal,
        detail: detail.clone(),
    };
    if rebooted {
        return with(RunResult::Failed, Reason::HostReboot);
    }
    if container.started_at.is_none() {
        let reason = if evidence.stop_requested {
            return with(RunResult::Cancelled, Reason::Stopped);
        } else if detail.is_some() {
            Reason::EngineRefused
        } else {
            Reason::NotLaunched
        };
        return with(RunResult::Failed, reason);
    }
    if container.oom_killed {
        return with(RunResult::Failed, Reason::OutOfMemory);
    }
    if evidence.stop_requested {
        return with(RunResult::Cancelled, Reason::Stopped);
    }
    if evidence.engine_restarted {
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
mod tests {
    use super::*;
    use crate::log::LogEnd;
    use crate::record::ExitRecord;

    fn exited_with_0(forwarded: Vec<i32>, timed_out: bool, stop_requested: bool) -> RunResult {
        judge(&evidence_of_0(forwarded, timed_out, stop_requested)).result
    }

    fn evidence_of_0(forwarded: Vec<i32>, timed_out: bool, stop_requested: bool) -> Evidence {
        let exit = ExitRecord {
            format: crate::record::FORMAT,
            code: Some(0),
            signal: None,
            exec_error: None,
            started_at: None,
            ended_at: chrono::DateTime::UNIX_EPOCH,
            boot_id: None,
            log: LogEnd {
                length: 0,
                sha256: crate::Sha256::of(b""),
            },
            written: 0,
            dropped: 0,
            tail: 0,
            log_error: None,
            timed_out,
            forwarded,
            end_signal: None,
            oom_kills: 0,
        };
        Evidence {
            exit: Some(exit),
            stop_requested,
            ..Evidence::default()
        }
    }

    #[test]
    fn a_job_that_somebody_else_asked_to_end_did_not_succeed() {
        let mut evidence = evidence_of_0(vec![10, 15], false, false);
        let verdict = judge(&evidence);
        assert_eq!(
            (verdict.result, verdict.reason, verdict.exit_code),
            (RunResult::Failed, Reason::KilledByOther, Some(0))
        );
        evidence.engine_restarted = true;
        assert_eq!(judge(&evidence).reason, Reason::EngineRestart);
        // Behind more signals than the list holds, and beside a child that died for want of memory.
        let mut evidence = evidence_of_0(vec![10; 16], false, false);
        let exit = evidence.exit.as_mut().unwrap();
        (exit.end_signal, exit.oom_kills) = (Some(2), 1);
        assert_eq!(judge(&evidence).reason, Reason::KilledByOther);
    }

    #[test]
    fn a_job_that_tidies_up_when_asked_to_end_did_not_succeed() {
        assert_eq!(exited_with_0(vec![15], false, true), RunResult::Cancelled);
        assert_eq!(exited_with_0(vec![], true, false), RunResult::Failed);
    }

    #[test]
    fn a_job_that_ended_before_the_request_reached_it_succeeded() {
        assert_eq!(exited_with_0(vec![], false, true), RunResult::Succeeded);
        assert_eq!(exited_with_0(vec![10], false, false), RunResult::Succeeded);
    }
}
