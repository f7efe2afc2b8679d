//! One life of PID 1, from the claim to the exit record.

use super::args::InitArgs;
use super::capture::{Capture, Captured};
use super::claim::{self, Claim, ClaimError};
use super::echo::Echo;
use super::gpu_locks;
use super::run_log::RunLog;
use super::secrets::{self, NoSecrets, Secrets};
use super::signals::Signals;
use super::spawn;
use super::supervise::{Ended, Limits, Supervisor};
use super::tail::Tail;
use super::{REFUSED, oom};
use crate::program_pages;
use chrono::{DateTime, SecondsFormat, Utc};
use farrun_protocol::Sha256;
use farrun_protocol::log::LogEnd;
use farrun_protocol::record::{ExecError, ExitRecord, FORMAT, TAIL_SIZE};
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

/// Bytes read from the job at once.
const READ_SIZE: usize = 256 * 1024;
/// Length of a boot id, and more than that is not one.
const BOOT_ID_LIMIT: u64 = 64;

/// Runs the job and returns the exit code that tells how it ended: the job's own, 128 and the signal that ended
/// it, [`ExecError::exit_code`] or [`REFUSED`].
pub fn run(args: InitArgs) -> u8 {
    program_pages::let_go();
    // Without a claim there is no right to write the exit record either.
    let Ok(claim) = Claim::take(&args.record) else {
        return REFUSED;
    };
    let boot_id = boot_id(&args.boot_id_file);
    let (outcome, code) = match prepare(&args) {
        Ok(ready) => hold_and_execute(&args, &claim, boot_id.as_deref(), ready),
        Err(error) => refused(ExecError::Record {
            error: super::bounded(error),
        }),
    };
    let record = ExitRecord { boot_id, ..outcome };
    // There is nowhere left to say that even this failed; the engine still sees the exit code.
    let _ = claim.write_exit(&record);
    code
}

/// Everything that is opened before the job is thought of.
struct Ready {
    signals: Signals,
    capture: Capture,
}

fn prepare(args: &InitArgs) -> Result<Ready, ClaimError> {
    let log_path = args.record.join("run.log");
    let log = claim::open_append(&log_path)?;
    let tail = claim::open(&args.record.join("run.tail"))?;
    let at_log = |source| ClaimError::File {
        path: log_path.clone(),
        source,
    };
    if log.metadata().map_err(at_log)?.len() > 0 {
        return Err(ClaimError::Claimed);
    }
    let signals = Signals::install().map_err(at_log)?;
    adopt_orphans();
    let capture = Capture::new(RunLog::new(log), Tail::new(tail, TAIL_SIZE), args.cap);
    Ok(Ready { signals, capture })
}

/// Orphans come to PID 1 by themselves; anywhere else they have to be asked for.
fn adopt_orphans() {
    let own = rustix::process::getpid();
    if own.as_raw_nonzero().get() != 1 {
        let _ = rustix::process::set_child_subreaper(Some(own));
    }
}

/// The locks come before everything that could make the run count as started, and go with the process: only the
/// kernel lets go of them.
fn hold_and_execute(args: &InitArgs, claim: &Claim, boot_id: Option<&str>, ready: Ready) -> (ExitRecord, u8) {
    let locks = match gpu_locks::take(&args.locks) {
        Ok(locks) => locks,
        Err(error) => return refused(error),
    };
    let ended = match gpu_locks::require_visible(&args.gpus) {
        Ok(()) => {
            program_pages::let_go();
            execute(args, claim, boot_id, ready)
        }
        Err(error) => refused(error),
    };
    std::mem::forget(locks);
    ended
}

fn execute(args: &InitArgs, claim: &Claim, boot_id: Option<&str>, ready: Ready) -> (ExitRecord, u8) {
    let Ready { signals, mut capture } = ready;
    let secrets = match wait_for_secrets(args, &signals) {
        Ok(secrets) => secrets,
        Err(missing) => {
            let (record, code) = refused(ExecError::SecretsMissing);
            let forwarded = missing.signal.iter().map(|signal| signal.as_raw()).collect();
            return (ExitRecord { forwarded, ..record }, code);
        }
    };
    let oom_kills = oom::kills(&args.cgroup);
    let started_at = Utc::now();
    let time = started_at.to_rfc3339_opts(SecondsFormat::Millis, true);
    if let Err(error) = claim.mark_started(&format!("{time} {}\n", boot_id.unwrap_or("-"))) {
        return refused(ExecError::Record {
            error: super::bounded(error),
        });
    }
    program_pages::let_go();
    let job = match spawn::start(args, &secrets) {
        Ok(job) => job,
        Err(error) => return refused(error),
    };
    drop(secrets);
    let limits = Limits {
        time: args.time_limit,
        grace: args.grace,
    };
    program_pages::let_go();
    let mut buffer = vec![0; READ_SIZE];
    let supervisor = Supervisor::new(job, &signals, limits);
    let ended = match supervisor.run(&mut capture, &mut Echo::new(), &mut buffer) {
        Ok(ended) => ended,
        Err(error) => {
            return refused(ExecError::Record {
                error: super::bounded(error),
            });
        }
    };
    let oom_kills = oom::kills(&args.cgroup).saturating_sub(oom_kills);
    conclude(started_at, ended, capture.finish(&mut buffer), oom_kills)
}

fn wait_for_secrets(args: &InitArgs, signals: &Signals) -> Result<Secrets, NoSecrets> {
    if args.secrets {
        secrets::wait(rustix::stdio::stdin(), signals)
    } else {
        Ok(Secrets::new())
    }
}

fn conclude(started_at: DateTime<Utc>, ended: Ended, captured: Captured, oom_kills: u64) -> (ExitRecord, u8) {
    let signal = ended.status.terminating_signal();
    let code = ended.status.exit_status();
    let record = ExitRecord {
        format: FORMAT,
        code,
        signal,
        exec_error: None,
        started_at: Some(started_at),
        ended_at: ended.at,
        boot_id: None,
        log: captured.log,
        written: captured.written,
        dropped: captured.dropped,
        tail: captured.tail,
        log_error: captured.error,
        timed_out: ended.timed_out,
        forwarded: ended.forwarded,
        end_signal: ended.end_signal,
        oom_kills,
    };
    let code = code
        .or(signal.map(|signal| 128 + signal))
        .unwrap_or(i32::from(REFUSED));
    (record, u8::try_from(code).unwrap_or(REFUSED))
}

/// The end of a job that was never started.
fn refused(error: ExecError) -> (ExitRecord, u8) {
    let code = error.exit_code().and_then(|code| u8::try_from(code).ok());
    let code = code.unwrap_or(REFUSED);
    let record = ExitRecord {
        format: FORMAT,
        code: None,
        signal: None,
        exec_error: Some(error),
        started_at: None,
        ended_at: Utc::now(),
        boot_id: None,
        log: LogEnd {
            length: 0,
            sha256: Sha256::of(b""),
        },
        written: 0,
        dropped: 0,
        tail: 0,
        log_error: None,
        timed_out: false,
        forwarded: Vec::new(),
        end_signal: None,
        oom_kills: 0,
    };
    (record, code)
}

fn boot_id(path: &Path) -> Option<String> {
    let mut text = String::new();
    File::open(path)
        .ok()?
        .take(BOOT_ID_LIMIT)
        .read_to_string(&mut text)
        .ok()?;
    let text = text.trim();
    let plain = !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    plain.then(|| text.to_owned())
}
