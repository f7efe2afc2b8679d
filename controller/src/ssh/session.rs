//! One authenticated connection to a host.

use super::byte_stream::ByteStream;
use super::channel::{self, Counted, Traffic};
use super::endpoint::Endpoint;
use super::error::SshError;
use super::exec::{Ending, Exec, Output};
use super::handler::{Agreed, Client, Notes};
use super::hop;
use super::options::Options;
use bytes::Bytes;
use russh::client::{Handle, Msg};
use russh::{Channel, ChannelMsg, Disconnect};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::io::AsyncReadExt as _;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Messages that may arrive before the host confirms that a program was started.
const MOST_EARLY_MESSAGES: usize = 64;

/// A server that allows few sessions frees one's place a little after its channel was closed.
const PLACE_IS_FREED: Duration = Duration::from_secs(2);

const ASK_AGAIN: Duration = Duration::from_millis(50);

/// What a finished hop hands over.
pub(super) struct Link {
    pub(super) host: String,
    pub(super) handle: Handle<Client>,
    pub(super) notes: Arc<Notes>,
    pub(super) closed: CancellationToken,
    /// Our end of the stream was closed, behind everything that was written to it.
    pub(super) said_goodbye: CancellationToken,
    pub(super) _breaks: DropGuard,
    pub(super) traffic: Traffic,
    pub(super) answer_timeout: Duration,
    pub(super) quickest_us: AtomicU64,
}

/// One authenticated connection to a host. Dropping it cuts the connection; [`Session::close`] says goodbye first.
pub struct Session {
    link: Link,
    /// The connection this one runs through.
    outer: Option<Box<Self>>,
}

impl Session {
    /// Connects, checks every host key on the way and logs in.
    ///
    /// # Errors
    ///
    /// Any [`SshError`] but those of channels. Nothing is sent to a host whose key is not known.
    pub async fn connect(endpoint: &Endpoint, options: &Options) -> Result<Self, SshError> {
        hop::connect(endpoint, options).await
    }

    pub(super) fn new(link: Link, outer: Option<Self>) -> Self {
        Self {
            link,
            outer: outer.map(Box::new),
        }
    }

    /// What the user calls the host.
    pub fn host(&self) -> &str {
        &self.link.host
    }

    pub(super) fn heard(&self) -> Vec<Arc<AtomicBool>> {
        self.link.traffic.heard.clone()
    }

    /// The quickest answer to the opening of a channel so far: about a round trip.
    pub fn quickest_answer(&self) -> Option<Duration> {
        let micros = self.link.quickest_us.load(Ordering::Relaxed);
        (micros < u64::MAX).then(|| Duration::from_micros(micros))
    }

    /// Starts a command by the account's login shell.
    ///
    /// # Errors
    ///
    /// [`SshError::ChannelRefused`], [`SshError::AnswerTimeout`] or [`SshError::Lost`].
    pub async fn exec(&self, command: &str) -> Result<Exec, SshError> {
        self.exec_telling(command, Bytes::new()).await
    }

    /// As [`Session::exec`], and sends the first bytes of its input along instead of waiting for the start: that
    /// saves a round trip. Whatever is started reads them, so they must be harmless to any program.
    ///
    /// # Errors
    ///
    /// As for [`Session::exec`].
    pub async fn exec_telling(&self, command: &str, first: Bytes) -> Result<Exec, SshError> {
        let (channel, counted) = self.open_channel().await?;
        self.answered("a command", async {
            channel.exec(true, command).await?;
            if first.is_empty() {
                return Ok(());
            }
            channel.data_bytes(first).await
        })
        .await?;
        self.started(channel, counted, "a command").await
    }

    /// Runs a command to its end and keeps what it wrote to standard output, at most `limit` bytes.
    ///
    /// # Errors
    ///
    /// As for [`Session::exec`]; [`SshError::TooMuchOutput`] beyond the limit; [`SshError::Lost`] when its end did
    /// not arrive.
    pub async fn output(&self, command: &str, limit: usize, timeout: Duration) -> Result<Output, SshError> {
        let running = async {
            let mut exec = self.exec(command).await?;
            drop(exec.stdin);
            let mut stdout = Vec::new();
            let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
            let read = (&mut exec.stdout).take(most).read_to_end(&mut stdout).await;
            read.map_err(|error| self.lost(error.to_string()))?;
            if stdout.len() > limit {
                return Err(SshError::TooMuchOutput {
                    host: self.link.host.clone(),
                    what: command.to_owned(),
                    limit,
                });
            }
            let ending = exec.ending.wait().await;
            if ending == Ending::Lost {
                return Err(self.lost("the command's end did not arrive".to_owned()));
            }
            let stderr = exec.ending.stderr();
            Ok(Output {
                stdout,
                stderr,
                ending,
            })
        };
        tokio::time::timeout(timeout, running)
            .await
            .map_err(|_| self.no_answer("a command", timeout))?
    }

    /// Opens the SFTP subsystem as a stream of bytes.
    ///
    /// # Errors
    ///
    /// [`SshError::SftpRefused`] for an account without one, otherwise as for [`Session::exec`].
    pub async fn sftp(&self) -> Result<ByteStream, SshError> {
        let (channel, counted) = self.open_channel().await?;
        self.answered("sftp", channel.request_subsystem(true, "sftp"))
            .await?;
        match self.started(channel, counted, "sftp").await {
            Ok(exec) => Ok(ByteStream {
                reader: exec.stdout,
                writer: exec.stdin,
            }),
            Err(SshError::ChannelRefused { host, .. }) => Err(SshError::SftpRefused { host }),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn open_tcp(&self, host: &str, port: u16) -> Result<Channel<Msg>, russh::Error> {
        self.link
            .handle
            .channel_open_direct_tcpip(host, u32::from(port), "127.0.0.1", 0)
            .await
    }

    async fn open_channel(&self) -> Result<(Channel<Msg>, Counted), SshError> {
        let counted = self.link.traffic.count();
        let deadline = Instant::now() + PLACE_IS_FREED;
        loop {
            let asked = Instant::now();
            let answer = self
                .answered("a channel", self.link.handle.channel_open_session())
                .await;
            let micros = u64::try_from(asked.elapsed().as_micros()).unwrap_or(u64::MAX);
            self.link.quickest_us.fetch_min(micros, Ordering::Relaxed);
            match answer {
                Err(SshError::ChannelRefused { .. }) if Instant::now() < deadline => {
                    tokio::time::sleep(ASK_AGAIN).await;
                }
                answer => return Ok((answer?, counted)),
            }
        }
    }

    /// Waits for the host to confirm that a program was started, then puts the tasks behind its channel.
    async fn started(
        &self,
        mut channel: Channel<Msg>,
        counted: Counted,
        what: &'static str,
    ) -> Result<Exec, SshError> {
        let confirmation = async {
            let mut early = Vec::new();
            while early.len() < MOST_EARLY_MESSAGES {
                match channel.wait().await {
                    Some(ChannelMsg::Success) => return Ok(early),
                    Some(ChannelMsg::Failure) => {
                        return Err(self.refused(what, "it could not be started".to_owned()));
                    }
                    Some(ChannelMsg::Close) | None => return Err(self.refused_or_lost(what)),
                    Some(message) => early.push(message),
                }
            }
            Err(self.refused(what, "it talks before it has started".to_owned()))
        };
        let limit = self.link.answer_timeout;
        let confirmed = tokio::time::timeout(limit, confirmation).await;
        let early = confirmed.map_err(|_| self.no_answer(what, limit))??;
        Ok(channel::run(channel, early, self.link.traffic.clone(), counted))
    }

    async fn answered<T>(
        &self,
        what: &'static str,
        asking: impl Future<Output = Result<T, russh::Error>>,
    ) -> Result<T, SshError> {
        let limit = self.link.answer_timeout;
        let answer = tokio::time::timeout(limit, asking)
            .await
            .map_err(|_| self.no_answer(what, limit))?;
        answer.map_err(|error| match error {
            russh::Error::ChannelOpenFailure(reason) => self.refused(what, format!("{reason:?}")),
            other => self.lost(other.to_string()),
        })
    }

    /// Whether the connection is gone.
    pub fn is_closed(&self) -> bool {
        self.link.closed.is_cancelled() || self.link.handle.is_closed()
    }

    /// Waits until the connection is gone.
    pub async fn closed(&self) {
        self.link.closed.cancelled().await;
    }

    /// Why the connection is gone, as far as it is known.
    pub fn farewell(&self) -> Option<String> {
        self.link.notes.farewell().map(|farewell| farewell.reason)
    }

    /// What the connection is protected by.
    pub fn agreed(&self) -> Agreed {
        self.link.notes.agreed()
    }

    /// How many sessions the host opens side by side on this connection, up to `most`; they are closed again. For a
    /// connection that is used for nothing else.
    ///
    /// # Errors
    ///
    /// [`SshError::AnswerTimeout`] or [`SshError::Lost`].
    pub async fn count_sessions(&self, most: usize) -> Result<usize, SshError> {
        let mut open = Vec::new();
        while open.len() < most {
            let opening = self.link.handle.channel_open_session();
            match self.answered("a channel", opening).await {
                Ok(channel) => open.push(channel),
                Err(SshError::ChannelRefused { .. }) => break,
                Err(error) => return Err(error),
            }
        }
        let count = open.len();
        for channel in open {
            // The connection is closed next, which ends them as well.
            let _ = channel.close().await;
        }
        Ok(count)
    }

    /// Asks the host for a sign of life and measures how long it takes.
    ///
    /// # Errors
    ///
    /// [`SshError::AnswerTimeout`] or [`SshError::Lost`].
    pub async fn round_trip(&self, timeout: Duration) -> Result<Duration, SshError> {
        let start = Instant::now();
        let ping = async {
            tokio::select! {
                biased;
                () = self.closed() => Err(self.lost("the connection is closed".to_owned())),
                sent = self.link.handle.send_ping() => sent.map_err(|error| self.lost(error.to_string())),
            }
        };
        tokio::time::timeout(timeout, ping)
            .await
            .map_err(|_| self.no_answer("a ping", timeout))??;
        // The library takes the end of the connection for an answer.
        if self.is_closed() {
            return Err(self.lost("the connection is closed".to_owned()));
        }
        Ok(start.elapsed())
    }

    /// Says goodbye and closes the connection, and the ones it goes through. Returns once the goodbye is on its way:
    /// whether it arrives makes no difference to anybody here.
    pub async fn close(mut self) {
        let goodbye = async {
            let _ = self
                .link
                .handle
                .disconnect(Disconnect::ByApplication, "", "en")
                .await;
            tokio::select! {
                () = self.closed() => {}
                () = self.link.said_goodbye.cancelled() => {}
            }
        };
        // A peer that does not react is cut off by dropping the session.
        let _ = tokio::time::timeout(Duration::from_secs(1), goodbye).await;
        if let Some(outer) = self.outer.take() {
            Box::pin(outer.close()).await;
        }
    }

    fn refused(&self, what: &'static str, reason: String) -> SshError {
        SshError::ChannelRefused {
            host: self.link.host.clone(),
            what,
            reason,
        }
    }

    fn refused_or_lost(&self, what: &'static str) -> SshError {
        if self.is_closed() {
            self.lost("the connection is closed".to_owned())
        } else {
            self.refused(what, "the host closed its channel".to_owned())
        }
    }

    fn lost(&self, reason: String) -> SshError {
        SshError::Lost {
            host: self.link.host.clone(),
            reason: self.farewell().unwrap_or(reason).escape_default().to_string(),
        }
    }

    fn no_answer(&self, what: &'static str, limit: Duration) -> SshError {
        SshError::AnswerTimeout {
            host: self.link.host.clone(),
            what,
            seconds: limit.as_secs(),
        }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Session")
            .field("host", &self.link.host)
            .field("through", &self.outer)
            .finish_non_exhaustive()
    }
}
