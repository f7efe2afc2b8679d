//! What is to be fetched, and whether it may be.

use super::TransferError;
use super::destination::PARTS;
use super::proof::Proof;
use farrun_protocol::manifest::{BLOCK, MAX_FILES, OutputFile, is_safe_path};
use farrun_protocol::{BlockHash, Sha256};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use unicode_normalization::UnicodeNormalization as _;

/// Files of a list that are taken over at once.
const PART: usize = 10_000;

/// One file to fetch, as the host announced it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Absolute path of the folder on the host that `path` lies below.
    pub folder: Arc<str>,
    /// Path below that folder and below the destination, checked before anything is written.
    pub path: String,
    /// Size in bytes.
    pub size: u64,
    /// Hash of the whole; needed when it has at most one block, and not looked at otherwise.
    pub sha256: Option<Sha256>,
    /// Hashes of its blocks of 4 MiB; empty when it has at most one.
    pub blocks: Vec<BlockHash>,
    /// Permission bits; set-id bits are dropped, the owner may always read and write.
    pub mode: u32,
    /// Last change, nanoseconds since 1970.
    pub modified_ns: i64,
    /// Where a copy of it lies among others, if there is one.
    pub packed: Option<Packed>,
}

/// A place in a file that holds copies of small files end to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packed {
    /// Absolute path of that file on the host.
    pub pack: Arc<str>,
    /// Where the copy begins.
    pub at: u64,
}

impl Wanted {
    /// The files of a manifest, which lie below `folder` on the host, and copies of some of them in `pack`. They are taken
    /// a part at a time, so that a long list is in memory once and not twice.
    pub fn of_manifest(mut files: Vec<OutputFile>, folder: &Arc<str>, pack: Option<&Arc<str>>) -> Vec<Self> {
        let mut wanted = Vec::with_capacity(files.len());
        while !files.is_empty() {
            let part = files.drain(files.len().saturating_sub(PART)..).rev();
            wanted.extend(part.map(|file| Self::from_manifest(file, folder, pack)));
            files.shrink_to_fit();
        }
        wanted.reverse();
        wanted
    }

    fn from_manifest(file: OutputFile, folder: &Arc<str>, pack: Option<&Arc<str>>) -> Self {
        // A copy is only worth something for a file of one block, whatever the host says.
        let small = file.size > 0 && file.size <= BLOCK;
        let packed = file
            .packed_at
            .zip(pack)
            .filter(|_| small)
            .map(|(at, pack)| Packed {
                pack: Arc::clone(pack),
                at,
            });
        Self {
            folder: Arc::clone(folder),
            path: file.path,
            size: file.size,
            sha256: file.sha256,
            blocks: file.blocks,
            mode: file.mode,
            modified_ns: file.modified_ns,
            packed,
        }
    }

    /// Absolute path on the host.
    pub fn remote(&self) -> String {
        format!("{}/{}", self.folder.trim_end_matches('/'), self.path)
    }

    /// Number of blocks.
    pub(super) fn block_count(&self) -> u64 {
        self.size.div_ceil(BLOCK)
    }

    /// Length of block `index`.
    pub(super) fn block_length(&self, index: u64) -> u64 {
        self.size.saturating_sub(index.saturating_mul(BLOCK)).min(BLOCK)
    }

    /// What block `index` has to hash to.
    pub(super) fn proof(&self, index: u64) -> Option<Proof<'_>> {
        match self.block_count() {
            0 | 1 => self.sha256.as_ref().map(Proof::whole),
            _ => self.blocks.get(usize::try_from(index).ok()?).map(Proof::block),
        }
    }
}

/// Refuses a list that could write where it should not, twice to one place, or that contradicts itself.
pub(super) fn check(wanted: &[Wanted]) -> Result<(), TransferError> {
    if wanted.len() > MAX_FILES {
        let path = wanted.first().map(|file| file.path.clone()).unwrap_or_default();
        let detail = format!("{} files are more than {MAX_FILES}", wanted.len());
        return Err(TransferError::BadAnnouncement { path, detail });
    }
    let mut names = HashMap::with_capacity(wanted.len());
    for file in wanted {
        check_shape(file)?;
        check_place(file, &mut names)?;
    }
    Ok(())
}

fn check_shape(file: &Wanted) -> Result<(), TransferError> {
    let top = file.path.split('/').next().unwrap_or_default();
    if !is_safe_path(&file.path) || folded(top) == PARTS {
        return Err(TransferError::UnsafeName {
            path: file.path.clone(),
        });
    }
    if !file.folder.starts_with('/') || file.folder.contains('\0') {
        return Err(TransferError::UnsafeName { path: file.remote() });
    }
    let count = file.block_count();
    let detail = match count {
        0 | 1 if file.sha256.is_none() => Some("it has no hash".to_owned()),
        2.. if file.blocks.len() as u64 != count => Some(format!(
            "{} block hashes for {} bytes",
            file.blocks.len(),
            file.size
        )),
        _ => None,
    };
    if let Some(detail) = detail {
        return Err(TransferError::BadAnnouncement {
            path: file.path.clone(),
            detail,
        });
    }
    Ok(())
}

/// What a name is to a file system that ignores case and composition.
fn folded(name: &str) -> String {
    name.nfc().flat_map(char::to_lowercase).nfc().collect()
}

/// A name in a list of many, as the hash of what it is to such a file system: half as large.
type Folded = [u8; 32];

/// Enters a file and the folders above it; a name may be one spelling of a folder or one file.
fn check_place<'a>(
    file: &'a Wanted,
    names: &mut HashMap<Folded, (&'a str, bool)>,
) -> Result<(), TransferError> {
    let ends = file.path.match_indices('/').map(|(end, _)| (end, false));
    for (end, is_file) in ends.chain([(file.path.len(), true)]) {
        let name = file.path.get(..end).unwrap_or_default();
        match names.entry(blake3::hash(folded(name).as_bytes()).into()) {
            Entry::Vacant(entry) => {
                entry.insert((name, is_file));
            }
            Entry::Occupied(entry) => {
                let (other, other_is_file) = *entry.get();
                if is_file || other_is_file || other != name {
                    return Err(TransferError::Collision {
                        path: name.to_owned(),
                        other: other.to_owned(),
                    });
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(paths: &[&str]) -> Vec<Wanted> {
        let wanted = |path: &&str| Wanted {
            folder: "/r".into(),
            path: (*path).to_owned(),
            size: 1,
            sha256: Some(Sha256::of(b"x")),
            blocks: Vec::new(),
            mode: 0o644,
            modified_ns: 0,
            packed: None,
        };
        paths.iter().map(wanted).collect()
    }

    #[test]
    fn names_that_collide_or_leave_are_refused() {
        for paths in [
            &["a", "a"][..],
            &["a", "A"],
            &["a", "a/b"],
            &["a/b", "a"],
            &["A/b", "a/c"],
            &["\u{e9}", "e\u{301}"],
            &["STRASSE\u{130}", "strassei\u{307}"],
            &["../a"],
            &["/a"],
            &[".farrun-part/x"],
            &[".FARRUN-part/x"],
        ] {
            assert!(check(&list(paths)).is_err(), "{paths:?}");
        }
        check(&list(&["a/b", "a/c", "b", "ab", "a\nb", ".farrun-part2"])).unwrap();
    }

    #[test]
    fn an_announcement_must_fit_its_size() {
        let mut wanted = list(&["a"]);
        wanted[0].size = u64::MAX;
        assert!(matches!(
            check(&wanted),
            Err(TransferError::BadAnnouncement { .. })
        ));
        wanted[0].size = 1;
        wanted[0].sha256 = None;
        assert!(check(&wanted).is_err(), "nothing to check it against");
        wanted[0].size = BLOCK + 1;
        wanted[0].blocks = vec![BlockHash::of(b""); 2];
        check(&wanted).unwrap();
        assert_eq!(wanted[0].block_length(1), 1);
    }
}
