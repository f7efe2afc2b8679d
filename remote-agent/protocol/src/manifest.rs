//! What a run left in its outputs folder, hashed on the host, so that nothing arrives here unverified.
//!
//! The agent writes it to `runs/<run_id>/manifest.json`; it can be larger than a frame, so the controller fetches
//! it over SFTP and checks it against the hash in the reply.

use crate::id::{BlockHash, RunId, Sha256};
use serde::{Deserialize, Serialize};

/// Version of the file.
pub const FORMAT: u32 = 2;
/// Size of the blocks that are hashed one by one, in bytes; what a cut connection can cost.
pub const BLOCK: u64 = 4 * 1024 * 1024;
/// Most files one manifest names.
pub const MAX_FILES: usize = 200_000;
/// Largest file that is copied into a pack, in bytes. At a distance an open and a close cost more than its content.
pub const PACKED_MOST: u64 = 128 * 1024;
/// Most things that one manifest says were skipped; a job can make any number of links.
pub const MAX_SKIPPED: usize = 10_000;
/// Largest manifest file that an agent writes and a controller reads, in bytes.
pub const MAX_SIZE: u64 = 64 * 1024 * 1024;
/// Most bytes that one file takes in it beside its path and the hashes of its blocks.
const FILE_SIZE: u64 = 256;
/// Bytes that the hash of one block takes in it.
const BLOCK_SIZE: u64 = 67;

/// The outputs of one run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: u32,
    /// Whose outputs these are.
    pub run_id: RunId,
    /// The files, sorted by path, at most [`MAX_FILES`]. Folders exist only as part of paths.
    #[serde(deserialize_with = "up_to::<MAX_FILES, _, _>")]
    pub files: Vec<OutputFile>,
    /// What lies in the folder and is not listed, with the reason; at most [`MAX_SKIPPED`].
    #[serde(deserialize_with = "up_to::<MAX_SKIPPED, _, _>")]
    pub skipped: Vec<Skipped>,
}

/// One regular file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputFile {
    /// Path below the outputs folder, `/` between parts; checked by [`is_safe_path`] on both sides.
    pub path: String,
    /// Size in bytes.
    pub size: u64,
    /// Permission bits, `& 0o777`.
    pub mode: u32,
    /// Last change, nanoseconds since 1970.
    pub modified_ns: i64,
    /// Hash of the whole file when it has at most one block.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Sha256>,
    /// Hashes of its [`BLOCK`]s, in order; empty when the file has at most one block.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub blocks: Vec<BlockHash>,
    /// Where a copy of its content begins in the pack that lies beside the manifest, when it is in there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packed_at: Option<u64>,
}

impl OutputFile {
    /// What a file of several blocks is known by.
    pub fn blocks_hash(&self) -> Option<BlockHash> {
        (!self.blocks.is_empty()).then(|| hash_of_blocks(self.size, &self.blocks))
    }
}

/// The BLAKE3 of a size (8 bytes, little-endian) and the hashes of all blocks (their digits, end to end).
pub fn hash_of_blocks(size: u64, blocks: &[BlockHash]) -> BlockHash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&size.to_le_bytes());
    for block in blocks {
        hasher.update(block.as_str().as_bytes());
    }
    BlockHash::from_bytes(hasher.finalize().into())
}

/// Bytes that a file of `size` bytes takes in a manifest at most, below [`MAX_SIZE`] with all others.
pub fn listed_size(path: &str, size: u64) -> u64 {
    let blocks = if size > BLOCK { size.div_ceil(BLOCK) } else { 0 };
    let escaped = path.bytes().map(|byte| match byte {
        0..=0x1f => 6,
        b'"' | b'\\' => 2,
        _ => 1,
    });
    escaped.sum::<u64>() + blocks.saturating_mul(BLOCK_SIZE) + FILE_SIZE
}

/// Reads a list, and no more of it than `MOST` entries: whoever wrote it decides how long it is.
fn up_to<'de, const MOST: usize, T, D>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    T: Deserialize<'de>,
    D: serde::Deserializer<'de>,
{
    struct UpTo<T>(usize, std::marker::PhantomData<T>);
    impl<'de, T: Deserialize<'de>> serde::de::Visitor<'de> for UpTo<T> {
        type Value = Vec<T>;
        fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(formatter, "a list of at most {} entries", self.0)
        }
        fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
            let mut entries = Vec::new();
            while let Some(entry) = list.next_element()? {
                if entries.len() >= self.0 {
                    return Err(serde::de::Error::invalid_length(entries.len() + 1, &self));
                }
                entries.push(entry);
            }
            Ok(entries)
        }
    }
    deserializer.deserialize_seq(UpTo(MOST, std::marker::PhantomData))
}

/// Something in the outputs folder that is not brought back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// Its path, with bytes that are not UTF-8 replaced.
    pub path: String,
    /// Why.
    pub reason: SkipReason,
}

/// Why a file is not listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SkipReason {
    /// A symbolic link; its target may lie anywhere.
    Symlink,
    /// A device, socket or pipe.
    Special,
    /// A name no controller would accept, see [`is_safe_path`].
    Name,
    /// The account may not read it, even after its permissions were opened.
    Unreadable,
    /// It changed while it was hashed.
    Changed,
    /// The manifest is full.
    TooMany,
}

/// Whether `path` may be created below a folder of ours: relative, no `.` or `..` or empty part, no NUL, no
/// backslash, no part longer than 255 bytes, at most 32 parts and 3000 bytes.
pub fn is_safe_path(path: &str) -> bool {
    path.len() <= 3000
        && path.split('/').count() <= 32
        && path.split('/').all(|part| {
            !part.is_empty()
                && part.len() <= 255
                && part != "."
                && part != ".."
                && !part.bytes().any(|byte| byte == 0 || byte == b'\\')
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_file_is_known_by_its_size_and_all_of_its_blocks() {
        let (one, two) = (BlockHash::of(b"one"), BlockHash::of(b"two"));
        let known = hash_of_blocks(BLOCK + 1, &[one.clone(), two.clone()]);
        // Databases keep it, so it never changes.
        assert_eq!(
            known.as_str(),
            "35afc49b1b48679fb46ec68151d4226f64aa9e83c69d1c1cb6e88778856793f6"
        );
        assert_ne!(known, hash_of_blocks(BLOCK + 2, &[one.clone(), two.clone()]));
        assert_ne!(known, hash_of_blocks(BLOCK + 1, &[two, one.clone()]));
        assert_ne!(known, hash_of_blocks(BLOCK + 1, &[one]));
    }

    #[test]
    fn a_list_that_is_too_long_is_not_read_to_its_end() {
        let with = |files: usize, skipped: usize| {
            let file = r#"{"path":"a","size":0,"mode":0,"modified_ns":0}"#;
            let left = r#"{"path":"a","reason":"name"}"#;
            let json = format!(
                r#"{{"format":2,"run_id":"rs_abcdefgh","files":[{}],"skipped":[{}]}}"#,
                vec![file; files].join(","),
                vec![left; skipped].join(",")
            );
            serde_json::from_str::<Manifest>(&json).map_err(|error| error.to_string())
        };
        let most = with(MAX_FILES, MAX_SKIPPED).unwrap();
        assert_eq!((most.files.len(), most.skipped.len()), (MAX_FILES, MAX_SKIPPED));
        let long = with(MAX_FILES + 1, 0).unwrap_err();
        assert!(
            long.starts_with("invalid length 200001, expected a list of at most 200000 entries"),
            "{long}"
        );
        assert!(with(0, MAX_SKIPPED + 1).is_err());
    }

    #[test]
    fn a_file_takes_no_more_in_a_manifest_than_is_counted() {
        for (path, size) in [
            ("a\u{1}\"\\ü🎬", u64::MAX / BLOCK),
            ("a", 3 * BLOCK + 1),
            ("", BLOCK),
        ] {
            let blocks = if size > BLOCK {
                size.div_ceil(BLOCK).min(4)
            } else {
                0
            };
            let file = OutputFile {
                path: path.to_owned(),
                size: u64::MAX,
                mode: 0o777,
                modified_ns: i64::MIN,
                sha256: (blocks == 0).then(|| Sha256::of(b"")),
                blocks: vec![BlockHash::of(b""); usize::try_from(blocks).unwrap()],
                packed_at: Some(u64::MAX),
            };
            let listed = serde_json::to_string(&file).unwrap().len() as u64 + 1;
            assert!(listed <= listed_size(path, size), "{listed}");
        }
    }

    #[test]
    fn paths_that_leave_the_folder_are_unsafe() {
        for path in [
            "",
            "/etc/passwd",
            "../x",
            "a/../b",
            "a//b",
            "a/",
            "./a",
            "a\0b",
            "a\\b",
            "..",
        ] {
            assert!(!is_safe_path(path), "{path:?}");
        }
        assert!(!is_safe_path(&"x".repeat(256)));
        assert!(!is_safe_path(&vec!["d"; 33].join("/")));
        for path in ["a", "a/b.mp4", "ünï/códe 🎬.png", "...", "-rf", "a\nb"] {
            assert!(is_safe_path(path), "{path:?}");
        }
    }
}
