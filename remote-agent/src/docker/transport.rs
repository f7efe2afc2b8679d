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
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, Join, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::OnceCell;
use tokio::task::JoinHandle;

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

    async fn connect(&self) -> io::Result<Connection> {
        let (stream, complaint): (Box<dyn Stream>, _) = match self {
            Self::Unix(path) => (Box::new(UnixStream::connect(path).await?), None),
            Self::Tcp(host) => (Box::new(TcpStream::connect(host).await?), None),
            Self::Sudo => {
                let (stream, complaint) = dial_with_sudo()?;
                (Box::new(stream), Some(complaint))
            }
        };
        Ok(Connection { stream, complaint })
    }
}

/// A way to the engine, and what the program in between will have complained about when it ends.
struct Connection {
    stream: Box<dyn Stream>,
    complaint: Option<JoinHandle<String>>,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A client whose every request goes to `address` under the version prefix in `api`, once that is known: the
/// library drops the prefix it is told.
pub(super) fn client(
    address: &Address,
    api: Arc<OnceCell<String>>,
    heard: Heard,
) -> Result<Docker, EngineError> {
    let target = address.clone();
    let transport = move |request: BollardRequest| {
        let (target, prefix) = (target.clone(), api.get().cloned().unwrap_or_default());
        let heard = heard.clone();
        async move {
            let answer = send(&target, &prefix, request).await?;
            heard.listen(&answer);
            Ok(answer)
        }
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

/// Which engine is at the other end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Greeting {
    /// Its version.
    pub(super) version: String,
    /// Newest API version it speaks.
    pub(super) api: String,
}

/// What the newest answer said about who gave it.
#[derive(Debug, Clone, Default)]
pub(super) struct Heard(Arc<Mutex<Option<Greeting>>>);

impl Heard {
    /// Who answered last, when it said so.
    pub(super) fn greeting(&self) -> Option<Greeting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn listen<B>(&self, answer: &Response<B>) {
        let header = |name| answer.headers().get(name)?.to_str().ok();
        // `Docker/28.2.2 (linux)`
        let version = header("server")
            .and_then(|server: &str| server.split_once('/')?.1.split_whitespace().next())
            .map(ToOwned::to_owned);
        let greeting = version
            .zip(header("api-version").map(ToOwned::to_owned))
            .map(|(version, api)| Greeting { version, api });
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = greeting;
    }
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
    let Connection { stream, complaint } = address.connect().await?;
    let answer = exchange(stream, BollardRequest::from_parts(head, body)).await;
    match (answer, complaint) {
        (Err(error), Some(complaint)) => Err(complained(complaint).await.unwrap_or(error)),
        (answer, _) => answer,
    }
}

async fn exchange(
    stream: Box<dyn Stream>,
    request: BollardRequest,
) -> Result<Response<Incoming>, ClientError> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(async move {
        // Its errors also reach the caller through the response.
        let _ = connection.with_upgrades().await;
    });
    Ok(sender.send_request(request).await?)
}

/// Why the program in between ended, if it said so; it is gone within a moment of its pipes.
async fn complained(complaint: JoinHandle<String>) -> Option<ClientError> {
    const MOMENT: Duration = Duration::from_secs(1);
    let words = tokio::time::timeout(MOMENT, complaint).await.ok()?.ok()?;
    let words = words.trim();
    if words.is_empty() {
        return None;
    }
    let lower = words.to_lowercase();
    let denied = ["sudo:", "password", "permission denied", "not allowed"]
        .iter()
        .any(|part| lower.contains(part));
    let kind = if denied {
        io::ErrorKind::PermissionDenied
    } else {
        io::ErrorKind::ConnectionRefused
    };
    Some(io::Error::new(kind, words).into())
}

/// The two pipes of a child that is ended with them.
struct ChildStream {
    pipes: Join<ChildStdout, ChildStdin>,
    _child: Child,
}

fn dial_with_sudo() -> io::Result<(ChildStream, JoinHandle<String>)> {
    /// More than any message of sudo or docker; the rest is of no use.
    const COMPLAINT: u64 = 2000;
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
    let complaint = tokio::spawn(async move {
        let mut words = Vec::new();
        let _ = (&mut stderr).take(COMPLAINT).read_to_end(&mut words).await;
        // A pipe that nobody reads would hold the program up.
        let _ = tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await;
        String::from_utf8_lossy(&words).into_owned()
    });
    let stream = ChildStream {
        pipes: tokio::io::join(stdout, stdin),
        _child: child,
    };
    Ok((stream, complaint))
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
    fn an_engine_says_who_it_is_or_is_asked() {
        let heard = Heard::default();
        let answer = |server: &str| {
            let answer = Response::builder().header("Api-Version", "1.50");
            answer.header("Server", server).body(()).unwrap()
        };
        heard.listen(&answer("Docker/28.2.2 (linux)"));
        let greeting = heard.greeting().unwrap();
        assert_eq!(
            (greeting.version.as_str(), greeting.api.as_str()),
            ("28.2.2", "1.50")
        );
        for other in [answer("nginx"), Response::new(())] {
            heard.listen(&other);
            assert_eq!(heard.greeting(), None);
        }
    }

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
