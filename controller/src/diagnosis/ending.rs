//! What an exit code, a signal or a reason means by itself. Says what ended a run and never guesses why.

use crate::model::Run;
use crate::model::signal::signal_name;
use farrun_protocol::record::Settled;
use farrun_protocol::verdict::Reason;

/// The end of a run in words. Of a run whose cause is known only what ended it: what a signal or a code may mean by
/// itself would repeat the cause or contradict it.
pub(super) fn words(run: &Run, settled: Option<&Settled>, is_explained: bool) -> String {
    let verdict = settled.map(|settled| &settled.verdict);
    let code = run
        .exit_code
        .or_else(|| verdict.and_then(|verdict| verdict.exit_code));
    let signal = run.signal.or_else(|| verdict.and_then(|verdict| verdict.signal));
    let reason = run.reason.or_else(|| verdict.map(|verdict| verdict.reason));
    let job = match (signal, code) {
        (Some(signal), _) if is_explained => {
            let name = signal_name(Some(signal));
            Some(format!("ended by {name} ({})", signal.saturating_add(128)))
        }
        (None, Some(code)) if is_explained => Some(format!("exit code {code}{}", signal_of(code, |_| ""))),
        (Some(signal), _) => Some(format!(
            "the job was ended by {}{}",
            signal_name(Some(signal)),
            of_signal(signal)
        )),
        (None, Some(code)) => Some(format!("the job exited with code {code}{}", of_code(code))),
        (None, None) => None,
    };
    match (job, reason) {
        (Some(job), None | Some(Reason::Ok | Reason::ExitCode | Reason::Signal)) => job,
        (Some(job), Some(_)) if is_explained => job,
        (Some(job), Some(reason)) => format!("{}; {job}", of_reason(reason)),
        (None, Some(reason)) => of_reason(reason).to_owned(),
        (None, None) => "nothing says how the job ended".to_owned(),
    }
}

/// The signal that an exit code stands for, after the code, and what is said of it.
fn signal_of(code: i32, say: impl Fn(i32) -> &'static str) -> String {
    match code {
        129..160 => format!(": 128 + {}{}", signal_name(Some(code - 128)), say(code - 128)),
        _ => String::new(),
    }
}

/// What a signal means, after its name.
fn of_signal(signal: i32) -> &'static str {
    match signal {
        2 => ", an interrupt as by Ctrl-C",
        4 => ", an instruction that this processor does not have",
        6 => ", an abort: the program found itself in a state it could not go on from",
        7 => ", a bus error: often /dev/shm is full, or a file that was mapped into memory became shorter",
        8 => ", an arithmetic error",
        9 => ", which no program can prevent; the kernel sends it when memory runs out, else somebody did",
        11 => ", a segmentation fault: the program used memory that is not its own",
        13 => ", because nobody read what it wrote",
        15 => ", which asks a program to end",
        24 => ", because its limit of processor time was reached",
        25 => ", because its limit of file size was reached",
        31 => ", because it made a system call that the container forbids",
        _ => "",
    }
}

/// What an exit code means, after the code.
fn of_code(code: i32) -> String {
    let words = match code {
        1 => ", which programs use for any error",
        2 => ", which programs often use for a wrong command line",
        125 => ": the container was started a second time, or its engine refused",
        126 => ": a command was found and could not be executed",
        127 => ": a command was not found",
        128 => ": the container could not be started",
        255 => ", which programs use for any error beyond their numbers",
        _ => "",
    };
    words.to_owned() + &signal_of(code, of_signal)
}

fn of_reason(reason: Reason) -> &'static str {
    match reason {
        Reason::Ok | Reason::ExitCode => "the job ended by itself",
        Reason::Signal => "a signal ended the job",
        Reason::OutOfMemory => "the kernel ended a process of the container for want of memory",
        Reason::TimeLimit => "its time limit was reached",
        Reason::Stopped => "it was stopped on request",
        Reason::KilledByOther => "somebody else killed or stopped the container",
        Reason::CommandNotFound => "the program does not exist in the image",
        Reason::CommandNotExecutable => "the program cannot be executed",
        Reason::WorkingDirectory => "the working directory cannot be entered",
        Reason::ImageMissing => "the image does not exist",
        Reason::ImageDenied => "the registry refused the image",
        Reason::ImagePull => "the image could not be fetched",
        Reason::EngineRefused => "the container engine refused to start the job",
        Reason::GpuUnavailable => "the container engine cannot hand out GPUs",
        Reason::GpuRefused => "the host had no GPU for it",
        Reason::GpuTaken => "one of its GPUs was held by somebody else when it was started",
        Reason::WaitExpired => "no GPU became free in time",
        Reason::EngineRestart => "the container engine went down",
        Reason::HostReboot => "the host was restarted",
        Reason::ContainerRemoved => "somebody removed the container",
        Reason::EngineSilent => "it has ended, and the container engine has yet to say how",
        Reason::SecretsMissing => "the secrets did not reach the job",
        Reason::RecordDamaged => "the record of its end is missing or damaged",
        Reason::OutputMissing => "the job ended well and a demanded output is missing",
        Reason::Unknown => "nothing says how it ended",
        Reason::NotLaunched => "the order did not reach the host",
        Reason::Interrupted => "it was interrupted before the host had the order",
        Reason::HostLost => "the host was given up",
        Reason::OutputsLost => "the job ended well and its outputs were lost with the host",
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::run;
    use super::*;

    #[test]
    fn codes_signals_and_reasons_are_explained() {
        let ended = |code: Option<i32>, signal: Option<i32>, reason: Option<Reason>| {
            let mut run = run();
            (run.exit_code, run.signal, run.reason) = (code, signal, reason);
            words(&run, None, false)
        };
        for (code, part) in [
            (3, "code 3"),
            (126, "could not be executed"),
            (127, "not found"),
            (130, "SIGINT"),
            (134, "SIGABRT"),
            (135, "/dev/shm"),
            (137, "SIGKILL"),
            (139, "SIGSEGV"),
            (143, "SIGTERM"),
        ] {
            let told = ended(Some(code), None, Some(Reason::ExitCode));
            assert!(told.contains(part) && told.contains(&code.to_string()), "{told}");
        }
        assert!(ended(None, Some(11), Some(Reason::Signal)).contains("segmentation fault"));
        assert_eq!(
            ended(None, None, Some(Reason::Stopped)),
            "it was stopped on request"
        );
        assert_eq!(
            ended(Some(0), None, Some(Reason::OutputMissing)),
            "the job ended well and a demanded output is missing; the job exited with code 0"
        );
        assert_eq!(ended(None, None, None), "nothing says how the job ended");
    }

    #[test]
    fn where_the_cause_is_known_only_the_end_is_named() {
        let ended = |code: Option<i32>, signal: Option<i32>, reason: Option<Reason>| {
            let mut run = run();
            (run.exit_code, run.signal, run.reason) = (code, signal, reason);
            words(&run, None, true)
        };
        let killed = Some(Reason::KilledByOther);
        assert_eq!(ended(None, Some(9), killed), "ended by SIGKILL (137)");
        assert_eq!(ended(Some(137), None, killed), "exit code 137: 128 + SIGKILL");
        assert_eq!(ended(Some(1), None, Some(Reason::ExitCode)), "exit code 1");
        assert_eq!(
            ended(None, None, Some(Reason::Stopped)),
            "it was stopped on request"
        );
    }
}
