//! Puts the agent on a host: uploaded under a temporary name, verified there, renamed into place, never overwritten.

use super::agents::AgentProgram;
use crate::ssh::transfer::{Sftp, TransferError};
use crate::ssh::{Session, SshError};
use farrun_protocol::layout;
use rand::Rng as _;
use std::time::Duration;

/// Largest program whose hash a host may be asked for, as a bound on waiting.
const VERIFY_TIMEOUT: Duration = Duration::from_secs(20);

/// The agent could not be put on a host.
#[derive(Debug, thiserror::Error)]
pub enum DeployError {
    /// SFTP refused.
    #[error("the agent could not be uploaded to `{host}`")]
    Transfer {
        /// Name of the host.
        host: String,
        /// Why.
        #[source]
        source: Box<TransferError>,
    },
    /// The link broke or refused.
    #[error(transparent)]
    Ssh(#[from] SshError),
    /// The uploaded program could not be executed there.
    #[error("the agent does not run on `{host}`: {said}")]
    DoesNotRun {
        /// Name of the host.
        host: String,
        /// The folder it was put in.
        folder: String,
        /// What the shell said.
        said: String,
    },
    /// What arrived is not what was sent.
    #[error("the agent on `{host}` is not the one that was sent")]
    Damaged {
        /// Name of the host.
        host: String,
    },
}

/// `uname -sm` of a host, from the last line it prints: shell start-up files may print before.
///
/// # Errors
/// The link broke, or nothing came in time.
pub async fn platform(session: &Session) -> Result<String, SshError> {
    let output = session
        .output("uname -sm", 64 * 1024, Duration::from_secs(15))
        .await?;
    let text = lossy(&output.stdout);
    Ok(text
        .lines()
        .rev()
        .map(str::trim)
        .find(|line| !line.is_empty())
        .unwrap_or_default()
        .to_owned())
}

/// Uploads `program` unless its folder already exists under `state`.
///
/// # Errors
/// See [`DeployError`]; nothing is left under the final name unless it was verified.
pub async fn deploy(
    session: &Session,
    host: &str,
    state: &str,
    program: &AgentProgram,
) -> Result<(), DeployError> {
    let transfer = |source| DeployError::Transfer {
        host: host.to_owned(),
        source: Box::new(source),
    };
    let sftp = Sftp::start(session.sftp().await?, host).await.map_err(transfer)?;
    let agents = format!("{state}/agents");
    let folder = format!("{agents}/{}", program.sha256);
    let file = format!("{folder}/{}", layout::AGENT);
    if let Some(facts) = sftp.stat(&file).await.map_err(transfer)?
        && facts.size == program.bytes.len() as u64
    {
        return Ok(());
    }
    sftp.make_folders(state, 0o700).await.map_err(transfer)?;
    sftp.set_mode(state, 0o700).await.map_err(transfer)?;
    sftp.make_folders(&agents, 0o700).await.map_err(transfer)?;
    let nonce: u64 = rand::rng().random();
    let arriving = format!("{agents}/.arriving-{nonce:016x}");
    sftp.make_folders(&arriving, 0o700).await.map_err(transfer)?;
    let result = install(session, &sftp, host, program, &arriving, &folder).await;
    // Whatever is left of the temporary folder is of no use to anybody.
    drop(sftp.remove(&format!("{arriving}/{}", layout::AGENT)).await);
    drop(sftp.remove_folder(&arriving).await);
    result
}

async fn install(
    session: &Session,
    sftp: &Sftp,
    host: &str,
    program: &AgentProgram,
    arriving: &str,
    folder: &str,
) -> Result<(), DeployError> {
    let transfer = |source| DeployError::Transfer {
        host: host.to_owned(),
        source: Box::new(source),
    };
    let upload = format!("{arriving}/{}", layout::AGENT);
    sftp.write_small(&upload, &program.bytes, 0o555)
        .await
        .map_err(transfer)?;
    sftp.set_mode(&upload, 0o555).await.map_err(transfer)?;
    let verify = format!("{upload} verify");
    let output = session.output(&verify, 64 * 1024, VERIFY_TIMEOUT).await?;
    let printed = lossy(&output.stdout);
    let hash = printed
        .lines()
        .rev()
        .map(str::trim)
        .find(|line| !line.is_empty())
        .unwrap_or_default();
    if hash != program.sha256.as_str() {
        if hash.parse::<farrun_protocol::Sha256>().is_ok() {
            return Err(DeployError::Damaged {
                host: host.to_owned(),
            });
        }
        let said = lossy(&output.stderr);
        let said = said
            .lines()
            .map(str::trim)
            .find(|line| !line.is_empty())
            .unwrap_or("it printed nothing")
            .to_owned();
        return Err(DeployError::DoesNotRun {
            host: host.to_owned(),
            folder: folder.to_owned(),
            said,
        });
    }
    match sftp.rename(arriving, folder).await {
        Ok(()) => Ok(()),
        // Another controller was faster with the same content.
        Err(error) => match sftp
            .stat(&format!("{folder}/{}", layout::AGENT))
            .await
            .map_err(transfer)?
        {
            Some(facts) if facts.size == program.bytes.len() as u64 => Ok(()),
            _ => Err(transfer(error)),
        },
    }
}

/// Text that a shell printed, for finding a word in it and for quoting it in an error.
fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
