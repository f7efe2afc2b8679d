//! Reading one output to its end, hashing on the way.

use farrun_protocol::Sha256;
use farrun_protocol::manifest::BLOCK;
use sha2::Digest as _;
use std::fs::File;
use std::io::{self, Read as _};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};

/// What is read at once from a large file; a part of a block.
const PIECE: usize = 1024 * 1024;
/// Pieces that wait for the second hash.
const WAITING: usize = 2;

/// The hashes of a file and how long it was.
#[derive(Debug)]
pub(super) struct Hashed {
    pub(super) length: u64,
    pub(super) sha256: Sha256,
    pub(super) blocks: Vec<Sha256>,
}

/// Hashes a file of at most one block. Stops when there is more than `expected`.
pub(super) fn hash_small(file: &mut File, expected: u64, report: &mut dyn FnMut(u64)) -> io::Result<Hashed> {
    let mut whole = sha2::Sha256::new();
    let mut buffer = vec![0; 256 * 1024];
    let mut length = 0;
    while length <= expected {
        let count = fill(file, &mut buffer)?;
        let piece = buffer.get(..count).unwrap_or_default();
        whole.update(piece);
        length += count as u64;
        report(count as u64);
        if count < buffer.len() {
            break;
        }
    }
    Ok(Hashed {
        length,
        sha256: Sha256::from_bytes(whole.finalize().into()),
        blocks: Vec::new(),
    })
}

/// Hashes a file as a whole and block by block; the two hashes of each byte are taken by two processors.
pub(super) fn hash_large(file: &mut File, expected: u64, report: &mut dyn FnMut(u64)) -> io::Result<Hashed> {
    std::thread::scope(|scope| {
        let (sender, receiver) = sync_channel::<Arc<Vec<u8>>>(WAITING);
        let blocks = scope.spawn(move || hash_blocks(&receiver));
        let mut whole = sha2::Sha256::new();
        let mut length = 0;
        while length <= expected {
            let mut piece = vec![0; PIECE];
            let count = fill(file, &mut piece)?;
            if count == 0 {
                break;
            }
            piece.truncate(count);
            let piece = Arc::new(piece);
            // It ends only when this side lets go.
            let _ = sender.send(Arc::clone(&piece));
            whole.update(piece.as_slice());
            length += count as u64;
            report(count as u64);
        }
        drop(sender);
        let blocks = blocks
            .join()
            .map_err(|_| io::Error::other("a thread that hashes has ended early"))?;
        Ok(Hashed {
            length,
            sha256: Sha256::from_bytes(whole.finalize().into()),
            blocks,
        })
    })
}

fn hash_blocks(pieces: &Receiver<Arc<Vec<u8>>>) -> Vec<Sha256> {
    let (mut blocks, mut hasher, mut in_block) = (Vec::new(), sha2::Sha256::new(), 0);
    for piece in pieces {
        hasher.update(piece.as_slice());
        in_block += piece.len() as u64;
        if in_block >= BLOCK {
            blocks.push(Sha256::from_bytes(hasher.finalize_reset().into()));
            in_block = 0;
        }
    }
    if in_block > 0 {
        blocks.push(Sha256::from_bytes(hasher.finalize().into()));
    }
    blocks
}

/// Reads until the buffer is full or the file ends.
pub(super) fn fill(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
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
