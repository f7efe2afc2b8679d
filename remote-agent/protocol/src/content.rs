//! What the content of a file is known by, on this side and on a host.
//!
//! A file of at most one [`BLOCK`] is known by its SHA-256, a larger one by its size and the BLAKE3 of each of its blocks:
//! a GiB of SHA-256 takes a processor 0.8 s, which is what a fast network takes for the bytes themselves, and nobody can
//! begin in its middle. Outputs are listed the same way, so that one that becomes an input need not be read again.
//! Orders that were written down before that name large content by its SHA-256 and mean it.

use crate::id::{BlockHash, Sha256};
use crate::manifest::{BLOCK, hash_of_blocks};
use serde::{Deserialize, Serialize};
use sha2::Digest as _;
use std::fmt;

/// Names content.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ContentId {
    /// By the hash of all of it.
    Sha256(Sha256),
    /// By [`hash_of_blocks`].
    Blocks(BlockHash),
}

impl ContentId {
    /// That of bytes in memory.
    pub fn of(bytes: &[u8]) -> Self {
        let mut hasher = ContentHasher::for_size(bytes.len() as u64);
        hasher.update(bytes);
        hasher.finish()
    }
}

/// As a file name, the same for good: the digits of a SHA-256 alone, others behind a word.
impl fmt::Display for ContentId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sha256(sha256) => sha256.fmt(formatter),
            Self::Blocks(blocks) => write!(formatter, "blocks-{blocks}"),
        }
    }
}

/// Takes a [`ContentId`] of bytes that come one after the other.
#[derive(Debug, Clone)]
pub struct ContentHasher {
    length: u64,
    kind: Kind,
}

#[derive(Debug, Clone)]
enum Kind {
    Whole(sha2::Sha256),
    Blocks {
        block: Box<blake3::Hasher>,
        done: Vec<BlockHash>,
    },
}

impl ContentHasher {
    /// For content that is expected to have this size.
    pub fn for_size(size: u64) -> Self {
        Self::new(size > BLOCK)
    }

    /// For content that is expected to be `id`.
    pub fn like(id: &ContentId) -> Self {
        Self::new(matches!(id, ContentId::Blocks(_)))
    }

    fn new(by_blocks: bool) -> Self {
        let kind = match by_blocks {
            true => Kind::Blocks {
                block: Box::default(),
                done: Vec::new(),
            },
            false => Kind::Whole(sha2::Sha256::new()),
        };
        Self { length: 0, kind }
    }

    /// Bytes so far.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Takes the next bytes, any number of them.
    pub fn update(&mut self, mut bytes: &[u8]) {
        let (block, done) = match &mut self.kind {
            Kind::Whole(whole) => {
                whole.update(bytes);
                self.length += bytes.len() as u64;
                return;
            }
            Kind::Blocks { block, done } => (block, done),
        };
        while !bytes.is_empty() {
            let room = usize::try_from(BLOCK - self.length % BLOCK).unwrap_or(usize::MAX);
            let (now, rest) = bytes.split_at_checked(room).unwrap_or((bytes, &[]));
            block.update(now);
            self.length += now.len() as u64;
            if self.length.is_multiple_of(BLOCK) {
                done.push(BlockHash::from_bytes(block.finalize().into()));
                block.reset();
            }
            bytes = rest;
        }
    }

    /// What the bytes are known by.
    pub fn finish(self) -> ContentId {
        match self.kind {
            Kind::Whole(whole) => ContentId::Sha256(Sha256::from_bytes(whole.finalize().into())),
            Kind::Blocks { block, mut done } => {
                if !self.length.is_multiple_of(BLOCK) {
                    done.push(BlockHash::from_bytes(block.finalize().into()));
                }
                ContentId::Blocks(hash_of_blocks(self.length, &done))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(length: u64) -> Vec<u8> {
        (0..length).map(|at| (at % 251) as u8).collect()
    }

    #[test]
    fn a_large_file_is_known_by_its_blocks_and_a_small_one_by_its_sha256() {
        for length in [0, 1, BLOCK] {
            let content = bytes(length);
            assert_eq!(ContentId::of(&content), ContentId::Sha256(Sha256::of(&content)));
        }
        for length in [BLOCK + 1, 2 * BLOCK, 2 * BLOCK + 7] {
            let content = bytes(length);
            let blocks: Vec<_> = content.chunks(BLOCK as usize).map(BlockHash::of).collect();
            let expected = ContentId::Blocks(hash_of_blocks(length, &blocks));
            assert_eq!(ContentId::of(&content), expected, "{length}");
        }
    }

    #[test]
    fn pieces_make_no_difference() {
        let content = bytes(2 * BLOCK + 7);
        for size in [7777, BLOCK as usize, BLOCK as usize + 1, content.len()] {
            let mut hasher = ContentHasher::for_size(content.len() as u64);
            content.chunks(size).for_each(|piece| hasher.update(piece));
            assert_eq!(hasher.length(), content.len() as u64);
            assert_eq!(hasher.finish(), ContentId::of(&content), "{size}");
        }
    }

    #[test]
    fn large_content_that_was_ordered_by_its_sha256_is_checked_by_it() {
        let content = bytes(BLOCK + 1);
        let wanted = ContentId::Sha256(Sha256::of(&content));
        let mut hasher = ContentHasher::like(&wanted);
        hasher.update(&content);
        assert_eq!(hasher.finish(), wanted);
    }

    #[test]
    fn names_stay_as_they_are() {
        let whole = ContentId::of(b"x");
        let digits = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881";
        assert_eq!(whole.to_string(), digits);
        let blocks = ContentId::Blocks(BlockHash::of(b"x"));
        let digits = BlockHash::of(b"x");
        assert_eq!(blocks.to_string(), format!("blocks-{digits}"));
        let json = serde_json::json!({ "blocks": digits });
        assert_eq!(serde_json::to_value(&blocks).unwrap(), json);
    }
}
