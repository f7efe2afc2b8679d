//! One `nvidia-smi` at a time on the whole host, whoever asks: a lock in the folder that all accounts share.
//!
//! What other accounts read is not believed: a forged reading could give a GPU away that is in use. So accounts share
//! the turn and not the figures. The lock goes with the program as an open file: while one that cannot be killed is
//! still there, on whosever behalf, no other is started.

use super::process;
use crate::leases::{LockFolder, account};
use farrun_protocol::gpu::{GpuTrouble, TroubleKind};
use rustix::io::Errno;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The file.
const NAME: &str = "nvidia-smi.lock";

/// With whom a reading takes turns.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Turns {
    /// With nobody beyond the account.
    #[default]
    Apart,
    /// With all accounts of the host, by its usual folder of locks.
    Usual,
    /// With all who use this folder.
    At(PathBuf),
}

/// The turn.
#[derive(Debug)]
pub(super) enum Turn {
    /// It is ours; the file is to go with the program.
    Ours(File),
    /// Nobody takes turns here: there is no folder for it.
    Free,
}

impl Turns {
    /// Waits for the turn.
    ///
    /// # Errors
    /// Somebody else has had it for longer than `patience`.
    pub(super) fn take(&self, root: &Path, patience: Duration) -> Result<Turn, GpuTrouble> {
        let folder = match self {
            Self::Apart => return Ok(Turn::Free),
            Self::Usual => LockFolder::open(None),
            Self::At(path) => LockFolder::open(Some(path)),
        };
        // Where accounts cannot meet, each looks for itself: figures are worth more than order.
        let Ok(folder) = folder else {
            return Ok(Turn::Free);
        };
        match folder.lock_within(NAME, patience) {
            Ok(Ok(file)) => Ok(Turn::Ours(file)),
            Ok(Err(who)) => Err(late(root, &who, patience)),
            Err(_) => Ok(Turn::Free),
        }
    }
}

fn late(root: &Path, who: &str, patience: Duration) -> GpuTrouble {
    let stuck = process::stuck(root, "nvidia-smi");
    GpuTrouble {
        kind: match stuck {
            Some(_) => TroubleKind::Stuck,
            None => TroubleKind::Reading,
        },
        detail: Some(format!(
            "{} waited {} s for a reading of {who}",
            account(),
            patience.as_secs()
        )),
        pid: stuck,
        for_ms: None,
    }
}

/// Lets the lock that came as standard input go with the program, which gets an empty input instead. Anything else
/// that came is left as it is.
pub(super) fn keep_beside() -> Result<(), Errno> {
    use rustix::fs::{FileType, Mode, OFlags};
    use std::os::fd::IntoRawFd as _;
    let stdin = rustix::stdio::stdin();
    let kind = FileType::from_raw_mode(rustix::fs::fstat(stdin)?.st_mode);
    if kind != FileType::RegularFile {
        return Ok(());
    }
    // Without close-on-exec, and for the rest of the process's life.
    let _ = rustix::io::dup(stdin)?.into_raw_fd();
    let empty = rustix::fs::open("/dev/null", OFlags::RDONLY, Mode::empty())?;
    rustix::stdio::dup2_stdin(&empty)
}
