//! A local file on its way out, in blocks that any connection can take.
//!
//! Beside the file on the host lies a second one with a byte for each piece; it is set once the host has confirmed
//! that piece. After a cut the next upload sends what is not marked. Marks are a convenience: whether the whole
//! arrived, only its hash says.

use super::TransferError;
use super::file::OpenFile;
use bytes::{BufMut as _, Bytes, BytesMut};
use farrun_protocol::layout::UPLOAD_PIECE as PIECE;
use std::fs::{File, Metadata};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Pieces that a connection takes at a time: 4 MiB, less what they fall short of half of one.
const AT_A_TIME: u64 = 8;
/// The most content of a block.
pub(super) const BLOCK: u64 = AT_A_TIME * PIECE;

/// A file to be sent.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// Where it lies here.
    pub local: PathBuf,
    /// Where it goes.
    pub remote: String,
    /// Where its marks go.
    pub marks: String,
    /// Whether an earlier upload may have sent a part of it.
    pub begun: bool,
}

/// An open local file and how much of it is still to be confirmed.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) index: usize,
    pub(super) wanted: Outgoing,
    file: File,
    before: Metadata,
    /// Blocks that are not confirmed yet.
    left: AtomicUsize,
    begun: AtomicBool,
}

/// What one connection takes at a time.
#[derive(Debug, Clone)]
pub(super) struct Block {
    pub(super) source: std::sync::Arc<Source>,
    /// The pieces of it that are to be sent.
    pub(super) pieces: Vec<u64>,
}

impl Source {
    pub(super) fn open(index: usize, wanted: &Outgoing) -> Result<Self, TransferError> {
        use rustix::fs::{Mode, OFlags};
        let path = &wanted.local;
        // A pipe in the place of the file must not block the open.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let opened = rustix::fs::open(path, flags, Mode::empty())
            .map_err(|error| TransferError::local(path, error))?;
        let file = File::from(opened);
        let before = file
            .metadata()
            .map_err(|error| TransferError::local(path, error))?;
        if !before.is_file() {
            return Err(TransferError::NotContained { path: path.clone() });
        }
        Ok(Self {
            index,
            wanted: wanted.clone(),
            file,
            before,
            left: AtomicUsize::new(0),
            begun: AtomicBool::new(false),
        })
    }

    pub(super) fn size(&self) -> u64 {
        self.before.len()
    }

    pub(super) fn path(&self) -> &Path {
        &self.wanted.local
    }

    /// Whether marks are kept: a file of one piece is sent again whole.
    pub(super) fn is_marked(&self) -> bool {
        self.size() > PIECE
    }

    /// Most bytes of marks that a file of this size has.
    pub(super) fn piece_count(&self) -> u64 {
        self.size().div_ceil(PIECE)
    }

    /// Offset and length of a piece.
    pub(super) fn range(&self, piece: u64) -> (u64, u64) {
        let offset = piece.saturating_mul(PIECE);
        (offset, PIECE.min(self.size().saturating_sub(offset)))
    }

    /// Cuts what the marks leave out into blocks, and answers how many bytes need not be sent. Even an empty file has
    /// a block, which makes it.
    pub(super) fn blocks(self: &std::sync::Arc<Self>, marks: &[u8]) -> (Vec<Block>, u64) {
        let mut kept = 0;
        let mut blocks: Vec<Block> = Vec::new();
        let mut current = None;
        for piece in 0..self.piece_count() {
            let marked = usize::try_from(piece).ok().and_then(|at| marks.get(at));
            if marked.is_some_and(|mark| *mark != 0) {
                kept += self.range(piece).1;
                continue;
            }
            let block = piece / AT_A_TIME;
            match blocks.last_mut().filter(|_| current == Some(block)) {
                Some(last) => last.pieces.push(piece),
                None => blocks.push(self.block(vec![piece])),
            }
            current = Some(block);
        }
        if blocks.is_empty() {
            blocks.push(self.block(Vec::new()));
        }
        self.left.store(blocks.len(), Ordering::Relaxed);
        (blocks, kept)
    }

    fn block(self: &std::sync::Arc<Self>, pieces: Vec<u64>) -> Block {
        Block {
            source: std::sync::Arc::clone(self),
            pieces,
        }
    }

    /// A piece was confirmed; true when it was the first.
    pub(super) fn begin(&self) -> bool {
        !self.begun.swap(true, Ordering::Relaxed)
    }

    /// One block less to confirm; true when it was the last.
    pub(super) fn confirm_block(&self) -> bool {
        self.left.fetch_sub(1, Ordering::AcqRel) == 1
    }

    /// Whether the file is still the one that was opened.
    pub(super) fn check_unchanged(&self) -> Result<(), TransferError> {
        let after = self
            .file
            .metadata()
            .map_err(|error| TransferError::local(self.path(), error))?;
        let facts = |of: &Metadata| (of.len(), of.mtime(), of.mtime_nsec(), of.ino());
        match facts(&after) == facts(&self.before) {
            true => Ok(()),
            false => Err(self.changed()),
        }
    }

    fn changed(&self) -> TransferError {
        TransferError::LocalChanged {
            path: self.path().to_owned(),
        }
    }

    /// Reads a piece straight into the packets that carry it, each of at most `step` bytes.
    pub(super) fn packets(
        &self,
        handle: &Bytes,
        piece: u64,
        step: u32,
    ) -> Result<Vec<(BytesMut, u32)>, TransferError> {
        let (mut offset, mut left) = self.range(piece);
        let mut packets = Vec::new();
        while left > 0 {
            let length = step.min(u32::try_from(left).unwrap_or(step));
            let mut packet = OpenFile::begin_write(handle, offset, length);
            let head = packet.len();
            packet.put_bytes(0, length as usize);
            let body = packet.get_mut(head..).unwrap_or_default();
            self.file
                .read_exact_at(body, offset)
                .map_err(|error| match error.kind() {
                    std::io::ErrorKind::UnexpectedEof => self.changed(),
                    _ => TransferError::local(self.path(), error),
                })?;
            packets.push((packet, length));
            offset += u64::from(length);
            left -= u64::from(length);
        }
        Ok(packets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn source(folder: &Path, size: u64) -> Arc<Source> {
        let local = folder.join("f");
        File::create(&local).unwrap().set_len(size).unwrap();
        let wanted = Outgoing {
            local,
            remote: "f".into(),
            marks: "m".into(),
            begun: false,
        };
        Arc::new(Source::open(0, &wanted).unwrap())
    }

    #[test]
    fn only_what_is_not_marked_is_cut_into_blocks() {
        let folder = tempfile::tempdir().unwrap();
        let file = source(folder.path(), 2 * BLOCK + 5);
        let per_block = AT_A_TIME;
        let (blocks, kept) = file.blocks(&[]);
        let pieces: Vec<usize> = blocks.iter().map(|block| block.pieces.len()).collect();
        assert_eq!(
            (pieces, kept),
            (vec![per_block as usize, per_block as usize, 1], 0)
        );
        let mut marks = vec![1; file.piece_count() as usize];
        marks[3] = 0;
        let (blocks, kept) = file.blocks(&marks);
        assert_eq!(blocks.len(), 1);
        assert_eq!((&blocks[0].pieces, kept), (&vec![3], 2 * BLOCK + 5 - PIECE));
        // Marks for more than there is, as another file's, add nothing.
        let (blocks, kept) = file.blocks(&[1; 1000]);
        assert_eq!((blocks.len(), kept), (1, 2 * BLOCK + 5));
        assert!(blocks[0].pieces.is_empty() && file.confirm_block());
    }

    #[test]
    fn an_empty_file_is_one_block_without_content() {
        let folder = tempfile::tempdir().unwrap();
        let (blocks, kept) = source(folder.path(), 0).blocks(&[]);
        assert_eq!((blocks.len(), blocks[0].pieces.len(), kept), (1, 0, 0));
    }
}
