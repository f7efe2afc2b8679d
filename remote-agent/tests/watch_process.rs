//! The observer as a process: how it leaves a session, that there is one, and how it ends.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on must stop"
)]

use farrun_agent::leases::LockFolder;
use farrun_agent::queue::living;
use farrun_agent::watch::lives;
use farrun_protocol::RunId;
use rustix::process::{Pid, Signal, kill_process, kill_process_group, test_kill_process};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Nothing that is waited for takes longer on a healthy machine; it stays ten seconds when there is nothing to do.
const PATIENCE: Duration = Duration::from_secs(60);

/// A state folder, and the end of whoever observes it.
struct State {
    folder: tempfile::TempDir,
}

impl Drop for State {
    fn drop(&mut self) {
        if let Some(pid) = self.card().and_then(|card| pid_of(&card)) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

fn pid_of(card: &serde_json::Value) -> Option<Pid> {
    Pid::from_raw(i32::try_from(card["pid"].as_u64()?).ok()?)
}

fn until(what: &str, come: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !come() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

impl State {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { folder }
    }

    fn with_waiting_run() -> Self {
        let state = Self::new();
        state.bring_run();
        state
    }

    /// A run that waits, so that there is something to observe. Nobody answers where its engine should be.
    fn bring_run(&self) {
        let run_id = RunId::random();
        let folder = self.path().join("runs").join(run_id.as_str());
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::create_dir_all(self.path().join("queue")).unwrap();
        let spec = serde_json::json!({
            "format": 1, "run_id": run_id, "controller_id": "co_mine0000", "operation": "inference",
            "name": "test", "created_at": "2026-01-02T03:04:05Z", "image": "x", "pull": "never",
            "gpus": {"count": 1}, "inputs_target": "/i", "outputs_target": "/o", "network": "none",
        });
        std::fs::write(folder.join("spec.json"), spec.to_string()).unwrap();
        let order = serde_json::json!({
            "format": 1, "run_id": run_id, "at": "2026-01-02T03:04:05Z", "controller_id": "co_mine0000",
        });
        let place = self.path().join(format!("queue/{run_id}.json"));
        std::fs::write(place, order.to_string()).unwrap();
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_farrun-agent"));
        command
            .args(arguments)
            .env_clear()
            .env("FARRUN_STATE", self.path())
            .env("FARRUN_LOCKS", self.path().join("locks"))
            .env("FARRUN_NVIDIA_SMI", "")
            .env("DOCKER_HOST", "unix:///nonexistent/docker.sock")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    }

    fn start(&self) -> Child {
        self.command(&["watch"]).spawn().unwrap()
    }

    fn card(&self) -> Option<serde_json::Value> {
        let bytes = std::fs::read(self.path().join("watch.json")).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    fn pid(&self) -> Pid {
        until("an observer", || lives(self.path()) && self.card().is_some());
        pid_of(&self.card().unwrap()).unwrap()
    }

    /// A conversation that says hello and then only listens; its group is its own, as that of a session.
    fn serve(&self) -> Child {
        use std::io::{Read as _, Write as _};
        let nonce = "ab".repeat(32);
        let mut child = self
            .command(&["serve", &nonce])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        let hello = serde_json::json!({
            "verb": "hello", "protocol": farrun_protocol::PROTOCOL, "controller_id": "co_mine0000",
            "docker_sudo": false, "docker_host": null,
        });
        let payload = serde_json::to_vec(&hello).unwrap();
        let frame = farrun_protocol::frame::Frame {
            kind: farrun_protocol::frame::Kind::Request,
            id: 1,
            payload: payload.into(),
        };
        let mut bytes = Vec::new();
        tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap()
            .block_on(farrun_protocol::frame::write_frame(&mut bytes, &frame))
            .unwrap();
        child.stdin.as_mut().unwrap().write_all(&bytes).unwrap();
        // Up to the beginning of the answer: by then an observer is on its way where one is needed.
        let mut read = vec![0; farrun_protocol::preamble::line(&nonce).len() + 1];
        child.stdout.as_mut().unwrap().read_exact(&mut read).unwrap();
        child
    }
}

fn alive(pid: Pid) -> bool {
    test_kill_process(pid).is_ok()
}

/// The session of a process (proc_pid_stat(5), field 6); 0 for one that was begun outside our pid namespace, which
/// `getsid` of rustix takes for impossible.
fn session(pid: impl std::fmt::Display) -> i32 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_name, fields) = stat.rsplit_once(')').unwrap();
    fields.split_whitespace().nth(3).unwrap().parse().unwrap()
}

fn link(pid: Pid, name: &str) -> PathBuf {
    std::fs::read_link(format!("/proc/{}/{name}", pid.as_raw_nonzero())).unwrap()
}

#[test]
fn it_outlives_the_session_that_started_it_and_keeps_nothing_of_it() {
    let state = State::with_waiting_run();
    // A descriptor that programs started from here inherit, as a login shell may leave one.
    let (_reader, leaked) = rustix::pipe::pipe().unwrap();
    rustix::io::fcntl_setfd(&leaked, rustix::io::FdFlags::empty()).unwrap();
    let mut serve = state.serve();
    let pid = state.pid();
    let group = Pid::from_child(&serve);
    assert_ne!(session(pid.as_raw_nonzero().get()), session(std::process::id()));
    // Not the leader of its session, so no terminal becomes its own.
    assert_ne!(session(pid.as_raw_nonzero().get()), pid.as_raw_nonzero().get());
    for descriptor in ["0", "1", "2"] {
        assert_eq!(link(pid, &format!("fd/{descriptor}")), Path::new("/dev/null"));
    }
    let process = format!("/proc/{}", pid.as_raw_nonzero());
    for entry in std::fs::read_dir(format!("{process}/fd")).unwrap() {
        let Ok(target) = std::fs::read_link(entry.unwrap().path()) else {
            continue;
        };
        let target = target.to_string_lossy().into_owned();
        let own = target.starts_with(&*state.path().to_string_lossy());
        let runtime = ["anon_inode:", "socket:", "/proc/", "/dev/null"];
        assert!(
            own || runtime.iter().any(|known| target.starts_with(known)),
            "{target}"
        );
    }
    let environment = std::fs::read_to_string(format!("{process}/environ")).unwrap();
    for variable in environment.split('\0').filter(|variable| !variable.is_empty()) {
        let known = ["HOME=", "PATH=", "DOCKER_HOST=", "XDG_RUNTIME_DIR=", "FARRUN_"];
        assert!(known.iter().any(|name| variable.starts_with(name)), "{variable}");
    }
    assert_eq!(link(pid, "cwd"), state.path().canonicalize().unwrap());
    kill_process_group(group, Signal::KILL).unwrap();
    serve.wait().unwrap();
    assert!(alive(pid) && lives(state.path()));
    // The next conversation finds it.
    let mut next = state.serve();
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(state.pid(), pid);
    next.kill().unwrap();
    next.wait().unwrap();
}

#[test]
fn one_of_many_that_start_at_once_stays() {
    let state = State::with_waiting_run();
    let mut children: Vec<Child> = (0..20).map(|_| state.start()).collect();
    until("all others are gone", || {
        running(&children) == 1 && lives(state.path())
    });
    let pid = state.pid();
    for child in &mut children {
        match child.try_wait().unwrap() {
            Some(status) => assert_eq!(status.code(), Some(3)),
            None => assert_eq!(Pid::from_child(child), pid),
        }
    }
    // Other accounts know of the run that waits for as long as somebody is there to start it.
    let locks = LockFolder::open(Some(&state.path().join("locks"))).unwrap();
    until("a ticket", || living(&locks).len() == 1);
    kill_process(pid, Signal::TERM).unwrap();
    until("it ends", || !lives(state.path()));
    let left = std::fs::read_dir(locks.path()).unwrap();
    assert_eq!(
        left.filter(|entry| entry
            .as_ref()
            .unwrap()
            .file_name()
            .to_string_lossy()
            .starts_with("ticket-"))
            .count(),
        0
    );
    for child in &mut children {
        child.wait().unwrap();
    }
    assert_eq!(state.card(), None);
}

fn running(children: &[Child]) -> usize {
    let runs = |child: &&Child| {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap_or_default();
        !stat.is_empty() && !stat.contains(") Z ")
    };
    children.iter().filter(runs).count()
}

#[test]
fn a_kill_harms_nothing_and_the_next_contact_starts_it_again() {
    let state = State::with_waiting_run();
    let mut first = state.start();
    let pid = state.pid();
    kill_process(pid, Signal::KILL).unwrap();
    first.wait().unwrap();
    assert!(!lives(state.path()));
    let mut serve = state.serve();
    until("another one", || {
        lives(state.path())
            && state
                .card()
                .as_ref()
                .and_then(pid_of)
                .is_some_and(|new| new != pid)
    });
    assert!(alive(state.pid()));
    serve.kill().unwrap();
    serve.wait().unwrap();
}

#[test]
fn an_older_one_makes_room_and_an_equal_one_stays() {
    let state = State::with_waiting_run();
    let mut old = state.start();
    let pid = state.pid();
    let mut card = state.card().unwrap();
    // Another build of the same version.
    card["agent_sha256"] = "0".repeat(64).into();
    std::fs::write(state.path().join("watch.json"), card.to_string()).unwrap();
    let mut serve = state.serve();
    std::thread::sleep(Duration::from_millis(500));
    assert!(alive(pid));
    serve.kill().unwrap();
    serve.wait().unwrap();
    card["version"] = "0.0.0".into();
    std::fs::write(state.path().join("watch.json"), card.to_string()).unwrap();
    let mut serve = state.serve();
    old.wait().unwrap();
    until("a newer one", || {
        lives(state.path())
            && state
                .card()
                .as_ref()
                .and_then(pid_of)
                .is_some_and(|new| new != pid)
    });
    serve.kill().unwrap();
    serve.wait().unwrap();
    // A number that has gone to another process is nobody to be ended.
    let mut bystander = Command::new("sleep").arg("1000").spawn().unwrap();
    let mut card = state.card().unwrap();
    card["pid"] = bystander.id().into();
    card["version"] = "0.0.0".into();
    card["agent_sha256"] = "0".repeat(64).into();
    let pid = state.pid();
    std::fs::write(state.path().join("watch.json"), card.to_string()).unwrap();
    let mut serve = state.serve();
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(bystander.try_wait().unwrap(), None);
    for child in [&mut serve, &mut bystander] {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    kill_process(pid, Signal::KILL).unwrap();
}

#[test]
fn it_ends_when_there_is_nothing_or_its_folder_is_gone() {
    let idle = State::new();
    let busy = State::with_waiting_run();
    let mut children = [idle.start(), busy.start()];
    busy.pid();
    // In one step, for it may be writing into it.
    let aside = tempfile::tempdir().unwrap();
    std::fs::rename(busy.path(), aside.path().join("removed")).unwrap();
    let [ended, gone] = &mut children;
    assert!(gone.wait().unwrap().success());
    assert!(!busy.path().exists());
    assert!(ended.wait().unwrap().success());
    assert_eq!(idle.card(), None);
}

#[test]
fn a_run_that_comes_while_it_leaves_is_observed() {
    // It leaves ten seconds after it has begun, at the end of a round.
    let moments = (0..40).map(|number| Duration::from_millis(9900 + number * 15));
    std::thread::scope(|scope| {
        for moment in moments {
            scope.spawn(move || {
                let state = State::new();
                let begun = Instant::now();
                let mut first = state.start();
                std::thread::sleep(moment.saturating_sub(begun.elapsed()));
                state.bring_run();
                let mut only_contact = state.serve();
                drop(only_contact.stdin.take());
                only_contact.wait().unwrap();
                // Only an observer that has seen the run makes a ticket of it.
                let locks = state.path().join("locks");
                let seen = || LockFolder::open(Some(&locks)).is_ok_and(|locks| living(&locks).len() == 1);
                until(&format!("the run of {moment:?} to be seen"), seen);
                kill_process(state.pid(), Signal::TERM).unwrap();
                first.wait().unwrap();
            });
        }
    });
}
