//! Hashing an upload while it arrives, so that its verification is done a moment after its last byte.
//!
//! Its marks say how far it is there. They are the uploader's word and only decide what is read when; whether the
//! content is right, the hash of all of it decides.

use super::call::{Call, blocking, cancelled};
use super::inputs::{admit, marks_of, open_incoming};
use super::session::Session;
use crate::record::{RecordError, read_bounded};
use farrun_protocol::content::ContentHasher;
use farrun_protocol::layout::{self, UPLOAD_PIECE};
use farrun_protocol::{ContentId, ErrorCode, Failure, Reply};
use rustix::fs::{Advice, fadvise};
use std::fs::File;
use std::io::ErrorKind;
use std::num::NonZeroU64;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::PathBuf;
use std::time::Duration;

/// How often it is looked whether more has arrived.
const LOOK_APART: Duration = Duration::from_millis(20);
/// Most bytes that are hashed before a cancellation is looked at.
const STRETCH: u64 = 16 * 1024 * 1024;

pub(crate) async fn commit(
    session: &Session,
    content: ContentId,
    size: u64,
    call: &Call,
) -> Result<Reply, Failure> {
    let controller_id = session.peer()?.controller_id.clone();
    let state = session.context.state.clone();
    let incoming = state.join(layout::incoming(&content, &controller_id));
    let mut following = Following {
        incoming: incoming.clone(),
        size,
        file: None,
        hash: ContentHasher::like(&content),
    };
    while following.hash.length() < size {
        let before = following.hash.length();
        following = blocking(move || following.advance()).await?;
        if call.cancel.is_cancelled() {
            return Err(cancelled());
        }
        if following.hash.length() > before {
            continue;
        }
        // Another upload of the same content can come first: it takes the name away, or finds the content wrong.
        if following.is_gone() {
            return match open_incoming(&state, &incoming, &content, size)? {
                None => Ok(Reply::Done),
                Some(_) => Err(Failure::new(ErrorCode::InputMissing, content)),
            };
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_APART) => {}
            () = call.cancel.cancelled() => return Err(cancelled()),
        }
    }
    blocking(move || {
        following.sync()?;
        let Some(file) = open_incoming(&state, &incoming, &content, size)? else {
            return Ok(Reply::Done);
        };
        let length = file.metadata().map_err(RecordError::io(&incoming))?.len();
        let found = (following.hash.finish(), length);
        admit(&state, &incoming, &file, found, (&content, size))?;
        Ok(Reply::Done)
    })
    .await
}

struct Following {
    incoming: PathBuf,
    size: u64,
    file: Option<File>,
    /// Of what is there from the start.
    hash: ContentHasher,
}

impl Following {
    /// Hashes what has arrived behind what was hashed, at most a stretch of it.
    fn advance(mut self) -> Result<Self, Failure> {
        let file = match self.file.take().map_or_else(|| File::open(&self.incoming), Ok) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(self),
            Err(error) => return Err(RecordError::io(&self.incoming)(error).into()),
        };
        let start = self.hash.length();
        let end = self.arrived()?.min(start.saturating_add(STRETCH));
        let mut buffer = vec![0; 128 * 1024];
        while self.hash.length() < end {
            let most = usize::try_from(end - self.hash.length()).unwrap_or(buffer.len());
            let wanted = most.min(buffer.len());
            let part = buffer.get_mut(..wanted).unwrap_or_default();
            file.read_exact_at(part, self.hash.length())
                .map_err(RecordError::io(&self.incoming))?;
            self.hash.update(part);
        }
        // The disk begins to take what was written (`POSIX_FADV_DONTNEED` in Linux' mm/fadvise.c), or the sync at the end
        // would wait for all of it. What it refuses is told by that sync, which is of this open file.
        if let Some(length) = NonZeroU64::new(end.saturating_sub(start)) {
            let _ = fadvise(&file, start, Some(length), Advice::DontNeed);
        }
        self.file = Some(file);
        Ok(self)
    }

    /// Waits until the disk has all of it, and tells what it has refused since the file was opened.
    fn sync(&self) -> Result<(), RecordError> {
        let synced = self.file.as_ref().map_or(Ok(()), File::sync_data);
        synced.map_err(RecordError::io(&self.incoming))
    }

    /// Whether the upload no longer has a name: it has begun, so there was a file.
    fn is_gone(&self) -> bool {
        let facts = self.file.as_ref().map(|file| file.metadata());
        facts.is_none_or(|facts| facts.is_ok_and(|facts| facts.nlink() == 0))
    }

    /// Bytes from the start that are all there.
    fn arrived(&self) -> Result<u64, RecordError> {
        let pieces = self.size.div_ceil(UPLOAD_PIECE);
        let marks = read_bounded(&marks_of(&self.incoming), pieces)?.unwrap_or_default();
        Ok(whole_pieces(&marks).saturating_mul(UPLOAD_PIECE).min(self.size))
    }
}

fn whole_pieces(marks: &[u8]) -> u64 {
    marks.iter().take_while(|mark| **mark != 0).count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn following(folder: &std::path::Path, size: u64) -> Following {
        Following {
            incoming: folder.join("x"),
            size,
            file: None,
            hash: ContentHasher::for_size(size),
        }
    }

    #[test]
    fn it_hashes_as_far_as_the_marks_go_without_a_gap() {
        let folder = tempfile::tempdir().unwrap();
        let size = 9 * UPLOAD_PIECE + 7;
        let content: Vec<u8> = (0..size).map(|at| (at % 251) as u8).collect();
        let mut following = following(folder.path(), size).advance().unwrap();
        assert!(
            following.hash.length() == 0 && following.is_gone(),
            "there is no file"
        );
        std::fs::write(folder.path().join("x"), &content).unwrap();
        for (marks, hashed) in [
            (&[][..], 0),
            (&[0, 1, 1, 1], 0),
            (&[1, 1, 0, 1], 2 * UPLOAD_PIECE),
            (&[1; 10], size),
        ] {
            std::fs::write(folder.path().join("x.marks"), marks).unwrap();
            following = following.advance().unwrap();
            assert_eq!(following.hash.length(), hashed, "{marks:?}");
        }
        assert_eq!(following.hash.finish(), ContentId::of(&content));
    }

    #[test]
    fn an_upload_that_lost_its_name_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("x"), b"").unwrap();
        let following = following(folder.path(), 9).advance().unwrap();
        assert!(!following.is_gone());
        std::fs::remove_file(folder.path().join("x")).unwrap();
        assert!(following.is_gone());
    }
}
