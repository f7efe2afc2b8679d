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
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;

/// How often it is looked whether more has arrived.
const LOOK_APART: Duration = Duration::from_millis(20);
/// Most bytes that are hashed before a cancellation is looked at.
const STRETCH: u64 = 16 * 1024 * 1024;
/// From this many bytes on that the disk may not have yet, it is made to take them while more arrive; the sync at the
/// end would have to wait for all of them at once.
const UNSYNCED: u64 = 64 * 1024 * 1024;

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
    let mut disk = Disk::default();
    while following.hash.length() < size {
        let before = following.hash.length();
        following = blocking(move || following.advance()).await?;
        disk.keep_up(following.hash.length(), &following).await?;
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
    disk.finish(&following).await?;
    blocking(move || {
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
    file: Option<Arc<File>>,
    /// Of what is there from the start.
    hash: ContentHasher,
}

impl Following {
    /// Hashes what has arrived behind what was hashed, at most a stretch of it.
    fn advance(mut self) -> Result<Self, Failure> {
        let file = match self
            .file
            .take()
            .map_or_else(|| File::open(&self.incoming).map(Arc::new), Ok)
        {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(self),
            Err(error) => return Err(RecordError::io(&self.incoming)(error).into()),
        };
        let end = self.arrived()?.min(self.hash.length().saturating_add(STRETCH));
        let mut buffer = vec![0; 128 * 1024];
        while self.hash.length() < end {
            let most = usize::try_from(end - self.hash.length()).unwrap_or(buffer.len());
            let wanted = most.min(buffer.len());
            let part = buffer.get_mut(..wanted).unwrap_or_default();
            file.read_exact_at(part, self.hash.length())
                .map_err(RecordError::io(&self.incoming))?;
            self.hash.update(part);
        }
        self.file = Some(file);
        Ok(self)
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

/// Has the disk take an upload while it arrives, one sync at a time.
#[derive(Default)]
struct Disk {
    asked_for: u64,
    syncing: Option<JoinHandle<std::io::Result<()>>>,
}

impl Disk {
    /// Begins a sync when much has arrived since the last one and that one is done.
    async fn keep_up(&mut self, arrived: u64, following: &Following) -> Result<(), Failure> {
        let much = arrived.saturating_sub(self.asked_for) >= UNSYNCED;
        if !much
            || self
                .syncing
                .as_ref()
                .is_some_and(|syncing| !syncing.is_finished())
        {
            return Ok(());
        }
        self.finish(following).await?;
        self.asked_for = arrived;
        let file = following.file.clone();
        self.syncing = file.map(|file| tokio::task::spawn_blocking(move || file.sync_data()));
        Ok(())
    }

    /// Waits for the sync under way. Its error counts: the kernel tells each only once, and no later sync would hear of it.
    async fn finish(&mut self, following: &Following) -> Result<(), Failure> {
        let Some(syncing) = self.syncing.take() else {
            return Ok(());
        };
        let synced = syncing
            .await
            .unwrap_or_else(|error| Err(std::io::Error::other(error)));
        Ok(synced.map_err(RecordError::io(&following.incoming))?)
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

    #[tokio::test]
    async fn the_disk_is_asked_when_much_has_arrived() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("x"), b"").unwrap();
        let following = following(folder.path(), 2 * UNSYNCED).advance().unwrap();
        let mut disk = Disk::default();
        for (arrived, asked_for) in [
            (UNSYNCED - 1, 0),
            (UNSYNCED, UNSYNCED),
            (2 * UNSYNCED - 1, UNSYNCED),
        ] {
            disk.keep_up(arrived, &following).await.unwrap();
            assert_eq!(disk.asked_for, asked_for);
        }
        disk.finish(&following).await.unwrap();
        disk.syncing = Some(tokio::task::spawn_blocking(|| Err(ErrorKind::StorageFull.into())));
        assert!(
            disk.finish(&following).await.is_err(),
            "an error is not swallowed"
        );
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
