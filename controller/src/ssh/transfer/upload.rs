//! Sends one local file, many writes under way at once.

use super::file::OpenFile;
use super::{Progress, Sftp, TransferError};
use bytes::{BufMut as _, Bytes, BytesMut};
use russh_sftp::protocol::OpenFlags;
use std::collections::VecDeque;
use std::fs::{File, Metadata};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use tokio::sync::mpsc;

/// Pieces that are read ahead of the window.
const AHEAD: usize = 8;

impl Sftp {
    /// Sends the file `local` to `remote` from byte `from` on, syncs it there, and returns how many bytes were
    /// sent. The bytes before `from` are the caller's word: check a hash on the host before using the file.
    pub async fn upload(
        &self,
        local: &Path,
        remote: &str,
        from: u64,
        progress: &Progress,
    ) -> Result<u64, TransferError> {
        let opening = local.to_path_buf();
        let (file, before) = blocking(local, move || open_local(&opening)).await?;
        let size = before.len();
        if from > size {
            return Err(TransferError::LocalChanged {
                path: local.to_path_buf(),
            });
        }
        progress.expect(1, size);
        progress.moved(from);
        let target = self.open_target(remote, from).await?;
        let (packets, arriving) = mpsc::channel(AHEAD);
        let reading = Reading {
            file,
            before,
            path: local.to_path_buf(),
            handle: target.handle(),
            step: self.session.offers().write_length,
        };
        let reader = blocking(local, move || reading.run(from, &packets));
        let sender = self.send_all(&target, arriving, progress);
        tokio::try_join!(sender, reader)?;
        self.finish(target, remote, size).await?;
        progress.finished_file();
        Ok(size - from)
    }

    async fn open_target(&self, remote: &str, from: u64) -> Result<OpenFile, TransferError> {
        let mut flags = OpenFlags::WRITE | OpenFlags::CREATE;
        if from == 0 {
            flags |= OpenFlags::TRUNCATE;
        }
        let target = OpenFile::open(&self.session, remote, flags, Some(0o600)).await?;
        if from > 0 {
            match target.attributes().await?.size {
                Some(size) if size == from => {}
                // What lies behind `from` could survive an upload that is cut; it is not known to be ours.
                Some(size) if size > from => target.set_size(from).await?,
                _ => return Err(target.changed()),
            }
        }
        Ok(target)
    }

    async fn send_all(
        &self,
        target: &OpenFile,
        mut arriving: mpsc::Receiver<(BytesMut, u32)>,
        progress: &Progress,
    ) -> Result<(), TransferError> {
        let mut under_way = VecDeque::new();
        while let Some((packet, length)) = arriving.recv().await {
            under_way.push_back((target.write(packet).await, length));
            // As many as the window can hold: with one more, the oldest must have been answered.
            while under_way.len() > 64 {
                if let Some((reply, length)) = under_way.pop_front() {
                    target.written(reply).await?;
                    progress.moved(u64::from(length));
                }
            }
        }
        for (reply, length) in under_way {
            target.written(reply).await?;
            progress.moved(u64::from(length));
        }
        Ok(())
    }

    async fn finish(&self, target: OpenFile, remote: &str, size: u64) -> Result<(), TransferError> {
        if self.session.offers().sync {
            target.sync().await?;
        }
        let there = target.attributes().await?.size;
        target.close().await?;
        match there {
            Some(there) if there == size => Ok(()),
            there => Err(TransferError::Refused {
                host: self.session.host.clone(),
                path: remote.to_owned(),
                detail: format!("it holds {there:?} bytes after {size} were sent"),
            }),
        }
    }
}

struct Reading {
    file: File,
    before: Metadata,
    path: PathBuf,
    handle: Bytes,
    step: u32,
}

impl Reading {
    /// Reads every piece straight into the packet that carries it.
    fn run(self, from: u64, packets: &mpsc::Sender<(BytesMut, u32)>) -> Result<(), TransferError> {
        let mut offset = from;
        while offset < self.before.len() {
            let length = self
                .step
                .min(u32::try_from(self.before.len() - offset).unwrap_or(self.step));
            let packet = self.piece(offset, length)?;
            if packets.blocking_send((packet, length)).is_err() {
                return Ok(());
            }
            offset += u64::from(length);
        }
        let after = self
            .file
            .metadata()
            .map_err(|error| TransferError::local(&self.path, error))?;
        let facts = |of: &Metadata| (of.len(), of.mtime(), of.mtime_nsec(), of.ino());
        match facts(&after) == facts(&self.before) {
            true => Ok(()),
            false => Err(TransferError::LocalChanged { path: self.path }),
        }
    }

    fn piece(&self, offset: u64, length: u32) -> Result<BytesMut, TransferError> {
        let mut packet = OpenFile::begin_write(&self.handle, offset, length);
        let head = packet.len();
        packet.put_bytes(0, length as usize);
        let body = packet.get_mut(head..).unwrap_or_default();
        self.file
            .read_exact_at(body, offset)
            .map_err(|error| match error.kind() {
                std::io::ErrorKind::UnexpectedEof => TransferError::LocalChanged {
                    path: self.path.clone(),
                },
                _ => TransferError::local(&self.path, error),
            })?;
        Ok(packet)
    }
}

fn open_local(path: &Path) -> Result<(File, Metadata), TransferError> {
    use rustix::fs::{Mode, OFlags};
    // A pipe in the place of the file must not block the open.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let opened =
        rustix::fs::open(path, flags, Mode::empty()).map_err(|error| TransferError::local(path, error))?;
    let file = File::from(opened);
    let facts = file
        .metadata()
        .map_err(|error| TransferError::local(path, error))?;
    match facts.is_file() {
        true => Ok((file, facts)),
        false => Err(TransferError::NotContained {
            path: path.to_path_buf(),
        }),
    }
}

/// Runs `work` where waiting for a disk holds nobody up.
pub(super) async fn blocking<T: Send + 'static>(
    path: &Path,
    work: impl FnOnce() -> Result<T, TransferError> + Send + 'static,
) -> Result<T, TransferError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(TransferError::local(path, std::io::Error::other(error))))
}
