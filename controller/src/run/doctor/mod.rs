//! Looking at everything on the way to a run: the line, the account, the engine, GPUs, the host. A host that cannot be
//! talked to is told about as far as it was reached.
//!
//! The agent brings facts ([`farrun_protocol::doctor`]); which of them are good or bad is decided here, without a host.

mod account;
mod check;
mod engine;
mod gpu;
mod ssh;
mod system;
#[cfg(test)]
mod tests;
mod toolkit;
mod words;

pub use check::{Check, Group, Verdict};

use super::RunError;
use crate::controller::{Controller, Event};
use crate::host::doctor::measure;
use crate::host::{Link, LinkError};
use crate::model::Host;
use crate::ssh::{Purpose, SshError};
use chrono::{TimeDelta, Utc};
use farrun_protocol::doctor::Checkup;
use rand::Rng as _;
use std::error::Error;
use std::time::Duration;

/// How long the agent may take in all; each of its parts has a limit of its own.
const AGENT: Duration = Duration::from_secs(100);
/// How long removing what was put aside may take.
const TIDY: Duration = Duration::from_secs(10);

/// What was found.
#[derive(Debug)]
pub struct Examination {
    /// Everything that was looked at, in the order of the way there.
    pub checks: Vec<Check>,
    /// Why the host could not be talked to, when it could not.
    pub obstacle: Option<RunError>,
}

impl Examination {
    /// The worst of it.
    pub fn worst(&self) -> Verdict {
        let worst = self.checks.iter().map(|check| check.verdict).max();
        worst.unwrap_or(Verdict::Skipped)
    }
}

/// Looks at a host.
///
/// # Errors
/// Its settings cannot be used, another machine answers in its place, or the database failed.
pub async fn examine(controller: &Controller, host: &Host) -> Result<Examination, RunError> {
    // What OpenSSH's configuration forbids is no finding about the host.
    let _ = controller.dialer().endpoint(host).map_err(LinkError::from)?;
    match controller.contact(host).await {
        Ok(link) => {
            let ahead = link.hello.now - Utc::now();
            let mut examination = reached(controller, host, &link, Some(ahead)).await;
            link.session.close().await;
            examination.checks.sort_by_key(|check| check.group);
            Ok(examination)
        }
        Err(RunError::Link(LinkError::Ssh(error))) if !is_behind_login(&error) => Ok(unreached(error)),
        Err(RunError::Link(error)) => {
            let mut examination = without_agent(controller, host, error).await;
            examination.checks.sort_by_key(|check| check.group);
            Ok(examination)
        }
        Err(other) => Err(other),
    }
}

/// An error and everything it came from.
fn chain(error: &dyn Error) -> String {
    let mut words = vec![error.to_string()];
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        if !words.last().is_some_and(|last| last.ends_with(&text)) {
            words.push(text);
        }
        source = cause.source();
    }
    words.join(": ")
}

/// Whether the host let us in and refused something else.
fn is_behind_login(error: &SshError) -> bool {
    matches!(
        error,
        SshError::SftpRefused { .. } | SshError::ChannelRefused { .. } | SshError::TooMuchOutput { .. }
    )
}

fn unreached(error: SshError) -> Examination {
    let check = Check::broken(Group::Ssh, "connection", "the host cannot be reached").seen(chain(&error));
    Examination {
        checks: vec![check],
        obstacle: Some(LinkError::from(error).into()),
    }
}

async fn reached(controller: &Controller, host: &Host, link: &Link, ahead: Option<TimeDelta>) -> Examination {
    controller.tell(&Event::Examining { host: &host.name });
    let line = measure(&controller.dialer(), host, &link.session).await;
    let mut checks = ssh::judge(&line, ahead);
    for warning in &link.warnings {
        checks.push(Check::warning(Group::Ssh, "configuration", warning));
    }
    let asked = tokio::time::timeout(AGENT, link.client.doctor()).await;
    match asked {
        Ok(Ok(checkup)) => checks.extend(judge(&host.name, &checkup)),
        Ok(Err(error)) => checks.push(
            Check::broken(Group::Account, "agent", "the agent did not tell about the host")
                .seen(chain(&error)),
        ),
        Err(_) => checks.push(Check::broken(
            Group::Account,
            "agent",
            format!(
                "the agent did not tell about the host within {} s",
                AGENT.as_secs()
            ),
        )),
    }
    controller.tell(&Event::StepDone);
    Examination {
        checks,
        obstacle: None,
    }
}

fn judge(host: &str, checkup: &Checkup) -> Vec<Check> {
    let mut checks = account::judge(host, checkup);
    checks.extend(engine::judge(host, checkup));
    checks.extend(gpu::judge(checkup));
    checks.extend(system::judge(host, checkup));
    checks
}

/// The agent cannot be put into the state folder or does not start there. From a folder for temporary files it can
/// mostly tell about the rest of the host.
async fn without_agent(controller: &Controller, host: &Host, error: LinkError) -> Examination {
    let folder = host.settings.state_folder();
    if !matches!(error, LinkError::Deploy(_) | LinkError::Transfer(_)) {
        let broken =
            Check::broken(Group::Account, "agent", "the agent cannot be talked to").seen(chain(&error));
        let mut examination = line_alone(controller, host).await;
        examination.checks.push(broken);
        return examination;
    }
    let broken = Check::broken(
        Group::Account,
        "agent",
        format!("the agent does not run from `{folder}`"),
    )
    .seen(chain(&error))
    .remedy(format!(
        "let `{folder}` be a folder of the account on a disk that is not mounted noexec or read-only; \
         or another one: `farrun host set {} --state PATH`",
        host.name
    ));
    let nonce: u64 = rand::rng().random();
    let mut aside = host.clone();
    let place = format!("/tmp/.farrun-doctor-{nonce:016x}");
    aside.settings.state = Some(place.clone());
    aside.platform = None;
    let dialer = controller.dialer();
    let mut examination = match dialer.dial(&aside, &|| {}).await {
        Ok(link) => {
            let ahead = link.hello.now - Utc::now();
            let examination = reached(controller, &aside, &link, Some(ahead)).await;
            // The name was made above; nothing in it needs quoting.
            let tidied = link.session.output(&format!("rm -rf {place}"), 4096, TIDY).await;
            if let Err(error) = tidied {
                tracing::warn!(%error, place, "The folder for looking at the host could not be removed");
            }
            link.session.close().await;
            examination
        }
        Err(_) => line_alone(controller, host).await,
    };
    // What it says about its folder is about the one that was made for it.
    const ABOUT_STATE: &[&str] = &[
        "file_system",
        "writing",
        "space",
        "inodes",
        "permissions",
        "residence",
    ];
    examination
        .checks
        .retain(|check| !ABOUT_STATE.contains(&check.name));
    examination.checks.push(broken);
    examination
}

async fn line_alone(controller: &Controller, host: &Host) -> Examination {
    let dialer = controller.dialer();
    let mut checks = Vec::new();
    if let Ok(session) = dialer.session(host, Purpose::Control).await {
        let line = measure(&dialer, host, &session).await;
        checks.extend(ssh::judge(&line, None));
        session.close().await;
    }
    for group in [Group::Engine, Group::Gpu, Group::Host] {
        checks.push(Check::skipped(
            group,
            "agent",
            "not checked: the agent does not run there",
        ));
    }
    Examination {
        checks,
        obstacle: None,
    }
}
