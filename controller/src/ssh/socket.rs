//! TCP connections that notice a dead peer and acknowledge at once.

use super::SshError;
use super::endpoint::{Endpoint, IpFamily};
use rustix::net::sockopt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, BufReader, ReadBuf};
use tokio::net::TcpStream;

/// How long sent bytes may stay unacknowledged before the kernel gives the connection up.
const USER_TIMEOUT_MILLIS: u32 = 20_000;
/// How long names and addresses are tried in all, unless one attempt may take longer by the user's own word.
const ALL_ADDRESSES: Duration = Duration::from_secs(20);
/// A handshake is a chain of small packets in both directions; delayed acknowledgements would cost 40 ms in it.
const PROMPT_READS: u32 = 200;
const READ_BUFFER: usize = 64 * 1024;

/// Connects to the first address of an endpoint that answers.
pub(super) async fn connect(endpoint: &Endpoint) -> Result<BufReader<PromptSocket>, SshError> {
    let patience = ALL_ADDRESSES.max(endpoint.connect_timeout);
    let deadline = Instant::now() + patience;
    let mut last = None;
    for address in resolve(endpoint).await? {
        let left = deadline.saturating_duration_since(Instant::now());
        // An address that nobody has time for says nothing about the host; the ones before it do.
        if left.is_zero() && last.is_some() {
            break;
        }
        match connect_one(endpoint, address, endpoint.connect_timeout.min(left)).await {
            Ok(stream) => return Ok(BufReader::with_capacity(READ_BUFFER, PromptSocket::new(stream))),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| unresolved(endpoint, "no address of the wanted family".to_owned())))
}

async fn resolve(endpoint: &Endpoint) -> Result<Vec<SocketAddr>, SshError> {
    let lookup = tokio::net::lookup_host((endpoint.host_name.as_str(), endpoint.port));
    let found = tokio::time::timeout(endpoint.connect_timeout, lookup)
        .await
        .map_err(|_| unresolved(endpoint, "the resolver did not answer".to_owned()))?
        .map_err(|error| unresolved(endpoint, error.to_string()))?;
    Ok(found
        .filter(|address| match endpoint.family {
            IpFamily::Any => true,
            IpFamily::V4 => address.is_ipv4(),
            IpFamily::V6 => address.is_ipv6(),
        })
        .collect())
}

fn unresolved(endpoint: &Endpoint, reason: String) -> SshError {
    SshError::Unresolved {
        host: endpoint.name.clone(),
        name: endpoint.host_name.clone(),
        reason,
    }
}

async fn connect_one(
    endpoint: &Endpoint,
    address: SocketAddr,
    limit: Duration,
) -> Result<TcpStream, SshError> {
    let host = endpoint.name.clone();
    let connecting = tokio::time::timeout(limit, TcpStream::connect(address));
    let stream = match connecting.await {
        Err(_) => {
            return Err(SshError::ConnectTimeout {
                host,
                address,
                seconds: limit.as_secs(),
            });
        }
        Ok(Err(source)) if source.kind() == io::ErrorKind::ConnectionRefused => {
            return Err(SshError::Refused { host, address });
        }
        Ok(Err(source)) => {
            return Err(SshError::Unreachable {
                host,
                address,
                source,
            });
        }
        Ok(Ok(stream)) => stream,
    };
    prepare(&stream).map_err(|source| SshError::Unreachable {
        host,
        address,
        source,
    })?;
    Ok(stream)
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, Duration::from_secs(10))?;
    sockopt::set_tcp_keepintvl(stream, Duration::from_secs(5))?;
    sockopt::set_tcp_user_timeout(stream, USER_TIMEOUT_MILLIS)?;
    Ok(())
}

/// A socket whose first reads are acknowledged without delay.
#[derive(Debug)]
pub(super) struct PromptSocket {
    stream: TcpStream,
    prompt_reads: u32,
}

impl PromptSocket {
    fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            prompt_reads: PROMPT_READS,
        }
    }
}

impl AsyncRead for PromptSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_read(context, buffer);
        if outcome.is_ready() && self.prompt_reads > 0 {
            self.prompt_reads -= 1;
            // Only speed is lost where the kernel refuses.
            let _ = sockopt::set_tcp_quickack(&self.stream, true);
        }
        outcome
    }
}

impl AsyncWrite for PromptSocket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
