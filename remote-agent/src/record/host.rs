//! What names this machine and this boot of it.

use super::{RecordError, read_value, sync_folder};
use chrono::{DateTime, TimeDelta, Utc};
use farrun_protocol::HostId;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::OnceLock;

/// The kernel's random name for this boot; empty when it has none. No process outlives it.
pub fn boot_id() -> String {
    static KNOWN: OnceLock<String> = OnceLock::new();
    if let Some(known) = KNOWN.get() {
        return known.clone();
    }
    match std::fs::read_to_string("/proc/sys/kernel/random/boot_id") {
        Ok(text) => KNOWN.get_or_init(|| text.trim().to_owned()).clone(),
        Err(_) => String::new(),
    }
}

/// When this boot began, by today's clock.
pub fn booted_at() -> Option<DateTime<Utc>> {
    let uptime = std::fs::read_to_string("/proc/uptime").ok()?;
    let seconds: f64 = uptime.split(' ').next()?.parse().ok()?;
    Utc::now().checked_sub_signed(TimeDelta::try_milliseconds((seconds * 1000.0) as i64)?)
}

/// The machine's id, made on first use. Two processes that make it at once agree on one.
///
/// # Errors
/// The kernel's, or a damaged file.
pub fn host_id(state: &Path) -> Result<HostId, RecordError> {
    let path = state.join("host-id");
    if let Some(id) = read(&path)? {
        return Ok(id);
    }
    let temporary = state.join(format!(".host-id.{}", uuid::Uuid::new_v4().simple()));
    let linked = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)
        .and_then(|mut file| {
            writeln!(file, "{}", HostId::random())?;
            file.sync_all()
        })
        // A link fails when the name exists, so the first of several makers wins.
        .and_then(|()| std::fs::hard_link(&temporary, &path));
    let _ = std::fs::remove_file(&temporary);
    match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(RecordError::io(&path)(error));
        }
        _ => sync_folder(state)?,
    }
    read(&path)?.ok_or_else(|| RecordError::io(&path)(io::ErrorKind::NotFound.into()))
}

fn read(path: &Path) -> Result<Option<HostId>, RecordError> {
    read_value(path, 200)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_makers_agree() {
        let folder = tempfile::tempdir().unwrap();
        let ids: Vec<HostId> = std::thread::scope(|scope| {
            let makers: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| host_id(folder.path()).unwrap()))
                .collect();
            makers.into_iter().map(|maker| maker.join().unwrap()).collect()
        });
        assert!(ids.windows(2).all(|pair| pair[0] == pair[1]));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
