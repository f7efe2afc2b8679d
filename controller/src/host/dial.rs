//! Makes a link: SSH, then the agent's conversation on it.

use super::agents::{self, AgentProgram, AgentProgramError};
use super::deploy::{self, DeployError, Doubt, Place};
use crate::agent::{AgentError, Client};
use crate::model::Host;
use crate::ssh::config::{ConfigFiles, resolve};
use crate::ssh::transfer::{Sftp, TransferError};
use crate::ssh::{Ask, Ending, Endpoint, Exec, NobodyToAsk, Options, Purpose, Session, SshError};
use farrun_protocol::message::{Hello, HelloReply};
use farrun_protocol::{ControllerId, PROTOCOL, layout};
use rand::Rng as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How long the shell's verdict on a failed start is waited for.
const START_VERDICT: Duration = Duration::from_secs(5);

/// Makes links in the name of one controller.
#[derive(Clone)]
pub struct Dialer {
    /// Where OpenSSH's configuration is read from.
    pub files: ConfigFiles,
    /// Folders with agents.
    pub agents: Vec<PathBuf>,
    /// In whose name.
    pub controller_id: ControllerId,
    /// Answers questions about keys.
    pub ask: Arc<dyn Ask>,
}

impl std::fmt::Debug for Dialer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Dialer")
            .field("agents", &self.agents)
            .finish_non_exhaustive()
    }
}

/// A live SSH connection with a talking agent.
#[derive(Debug)]
pub struct Link {
    /// Name of the host.
    pub host: String,
    /// What its `uname -sm` says.
    pub platform: String,
    /// The control connection; files never travel on it.
    pub session: Session,
    /// The conversation.
    pub client: Client,
    /// Who answered.
    pub hello: HelloReply,
    /// What OpenSSH's configuration says and we do not obey.
    pub warnings: Vec<String>,
    /// Whether the agent had to be put there first.
    pub deployed: bool,
}

impl Link {
    /// Says goodbye, unless somebody else uses the link too.
    pub async fn let_go(self: Arc<Self>) {
        if let Some(link) = Arc::into_inner(self) {
            link.session.close().await;
        }
    }
}

/// A host could not be reached or its agent not be talked to.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// SSH.
    #[error(transparent)]
    Ssh(#[from] SshError),
    /// There is no agent for it.
    #[error("`{host}` cannot be served")]
    NoAgent {
        /// Name of the host.
        host: String,
        /// Why.
        #[source]
        source: AgentProgramError,
    },
    /// The agent could not be put there.
    #[error(transparent)]
    Deploy(#[from] DeployError),
    /// The conversation failed.
    #[error(transparent)]
    Agent(#[from] AgentError),
    /// Files could not be moved.
    #[error(transparent)]
    Transfer(#[from] TransferError),
}

impl Dialer {
    /// Resolves a host's endpoint from its settings and OpenSSH's configuration.
    ///
    /// # Errors
    /// A directive that cannot be honoured, or an address that is none.
    pub fn endpoint(&self, host: &Host) -> Result<(Endpoint, Vec<String>), SshError> {
        let resolved = resolve(&host.name, &host.settings, &self.files)?;
        Ok((resolved.endpoint, resolved.warnings))
    }

    /// Opens a connection for control or for files.
    ///
    /// # Errors
    /// The host is out of reach, is not who it was, or refuses us.
    pub async fn session(&self, host: &Host, purpose: Purpose) -> Result<Session, SshError> {
        let (endpoint, _) = self.endpoint(host)?;
        Session::connect(&endpoint, &Options::new(purpose).asking(self.ask.clone())).await
    }

    /// Opens a connection of its own for files.
    ///
    /// # Errors
    /// As [`Self::session`], or the account has no SFTP.
    pub async fn files(&self, host: &Host) -> Result<(Session, Sftp), LinkError> {
        let session = self.session(host, Purpose::Bulk).await?;
        let sftp = Sftp::start(session.sftp().await?, &host.name).await?;
        Ok((session, sftp))
    }

    /// The same, asking nobody: for connections beside one whose questions were answered.
    #[must_use]
    pub fn unasking(&self) -> Self {
        Self {
            ask: Arc::new(NobodyToAsk),
            ..self.clone()
        }
    }

    /// Makes a link. `deploying` is called once when the agent has to be put there first.
    ///
    /// # Errors
    /// See [`LinkError`].
    pub async fn dial(&self, host: &Host, deploying: &(dyn Fn() + Sync)) -> Result<Link, LinkError> {
        let (endpoint, warnings) = self.endpoint(host)?;
        let session = Session::connect(
            &endpoint,
            &Options::new(Purpose::Control).asking(self.ask.clone()),
        )
        .await?;
        let (platform, known) = match &host.platform {
            Some(platform) => (platform.clone(), true),
            None => (deploy::platform(&session).await?, false),
        };
        let program = self.program(host, &platform)?;
        let state = host.settings.state_folder().to_owned();
        let mut deployed = false;
        if !known {
            deployed = self
                .deploy(&session, host, &state, &program, Doubt::None, deploying)
                .await?;
        }
        let first = self.converse(&session, host, &state, &program).await;
        let (client, hello) = match first {
            Ok((client, hello)) if hello.agent_sha256 == program.sha256 => (client, hello),
            Err(error) if deployed || !error.may_be_mended() => return Err(error.into_link(host, &state)),
            first => {
                // The folder was removed, this controller carries a new agent, or what lies there is torn, as a power
                // loss leaves it.
                drop(first);
                let platform = deploy::platform(&session).await?;
                let program = self.program(host, &platform)?;
                deployed = self
                    .deploy(&session, host, &state, &program, Doubt::Started, deploying)
                    .await?;
                self.converse(&session, host, &state, &program)
                    .await
                    .map_err(|error| error.into_link(host, &state))?
            }
        };
        if hello.agent_sha256 != program.sha256 {
            return Err(DeployError::Damaged {
                host: host.name.clone(),
            }
            .into());
        }
        // Kept for the next contact, so only what an agent could be found by.
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let platform = if !hello.machine.is_empty() && hello.machine.chars().all(plain) {
            format!(
                "{} {}",
                platform.split(' ').next().unwrap_or("Linux"),
                hello.machine
            )
        } else {
            platform
        };
        Ok(Link {
            host: host.name.clone(),
            platform,
            session,
            client,
            hello,
            warnings,
            deployed,
        })
    }

    async fn deploy(
        &self,
        session: &Session,
        host: &Host,
        state: &str,
        program: &AgentProgram,
        doubt: Doubt,
        deploying: &(dyn Fn() + Sync),
    ) -> Result<bool, LinkError> {
        let files = self.session(host, Purpose::Bulk).await?;
        let place = Place {
            host: &host.name,
            state,
        };
        let deployed = deploy::deploy(session, &files, place, program, doubt, deploying).await?;
        files.close().await;
        Ok(deployed)
    }

    fn program(&self, host: &Host, platform: &str) -> Result<AgentProgram, LinkError> {
        agents::find(platform, &self.agents).map_err(|source| LinkError::NoAgent {
            host: host.name.clone(),
            source,
        })
    }

    async fn converse(
        &self,
        session: &Session,
        host: &Host,
        state: &str,
        program: &AgentProgram,
    ) -> Result<(Client, HelloReply), NotStarted> {
        let nonce = hex::encode(rand::rng().random::<[u8; 32]>());
        // Only characters that no shell reinterprets: the state folder was checked when it was set.
        let command = format!(
            "{state}/{} serve {nonce}",
            layout::agent(&program.sha256).display()
        );
        let hello = Hello {
            protocol: PROTOCOL,
            controller_id: self.controller_id.clone(),
            docker_sudo: host.settings.docker_sudo,
            docker_host: host.settings.docker_host.clone(),
        };
        let greeting = Client::greeting(hello, &host.name).map_err(NotStarted::Agent)?;
        let Exec {
            stdin,
            stdout,
            mut ending,
        } = session
            .exec_telling(&command, greeting)
            .await
            .map_err(NotStarted::Ssh)?;
        match Client::start(stdout, stdin, &nonce, &host.name).await {
            Ok(conversation) => {
                tokio::spawn(async move {
                    let end = ending.wait().await;
                    let said = String::from_utf8_lossy(&ending.stderr()).into_owned();
                    tracing::debug!(?end, said, "The agent's channel closed");
                });
                Ok(conversation)
            }
            Err(error) => {
                // POSIX shells and fish answer 127 for a missing program and 126 for one that does not run; csh
                // answers 1 for both.
                match tokio::time::timeout(START_VERDICT, ending.wait()).await {
                    Ok(Ending::Status(126)) => Err(NotStarted::Refused(
                        String::from_utf8_lossy(&ending.stderr()).trim().to_owned(),
                    )),
                    Ok(Ending::Status(127 | 1)) => Err(NotStarted::Missing),
                    Ok(Ending::Status(_) | Ending::Signal(_)) => Err(NotStarted::Ended(error)),
                    Ok(Ending::Lost) | Err(_) => Err(NotStarted::Agent(error)),
                }
            }
        }
    }
}

enum NotStarted {
    Missing,
    Refused(String),
    /// Something was started, said what no agent says, and ended.
    Ended(AgentError),
    Ssh(SshError),
    Agent(AgentError),
}

impl NotStarted {
    /// Whether putting the agent there can help.
    fn may_be_mended(&self) -> bool {
        match self {
            Self::Missing | Self::Refused(_) | Self::Ended(_) => true,
            Self::Ssh(_) | Self::Agent(_) => false,
        }
    }

    fn into_link(self, host: &Host, state: &str) -> LinkError {
        let does_not_run = |said: String| DeployError::DoesNotRun {
            host: host.name.clone(),
            folder: state.to_owned(),
            said,
        };
        match self {
            Self::Missing => does_not_run("the login shell does not find it".to_owned()).into(),
            Self::Refused(said) => does_not_run(said).into(),
            Self::Ssh(error) => error.into(),
            Self::Agent(error) | Self::Ended(error) => error.into(),
        }
    }
}
