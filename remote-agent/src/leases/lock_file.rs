//! The lock of one GPU: whether a run holds it, and what its file says about who does.

use super::folder::{LockFolder, LocksUnusable};
use chrono::{DateTime, Utc};
use farrun_protocol::RunId;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

/// Version of what the file says.
const FORMAT: u32 = 1;
/// Longest file that is read.
const LONGEST: usize = 16 * 1024;
/// Most holders that a file names.
const MOST_HOLDERS: usize = 16;
/// Whoever looks holds the lock for a moment, so what seems held is looked at again.
const LOOKS: usize = 3;
const APART: Duration = Duration::from_millis(2);

/// Who holds a GPU, for people; the lock alone counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The run.
    #[serde(default)]
    pub run_id: Option<RunId>,
    /// Account that ordered it.
    #[serde(default)]
    pub user: Option<String>,
    /// PID 1 of its container, as the host numbers it.
    #[serde(default)]
    pub pid: Option<u32>,
    /// Since when.
    #[serde(default)]
    pub since: Option<DateTime<Utc>>,
    /// Whether others may hold it as well.
    #[serde(default)]
    pub shared: bool,
}

/// What lies in a lock file.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Content {
    format: u32,
    #[serde(default)]
    holders: Vec<Holder>,
}

/// How a lock is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// Nobody has it.
    Free,
    /// By one or several that share it.
    Shared,
    /// By one alone.
    Alone,
}

/// Name of the file of a GPU or instance; `None` when `uuid` is no such name.
pub fn file_name(uuid: &str) -> Option<String> {
    let plain = (1..=100).contains(&uuid.len())
        && uuid
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_/".contains(&byte));
    // Instances of old drivers are named `MIG-GPU-<uuid>/<gi>/<ci>`.
    plain.then(|| format!("gpu-{}.lock", uuid.replace('/', "_")))
}

/// Whether a run holds the GPU.
///
/// # Errors
/// Its file cannot be opened.
pub fn look(folder: &LockFolder, uuid: &str) -> Result<Held, LocksUnusable> {
    let Some(name) = file_name(uuid) else {
        return Ok(Held::Free);
    };
    let mut seen = Held::Free;
    for attempt in 0..LOOKS {
        let Some(file) = folder.find(&name)? else {
            return Ok(Held::Free);
        };
        seen = state(&file).map_err(|error| LocksUnusable {
            path: folder.path().join(&name),
            cause: error.to_string(),
        })?;
        if seen == Held::Free {
            break;
        }
        if attempt + 1 < LOOKS {
            std::thread::sleep(APART);
        }
    }
    Ok(seen)
}

fn state(file: &File) -> Result<Held, Errno> {
    for (operation, held) in [
        (FlockOperation::NonBlockingLockExclusive, Held::Free),
        (FlockOperation::NonBlockingLockShared, Held::Shared),
    ] {
        match flock(file, operation) {
            Ok(()) => return Ok(held),
            Err(Errno::WOULDBLOCK | Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Held::Alone)
}

/// What the file says about its holders; nothing when it says nothing that can be read.
pub(super) fn holders(folder: &LockFolder, uuid: &str) -> Vec<Holder> {
    let file = file_name(uuid).and_then(|name| folder.find(&name).ok().flatten());
    file.and_then(|file| read(&file)).unwrap_or_default()
}

fn read(file: &File) -> Option<Vec<Holder>> {
    let mut bytes = vec![0; LONGEST];
    let length = file.read_at(&mut bytes, 0).ok()?;
    let content: Content = serde_json::from_slice(bytes.get(..length)?).ok()?;
    let mut holders = content.holders;
    holders.truncate(MOST_HOLDERS);
    for holder in &mut holders {
        holder.user = holder.user.take().map(|user| printable(&user));
    }
    Some(holders)
}

/// A foreign account's text, without what could disturb a terminal.
fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(64).collect()
}

/// Makes the file of a GPU when it is missing and writes down who is about to hold it.
///
/// # Errors
/// It cannot be made or written.
pub fn write_holder(folder: &LockFolder, uuid: &str, holder: &Holder) -> Result<(), LocksUnusable> {
    let unusable = |cause: String| LocksUnusable {
        path: folder.path().to_owned(),
        cause,
    };
    let name = file_name(uuid).ok_or_else(|| unusable(format!("{uuid} is no name of a GPU")))?;
    let file = folder.find_or_make(&name)?;
    let mut holders = if holder.shared {
        read(&file).unwrap_or_default()
    } else {
        Vec::new()
    };
    holders.retain(|other| other.shared && other.run_id != holder.run_id);
    holders.push(holder.clone());
    let surplus = holders.len().saturating_sub(MOST_HOLDERS);
    holders.drain(..surplus);
    let content = Content {
        format: FORMAT,
        holders,
    };
    let json = serde_json::to_vec(&content).map_err(|error| unusable(error.to_string()))?;
    file.set_len(0)
        .and_then(|()| file.write_all_at(&json, 0))
        .map_err(|error| LocksUnusable {
            path: folder.path().join(name),
            cause: error.to_string(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_seen_as_it_is_held() {
        let below = tempfile::tempdir().unwrap();
        let folder = LockFolder::open(Some(below.path())).unwrap();
        assert_eq!(look(&folder, "GPU-a").unwrap(), Held::Free);
        assert!(!below.path().join("gpu-GPU-a.lock").exists());
        let one = folder.find_or_make("gpu-GPU-a.lock").unwrap();
        let other = folder.find_or_make("gpu-GPU-a.lock").unwrap();
        flock(&one, FlockOperation::LockShared).unwrap();
        flock(&other, FlockOperation::LockShared).unwrap();
        assert_eq!(look(&folder, "GPU-a").unwrap(), Held::Shared);
        drop(one);
        flock(&other, FlockOperation::LockExclusive).unwrap();
        assert_eq!(look(&folder, "GPU-a").unwrap(), Held::Alone);
        drop(other);
        assert_eq!(look(&folder, "GPU-a").unwrap(), Held::Free);
    }

    #[test]
    fn holders_are_told_and_garbage_is_not() {
        let below = tempfile::tempdir().unwrap();
        let folder = LockFolder::open(Some(below.path())).unwrap();
        let holder = |run: &str, shared| Holder {
            run_id: Some(run.parse().unwrap()),
            user: Some("ada\u{1b}[31m".into()),
            pid: Some(7),
            since: None,
            shared,
        };
        let told = || -> Vec<String> {
            let holders = holders(&folder, "GPU-a");
            holders
                .iter()
                .map(|holder| holder.run_id.clone().unwrap().to_string())
                .collect()
        };
        write_holder(&folder, "GPU-a", &holder("rs_aaaaaaaa", false)).unwrap();
        write_holder(&folder, "GPU-a", &holder("rs_bbbbbbbb", true)).unwrap();
        write_holder(&folder, "GPU-a", &holder("rs_cccccccc", true)).unwrap();
        assert_eq!(told(), ["rs_bbbbbbbb", "rs_cccccccc"]);
        assert_eq!(holders(&folder, "GPU-a")[0].user.as_deref(), Some("ada[31m"));
        write_holder(&folder, "GPU-a", &holder("rs_dddddddd", false)).unwrap();
        assert_eq!(told(), ["rs_dddddddd"]);
        std::fs::write(below.path().join("gpu-GPU-a.lock"), "{").unwrap();
        assert_eq!(told(), [""; 0]);
        assert!(write_holder(&folder, "../x", &holder("rs_dddddddd", false)).is_err());
    }
}
