//! Where and how to connect, fully resolved.

use std::path::PathBuf;
use std::time::Duration;

/// How to reach one host: everything `~/.ssh/config` and the settings of the host had to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The name messages use: what the user calls the host.
    pub name: String,
    /// Address or DNS name to connect to.
    pub host_name: String,
    /// TCP port.
    pub port: u16,
    /// Account to log in to.
    pub user: String,
    /// Private key files, in the order they are tried.
    pub identities: Vec<PathBuf>,
    /// Whether a missing identity file is worth a word: false for the files that are only tried by default.
    pub identities_named: bool,
    /// Offer the agent's keys only when they belong to one of `identities`.
    pub identities_only: bool,
    /// Which ssh-agent to ask.
    pub agent: AgentSocket,
    /// Where host keys are recorded.
    pub known_hosts: KnownHostsFiles,
    /// Name the host key is recorded under instead of `host_name` and `port`.
    pub host_key_alias: Option<String>,
    /// Record the names of newly trusted hosts only as hashes.
    pub hash_known_hosts: bool,
    /// Whether a person may be asked to trust an unknown key: false under `StrictHostKeyChecking yes`.
    pub ask_about_new_key: bool,
    /// Which family of addresses to use.
    pub family: IpFamily,
    /// Authentication methods that may be used, all of them if none.
    pub methods: Option<Vec<String>>,
    /// Longest wait for a TCP connection to one address.
    pub connect_timeout: Duration,
    /// Hosts to go through, the first of them first.
    pub jumps: Vec<Self>,
}

/// Which ssh-agent holds keys for us.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum AgentSocket {
    /// The one that `SSH_AUTH_SOCK` names, if any.
    #[default]
    Environment,
    /// The one behind this socket.
    Path(PathBuf),
    /// None.
    Nobody,
}

/// Where host keys are recorded.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KnownHostsFiles {
    /// The user's files; a newly trusted key is appended to the first of them.
    pub user: Vec<PathBuf>,
    /// The machine's files, only read.
    pub global: Vec<PathBuf>,
}

/// Which family of addresses to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IpFamily {
    /// Whatever the resolver answers, in its order.
    #[default]
    Any,
    /// IPv4 only.
    V4,
    /// IPv6 only.
    V6,
}

/// Longest wait for a TCP connection to one address, unless `ConnectTimeout` says otherwise.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

impl Endpoint {
    /// An endpoint with the defaults of a user who has no configuration: the given key file, port 22 and no agent.
    pub fn plain(
        host_name: impl Into<String>,
        port: u16,
        user: impl Into<String>,
        known_hosts: PathBuf,
    ) -> Self {
        let host_name = host_name.into();
        Self {
            name: host_name.clone(),
            host_name,
            port,
            user: user.into(),
            identities: Vec::new(),
            identities_named: true,
            identities_only: false,
            agent: AgentSocket::Nobody,
            known_hosts: KnownHostsFiles {
                user: vec![known_hosts],
                global: Vec::new(),
            },
            host_key_alias: None,
            hash_known_hosts: false,
            ask_about_new_key: true,
            family: IpFamily::Any,
            methods: None,
            connect_timeout: CONNECT_TIMEOUT,
            jumps: Vec::new(),
        }
    }

    /// Whether `PreferredAuthentications` leaves this method in.
    pub fn may_use(&self, method: &str) -> bool {
        self.methods
            .as_ref()
            .is_none_or(|methods| methods.iter().any(|allowed| allowed == method))
    }

    /// What the host key is recorded under: the alias as it is, or the name, with the port when it is not 22.
    pub fn key_name(&self) -> String {
        match &self.host_key_alias {
            Some(alias) => alias.to_ascii_lowercase(),
            None if self.port == 22 => self.host_name.to_ascii_lowercase(),
            None => format!("[{}]:{}", self.host_name.to_ascii_lowercase(), self.port),
        }
    }
}
