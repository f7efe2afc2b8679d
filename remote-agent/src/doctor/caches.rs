//! Caches of models in the account's home: where they are and how large, as far as can be counted in a moment.

use super::space;
use farrun_protocol::doctor::{CacheFacts, Looked};
use std::collections::HashSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long each is counted.
const PATIENCE: Duration = Duration::from_secs(2);
/// Most files that are counted.
const MOST_FILES: usize = 200_000;

/// Looks at the caches that there are.
pub(crate) fn facts(home: &Path) -> Looked<Vec<CacheFacts>> {
    let variable = |name| std::env::var_os(name).map(PathBuf::from);
    let cache = variable("XDG_CACHE_HOME").unwrap_or_else(|| home.join(".cache"));
    let hugging = variable("HF_HOME").unwrap_or_else(|| cache.join("huggingface"));
    let torch = variable("TORCH_HOME").unwrap_or_else(|| cache.join("torch"));
    let caches = [("huggingface", hugging), ("torch", torch)];
    let found = caches.iter().filter(|(_, path)| path.is_dir());
    Ok(found.map(|(kind, path)| one(kind, path)).collect())
}

fn one(kind: &str, path: &Path) -> CacheFacts {
    let (bytes, complete) = count(path, Instant::now() + PATIENCE, MOST_FILES);
    CacheFacts {
        kind: kind.to_owned(),
        path: path.to_string_lossy().into_owned(),
        bytes,
        complete,
        space: space::of(path).ok(),
    }
}

/// Bytes on disk, each file once however many names it has, and whether all of it was seen.
fn count(path: &Path, deadline: Instant, most: usize) -> (u64, bool) {
    let mut folders = vec![path.to_owned()];
    let (mut seen, mut files, mut bytes) = (HashSet::new(), 0_usize, 0_u64);
    let mut complete = true;
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(folder) else {
            complete = false;
            continue;
        };
        for entry in entries.flatten() {
            files = files.saturating_add(1);
            if files > most || Instant::now() >= deadline {
                return (bytes, false);
            }
            // Links are not followed: snapshots are links to what is counted beside them.
            let Ok(found) = entry.metadata() else { continue };
            if found.is_dir() {
                folders.push(entry.path());
            } else if found.nlink() < 2 || seen.insert((found.dev(), found.ino())) {
                bytes = bytes.saturating_add(found.blocks().saturating_mul(512));
            }
        }
    }
    (bytes, complete)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_counted_once() {
        let below = tempfile::tempdir().unwrap();
        let blobs = below.path().join("hub/models--x/blobs");
        std::fs::create_dir_all(&blobs).unwrap();
        std::fs::write(blobs.join("a"), vec![1; 64 * 1024]).unwrap();
        std::fs::hard_link(blobs.join("a"), blobs.join("b")).unwrap();
        std::os::unix::fs::symlink(blobs.join("a"), blobs.join("c")).unwrap();
        let later = Instant::now() + Duration::from_secs(60);
        let (bytes, complete) = count(below.path(), later, 1000);
        assert!((64 * 1024..80 * 1024).contains(&bytes) && complete, "{bytes}");
        assert!(!count(below.path(), later, 2).1);
        assert!(!count(below.path(), Instant::now(), 1000).1);
    }
}
