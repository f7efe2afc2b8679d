//! Turns the typed end of a run into the one readable line of `error_message`: where it is shown, and on a host where
//! nobody is connected for a notification.

use crate::record::Settled;
use crate::spec::{Capture, RunSpec};
use crate::verdict::{Reason, RunResult, Verdict};

/// Longest `error_message`, in characters.
pub const MAX_ERROR_MESSAGE: usize = 1000;

/// The line for a settled run; none when it succeeded.
pub fn error_message(settled: &Settled, spec: &RunSpec) -> Option<String> {
    if settled.verdict.result == RunResult::Succeeded {
        return None;
    }
    Some(one_line(&sentence(&settled.verdict, spec)))
}

/// The line for an end that the host did not settle.
pub fn without_record(reason: Reason, detail: Option<&str>, spec: &RunSpec) -> String {
    let verdict = Verdict {
        result: RunResult::Failed,
        reason,
        exit_code: None,
        signal: None,
        detail: detail.map(str::to_owned),
    };
    one_line(&sentence(&verdict, spec))
}

/// The line for a log that its host could not store whole; `missing` bytes of it are nowhere.
pub fn log_error(error: &str, missing: u64) -> String {
    one_line(&format!(
        "the host could not store all that the job printed: {missing} bytes are missing ({error})"
    ))
}

/// The line for a log of which the engine could not hand out the rest.
pub fn engine_log_error(error: &str) -> String {
    one_line(&format!(
        "the container engine did not hand out all that the job printed ({error})"
    ))
}

fn sentence(verdict: &Verdict, spec: &RunSpec) -> String {
    let detail = verdict.detail.as_deref().unwrap_or_default();
    let said = if detail.is_empty() || detail == spec.image {
        String::new()
    } else {
        format!(": {detail}")
    };
    match verdict.reason {
        Reason::Ok => "the job succeeded".to_owned(),
        Reason::ExitCode => match verdict.exit_code {
            Some(code) => format!("the job exited with code {code}{}", exit_hint(code)),
            None => "the job exited with an unknown code".to_owned(),
        },
        Reason::Signal => format!("the job was ended by {}", signal_name(verdict.signal)),
        Reason::OutOfMemory => match spec.memory_limit {
            Some(limit) => {
                let limit = size(limit);
                format!("the kernel ended the job: it needed more memory than its limit of {limit}")
            }
            None => "the kernel ended the job: the host ran out of memory".to_owned(),
        },
        Reason::TimeLimit => {
            let limit = spec
                .time_limit
                .map(|seconds| format!(" of {seconds} s"))
                .unwrap_or_default();
            format!("the job was ended by its time limit{limit}")
        }
        Reason::Stopped => "stopped on request".to_owned(),
        Reason::KilledByOther => {
            let signal = verdict
                .signal
                .map(|signal| format!(" with {}", signal_name(Some(signal))))
                .unwrap_or_default();
            let after = verdict
                .exit_code
                .map(|code| format!("; the job then exited with code {code}"))
                .unwrap_or_default();
            format!("somebody else killed or stopped the container{signal}{after}")
        }
        Reason::CommandNotFound => format!("the image has no program `{detail}`"),
        Reason::CommandNotExecutable => format!("the program cannot be executed{said}"),
        Reason::WorkingDirectory => format!("the working directory cannot be entered{said}"),
        Reason::ImageMissing => format!("the image `{}` does not exist{said}", spec.image),
        Reason::ImageDenied => format!("the registry refused the image `{}`{said}", spec.image),
        Reason::ImagePull => format!("the image `{}` could not be fetched{said}", spec.image),
        Reason::EngineRefused => format!("the container engine refused to start the job{said}"),
        Reason::GpuUnavailable => format!("the container engine cannot hand out the GPUs{said}"),
        Reason::GpuRefused => format!("the host has no GPU for the job{said}"),
        Reason::GpuTaken => format!(
            "another run held one of its GPUs when it was started, so the job was not executed; order it again{said}"
        ),
        Reason::WaitExpired => "no GPU became free in the time the order allowed".to_owned(),
        Reason::EngineRestart => "the container engine went down and took the job with it".to_owned(),
        Reason::HostReboot => "the host was restarted under the job".to_owned(),
        Reason::ContainerRemoved => {
            "somebody removed the container before the job's end was recorded".to_owned()
        }
        Reason::EngineSilent => match spec.capture {
            Capture::Init => {
                "the job was ended from outside; by what is not known before the container engine answers again"
            }
            Capture::Docker => {
                "the job has ended; whether it succeeded, and what it printed last, is not known before the container \
                 engine answers again, which captured it"
            }
        }
        .to_owned(),
        Reason::SecretsMissing => "the secrets did not reach the job, so it was never started".to_owned(),
        Reason::RecordDamaged => format!("the record of the job's end is missing or damaged{said}"),
        Reason::OutputMissing => format!("the job succeeded and left no {detail}"),
        Reason::Unknown => format!("nothing says how the job ended{said}"),
        Reason::NotLaunched => format!("the order did not reach the host{said}"),
        Reason::Interrupted => "interrupted before the host had acknowledged the order".to_owned(),
        Reason::HostLost => format!("the host was given up{said}"),
        Reason::OutputsLost => "the job succeeded and its outputs were lost with the host".to_owned(),
    }
}

/// A size: `512 B`, `3.2 GiB`.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = "KiB";
    for next in UNITS.into_iter().skip(1) {
        // 1023.95 would be shown as 1024.0 of the smaller unit.
        if value < 1023.95 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    format!("{value:.1} {unit}")
}

fn exit_hint(code: i32) -> &'static str {
    match code {
        126 => " (a command could not be executed)",
        127 => " (a command was not found)",
        137 => " (128 + SIGKILL: a process of the job was killed)",
        139 => " (128 + SIGSEGV: a process of the job crashed)",
        143 => " (128 + SIGTERM: a process of the job was asked to end)",
        _ => "",
    }
}

/// `SIGKILL` and the like; the number where there is no name.
pub fn signal_name(signal: Option<i32>) -> String {
    const NAMES: [(i32, &str); 14] = [
        (1, "SIGHUP"),
        (2, "SIGINT"),
        (3, "SIGQUIT"),
        (4, "SIGILL"),
        (6, "SIGABRT"),
        (7, "SIGBUS"),
        (8, "SIGFPE"),
        (9, "SIGKILL"),
        (10, "SIGUSR1"),
        (11, "SIGSEGV"),
        (12, "SIGUSR2"),
        (13, "SIGPIPE"),
        (14, "SIGALRM"),
        (15, "SIGTERM"),
    ];
    match signal {
        None => "a signal".to_owned(),
        Some(number) => NAMES
            .iter()
            .find(|(known, _)| *known == number)
            .map_or_else(|| format!("signal {number}"), |(_, name)| (*name).to_owned()),
    }
}

/// Folds white space and cuts to what the database keeps.
fn one_line(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().take(MAX_ERROR_MESSAGE).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> RunSpec {
        serde_json::from_value(serde_json::json!({
            "format": 1, "run_id": "rs_abcdefgh", "controller_id": "co_abcdefgh", "operation": "run", "name": "x",
            "created_at": "2026-01-02T03:04:05Z", "image": "demo:1", "inputs_target": "/i", "outputs_target": "/o",
            "time_limit": 60,
        }))
        .unwrap()
    }

    #[test]
    fn every_reason_has_a_line_of_its_own() {
        let mut lines: Vec<String> = Reason::ALL
            .iter()
            .map(|reason| without_record(*reason, Some("what was said"), &spec()))
            .collect();
        assert!(lines.iter().all(|line| !line.is_empty() && !line.contains('\n')));
        lines.sort();
        lines.dedup();
        assert_eq!(lines.len(), Reason::ALL.len());
    }

    #[test]
    fn sizes_change_unit_before_they_read_1024() {
        let shown = [0, 1023, 1024, 1_048_523, 1_048_570, 3_435_973_837, u64::MAX].map(size);
        assert_eq!(
            shown,
            [
                "0 B",
                "1023 B",
                "1.0 KiB",
                "1023.9 KiB",
                "1.0 MiB",
                "3.2 GiB",
                "16.0 EiB"
            ]
        );
    }

    #[test]
    fn an_image_that_is_missing_is_named_once() {
        let mut spec = spec();
        spec.image = "train:2".to_owned();
        let told = |detail| without_record(Reason::ImageMissing, Some(detail), &spec);
        assert_eq!(told("train:2"), "the image `train:2` does not exist");
        assert_eq!(
            told("manifest unknown"),
            "the image `train:2` does not exist: manifest unknown"
        );
    }

    #[test]
    fn a_long_quotation_is_cut() {
        let line = without_record(Reason::EngineRefused, Some(&"é\n".repeat(5000)), &spec());
        assert_eq!(line.chars().count(), MAX_ERROR_MESSAGE);
    }
}
