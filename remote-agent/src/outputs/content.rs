//! Reading outputs to their end, hashing on the way.

use super::abreast::abreast;
use farrun_protocol::manifest::BLOCK;
use farrun_protocol::{BlockHash, Sha256};
use sha2::Digest as _;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;

/// What is read at once.
const PIECE: usize = 256 * 1024;

/// The SHA-256 of a file and how long it was. Stops when there is more than `expected`.
pub(super) fn hash_whole(file: &mut File, expected: u64) -> io::Result<(Sha256, u64)> {
    let mut whole = sha2::Sha256::new();
    let mut buffer = vec![0; PIECE.min(usize::try_from(expected).map_or(PIECE, |size| size + 1))];
    let mut length = 0;
    while length <= expected {
        let count = fill(file, &mut buffer)?;
        whole.update(buffer.get(..count).unwrap_or_default());
        length += count as u64;
        if count < buffer.len() {
            break;
        }
    }
    Ok((Sha256::from_bytes(whole.finalize().into()), length))
}

/// The hashes of the blocks of a file of `size` bytes, taken by several processors. A file that is shorter is an error.
pub(super) fn hash_blocks(file: &File, size: u64, report: &mut dyn FnMut(u64)) -> io::Result<Vec<BlockHash>> {
    let count = usize::try_from(size.div_ceil(BLOCK)).map_err(|_| io::ErrorKind::FileTooLarge)?;
    let length = |index: usize| size.saturating_sub(index as u64 * BLOCK).min(BLOCK);
    let mut hashes = vec![None; count];
    let mut failed = None;
    abreast(
        count,
        |index| hash_block(file, index as u64 * BLOCK, length(index)),
        |index, hashed| match (hashed, hashes.get_mut(index)) {
            (Ok(hash), Some(place)) => {
                *place = Some(hash);
                report(length(index));
            }
            (Err(error), _) => failed = Some(error),
            (Ok(_), None) => {}
        },
    );
    match (failed, hashes.into_iter().collect()) {
        (Some(error), _) => Err(error),
        (None, Some(hashes)) => Ok(hashes),
        (None, None) => Err(io::Error::other("a block was not hashed")),
    }
}

fn hash_block(file: &File, from: u64, length: u64) -> io::Result<BlockHash> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; PIECE];
    let mut done = 0;
    while done < length {
        let size = PIECE.min(usize::try_from(length - done).unwrap_or(PIECE));
        let piece = buffer.get_mut(..size).unwrap_or_default();
        file.read_exact_at(piece, from + done)?;
        hasher.update(piece);
        done += size as u64;
    }
    Ok(BlockHash::from_bytes(hasher.finalize().into()))
}

/// Reads until the buffer is full or the file ends.
fn fill(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(room) = buffer.get_mut(filled..).filter(|room| !room.is_empty()) {
        match file.read(room) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
