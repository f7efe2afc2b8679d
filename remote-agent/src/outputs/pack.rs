//! Small outputs laid end to end in one file, so that at a distance they travel together.
//!
//! A copy only: what comes out of it is checked against the hashes of the manifest like everything else, and a
//! controller that finds it wrong or gone fetches the files themselves.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

/// Fewer files gain nothing.
const FEWEST: usize = 16;
/// Largest pack; it costs the host's disk as much again as the files in it.
const LARGEST: u64 = 256 * 1024 * 1024;

/// A pack that is being written.
#[derive(Debug)]
pub(super) struct Pack {
    target: PathBuf,
    temporary: PathBuf,
    file: Option<BufWriter<File>>,
    length: u64,
}

impl Pack {
    /// Begins a pack for `files` small files. One that cannot be written is none, and nothing else fails by it.
    pub(super) fn begin(target: &Path, files: usize) -> Self {
        let temporary = target.with_extension(format!("{}", uuid::Uuid::new_v4().simple()));
        let file = if files < FEWEST { None } else { create(&temporary) };
        Self {
            target: target.to_owned(),
            temporary,
            file,
            length: 0,
        }
    }

    /// Appends the content of a file and answers where it begins.
    pub(super) fn add(&mut self, content: &[u8]) -> Option<u64> {
        let file = self.file.as_mut()?;
        let size = content.len() as u64;
        if size == 0 || self.length.saturating_add(size) > LARGEST {
            return None;
        }
        if file.write_all(content).is_err() {
            self.file = None;
            return None;
        }
        let at = self.length;
        self.length += size;
        Some(at)
    }

    /// Puts the pack in its place. False when there is none; what was said about places in it does not hold then.
    pub(super) fn finish(mut self) -> bool {
        let flushed = self.file.take().is_some_and(|mut file| file.flush().is_ok());
        let placed = flushed && self.length > 0 && std::fs::rename(&self.temporary, &self.target).is_ok();
        if !placed {
            let _ = std::fs::remove_file(&self.temporary);
            let _ = std::fs::remove_file(&self.target);
        }
        placed
    }
}

fn create(path: &Path) -> Option<BufWriter<File>> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let file = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .ok()?;
    Some(BufWriter::with_capacity(256 * 1024, file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_lie_end_to_end() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("outputs.pack");
        let mut pack = Pack::begin(&target, FEWEST);
        assert_eq!(pack.add(b"one"), Some(0));
        assert_eq!(pack.add(b""), None);
        assert_eq!(pack.add(b"two"), Some(3));
        assert!(pack.finish());
        assert_eq!(std::fs::read(&target).unwrap(), b"onetwo");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn without_enough_files_or_a_place_there_is_none_and_an_old_one_goes() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("outputs.pack");
        std::fs::write(&target, b"old").unwrap();
        let mut pack = Pack::begin(&target, FEWEST - 1);
        assert_eq!(pack.add(b"one"), None);
        assert!(!pack.finish());
        assert!(!target.exists());
        let mut pack = Pack::begin(&folder.path().join("missing/outputs.pack"), FEWEST);
        assert_eq!(pack.add(b"one"), None);
        assert!(!pack.finish());
    }
}
