//! `farrun host add|list|show|set|trust|remove`

use super::placement_args::ANY;
use super::view::{Hosts, document};
use super::{Context, find};
use crate::agent::AgentError;
use crate::controller::Controller;
use crate::error::{CommandError, Exit};
use crate::host::LinkError;
use crate::host::deploy::DeployError;
use crate::model::{Host, HostSettings, host as model};
use crate::run::{RunError, reconcile};
use crate::ssh::SshError;
use crate::store::RunFilter;
use crate::ui::{Table, escape, format};
use chrono::Utc;
use farrun_protocol::message::HostFacts;
use std::path::PathBuf;
use std::time::Duration;

/// How long a host that was just added may take to say what it is.
const FACTS_BUDGET: Duration = Duration::from_secs(15);

/// The verbs below `farrun host`.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Add a host, check its key and put the agent there
    #[command(after_help = "\
Examples:
  farrun host add gpu1                                   an alias of ~/.ssh/config
  farrun host add gpu2 --address me@203.0.113.7:2222 --identity ~/.ssh/id_ed25519
  farrun host add box --address root@[2001:db8::7] --docker-sudo")]
    Add(Add),
    /// List hosts
    #[command(after_help = "Example:\n  farrun host list")]
    List,
    /// Show how a host is reached and used
    #[command(after_help = "Example:\n  farrun host show gpu1")]
    Show(Named),
    /// Change how a host is reached or used
    #[command(
        after_help = "Example:\n  farrun host set gpu1 --address me@203.0.113.9     the same machine at another address"
    )]
    Set(Set),
    /// Trust the key a host shows
    #[command(after_help = "\
Example:
  farrun host trust gpu1     shows the fingerprint and asks

A key that changed or was revoked is never trusted.")]
    Trust(Trust),
    /// Forget a host; nothing on it is touched
    #[command(
        after_help = "Examples:\n  farrun host remove gpu1\n  farrun host remove gpu1 --abandon     it will never come back"
    )]
    Remove(Remove),
}

/// How a host is reached and used.
#[derive(Debug, Clone, clap::Args)]
pub struct SettingsArgs {
    /// `[user@]address[:port]`; without it the name is an alias of ~/.ssh/config
    #[arg(long)]
    address: Option<String>,
    /// Private key file; default those of ~/.ssh and ssh-agent, as for `ssh`
    #[arg(long, value_name = "FILE")]
    identity: Option<PathBuf>,
    /// State folder on the host, relative to the login folder or absolute; default `.local/share/farrun`
    #[arg(long, value_name = "PATH")]
    state: Option<String>,
    /// Docker needs `sudo -n` there
    #[arg(long)]
    docker_sudo: bool,
    /// Container engine to use there (`unix://…`, `tcp://…`)
    #[arg(long, value_name = "URL")]
    docker_host: Option<String>,
}

impl SettingsArgs {
    fn is_empty(&self) -> bool {
        let given = [&self.address, &self.state, &self.docker_host]
            .into_iter()
            .any(Option::is_some);
        !given && self.identity.is_none() && !self.docker_sudo
    }
}

/// Arguments of `farrun host add`.
#[derive(Debug, clap::Args)]
pub struct Add {
    /// Your name for it: a-z 0-9 . _ -
    name: String,
    #[command(flatten)]
    settings: SettingsArgs,
    /// Trust an unknown key unasked; a changed or revoked one is never trusted
    #[arg(long)]
    accept_new_host_key: bool,
    /// Only write it down; do not connect
    #[arg(long)]
    no_connect: bool,
}

/// A host by name.
#[derive(Debug, clap::Args)]
pub struct Named {
    /// The host
    name: String,
}

/// Arguments of `farrun host set`.
#[derive(Debug, clap::Args)]
pub struct Set {
    /// The host
    name: String,
    #[command(flatten)]
    settings: SettingsArgs,
    /// Docker needs no `sudo` there
    #[arg(long, conflicts_with = "docker_sudo")]
    no_docker_sudo: bool,
}

/// Arguments of `farrun host trust`.
#[derive(Debug, clap::Args)]
pub struct Trust {
    /// The host
    name: String,
    /// Trust an unknown key unasked
    #[arg(long)]
    accept_new_host_key: bool,
}

/// Arguments of `farrun host remove`.
#[derive(Debug, clap::Args)]
pub struct Remove {
    /// The host
    name: String,
    /// It is gone for good: its unfinished runs fail as `host_lost`, those whose outputs are not here as `outputs_lost`
    #[arg(long)]
    abandon: bool,
}

/// Carries out one of the verbs.
///
/// # Errors
/// A wrong name or setting, a host that does not exist or answer, or the database.
pub async fn run(command: Command, context: &Context) -> Result<Exit, CommandError> {
    match command {
        Command::Add(args) => add(args, context).await,
        Command::List => list(context).await,
        Command::Show(args) => show(args, context).await,
        Command::Set(args) => set(args, context).await,
        Command::Trust(args) => trust(args, context).await,
        Command::Remove(args) => remove(args, context).await,
    }
}

async fn add(args: Add, context: &Context) -> Result<Exit, CommandError> {
    if args.name == ANY {
        return Err(CommandError::usage(
            "no host can be named `any`: `--host any` means the one that fits best",
        ));
    }
    if !model::is_host_name(&args.name) {
        return Err(
            CommandError::usage(format!("`{}` cannot name a host", escape::line(&args.name)))
                .hint("use 1 to 63 characters a-z 0-9 . _ -, beginning with a letter or digit"),
        );
    }
    let controller = context.controller_that(args.accept_new_host_key).await?;
    let mut settings = HostSettings::default();
    apply(&mut settings, args.settings)?;
    let host = Host {
        name: args.name,
        settings,
        host_id: None,
        platform: None,
        added_at: Utc::now(),
        last_seen: None,
    };
    if controller.store.host(&host.name).await?.is_some() {
        return Err(
            CommandError::refused(format!("there is a host `{}` already", host.name))
                .hint(format!("change it with `farrun host set {}`", host.name)),
        );
    }
    // What OpenSSH's configuration says must be honoured or refused before the host is written down.
    controller.dialer().endpoint(&host)?;
    controller.store.add_host(&host).await?;
    if args.no_connect {
        report(context, "added; it was not contacted", &host);
        return Ok(Exit::Completed);
    }
    match controller.contact(&host).await {
        Ok(link) => {
            let facts = tokio::time::timeout(FACTS_BUDGET, link.client.host()).await;
            link.session.close().await;
            let host = find::host(&controller, &host.name).await?;
            report(context, "added", &host);
            if let Ok(Ok(facts)) = facts {
                warn_of_engine(context, &host, &facts);
            }
            Ok(Exit::Completed)
        }
        Err(error) => {
            // A host that never answered is not kept: adding again with other settings must not meet a conflict.
            controller.store.remove_host(&host.name).await?;
            Err(not_added(error))
        }
    }
}

/// An engine that refuses would otherwise be met only when the first run is ordered.
fn warn_of_engine(context: &Context, host: &Host, facts: &HostFacts) {
    let Err(failure) = &facts.engine else { return };
    let problem = CommandError::from(AgentError::Failed(failure.clone()));
    let causes: String = problem.causes.iter().map(|cause| format!(" ({cause})")).collect();
    context.ui.warning(format!(
        "`{}` can run nothing yet: {}{causes}",
        host.name, problem.message
    ));
    for hint in problem.hints {
        context.ui.hint(hint.replace("NAME", &host.name));
    }
}

/// The hints for a host that is kept name verbs that would not know this one.
fn not_added(error: RunError) -> CommandError {
    let hint = match &error {
        RunError::Link(LinkError::Ssh(error)) => match error {
            SshError::HostKeyUnknown { .. } => Some(
                "compare the fingerprint with what the host's owner says, then add it again with `--accept-new-host-key`",
            ),
            SshError::AuthFailed { .. } => {
                Some("name a key with `--identity FILE`, or load it with `ssh-add`, and add it again")
            }
            SshError::Refused { .. } | SshError::Unresolved { .. } | SshError::ConnectTimeout { .. } => {
                Some("check the address (`--address user@host:port`) and add it again")
            }
            _ => None,
        },
        RunError::Link(LinkError::Deploy(DeployError::DoesNotRun { .. })) => {
            Some("if the state folder lies on a file system mounted noexec, add it again with `--state PATH`")
        }
        _ => None,
    };
    let mut command = CommandError::from(error);
    if let Some(hint) = hint {
        command.hints = vec![hint.to_owned()];
    }
    command
}

fn report(context: &Context, what: &str, host: &Host) {
    if context.ui.is_json() {
        context.ui.json(&document("farrun.host/1", host));
    } else {
        let platform = host
            .platform
            .as_deref()
            .map(|platform| format!(" ({})", escape::line(platform)));
        context.ui.note(format!(
            "host `{}` {what}{}",
            host.name,
            platform.unwrap_or_default()
        ));
    }
}

fn apply(settings: &mut HostSettings, args: SettingsArgs) -> Result<(), CommandError> {
    if let Some(identity) = args.identity {
        let absolute = std::path::absolute(&identity).unwrap_or(identity);
        if let Err(error) = std::fs::File::open(&absolute) {
            return Err(CommandError::usage(format!(
                "the key `{}` cannot be read: {error}",
                absolute.display()
            )));
        }
        settings.identity = Some(absolute.to_string_lossy().into_owned());
    }
    if let Some(state) = args.state {
        let state = state.trim_end_matches('/').to_owned();
        if !model::is_state_folder(&state) {
            return Err(
                CommandError::usage(format!("`{}` cannot be a state folder", escape::line(&state)))
                    .hint("use at most 200 characters A-Z a-z 0-9 / . _ -, without `..`"),
            );
        }
        settings.state = Some(state);
    }
    if let Some(url) = args.docker_host {
        if !url.starts_with("unix:///") && !url.starts_with("tcp://") {
            return Err(
                CommandError::usage(format!("`{}` is no engine address", escape::line(&url)))
                    .hint("use `unix:///path/to/docker.sock` or `tcp://host:port`, as seen from the host"),
            );
        }
        settings.docker_host = Some(url);
    }
    settings.address = args.address.or(settings.address.take());
    settings.docker_sudo |= args.docker_sudo;
    Ok(())
}

async fn list(context: &Context) -> Result<Exit, CommandError> {
    let controller = context.controller().await?;
    let hosts = controller.store.hosts().await?;
    if context.ui.is_json() {
        context
            .ui
            .json(&document("farrun.hosts/1", Hosts { hosts: &hosts }));
        return Ok(Exit::Completed);
    }
    if hosts.is_empty() {
        context
            .ui
            .note("no hosts; add one with `farrun host add NAME --address user@host`");
        return Ok(Exit::Completed);
    }
    let mut table = Table::new(["HOST", "ADDRESS", "PLATFORM", "LAST SEEN"]);
    let now = Utc::now();
    for host in &hosts {
        table.row([
            host.name.clone(),
            host.settings
                .address
                .clone()
                .unwrap_or_else(|| "(ssh config)".to_owned()),
            host.platform.clone().unwrap_or_else(|| "-".to_owned()),
            host.last_seen
                .map_or_else(|| "never".to_owned(), |seen| format::age(seen, now)),
        ]);
    }
    context.ui.table(&table);
    Ok(Exit::Completed)
}

async fn show(args: Named, context: &Context) -> Result<Exit, CommandError> {
    let controller = context.controller().await?;
    let host = find::host(&controller, &args.name).await?;
    if context.ui.is_json() {
        context.ui.json(&document("farrun.host/1", &host));
        return Ok(Exit::Completed);
    }
    let (endpoint, warnings) = controller.dialer().endpoint(&host)?;
    let settings = &host.settings;
    context.ui.fields(&[
        ("host", host.name.clone()),
        (
            "address",
            settings
                .address
                .clone()
                .unwrap_or_else(|| "(ssh config)".to_owned()),
        ),
        (
            "resolves to",
            format!("{}@{}:{}", endpoint.user, endpoint.host_name, endpoint.port),
        ),
        (
            "identity",
            settings
                .identity
                .clone()
                .unwrap_or_else(|| "(ssh config or agent)".to_owned()),
        ),
        ("state folder", settings.state_folder().to_owned()),
        ("docker", docker(settings)),
        (
            "machine",
            host.host_id
                .as_ref()
                .map_or_else(|| "-".to_owned(), ToString::to_string),
        ),
        (
            "platform",
            host.platform.clone().unwrap_or_else(|| "-".to_owned()),
        ),
        ("added", format::time(host.added_at)),
        (
            "last seen",
            host.last_seen.map_or_else(|| "never".to_owned(), format::time),
        ),
    ]);
    for warning in warnings {
        context.ui.warning(warning);
    }
    Ok(Exit::Completed)
}

fn docker(settings: &HostSettings) -> String {
    let address = settings.docker_host.as_deref().unwrap_or("the usual socket");
    if settings.docker_sudo {
        format!("{address}, through sudo")
    } else {
        address.to_owned()
    }
}

async fn set(args: Set, context: &Context) -> Result<Exit, CommandError> {
    let controller = context.controller().await?;
    let mut host = find::host(&controller, &args.name).await?;
    let moved = args.settings.state.is_some();
    if args.settings.is_empty() && !args.no_docker_sudo {
        return Err(
            CommandError::usage(format!("nothing to change for `{}`", host.name))
                .hint("see `farrun host set --help`"),
        );
    }
    apply(&mut host.settings, args.settings)?;
    if args.no_docker_sudo {
        host.settings.docker_sudo = false;
    }
    if moved
        && !controller
            .store
            .unsettled_runs(Some(&host.name))
            .await?
            .is_empty()
    {
        return Err(CommandError::refused(format!(
            "`{}` has unfinished runs in its state folder",
            host.name
        ))
        .hint("wait for them or stop them first"));
    }
    controller.dialer().endpoint(&host)?;
    let settings = host.settings.clone();
    controller
        .store
        .change_host(&args.name, |row| row.settings = settings)
        .await?;
    report(context, "changed", &host);
    Ok(Exit::Completed)
}

async fn trust(args: Trust, context: &Context) -> Result<Exit, CommandError> {
    let controller = context.controller_that(args.accept_new_host_key).await?;
    let host = find::host(&controller, &args.name).await?;
    let link = controller.contact(&host).await?;
    link.session.close().await;
    report(
        context,
        "is trusted by its key",
        &find::host(&controller, &host.name).await?,
    );
    Ok(Exit::Completed)
}

async fn remove(args: Remove, context: &Context) -> Result<Exit, CommandError> {
    let controller = context.controller().await?;
    let host = find::host(&controller, &args.name).await?;
    if args.abandon {
        for run in reconcile::abandon(&controller, &host).await? {
            let reason = run
                .reason
                .map(farrun_protocol::verdict::Reason::code)
                .unwrap_or_default();
            context.ui.note(format!("{} failed ({reason})", run.id));
        }
    } else {
        refuse_if_needed(&controller, &host).await?;
    }
    controller.store.remove_host(&host.name).await?;
    report(context, "forgotten; nothing on it was touched", &host);
    Ok(Exit::Completed)
}

async fn refuse_if_needed(controller: &Controller, host: &Host) -> Result<(), CommandError> {
    let filter = RunFilter {
        host: Some(host.name.clone()),
        ..RunFilter::default()
    };
    let runs = controller.store.runs(&filter).await.map_err(RunError::from)?;
    let open = runs.iter().filter(|run| !run.status.is_final()).count();
    if open > 0 {
        return Err(CommandError::refused(match open {
            1 => format!("a run on `{}` is not finished", host.name),
            _ => format!("{open} runs on `{}` are not finished", host.name),
        })
        .hint(format!("bring them home with `farrun sync --host {}`", host.name))
        .hint(format!(
            "or give them up with `farrun host remove {} --abandon`",
            host.name
        )));
    }
    Ok(())
}
