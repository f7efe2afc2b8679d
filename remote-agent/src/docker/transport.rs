//! Reaching an engine: a Unix socket, TCP, or `docker system dial-stdio` behind sudo. One connection per call, so
//! no call can meet a stale one, and each error is the kernel's own.

use super::EngineError;
use bollard::errors::Error as ClientError;
use bollard::{API_DEFAULT_VERSION, BollardRequest, Docker};
use hyper::body::Incoming;
use hyper::header::HOST;
use hyper::{Response, Uri};
use hyper_util::rt::TokioIo;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::process::Stdio;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, Join, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// Where an engine is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A Unix socket.
    Unix(PathBuf),
    /// Host and port without encryption.
    Tcp(String),
    /// Through `sudo -n docker system dial-stdio`.
    Sudo,
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(formatter, "unix://{}", path.display()),
            Self::Tcp(host) => write!(formatter, "tcp://{host}"),
            Self::Sudo => formatter.write_str("sudo -n docker system dial-stdio"),
        }
    }
}

impl Address {
    /// Reads the form that `DOCKER_HOST` has.
    ///
    /// # Errors
    /// A scheme that is not supported.
    pub fn parse(text: &str) -> Result<Self, EngineError> {
        match text.split_once("://") {
            Some(("unix", path)) => Ok(Self::Unix(path.into())),
            Some(("tcp" | "http", host)) => Ok(Self::Tcp(host.trim_end_matches('/').to_owned())),
            None if text.starts_with('/') => Ok(Self::Unix(text.into())),
            _ => Err(EngineError::Unreachable {
                address: text.to_owned(),
                detail: "only `unix://` and `tcp://` are supported".to_owned(),
            }),
        }
    }

    /// The engine of an account that names none: the system's, else the account's own rootless one.
    pub fn default_for(runtime_folder: Option<&str>) -> Self {
        let system = PathBuf::from("/var/run/docker.sock");
        if !system.exists()
            && let Some(own) = runtime_folder.map(|folder| PathBuf::from(folder).join("docker.sock"))
            && own.exists()
        {
            return Self::Unix(own);
        }
        Self::Unix(system)
    }

    async fn connect(&self) -> io::Result<Box<dyn Stream>> {
        Ok(match self {
            Self::Unix(path) => Box::new(UnixStream::connect(path).await?),
            Self::Tcp(host) => Box::new(TcpStream::connect(host).await?),
            Self::Sudo => Box::new(dial_with_sudo().await?),
        })
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A client whose every request goes to `address` under the version prefix in `api`, once that is known: the
/// library drops the prefix it is told.
pub(super) fn client(address: &Address, api: Arc<OnceLock<String>>) -> Result<Docker, EngineError> {
    let target = address.clone();
    let transport = move |request: BollardRequest| {
        let (target, prefix) = (target.clone(), api.get().cloned().unwrap_or_default());
        async move { send(&target, &prefix, request).await }
    };
    // Each call is bounded by its caller; this limit only has to be longer than all of those.
    const LONGER_THAN_ANY_CALL: u64 = 3600;
    Docker::connect_with_custom_transport(
        transport,
        Some("http://engine"),
        LONGER_THAN_ANY_CALL,
        API_DEFAULT_VERSION,
    )
    .map_err(|error| EngineError::from_client(address, "connect", error))
}

async fn send(
    address: &Address,
    prefix: &str,
    request: BollardRequest,
) -> Result<Response<Incoming>, ClientError> {
    let (mut head, body) = request.into_parts();
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    head.uri = format!("{prefix}{path}").parse::<Uri>()?;
    head.headers
        .insert(HOST, hyper::header::HeaderValue::from_static("engine"));
    let stream = address.connect().await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(async move {
        // Its errors also reach the caller through the response.
        let _ = connection.with_upgrades().await;
    });
    Ok(sender
        .send_request(BollardRequest::from_parts(head, body))
        .await?)
}

/// The two pipes of a child that is ended with them.
struct ChildStream {
    pipes: Join<ChildStdout, ChildStdin>,
    _child: Child,
}

async fn dial_with_sudo() -> io::Result<ChildStream> {
    let mut child = Command::new("sudo")
        .args(["-n", "docker", "system", "dial-stdio"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let missing = || io::Error::from(io::ErrorKind::BrokenPipe);
    let (stdin, stdout) = (
        child.stdin.take().ok_or_else(missing)?,
        child.stdout.take().ok_or_else(missing)?,
    );
    let mut stderr = child.stderr.take().ok_or_else(missing)?;
    // sudo refuses within a moment or not at all; a dial that works stays silent until it is spoken to.
    let refused = tokio::time::timeout(std::time::Duration::from_millis(300), child.wait()).await;
    if refused.is_ok() {
        let mut words = vec![0; 2000];
        let count = stderr.read(&mut words).await.unwrap_or_default();
        words.truncate(count);
        let words = String::from_utf8_lossy(&words).trim().to_owned();
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, words));
    }
    tokio::spawn(async move { tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await });
    Ok(ChildStream {
        pipes: tokio::io::join(stdout, stdin),
        _child: child,
    })
}

impl AsyncRead for ChildStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipes).poll_read(context, buffer)
    }
}

impl AsyncWrite for ChildStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.pipes).poll_write(context, bytes)
    }
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipes).poll_flush(context)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipes).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_host_forms() {
        assert_eq!(
            Address::parse("unix:///x/s").unwrap(),
            Address::Unix("/x/s".into())
        );
        assert_eq!(Address::parse("/x/s").unwrap(), Address::Unix("/x/s".into()));
        assert_eq!(
            Address::parse("tcp://h:2375").unwrap(),
            Address::Tcp("h:2375".into())
        );
        assert!(Address::parse("ssh://me@h").is_err());
    }
}
