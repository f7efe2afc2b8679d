//! One SFTP session and its single operations.

use super::file::{OpenFile, coded, no_attributes};
use super::session::{Held, Offers, Reply, Session, Timing};
use super::wire::{self, Answer, Failure};
use super::{DownloadOptions, Progress, Report, Transfer, TransferError, Wanted};
use bytes::{Buf as _, BufMut as _, Bytes};
use futures_util::{Stream, StreamExt as _};
use russh_sftp::protocol::{
    FileAttributes, Init, MkDir, OpenFlags, Packet, Remove, Rename, RmDir, SetStat, Stat,
};
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::task::AbortOnDropHandle;

/// Content per request: what fits OpenSSH's packet of 256 KiB.
const CONTENT: u64 = 261_120;
/// Requests under way while a file is read into memory.
const SMALL_READS: usize = 32;

/// What a host says about a file. A host can lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileFacts {
    /// Size in bytes.
    pub size: u64,
    /// Permission bits, `& 0o7777`.
    pub mode: u32,
    /// Whether it is a folder; links are followed.
    pub is_dir: bool,
    /// Whether it is a regular file; links are followed.
    pub is_file: bool,
    /// The number of its owner.
    pub uid: u32,
}

/// One SFTP session over an opened stream. Clones share it; it ends with the last of them.
#[derive(Debug, Clone)]
pub struct Sftp {
    pub(super) session: Arc<Session>,
    /// Files that are being opened before they are asked for.
    early: Arc<Mutex<HashMap<String, Opening>>>,
}

type Opening = AbortOnDropHandle<Result<OpenFile, TransferError>>;

impl Sftp {
    /// Greets the server at the other end of `stream`; `host` names it in errors.
    pub async fn start<S>(stream: S, host: &str) -> Result<Self, TransferError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        Self::start_with(stream, host, Timing::default()).await
    }

    /// Whether the host is far away, as its first answers say.
    pub(super) fn is_far(&self) -> bool {
        self.session.reads.is_far()
    }

    /// The same with other patience.
    pub async fn start_with<S>(stream: S, host: &str, timing: Timing) -> Result<Self, TransferError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let session = Arc::new(Session::start(stream, host, timing));
        let failed = |detail: String| TransferError::Handshake {
            host: host.to_owned(),
            detail,
        };
        let greeting = greet(&session);
        let offers = tokio::time::timeout(timing.handshake, greeting)
            .await
            .map_err(|_| failed(format!("no answer within {} s", timing.handshake.as_secs())))?
            .map_err(|error| match error {
                TransferError::ConnectionLost { detail, .. } | TransferError::Protocol { detail, .. } => {
                    failed(detail)
                }
                other => other,
            })?;
        let _ = session.offers.set(offers);
        Ok(Self {
            session,
            early: Arc::default(),
        })
    }

    /// Begins to open a file that a download over this session is going to read.
    pub fn open_early(&self, path: &str) {
        let (session, path) = (Arc::clone(&self.session), path.to_owned());
        let opening = tokio::spawn({
            let path = path.clone();
            async move { OpenFile::open(&session, &path, OpenFlags::READ, None).await }
        });
        self.early
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(path, AbortOnDropHandle::new(opening));
    }

    /// Opens a file for reading, if it was not begun to be opened early.
    pub(super) async fn open(&self, path: &str) -> Result<OpenFile, TransferError> {
        let begun = self
            .early
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(path);
        match begun {
            Some(begun) => begun
                .await
                .unwrap_or_else(|error| Err(self.session.broken(Failure::Lost(error.to_string())))),
            None => OpenFile::open(&self.session, path, OpenFlags::READ, None).await,
        }
    }

    /// Reads a file of at most `limit` bytes into memory. A larger one is refused before memory is taken.
    pub async fn read_small(&self, path: &str, limit: u64) -> Result<Vec<u8>, TransferError> {
        let file = OpenFile::open(&self.session, path, OpenFlags::READ, None).await?;
        let size = file.attributes().await?.size.unwrap_or(0);
        if size > limit {
            return Err(TransferError::TooLarge {
                host: self.session.host.clone(),
                path: path.to_owned(),
                limit,
            });
        }
        self.read_whole(&file, size).await
    }

    /// Reads a file of `size` bytes, of a longer one its start. One that is shorter is an error. A round trip less
    /// than [`Self::read_small`], which asks for the size.
    pub async fn read_exactly(&self, path: &str, size: u64) -> Result<Vec<u8>, TransferError> {
        let file = OpenFile::open(&self.session, path, OpenFlags::READ, None).await?;
        self.read_whole(&file, size).await
    }

    /// Hands on a file of `size` bytes, of a longer one its start, piece by piece, until nobody takes more. One that is
    /// shorter is an error.
    pub async fn read_pieces(
        &self,
        path: &str,
        size: u64,
        to: tokio::sync::mpsc::Sender<Bytes>,
    ) -> Result<(), TransferError> {
        let file = OpenFile::open(&self.session, path, OpenFlags::READ, None).await?;
        let mut pieces = std::pin::pin!(self.pieces(&file, size));
        while let Some(piece) = pieces.next().await {
            if to.send(piece?).await.is_err() {
                break;
            }
        }
        Ok(())
    }

    async fn read_whole(&self, file: &OpenFile, size: u64) -> Result<Vec<u8>, TransferError> {
        let mut pieces = std::pin::pin!(self.pieces(file, size));
        let mut content = Vec::with_capacity(usize::try_from(size.min(1 << 20)).unwrap_or(0));
        while let Some(piece) = pieces.next().await {
            content.extend_from_slice(&piece?);
        }
        Ok(content)
    }

    /// The first `size` bytes of a file, in order.
    fn pieces<'a>(
        &self,
        file: &'a OpenFile,
        size: u64,
    ) -> impl Stream<Item = Result<Bytes, TransferError>> + Send + 'a {
        let step = self.session.read_length();
        futures_util::stream::iter((0..size).step_by(step as usize))
            .map(move |offset| {
                let length = step.min(u32::try_from(size - offset).unwrap_or(step));
                async move { file.exactly(file.ask(offset, length).await, length).await }
            })
            .buffered(SMALL_READS)
    }

    /// Writes a file whole, with exactly `mode`, and has the host sync it. Not atomic: rename afterwards.
    pub async fn write_small(&self, path: &str, bytes: &[u8], mode: u32) -> Result<(), TransferError> {
        let flags = OpenFlags::WRITE | OpenFlags::CREATE | OpenFlags::TRUNCATE;
        let file = OpenFile::open(&self.session, path, flags, Some(mode & 0o777)).await?;
        let step = self.session.offers().write_length;
        let mut offset = 0;
        let mut replies = Vec::new();
        for piece in bytes.chunks(step as usize) {
            let length = u32::try_from(piece.len()).unwrap_or(step);
            let mut packet = OpenFile::begin_write(&file.handle(), offset, length);
            packet.put_slice(piece);
            replies.push(file.write(packet).await);
            offset += u64::from(length);
        }
        for reply in replies {
            file.written(reply).await?;
        }
        file.set_mode(mode).await?;
        if self.session.offers().sync {
            file.sync().await?;
        }
        file.close().await
    }

    /// What lies at `path`, or nothing.
    pub async fn stat(&self, path: &str) -> Result<Option<FileFacts>, TransferError> {
        let reply = self.request(|id| Stat {
            id,
            path: path.to_owned(),
        });
        match self.session.answer(reply, path).await {
            Ok(Answer::Attributes(attributes)) => Ok(Some(facts(&attributes))),
            Ok(_) => Err(self.session.unexpected()),
            Err(TransferError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes `path` and the folders above it; those that are made get exactly `mode`.
    pub async fn make_folders(&self, path: &str, mode: u32) -> Result<(), TransferError> {
        let mut missing = vec![path];
        while let Some(folder) = missing.last().copied() {
            let attrs = FileAttributes {
                permissions: Some(mode & 0o7777),
                ..no_attributes()
            };
            let reply = self.request(|id| MkDir {
                id,
                path: folder.to_owned(),
                attrs,
            });
            match self.session.done(reply, folder).await {
                Ok(()) => {
                    self.set_mode(folder, mode).await?;
                    missing.pop();
                }
                Err(TransferError::NotFound { host, path }) => {
                    let above = folder
                        .trim_end_matches('/')
                        .rsplit_once('/')
                        .map(|(above, _)| above);
                    match above.filter(|above| !above.is_empty() && missing.len() < 256) {
                        Some(above) => missing.push(above),
                        None => return Err(TransferError::NotFound { host, path }),
                    }
                }
                // The protocol has no word for "exists".
                Err(error) => match self.stat(folder).await? {
                    Some(facts) if facts.is_dir => {
                        missing.pop();
                    }
                    _ => return Err(error),
                },
            }
        }
        Ok(())
    }

    /// Sets the permission bits of `path`.
    pub async fn set_mode(&self, path: &str, mode: u32) -> Result<(), TransferError> {
        let attrs = FileAttributes {
            permissions: Some(mode & 0o7777),
            ..no_attributes()
        };
        let reply = self.request(|id| SetStat {
            id,
            path: path.to_owned(),
            attrs,
        });
        self.session.done(reply, path).await
    }

    /// Renames, over an existing file where the host offers that.
    pub async fn rename(&self, from: &str, to: &str) -> Result<(), TransferError> {
        let reply = if self.session.offers().posix_rename {
            let fields = [from.as_bytes(), to.as_bytes()];
            self.session.send(Held::default(), |id| {
                wire::extended(id, "posix-rename@openssh.com", &fields)
            })
        } else {
            self.request(|id| Rename {
                id,
                oldpath: from.to_owned(),
                newpath: to.to_owned(),
            })
        };
        self.session.done(reply, from).await
    }

    /// Removes a file.
    pub async fn remove(&self, path: &str) -> Result<(), TransferError> {
        let reply = self.request(|id| Remove {
            id,
            filename: path.to_owned(),
        });
        self.session.done(reply, path).await
    }

    /// Removes an empty folder.
    pub async fn remove_folder(&self, path: &str) -> Result<(), TransferError> {
        let reply = self.request(|id| RmDir {
            id,
            path: path.to_owned(),
        });
        self.session.done(reply, path).await
    }

    /// Downloads over this session alone; see [`Transfer::download`].
    pub async fn download(
        &self,
        wanted: &[Wanted],
        destination: &Path,
        progress: &Progress,
        options: &DownloadOptions,
    ) -> Result<Report, TransferError> {
        Transfer::new(vec![self.clone()])
            .download(wanted, destination, progress, options)
            .await
    }

    fn request<P: Into<Packet>>(&self, build: impl FnOnce(u32) -> P) -> Reply {
        self.session.send(Held::default(), |id| coded(build(id)))
    }
}

fn facts(attributes: &FileAttributes) -> FileFacts {
    const KIND: u32 = 0o170_000;
    let mode = attributes.permissions.unwrap_or(0);
    FileFacts {
        size: attributes.size.unwrap_or(0),
        mode: mode & 0o7777,
        is_dir: mode & KIND == 0o040_000,
        is_file: mode & KIND == 0o100_000,
        uid: attributes.uid.unwrap_or(u32::MAX),
    }
}

async fn greet(session: &Session) -> Result<Offers, TransferError> {
    let hello = coded(Packet::Init(Init {
        version: 3,
        extensions: HashMap::new(),
    }));
    let answer = session.answer(session.send_first(hello), "").await?;
    let Answer::Version {
        version: 3..,
        extensions,
    } = answer
    else {
        return Err(session.unexpected());
    };
    let offered = |name: &str| extensions.iter().any(|extension| extension == name);
    let mut offers = Offers {
        posix_rename: offered("posix-rename@openssh.com"),
        sync: offered("fsync@openssh.com"),
        ..Offers::default()
    };
    if offered("limits@openssh.com") {
        let asked = Instant::now();
        let reply = session.send(Held::default(), |id| {
            wire::extended(id, "limits@openssh.com", &[])
        });
        if let Answer::Extended(limits) = session.answer(reply, "").await? {
            apply_limits(&mut offers, limits);
        }
        session.reads.begin(asked.elapsed());
    }
    Ok(offers)
}

fn apply_limits(offers: &mut Offers, mut limits: Bytes) {
    let mut next = || limits.try_get_u64().unwrap_or(0);
    let (_packet, read, write) = (next(), next(), next());
    // A limit of a few bytes would only serve to make us ask forever.
    let usable = |limit: u64| u32::try_from(limit.clamp(4096, CONTENT)).unwrap_or(4096);
    if read > 0 {
        offers.read_length = usable(read);
    }
    if write > 0 {
        offers.write_length = usable(write);
    }
}
