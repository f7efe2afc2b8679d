//! SSH: who a host is, how it is reached, and byte streams to programs that run there.
//!
//! russh lives in this folder only. What the rest of the program sees is [`Endpoint`] (where to connect, resolved
//! from `~/.ssh/config` by [`config::resolve`]), [`Session`] (one authenticated connection) and plain
//! [`tokio::io::AsyncRead`] and [`tokio::io::AsyncWrite`] streams. Host keys are checked by [`known_hosts`], never
//! more permissively than `ssh` itself, and nothing is sent to a host whose key is unknown, changed or revoked.

mod agent;
mod algorithms;
mod ask;
mod auth;
mod byte_stream;
mod channel;
pub mod config;
mod endpoint;
mod error;
mod exec;
mod fingerprint;
mod handler;
mod hop;
mod inlet;
mod keys;
pub mod known_hosts;
mod options;
mod session;
mod socket;
pub mod transfer;
mod watched;

pub use ask::{Ask, NobodyToAsk, PromptQuestion, Secret, Unasked};
pub use byte_stream::ByteStream;
pub use endpoint::{AgentSocket, CONNECT_TIMEOUT, Endpoint, IpFamily, KnownHostsFiles};
pub use error::{ErrorKind, RecordedKey, ShownKey, SshError};
pub use exec::{Ending, Exec, ExecEnding, ExecStdin, ExecStdout, Output, STDERR_KEPT};
pub use fingerprint::fingerprint;
pub use handler::Agreed;
pub use options::{Options, Purpose, Timeouts};
pub use session::Session;
