//! The one payload that is not JSON: a piece of a run log.
//!
//! ```text
//! [u8;16] generation
//! u64     offset of the first byte, big endian
//! u8      1 when the log is complete and this chunk reaches its end, else 0
//! if 1:   u64 length of the whole log, [u8;32] its SHA-256
//! …       the bytes, possibly none
//! ```

use crate::id::{Generation, Sha256};
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

/// Most run-log bytes that one chunk carries; leaves room for the head within a frame.
pub const MAX_CHUNK: usize = crate::frame::MAX_PAYLOAD - 128;

/// Number of bytes before the resume point whose hash a controller sends along.
pub const TAIL_LENGTH: u64 = 64 * 1024;

/// Most bytes that a run log has beyond the cap of its order: what `init` writes where the cap was reached.
pub const BEYOND_CAP: u64 = 64 * 1024;

/// How long a complete run log is and what it hashes to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogEnd {
    /// Length in bytes of `run.log` as it lies on the host's disk.
    pub length: u64,
    /// Hash of exactly those bytes.
    pub sha256: Sha256,
}

/// A piece of a run log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogChunk {
    /// The life of the log it was read from.
    pub generation: Generation,
    /// Run-log bytes before the first byte of `bytes`.
    pub offset: u64,
    /// Set when nothing will ever follow `bytes`.
    pub end: Option<LogEnd>,
    /// What the job wrote; at most [`MAX_CHUNK`] bytes.
    pub bytes: Bytes,
}

/// A chunk's payload was not of the documented form.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a log chunk of {length} bytes is malformed")]
pub struct MalformedChunk {
    /// Size of the payload.
    pub length: usize,
}

impl LogChunk {
    /// The payload of a `LogChunk` frame.
    pub fn encode(&self) -> Bytes {
        let mut buffer = BytesMut::with_capacity(80 + self.bytes.len());
        buffer.put_slice(&self.generation.to_bytes());
        buffer.put_u64(self.offset);
        match &self.end {
            None => buffer.put_u8(0),
            Some(end) => {
                buffer.put_u8(1);
                buffer.put_u64(end.length);
                let mut digest = [0; 32];
                // The text of a `Sha256` is always 64 hex digits.
                if hex::decode_to_slice(end.sha256.as_str(), &mut digest).is_ok() {
                    buffer.put_slice(&digest);
                }
            }
        }
        buffer.put_slice(&self.bytes);
        buffer.freeze()
    }

    /// Reads the payload of a `LogChunk` frame.
    ///
    /// # Errors
    /// [`MalformedChunk`] when it is too short or its marker is neither 0 nor 1.
    pub fn decode(mut payload: Bytes) -> Result<Self, MalformedChunk> {
        let malformed = MalformedChunk {
            length: payload.len(),
        };
        if payload.len() < 25 {
            return Err(malformed);
        }
        let mut generation = [0; 16];
        payload.copy_to_slice(&mut generation);
        let offset = payload.get_u64();
        let end = match payload.get_u8() {
            0 => None,
            1 if payload.len() >= 40 => {
                let length = payload.get_u64();
                let mut digest = [0; 32];
                payload.copy_to_slice(&mut digest);
                Some(LogEnd {
                    length,
                    sha256: Sha256::from_bytes(digest),
                })
            }
            _ => return Err(malformed),
        };
        Ok(Self {
            generation: Generation::from_bytes(generation),
            offset,
            end,
            bytes: payload,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn chunks_survive(offset in any::<u64>(), bytes in proptest::collection::vec(any::<u8>(), 0..500), end in proptest::option::of(any::<u64>())) {
            let chunk = LogChunk {
                generation: Generation::random(),
                offset,
                end: end.map(|length| LogEnd { length, sha256: Sha256::of(&bytes) }),
                bytes: bytes.into(),
            };
            prop_assert_eq!(LogChunk::decode(chunk.encode()), Ok(chunk));
        }

        #[test]
        fn hostile_payloads_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = LogChunk::decode(bytes.into());
        }
    }

    #[test]
    fn the_largest_chunk_fits_a_frame() {
        let chunk = LogChunk {
            generation: Generation::random(),
            offset: 0,
            end: Some(LogEnd {
                length: 1,
                sha256: Sha256::of(b""),
            }),
            bytes: vec![0; MAX_CHUNK].into(),
        };
        assert!(chunk.encode().len() <= crate::frame::MAX_PAYLOAD);
    }
}
