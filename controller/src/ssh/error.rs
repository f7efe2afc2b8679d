//! What can go wrong between us and a host, each in words of its own.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// What kind of trouble an [`SshError`] is; exit codes follow from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The configuration or an address is wrong or not supported.
    Config,
    /// The host could not be reached, or the connection was lost.
    Unreachable,
    /// The host's key is unknown, changed, revoked or could not be checked.
    HostKey,
    /// The host did not let us in.
    Auth,
    /// The host is there and refused something we need.
    Refused,
}

/// A key that `known_hosts` has for a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedKey {
    /// The file.
    pub file: PathBuf,
    /// The line in it, from 1.
    pub line: usize,
    /// `ssh-ed25519` and the like.
    pub key_type: String,
    /// `SHA256:…`.
    pub fingerprint: String,
}

/// The key a host showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShownKey {
    /// What it is recorded under, such as `[gpu1.example]:2222`.
    pub key_name: String,
    /// `ssh-ed25519` and the like.
    pub key_type: String,
    /// `SHA256:…`, as `ssh-keygen -l` prints it.
    pub fingerprint: String,
    /// The line to put into `known_hosts` once the fingerprint was compared.
    pub key_line: String,
}

/// What went wrong between us and a host.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the fields are what the messages say they are")]
pub enum SshError {
    /// An address could not be read.
    #[error("`{text}` is not an address: {reason}")]
    Address { text: String, reason: &'static str },

    /// A directive is wrong, or asks for something that is not supported and cannot be ignored.
    #[error("{}:{line}: {directive}: {reason}", file.display())]
    Config {
        file: PathBuf,
        line: usize,
        directive: String,
        reason: String,
    },

    /// A configuration file is there and cannot be read.
    #[error("cannot read {}", path.display())]
    ConfigUnreadable {
        path: PathBuf,
        #[source]
        source: io::Error,
    },

    /// The resolver knows no address.
    #[error("host `{host}`: the name `{name}` has no address ({reason})")]
    Unresolved {
        host: String,
        name: String,
        reason: String,
    },

    /// Nobody listens there.
    #[error("host `{host}` refused the connection ({address})")]
    Refused { host: String, address: SocketAddr },

    /// No way leads there.
    #[error("host `{host}` cannot be reached ({address})")]
    Unreachable {
        host: String,
        address: SocketAddr,
        #[source]
        source: io::Error,
    },

    /// No address answered in time.
    #[error("host `{host}` did not answer within {seconds} s ({address})")]
    ConnectTimeout {
        host: String,
        address: SocketAddr,
        seconds: u64,
    },

    /// Something listens there and did not finish the handshake or the login in time.
    #[error("host `{host}` did not finish {step} within {seconds} s")]
    HandshakeTimeout {
        host: String,
        step: &'static str,
        seconds: u64,
    },

    /// The two sides could not agree, or what answers does not speak SSH.
    #[error("host `{host}`: the SSH handshake failed: {reason}")]
    Handshake { host: String, reason: String },

    /// A host we go through could not open the way to the next one.
    #[error("host `{host}` cannot be reached through `{via}`: {reason}")]
    Jump {
        host: String,
        via: String,
        reason: String,
    },

    /// Nobody has recorded the key, and nobody said that it may be trusted.
    #[error("the key of host `{host}` is unknown: {} {}", shown.key_type, shown.fingerprint)]
    HostKeyUnknown { host: String, shown: Box<ShownKey> },

    /// Another key is recorded: the machine was set up anew, or someone is in between.
    #[error(
        "the key of host `{host}` has changed: it shows {} {}, {}",
        shown.key_type, shown.fingerprint, recorded_keys(recorded)
    )]
    HostKeyChanged {
        host: String,
        shown: Box<ShownKey>,
        recorded: Vec<RecordedKey>,
    },

    /// The key is marked `@revoked`.
    #[error("the key of host `{host}` is revoked: {fingerprint} ({}:{line})", file.display())]
    HostKeyRevoked {
        host: String,
        fingerprint: String,
        file: PathBuf,
        line: usize,
    },

    /// Only a certificate authority vouches for this host.
    #[error("host `{host}` is known only by a certificate authority ({}:{line}), and host certificates are not supported yet", file.display())]
    HostCertificate {
        host: String,
        file: PathBuf,
        line: usize,
    },

    /// The key is of a kind or size that proves nothing.
    #[error("the key of host `{host}` is too weak: {reason}")]
    HostKeyWeak { host: String, reason: String },

    /// A file of host keys is there and cannot be used, so no key can be called unknown.
    #[error("host `{host}`: cannot check its key: {}: {reason}", path.display())]
    KnownHosts {
        host: String,
        path: PathBuf,
        reason: String,
    },

    /// A trusted key could not be recorded.
    #[error("host `{host}`: cannot record its key in {}", path.display())]
    KnownHostsWrite {
        host: String,
        path: PathBuf,
        #[source]
        source: io::Error,
    },

    /// Nothing that was tried let us in.
    #[error("host `{host}` did not accept {user}: {}", tried_methods(tried))]
    AuthFailed {
        host: String,
        user: String,
        /// What was tried and what became of it, in order.
        tried: Vec<String>,
    },

    /// A private key that was asked for by name cannot be read.
    #[error("host `{host}`: cannot use the key {}: {reason}", path.display())]
    KeyUnreadable {
        host: String,
        path: PathBuf,
        reason: String,
    },

    /// Others can read a private key.
    #[error("host `{host}`: the key {} can be read by others (mode {mode:04o})", path.display())]
    KeyPermissions { host: String, path: PathBuf, mode: u32 },

    /// The host refused another channel (`MaxSessions`, no shell, no forwarding).
    #[error("host `{host}` refused {what}: {reason}")]
    ChannelRefused {
        host: String,
        what: &'static str,
        reason: String,
    },

    /// The account has no SFTP.
    #[error("host `{host}`: the account has no SFTP subsystem")]
    SftpRefused { host: String },

    /// The connection is gone.
    #[error("the connection to host `{host}` was lost: {reason}")]
    Lost { host: String, reason: String },

    /// The host is connected and did not answer in time.
    #[error("host `{host}` did not answer {what} within {seconds} s")]
    AnswerTimeout {
        host: String,
        what: &'static str,
        seconds: u64,
    },

    /// A command printed more than it may.
    #[error("host `{host}`: {what} printed more than {limit} bytes")]
    TooMuchOutput {
        host: String,
        what: String,
        limit: usize,
    },
}

impl SshError {
    /// What kind of trouble this is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Address { .. } | Self::Config { .. } | Self::ConfigUnreadable { .. } => ErrorKind::Config,
            Self::Unresolved { .. }
            | Self::Refused { .. }
            | Self::Unreachable { .. }
            | Self::ConnectTimeout { .. }
            | Self::HandshakeTimeout { .. }
            | Self::Handshake { .. }
            | Self::Jump { .. }
            | Self::Lost { .. }
            | Self::AnswerTimeout { .. } => ErrorKind::Unreachable,
            Self::HostKeyUnknown { .. }
            | Self::HostKeyChanged { .. }
            | Self::HostKeyRevoked { .. }
            | Self::HostCertificate { .. }
            | Self::HostKeyWeak { .. }
            | Self::KnownHosts { .. }
            | Self::KnownHostsWrite { .. } => ErrorKind::HostKey,
            Self::AuthFailed { .. } | Self::KeyUnreadable { .. } | Self::KeyPermissions { .. } => {
                ErrorKind::Auth
            }
            Self::ChannelRefused { .. } | Self::SftpRefused { .. } | Self::TooMuchOutput { .. } => {
                ErrorKind::Refused
            }
        }
    }
}

fn recorded_keys(recorded: &[RecordedKey]) -> String {
    let lines: Vec<String> = recorded
        .iter()
        .map(|key| {
            let (file, line) = (key.file.display(), key.line);
            format!("{file}:{line} has {} {}", key.key_type, key.fingerprint)
        })
        .collect();
    lines.join(", ")
}

fn tried_methods(tried: &[String]) -> String {
    if tried.is_empty() {
        "there was no key to try".to_owned()
    } else {
        format!("tried {}", tried.join("; "))
    }
}
