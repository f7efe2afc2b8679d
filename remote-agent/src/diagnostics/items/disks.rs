//! Space and inodes of the file systems that matter. Each is asked on its own: one that hangs hides no other.

use crate::diagnostics::item::{Found, Looked};
use crate::diagnostics::thread::on_thread;
use farrun_protocol::diagnostics::FileSystem;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// For one file system.
const EACH: Duration = Duration::from_secs(1);
/// Most mounts of a run that are asked about.
const MOUNTS: usize = 16;

/// What is asked about, by role.
pub(in crate::diagnostics) fn places(
    state: &Path,
    engine: Option<&str>,
    home: &Path,
    mounts: impl Iterator<Item = PathBuf>,
) -> Vec<(&'static str, PathBuf)> {
    let cache = home.join(".cache/huggingface");
    let mut places = vec![
        ("state", state.to_owned()),
        ("tmp", PathBuf::from("/tmp")),
        ("shm", PathBuf::from("/dev/shm")),
        ("engine", PathBuf::from(engine.unwrap_or("/var/lib/docker"))),
        ("cache", if cache.exists() { cache } else { home.to_owned() }),
    ];
    places.extend(mounts.take(MOUNTS).map(|path| ("mount", path)));
    places
}

pub(in crate::diagnostics) async fn disks(places: Vec<(&'static str, PathBuf)>, limit: Duration) -> Looked {
    let deadline = Instant::now() + limit;
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    for (role, path) in places {
        let left = deadline.saturating_duration_since(Instant::now()).min(EACH);
        let own = path.clone();
        let looked = on_thread(left, move |_| statistics(role, &own)).await;
        match looked {
            Ok(Found::Whole(bytes)) => found.extend(serde_json::from_slice::<FileSystem>(&bytes)),
            Ok(_) => {}
            Err(why) => missing.push(format!("{}: {why}", path.display())),
        }
    }
    match (Found::json(&found)?, missing.is_empty()) {
        (whole, true) => Ok(whole),
        (Found::Whole(bytes), false) if !found.is_empty() => Ok(Found::Part(bytes, missing.join("; "))),
        _ => Err(missing.join("; ")),
    }
}

fn statistics(role: &str, path: &Path) -> Looked {
    // Where the account may not look into the folder, its parent is on the same file system or tells as much.
    let found = path
        .ancestors()
        .find_map(|path| rustix::fs::statvfs(path).ok().map(|found| (path, found)));
    let (path, found) = found.ok_or("it cannot be asked about")?;
    Found::json(&FileSystem {
        role: role.to_owned(),
        path: path.display().to_string(),
        total: found.f_blocks.saturating_mul(found.f_frsize),
        free: found.f_bavail.saturating_mul(found.f_frsize),
        inodes: found.f_files,
        inodes_free: found.f_favail,
        device: rustix::fs::stat(path).ok().map(|facts| facts.st_dev),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_folder_that_is_not_there_is_told_by_its_parent() {
        let places = places(
            Path::new("/tmp/no/such"),
            None,
            Path::new("/"),
            std::iter::empty(),
        );
        let Ok(Found::Whole(bytes)) = disks(places, Duration::from_secs(30)).await else {
            panic!("all of them answer");
        };
        let found: Vec<FileSystem> = serde_json::from_slice(&bytes).unwrap();
        let roles: Vec<&str> = found.iter().map(|disk| disk.role.as_str()).collect();
        assert_eq!(roles, ["state", "tmp", "shm", "engine", "cache"]);
        assert_eq!(found[0].path, "/tmp");
        assert_eq!(found[0].device, found[1].device);
        assert_ne!(found[1].device, found[2].device);
        assert!(found[0].total > 0);
    }
}
