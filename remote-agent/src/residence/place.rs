//! Where and with what the observer is made resident.

use crate::doctor::{self, Printed, Said};
use crate::gpu::ChildLimits;
use crate::serve::Context;
use farrun_protocol::Sha256;
use farrun_protocol::doctor::Looked;
use std::path::{Path, PathBuf};

/// The surroundings; tests put others in the place of the host's.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// The state folder.
    pub(crate) state: PathBuf,
    /// Hash of the agent that is to start.
    pub(crate) agent_sha256: Sha256,
    /// Starts programs within limits: the agent itself.
    pub(crate) launcher: PathBuf,
    /// The account's home.
    pub(crate) home: PathBuf,
    /// Its name.
    pub(crate) account: String,
    /// Root of `proc`, `run` and `var`.
    pub(crate) root: PathBuf,
    /// Variables by which the account's own systemd is found; none where there is none.
    pub(crate) manager: Vec<(&'static str, String)>,
    /// `systemctl`, `loginctl` and `crontab`: names, or paths.
    pub(crate) programs: [String; 3],
    /// How long each of them may take.
    pub(crate) limits: ChildLimits,
}

impl Place {
    /// That of a conversation.
    pub(crate) fn of(context: &Context) -> Self {
        let state = context.state.canonicalize();
        Self {
            state: state.unwrap_or_else(|_| context.state.clone()),
            agent_sha256: context.agent_sha256.clone(),
            launcher: context.agent.clone(),
            home: context.home.clone(),
            account: crate::leases::account(),
            root: PathBuf::from("/"),
            manager: user_manager_environment(context).unwrap_or_default(),
            programs: ["systemctl", "loginctl", "crontab"].map(str::to_owned),
            limits: doctor::CHANGES,
        }
    }

    /// Name of what is made: another one for each state folder of an account.
    pub(super) fn name(&self) -> String {
        let hash = Sha256::of(self.state.to_string_lossy().as_bytes());
        let short: String = hash.as_str().chars().take(12).collect();
        format!("farrun-watch-{short}")
    }

    pub(super) fn systemctl(&self, arguments: &[&str]) -> Looked<Said> {
        let [systemctl, _, _] = &self.programs;
        let all: Vec<&str> = std::iter::once("--user")
            .chain(arguments.iter().copied())
            .collect();
        self.run(systemctl, &all)
    }

    pub(super) fn loginctl(&self, arguments: &[&str]) -> Looked<Said> {
        let [_, loginctl, _] = &self.programs;
        self.run(loginctl, arguments)
    }

    /// Every byte counts: what others wrote into the crontab is written back.
    pub(super) fn crontab(&self, arguments: &[&str]) -> Looked<Printed> {
        let [_, _, crontab] = &self.programs;
        let environment = self.environment();
        doctor::print_program_with(&self.launcher, crontab, arguments, &environment, self.limits)
    }

    fn run(&self, name: &str, arguments: &[&str]) -> Looked<Said> {
        doctor::run_program_with(&self.launcher, name, arguments, &self.environment(), self.limits)
    }

    fn environment(&self) -> Vec<(&'static str, String)> {
        let mut environment = self.manager.clone();
        environment.push(("HOME", self.home.to_string_lossy().into_owned()));
        environment.push(("LOGNAME", self.account.clone()));
        environment.push(("USER", self.account.clone()));
        environment
    }
}

/// Whether the account's own systemd can be asked.
pub(crate) fn has_user_manager(context: &Context) -> bool {
    user_manager_environment(context).is_some()
}

/// The variables by which the account's own systemd is found.
pub(crate) fn user_manager_environment(context: &Context) -> Option<Vec<(&'static str, String)>> {
    let usual = format!("/run/user/{}", rustix::process::geteuid().as_raw());
    let folder = context.runtime_folder.clone().unwrap_or(usual);
    let has = |name: &str| Path::new(&folder).join(name).exists();
    if !has("systemd/private") && !has("bus") {
        return None;
    }
    let bus = format!("unix:path={folder}/bus");
    Some(vec![
        ("XDG_RUNTIME_DIR", folder),
        ("DBUS_SESSION_BUS_ADDRESS", bus),
    ])
}
