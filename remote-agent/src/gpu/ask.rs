//! Asking `nvidia-smi` something that is no reading, under the same rules: one at a time, and none while one is stuck.

use super::child::{self, ChildLimits, Finished};
use super::store::Store;
use super::{Settings, child_record, limited};
use crate::record::{Lock, remove_if_present};
use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// How long a reading under way is waited for.
const READING: Duration = Duration::from_secs(2);
const LOOK_APART: Duration = Duration::from_millis(20);

/// Runs a program of the host within limits. Its process is written down at `record`, when there is such a place. It is
/// killed when the thread that called ends.
pub(crate) fn run_limited(
    launcher: &Path,
    record: Option<&Path>,
    program: &Path,
    arguments: &[&str],
    limits: ChildLimits,
) -> Finished {
    let mut command = Command::new(launcher);
    command
        .arg(limited::ROLE)
        .arg(std::process::id().to_string())
        .arg(record.map_or(OsStr::new(""), Path::as_os_str))
        .arg(program)
        .args(arguments);
    child::run(command, limits)
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
    let record = store.folder().join(child_record::NAME);
    let finished = run_limited(&settings.launcher, Some(&record), &program, arguments, limits);
    if !matches!(finished.end, child::End::Stuck(_)) {
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
