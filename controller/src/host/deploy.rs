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
    /// Its disk has no room for the program.
    #[error("`{host}` has {free} bytes free for the agent, {needed} are needed")]
    Full {
        /// Name of the host.
        host: String,
        /// The folder it was to be put in.
        folder: String,
        /// Bytes free there.
        free: u64,
        /// Bytes of the program.
        needed: u64,
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
    Ok(platform_in(&lossy(&output.stdout)).to_owned())
}

/// The platform at the end of what was printed; what came before it need not end with a newline.
fn platform_in(text: &str) -> &str {
    let line = last_line(text);
    line.rfind("Linux ").and_then(|at| line.get(at..)).unwrap_or(line)
}

fn last_line(text: &str) -> &str {
    text.lines()
        .rev()
        .map(str::trim)
        .find(|line| !line.is_empty())
        .unwrap_or_default()
}

/// What is known about a program that may lie on the host already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doubt {
    /// Nothing: one of the right size is believed.
    None,
    /// It did not start as it should: it is asked for its hash, and replaced when that is another.
    Started,
}

/// Uploads `program` over `files` unless it already lies under `state`, and tries it over `session`;
/// answers whether it was uploaded. They are two connections, for a server may allow one session on each. `deploying`
/// is called when it has to be.
///
/// # Errors
/// See [`DeployError`]; nothing is left under the final name unless it was verified.
pub async fn deploy(
    session: &Session,
    files: &Session,
    place: Place<'_>,
    program: &AgentProgram,
    doubt: Doubt,
    deploying: &(dyn Fn() + Sync),
) -> Result<bool, DeployError> {
    let Place { host, state } = place;
    let transfer = |source| transfer(host, source);
    let sftp = Sftp::start(files.sftp().await?, host).await.map_err(transfer)?;
    let agents = format!("{state}/agents");
    let folder = format!("{agents}/{}", program.sha256);
    let file = format!("{folder}/{}", layout::AGENT);
    if let Some(facts) = sftp.stat(&file).await.map_err(transfer)?
        && facts.size == program.bytes.len() as u64
    {
        if doubt == Doubt::None {
            return Ok(false);
        }
        // What it once knew about itself is not to be believed either.
        drop(sftp.remove(&format!("{folder}/{}", layout::AGENT_VERIFIED)).await);
        match verify(session, &file, program).await? {
            Verified::Same => return Ok(false),
            Verified::Refused(said) if facts.mode & 0o555 == 0o555 && said.contains("ermission denied") => {
                // Another copy in this folder would not be run either.
                return Err(DeployError::DoesNotRun {
                    host: host.to_owned(),
                    folder,
                    said,
                });
            }
            Verified::Other | Verified::Refused(_) => {}
        }
    }
    deploying();
    let uploaded = upload(session, &sftp, place, program, &agents, &folder).await;
    match uploaded {
        Err(DeployError::Transfer { source, .. }) if matches!(*source, TransferError::Refused { .. }) => {
            Err(full(session, place, program)
                .await
                .unwrap_or_else(|| transfer(*source)))
        }
        uploaded => uploaded.map(|()| true),
    }
}

/// Where the program goes.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// Name of the host.
    pub host: &'a str,
    /// Its state folder.
    pub state: &'a str,
}

fn transfer(host: &str, source: TransferError) -> DeployError {
    DeployError::Transfer {
        host: host.to_owned(),
        source: Box::new(source),
    }
}

/// Uploads under a temporary name and gives the folder its own once the program in it was verified.
async fn upload(
    session: &Session,
    sftp: &Sftp,
    Place { host, state }: Place<'_>,
    program: &AgentProgram,
    agents: &str,
    folder: &str,
) -> Result<(), DeployError> {
    let transfer = |source| transfer(host, source);
    sftp.make_folders(state, 0o700).await.map_err(transfer)?;
    sftp.set_mode(state, 0o700).await.map_err(transfer)?;
    sftp.make_folders(agents, 0o700).await.map_err(transfer)?;
    let nonce: u64 = rand::rng().random();
    let arriving = format!("{agents}/{}{nonce:016x}", layout::AGENT_ARRIVING);
    sftp.make_folders(&arriving, 0o700).await.map_err(transfer)?;
    let mut result = try_out(session, sftp, host, program, &arriving, folder).await;
    if result.is_ok() {
        result = install(session, sftp, host, program, &arriving, folder).await;
    }
    // Whatever is left of the temporary folder is of no use to anybody.
    discard(sftp, &arriving).await;
    result
}

async fn try_out(
    session: &Session,
    sftp: &Sftp,
    host: &str,
    program: &AgentProgram,
    arriving: &str,
    folder: &str,
) -> Result<(), DeployError> {
    let upload = format!("{arriving}/{}", layout::AGENT);
    sftp.write_small(&upload, &program.bytes, 0o555)
        .await
        .map_err(|source| transfer(host, source))?;
    sftp.set_mode(&upload, 0o555)
        .await
        .map_err(|source| transfer(host, source))?;
    match verify(session, &upload, program).await? {
        Verified::Same => Ok(()),
        Verified::Other => Err(DeployError::Damaged {
            host: host.to_owned(),
        }),
        Verified::Refused(said) => Err(DeployError::DoesNotRun {
            host: host.to_owned(),
            folder: folder.to_owned(),
            said,
        }),
    }
}

/// What a program on the host says about itself.
enum Verified {
    Same,
    /// It runs and has another hash.
    Other,
    /// It does not run; the first line of what was said.
    Refused(String),
}

async fn verify(session: &Session, file: &str, program: &AgentProgram) -> Result<Verified, DeployError> {
    let command = format!("{file} verify");
    let output = session.output(&command, 64 * 1024, VERIFY_TIMEOUT).await?;
    let printed = lossy(&output.stdout);
    let hash = hash_in(&printed);
    if hash == program.sha256.as_str() {
        return Ok(Verified::Same);
    }
    if hash.parse::<farrun_protocol::Sha256>().is_ok() {
        return Ok(Verified::Other);
    }
    let said = lossy(&output.stderr);
    let said = said.lines().map(str::trim).find(|line| !line.is_empty());
    Ok(Verified::Refused(said.unwrap_or("it printed nothing").to_owned()))
}

/// Moves the new folder to its place. What has that name already may be the same, put there by another controller that
/// was faster; what is there wrongly makes room, and containers keep the file that they have.
async fn install(
    session: &Session,
    sftp: &Sftp,
    host: &str,
    program: &AgentProgram,
    arriving: &str,
    folder: &str,
) -> Result<(), DeployError> {
    let Err(error) = sftp.rename(arriving, folder).await else {
        return Ok(());
    };
    let file = format!("{folder}/{}", layout::AGENT);
    if matches!(verify(session, &file, program).await?, Verified::Same) {
        return Ok(());
    }
    let damaged = arriving.replacen(layout::AGENT_ARRIVING, layout::AGENT_DAMAGED, 1);
    if sftp.rename(folder, &damaged).await.is_err() {
        return Err(transfer(host, error));
    }
    let placed = sftp.rename(arriving, folder).await;
    discard(sftp, &damaged).await;
    placed.map_err(|source| transfer(host, source))
}

/// Removes a folder with an agent, as far as that goes.
async fn discard(sftp: &Sftp, folder: &str) {
    for file in [layout::AGENT, layout::AGENT_VERIFIED] {
        drop(sftp.remove(&format!("{folder}/{file}")).await);
    }
    drop(sftp.remove_folder(folder).await);
}

/// SFTP has no word for a full disk, and the program that would know is the one that does not fit.
async fn full(
    session: &Session,
    Place { host, state }: Place<'_>,
    program: &AgentProgram,
) -> Option<DeployError> {
    let output = session
        .output(&format!("df -Pk {state}"), 64 * 1024, VERIFY_TIMEOUT)
        .await
        .ok()?;
    let free = free_in(&lossy(&output.stdout))?;
    let needed = program.bytes.len() as u64;
    (free < needed).then(|| DeployError::Full {
        host: host.to_owned(),
        folder: state.to_owned(),
        free,
        needed,
    })
}

/// Bytes available by the last line of `df -Pk`, whose columns are counted from the percentage: a device may have spaces.
fn free_in(text: &str) -> Option<u64> {
    let words: Vec<&str> = last_line(text).split_whitespace().collect();
    let percentage = words.iter().rposition(|word| {
        word.strip_suffix('%')
            .is_some_and(|number| number.parse::<u32>().is_ok())
    })?;
    let free: u64 = words.get(percentage.checked_sub(1)?)?.parse().ok()?;
    free.checked_mul(1024)
}

/// The hash at the end of what was printed.
fn hash_in(text: &str) -> &str {
    let line = last_line(text);
    line.len()
        .checked_sub(64)
        .and_then(|at| line.get(at..))
        .unwrap_or(line)
}

/// Text that a shell printed, for finding a word in it and for quoting it in an error.
fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_found_behind_what_a_shell_prints() {
        for noise in [
            "",
            "welcome\n",
            "no newline",
            "Linux gpu1 6.1\n",
            "on Linux here",
            "é",
        ] {
            assert_eq!(
                platform_in(&format!("{noise}Linux x86_64\n")),
                "Linux x86_64",
                "{noise}"
            );
            let hash = "0f".repeat(32);
            assert_eq!(hash_in(&format!("{noise}{hash}\r\n")), hash, "{noise}");
        }
        assert_eq!(platform_in("welcome\nDarwin arm64\n"), "Darwin arm64");
        let df = "welcome\nFilesystem 1024-blocks Used Available Capacity Mounted on\n/dev/my disk 100 97 3 97% /a b\n";
        assert_eq!(free_in(df), Some(3072));
        for nonsense in ["", "df: not found", "97%", "-1 97% /", "x 97% /"] {
            assert_eq!(free_in(nonsense), None, "{nonsense}");
        }
        assert_eq!(hash_in("é"), "é");
    }
}
