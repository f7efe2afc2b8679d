//! Getting an observer to live beside a conversation, and beyond it.

use super::call;
use super::card::{self, living};
use crate::serve::Context;
use crate::{doctor, residence};
use std::ffi::OsString;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long an older observer may take to end.
const STEPS_DOWN: Duration = Duration::from_secs(3);
/// How long the account's own systemd may take to start one.
const APART: Duration = Duration::from_secs(5);
/// Time between two looks at what is waited for.
const LOOK_APART: Duration = Duration::from_millis(10);

/// What was done for an observer to live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ensured {
    /// One lives, or is being started.
    Done,
    /// An older one was asked to make room: [`succeed`] is due.
    MakesRoom,
}

/// Starts an observer unless one lives that is not older than this program. What it is needed for is written down
/// before. Blocks for the start of a process.
pub(crate) fn ensure(context: &Context) -> Ensured {
    if !call::is_heard(&context.state) {
        start(context);
        return Ensured::Done;
    }
    // One that has not written its name yet is as new as can be.
    let card = living(&context.state);
    match card.filter(|card| card.is_older_than(env!("CARGO_PKG_VERSION"), &context.agent_sha256)) {
        Some(older) => {
            older.step_down();
            Ensured::MakesRoom
        }
        None => Ensured::Done,
    }
}

/// Waits for an older observer to be gone and starts another; the older one may be in the middle of something.
pub(crate) fn succeed(context: &Context) {
    if wait(STEPS_DOWN, || !card::lives(&context.state)) {
        start(context);
    }
}

/// Waits up to this long until an observer lives.
pub(crate) fn comes_up(context: &Context, patience: Duration) -> bool {
    wait(patience, || card::lives(&context.state))
}

fn wait(patience: Duration, mut come: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + patience;
    while !come() {
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(LOOK_APART);
    }
    true
}

/// The first of two steps, so that the observer is nobody's child and leads no session that a terminal could be given
/// to. It ends at once and is waited for beside the conversation. Where logind ends everything of a session with it, the
/// account's own systemd starts the observer instead, which is none of the session's.
fn start(context: &Context) {
    if sessions_end_all(context) && start_apart(context) {
        return;
    }
    if let Some(mut child) = spawn(Command::new(&context.agent), Vec::new(), context) {
        std::thread::spawn(move || child.wait());
    }
}

/// Whether logind ends what this session leaves behind.
fn sessions_end_all(context: &Context) -> bool {
    let root = Path::new("/");
    let cgroups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    doctor::is_in_session(&cgroups)
        && residence::has_user_manager(context)
        && doctor::kills_processes(root, &context.agent) == Some(true)
}

/// By the unit of a residence, else in a scope of its own; answers whether that went well.
fn start_apart(context: &Context) -> bool {
    if residence::may_start(&context.state) {
        return residence::start_unit(&residence::Place::of(context));
    }
    let Some(manager) = residence::user_manager_environment(context) else {
        return false;
    };
    let mut command = Command::new("systemd-run");
    command
        .args(["--user", "--scope", "--quiet", "--collect", "--"])
        .arg(&context.agent);
    let Some(mut child) = spawn(command, manager, context) else {
        return false;
    };
    let mut ended = None;
    let answered = wait(APART, || {
        ended = child.try_wait().ok().flatten();
        ended.is_some()
    });
    if !answered {
        let _ = child.kill();
        std::thread::spawn(move || child.wait());
    }
    ended.is_some_and(|status| status.success())
}

fn spawn(mut command: Command, more: Vec<(&'static str, String)>, context: &Context) -> Option<Child> {
    command
        .args(["watch", "--detach"])
        .env_clear()
        .envs(environment(context))
        .envs(more)
        .current_dir(&context.state);
    silent(&mut command).spawn().ok()
}

fn silent(command: &mut Command) -> &mut Command {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
}

/// What an observer needs; nothing else of the session goes with it.
pub(crate) fn environment(context: &Context) -> Vec<(&'static str, OsString)> {
    let mut environment = vec![
        ("HOME", context.home.clone().into_os_string()),
        ("FARRUN_STATE", context.state.clone().into_os_string()),
    ];
    environment.extend(
        context
            .docker_host
            .clone()
            .map(|host| ("DOCKER_HOST", host.into())),
    );
    let folder = context.runtime_folder.clone();
    environment.extend(folder.map(|folder| ("XDG_RUNTIME_DIR", folder.into())));
    environment.extend(context.locks.clone().map(|locks| ("FARRUN_LOCKS", locks.into())));
    environment.extend(
        context
            .nvidia_smi
            .variable()
            .map(|path| ("FARRUN_NVIDIA_SMI", path)),
    );
    environment.extend(std::env::var_os("PATH").map(|path| ("PATH", path)));
    environment
}

/// The step between: leaves the session, starts the observer and is gone.
pub(super) fn leave_session(program: &Path) -> std::io::Result<()> {
    rustix::process::setsid()?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    close_inherited();
    silent(Command::new(program).arg("watch")).spawn().map(drop)
}

/// Our own descriptors are closed when a program is started; a login shell may have left others. This process has
/// opened none that it needs.
fn close_inherited() {
    let entries = std::fs::read_dir("/proc/self/fd").into_iter().flatten();
    let inherited: Vec<i32> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|descriptor| *descriptor > 2)
        .collect();
    for descriptor in inherited {
        // The one of the listing itself is closed already.
        let _ = nix::unistd::close(descriptor);
    }
}
