//! Asking `nvidia-smi` something that is no reading, under the same rules: one at a time, and none while one is stuck.

use super::child::{self, ChildLimits, End, Finished};
use super::host_lock::Turn;
use super::store::Store;
use super::{Settings, child_record, limited};
use crate::record::{Lock, remove_if_present};
use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long a reading under way is waited for.
const READING: Duration = Duration::from_secs(2);
const LOOK_APART: Duration = Duration::from_millis(20);

/// Runs a program of the host within limits. It is killed when the thread that called ends.
pub(crate) fn run_limited(
    launcher: &Path,
    program: &Path,
    arguments: &[&str],
    limits: ChildLimits,
) -> Finished {
    let command = limited(launcher, None, program, arguments);
    child::run(command, &[], Stdio::null(), limits)
}

/// The same for `nvidia-smi`: its process is written down at `record`, and the turn goes with it.
pub(super) fn run_in_turn(
    launcher: &Path,
    record: &Path,
    turn: &Turn,
    program: &Path,
    arguments: &[&str],
    limits: ChildLimits,
) -> Finished {
    let stdin = match turn {
        Turn::Ours(lock) => match lock.try_clone() {
            Ok(lock) => Stdio::from(lock),
            Err(error) => return Finished::silent(End::NotStarted(error.to_string())),
        },
        Turn::Free => Stdio::null(),
    };
    let command = limited(launcher, Some(record), program, arguments);
    child::run(command, &[], stdin, limits)
}

fn limited(launcher: &Path, record: Option<&Path>, program: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(launcher);
    command
        .arg(limited::ROLE)
        .arg(std::process::id().to_string())
        .arg(record.map_or(OsStr::new(""), Path::as_os_str))
        .arg(program)
        .args(arguments);
    command
}

/// Blocks until it has ended or was given up.
pub(super) fn ask(
    settings: &Settings,
    store: &Store,
    arguments: &[&str],
    limits: ChildLimits,
) -> Result<Finished, String> {
    let program = settings.program.find().ok_or("there is no nvidia-smi")?;
    // A folder that cannot be written must not keep anybody from seeing their GPUs.
    let lock = store.make().and_then(|()| turn(store));
    if let Ok(None) = lock {
        return Err("nvidia-smi is being run by another process of the account".to_owned());
    }
    if let Some(left) = child_record::clear_away(store.folder(), limits.kill) {
        return Err(format!(
            "nvidia-smi (pid {}) is stuck, so no other is started",
            left.pid
        ));
    }
    let of_host = settings.turn().map_err(|trouble| {
        let detail = trouble.detail.unwrap_or_default();
        format!("another account of the host reads its GPUs: {detail}")
    })?;
    let record = store.folder().join(child_record::NAME);
    let finished = run_in_turn(&settings.launcher, &record, &of_host, &program, arguments, limits);
    if !matches!(finished.end, End::Stuck(_)) {
        let _ = remove_if_present(&record);
    }
    Ok(finished)
}

fn turn(store: &Store) -> Result<Option<Lock>, crate::record::RecordError> {
    let deadline = Instant::now() + READING;
    loop {
        match Lock::try_take(&store.lock_path())? {
            None if Instant::now() < deadline => std::thread::sleep(LOOK_APART),
            lock => return Ok(lock),
        }
    }
}
