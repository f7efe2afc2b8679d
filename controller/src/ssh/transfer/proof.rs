//! What content is checked against.

use farrun_protocol::{BlockHash, Sha256};
use sha2::Digest as _;

/// The hash that a piece of content has to have, and what was seen of it so far.
pub(super) struct Proof<'a>(Kind<'a>);

enum Kind<'a> {
    Whole(&'a Sha256, sha2::Sha256),
    Block(&'a BlockHash, Box<blake3::Hasher>),
}

impl<'a> Proof<'a> {
    /// Of a file of at most one block.
    pub(super) fn whole(expected: &'a Sha256) -> Self {
        Self(Kind::Whole(expected, sha2::Sha256::new()))
    }

    /// Of a block of a larger file.
    pub(super) fn block(expected: &'a BlockHash) -> Self {
        Self(Kind::Block(expected, Box::default()))
    }

    /// Takes the next bytes.
    pub(super) fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            Kind::Whole(_, hasher) => hasher.update(bytes),
            Kind::Block(_, hasher) => {
                hasher.update(bytes);
            }
        }
    }

    /// Whether the bytes are the expected ones.
    pub(super) fn holds(self) -> bool {
        match self.0 {
            Kind::Whole(expected, hasher) => Sha256::from_bytes(hasher.finalize().into()) == *expected,
            Kind::Block(expected, hasher) => BlockHash::from_bytes(hasher.finalize().into()) == *expected,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_other_byte_is_no_proof() {
        let (whole, block) = (Sha256::of(b"one two"), BlockHash::of(b"one two"));
        for (last, holds) in [(b"two", true), (b"twO", false)] {
            for mut proof in [Proof::whole(&whole), Proof::block(&block)] {
                proof.update(b"one ");
                proof.update(last);
                assert_eq!(proof.holds(), holds);
            }
        }
    }
}
