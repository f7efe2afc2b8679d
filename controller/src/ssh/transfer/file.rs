//! A file that is open on the host.

use super::TransferError;
use super::session::{Held, Reply, Session};
use super::wire::{self, Answer, Failure};
use bytes::{BufMut as _, Bytes, BytesMut};
use russh_sftp::protocol::{FileAttributes, Open, OpenFlags, Packet};
use std::sync::Arc;
use tokio::sync::OwnedSemaphorePermit;

/// Closes itself when dropped; [`OpenFile::close`] also learns whether that succeeded.
#[derive(Debug)]
pub(super) struct OpenFile {
    session: Arc<Session>,
    handle: Bytes,
    path: String,
    permit: Option<OwnedSemaphorePermit>,
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        if self.permit.is_some() {
            let _ = self.send_close();
        }
    }
}

/// Attributes that say nothing.
pub(super) fn no_attributes() -> FileAttributes {
    FileAttributes::empty()
}

impl OpenFile {
    /// Opens `path`; `mode` is set when the file is made. In a task of its own: a caller who stops waiting must
    /// not leave a file open on the host that nobody closes.
    pub(super) async fn open(
        session: &Arc<Session>,
        path: &str,
        flags: OpenFlags,
        mode: Option<u32>,
    ) -> Result<Self, TransferError> {
        let opening = Self::open_now(Arc::clone(session), path.to_owned(), flags, mode);
        match tokio::spawn(opening).await {
            Ok(opened) => opened,
            Err(error) => Err(session.broken(Failure::Lost(error.to_string()))),
        }
    }

    async fn open_now(
        session: Arc<Session>,
        path: String,
        flags: OpenFlags,
        mode: Option<u32>,
    ) -> Result<Self, TransferError> {
        let permit = Arc::clone(&session.opens).acquire_owned().await.ok();
        let attrs = FileAttributes {
            permissions: mode,
            ..no_attributes()
        };
        let filename = path.clone();
        let reply = session.send(Held::default(), |id| {
            coded(Open {
                id,
                filename,
                pflags: flags,
                attrs,
            })
        });
        match session.answer(reply, &path).await? {
            Answer::Handle(handle) if handle.len() <= 256 => Ok(Self {
                handle: Bytes::copy_from_slice(&handle),
                session,
                path,
                permit,
            }),
            _ => Err(session.unexpected()),
        }
    }

    /// Asks for `length` bytes at `offset`, as soon as the window has room.
    pub(super) async fn ask(&self, offset: u64, length: u32) -> Reply {
        let held = Held {
            slot: self.session.reads.slot().await,
            ..Held::default()
        };
        self.session.send(held, |id| {
            wire::with_handle(wire::READ, id, &self.handle, |packet| {
                packet.put_u64(offset);
                packet.put_u32(length);
            })
        })
    }

    /// The bytes of an answer to [`OpenFile::ask`]; anything but exactly `expected` of them is an error.
    pub(super) async fn exactly(&self, reply: Reply, expected: u32) -> Result<Bytes, TransferError> {
        let Answer::Data(data) = self.session.answer(reply, &self.path).await? else {
            return Err(self.session.unexpected());
        };
        match data.len().cmp(&(expected as usize)) {
            std::cmp::Ordering::Equal => Ok(data),
            std::cmp::Ordering::Greater => Err(self.session.violated("more content than was asked for")),
            std::cmp::Ordering::Less if data.is_empty() => {
                Err(self.session.violated("an empty piece of content"))
            }
            std::cmp::Ordering::Less => Err(self.changed()),
        }
    }

    /// Reads a range that may span many requests, all of them under way at once.
    pub(super) async fn read_range(
        &self,
        offset: u64,
        length: u64,
        mut arrived: impl FnMut(u64),
    ) -> Result<Vec<Bytes>, TransferError> {
        let step = self.session.read_length();
        let mut replies = Vec::new();
        {
            let _turn = self.session.turn.lock().await;
            let mut done = 0;
            while done < length {
                let size = step.min(u32::try_from(length - done).unwrap_or(step));
                replies.push((self.ask(offset + done, size).await, size));
                done += u64::from(size);
            }
        }
        let mut content = Vec::with_capacity(replies.len());
        for (reply, size) in replies {
            content.push(self.exactly(reply, size).await?);
            arrived(u64::from(size));
        }
        Ok(content)
    }

    /// Begins a write; the caller appends `length` bytes and passes the result to [`OpenFile::write`].
    pub(super) fn begin_write(handle: &Bytes, offset: u64, length: u32) -> BytesMut {
        wire::begin_write(handle, offset, length)
    }

    /// The handle, for [`OpenFile::begin_write`] on another thread.
    pub(super) fn handle(&self) -> Bytes {
        self.handle.clone()
    }

    /// Sends a begun write as soon as the window has room.
    pub(super) async fn write(&self, packet: BytesMut) -> Reply {
        let held = Held {
            slot: self.session.writes.slot().await,
            ..Held::default()
        };
        self.session.send(held, |id| wire::finish(packet, id))
    }

    /// Waits until a write is done.
    pub(super) async fn written(&self, reply: Reply) -> Result<(), TransferError> {
        self.session.done(reply, &self.path).await
    }

    /// What the host says about the open file.
    pub(super) async fn attributes(&self) -> Result<FileAttributes, TransferError> {
        let reply = self.session.send(Held::default(), |id| {
            wire::with_handle(wire::FSTAT, id, &self.handle, |_| {})
        });
        match self.session.answer(reply, &self.path).await? {
            Answer::Attributes(attributes) => Ok(attributes),
            _ => Err(self.session.unexpected()),
        }
    }

    /// Sets the permission bits.
    pub(super) async fn set_mode(&self, mode: u32) -> Result<(), TransferError> {
        const PERMISSIONS: u32 = 4;
        self.set_attributes(|packet| {
            packet.put_u32(PERMISSIONS);
            packet.put_u32(mode & 0o7777);
        })
        .await
    }

    async fn set_attributes(&self, tail: impl FnOnce(&mut BytesMut)) -> Result<(), TransferError> {
        let reply = self.session.send(Held::default(), |id| {
            wire::with_handle(wire::FSETSTAT, id, &self.handle, tail)
        });
        self.session.done(reply, &self.path).await
    }

    /// Has the host write the file to its disk. Only called where the host offers it.
    pub(super) async fn sync(&self) -> Result<(), TransferError> {
        let held = Held {
            patient: true,
            ..Held::default()
        };
        let reply = self.session.send(held, |id| {
            wire::extended(id, "fsync@openssh.com", &[&self.handle])
        });
        self.session.done(reply, &self.path).await
    }

    /// Closes the file and learns whether the host kept what was written.
    pub(super) async fn close(mut self) -> Result<(), TransferError> {
        let reply = self.send_close();
        self.session.done(reply, &self.path).await
    }

    fn send_close(&mut self) -> Reply {
        let held = Held {
            open: self.permit.take(),
            ..Held::default()
        };
        self.session.send(held, |id| {
            wire::with_handle(wire::CLOSE, id, &self.handle, |_| {})
        })
    }

    /// The error for content that is not what it should be.
    pub(super) fn changed(&self) -> TransferError {
        TransferError::ChangedWhileReading {
            host: self.session.host.clone(),
            path: self.path.clone(),
        }
    }
}

/// Encodes a control packet. Encoding into memory fails only for a text of more than 4 GiB; the empty packet
/// that results is refused by the host.
pub(super) fn coded(packet: impl Into<Packet>) -> Bytes {
    Bytes::try_from(packet.into()).unwrap_or_default()
}
