//! Which outputs were brought home whole: the manifest of each such run, so that the same files are not read again.
//!
//! A copy is kept only when every file of it is here, verified and in its place. It says nothing about the files
//! themselves: each is still looked at, and one that was touched since is read and hashed as before.

use farrun_protocol::manifest::{self, Manifest};
use farrun_protocol::{RunId, Sha256};
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

/// Longest the kernel's clock of files can stand still; a hundred times a second is the slowest that is built.
const LONGEST_TICK: Duration = Duration::from_millis(50);

/// Whether a manifest is kept for this run.
pub(super) fn is_kept(state: &Path, run: &RunId) -> bool {
    path(state, run).exists()
}

/// Keeps the manifest of a run whose outputs are all here. Best effort: without it they are only read again.
pub(super) fn keep(state: &Path, run: &RunId, manifest: &[u8]) {
    let path = path(state, run);
    let kept = make_private(&path)
        .and_then(|()| write(&path, manifest))
        .and_then(|()| outlive(&path));
    if let Err(error) = kept {
        tracing::warn!(%run, %error, "The manifest of outputs that are here could not be kept");
        forget(state, run);
    }
}

/// Removes what is kept for a run; best effort.
pub(super) fn forget(state: &Path, run: &RunId) {
    let _ = std::fs::remove_file(path(state, run));
}

/// The manifest that hashes to `sha256`, when its files were brought below `folder` and none was touched since.
pub(super) fn still_here(state: &Path, run: &RunId, sha256: &Sha256, folder: &Path) -> Option<Manifest> {
    let path = path(state, run);
    let kept_at = changed(&path.metadata().ok()?);
    let bytes = std::fs::read(&path).ok()?;
    if Sha256::of(&bytes) != *sha256 {
        return None;
    }
    let manifest: Manifest = serde_json::from_slice(&bytes).ok()?;
    let untouched = |file: &manifest::OutputFile| {
        manifest::is_safe_path(&file.path)
            && folder.join(&file.path).symlink_metadata().is_ok_and(|facts| {
                facts.is_file()
                    && facts.len() == file.size
                    && nanoseconds(facts.mtime(), facts.mtime_nsec()) == file.modified_ns
                    // Whatever changes a file moves this, and nobody can set it.
                    && changed(&facts) < kept_at
            })
    };
    manifest.files.iter().all(untouched).then_some(manifest)
}

pub(super) fn path(state: &Path, run: &RunId) -> PathBuf {
    state.join("pulled").join(format!("{run}.json"))
}

fn changed(facts: &Metadata) -> i64 {
    nanoseconds(facts.ctime(), facts.ctime_nsec())
}

fn nanoseconds(seconds: i64, part: i64) -> i64 {
    seconds.saturating_mul(1_000_000_000).saturating_add(part)
}

fn make_private(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    let folder = path.parent().unwrap_or(path);
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
}

/// Moves the file's change past every change made before it. The kernel's clock of files stands still for milliseconds,
/// and what is not clearly older than this file counts as touched.
fn outlive(path: &Path) -> io::Result<()> {
    let file = std::fs::File::options().write(true).open(path)?;
    let written = changed(&file.metadata()?);
    let deadline = Instant::now() + LONGEST_TICK;
    while changed(&file.metadata()?) <= written && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(1));
        file.set_modified(SystemTime::now())?;
    }
    Ok(())
}

/// Not synced: one that a power loss has damaged hashes to something else.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let temporary = path.with_extension(format!("{}.new", std::process::id()));
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)?;
    let written = file
        .write_all(bytes)
        .and_then(|()| std::fs::rename(&temporary, path));
    written.inspect_err(|_| {
        let _ = std::fs::remove_file(&temporary);
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use farrun_protocol::manifest::{FORMAT, OutputFile};

    #[test]
    fn only_the_same_manifest_and_untouched_files_count() {
        let home = tempfile::tempdir().unwrap();
        let state = home.path();
        let outputs = home.path().join("outputs");
        std::fs::create_dir(&outputs).unwrap();
        let file = outputs.join("a");
        let modified = SystemTime::UNIX_EPOCH + Duration::new(1_000_000, 7);
        let set = |content: &str, modified| {
            std::fs::write(&file, content).unwrap();
            let open = std::fs::File::options().write(true).open(&file).unwrap();
            open.set_modified(modified).unwrap();
        };
        set("one", modified);
        let run: RunId = "rs_abcdefgh".parse().unwrap();
        let manifest = Manifest {
            format: FORMAT,
            run_id: run.clone(),
            files: vec![OutputFile {
                path: "a".into(),
                size: 3,
                mode: 0o644,
                modified_ns: 1_000_000_000_000_007,
                sha256: Some(Sha256::of(b"one")),
                blocks: Vec::new(),
                packed_at: None,
            }],
            skipped: Vec::new(),
        };
        let bytes = serde_json::to_vec(&manifest).unwrap();
        let sha256 = Sha256::of(&bytes);
        let here = |sha256: &Sha256| still_here(state, &run, sha256, &outputs);
        assert!(!is_kept(state, &run));
        // At once after the file was touched, in the same tick of the kernel's clock.
        keep(state, &run, &bytes);
        assert_eq!(here(&sha256), Some(manifest));
        assert_eq!(here(&Sha256::of(b"another")), None);
        // The same size and the same time, as `cp -p` or a tool that hides its traces would leave it.
        set("two", modified);
        assert_eq!(here(&sha256), None);
        set("one", modified);
        keep(state, &run, &bytes);
        assert!(here(&sha256).is_some());
        std::fs::remove_file(&file).unwrap();
        assert_eq!(here(&sha256), None);
        forget(state, &run);
        assert!(!is_kept(state, &run));
    }
}
