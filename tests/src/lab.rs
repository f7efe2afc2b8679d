//! Home, server and engine put together.

use crate::engine::Engine;
use crate::home::Home;
use crate::observer::HostState;
use crate::process::{Outcome, run};
use crate::sshd::{Sshd, SshdOptions};
use crate::wait::wait_for;
use serde_json::Value;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// The account without rights that `scripts/test` makes for tests about ownership.
pub const TEST_ACCOUNT: &str = "farrun-test";

/// User and group number of [`TEST_ACCOUNT`], where this machine has it and we may log in as it.
pub fn test_account() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let accounts = std::fs::read_to_string("/etc/passwd").ok()?;
    let line = accounts
        .lines()
        .find(|line| line.split(':').next() == Some(TEST_ACCOUNT))?;
    let mut fields = line.split(':').skip(2);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

/// One host as a user has it: reachable, trusted, with Docker, added under the name `lab`.
#[derive(Debug)]
pub struct Lab {
    /// The user's side.
    pub home: Home,
    /// The host's SSH server.
    pub sshd: Sshd,
    /// The host's engine.
    pub engine: Engine,
    state: HostState,
}

impl Lab {
    /// A host on the shared engine.
    ///
    /// # Panics
    /// When a part does not start or the host cannot be added.
    pub fn new() -> Self {
        Self::with(Engine::shared(), &SshdOptions::default())
    }

    /// A host on a given engine and with a server of a given kind.
    ///
    /// # Panics
    /// When a part does not start or the host cannot be added.
    pub fn with(engine: Engine, options: &SshdOptions) -> Self {
        let lab = Self::apart(engine, options);
        lab.add_host("lab", lab.sshd.port());
        lab
    }

    /// The same parts, the host not yet added.
    ///
    /// # Panics
    /// When a part does not start.
    pub fn apart(engine: Engine, options: &SshdOptions) -> Self {
        let sshd = Sshd::with(options);
        let state = HostState::new();
        if options.account.as_deref() == Some(TEST_ACCOUNT) {
            let (user, group) = test_account().expect("the test account: run scripts/test");
            std::os::unix::fs::chown(state.around(), Some(user), Some(group))
                .expect("owner of the state folder");
        }
        Self {
            home: Home::new(),
            sshd,
            engine,
            state,
        }
    }

    /// Adds the host under a name and by way of a port: the server's own or a proxy's.
    ///
    /// # Panics
    /// When the program refuses.
    pub fn add_host(&self, name: &str, port: u16) {
        self.home.trust(&self.sshd, port);
        let _ = self.home.farrun(&self.host_arguments(name, port)).ok();
    }

    /// The arguments that add the host.
    pub fn host_arguments(&self, name: &str, port: u16) -> Vec<String> {
        let texts = [
            "host",
            "add",
            name,
            "--address",
            &self.sshd.address_by(port),
            "--identity",
            &self.sshd.identity().display().to_string(),
            "--docker-host",
            &self.engine.url(),
            "--state",
            &self.state().display().to_string(),
        ];
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    /// The host's state folder.
    pub fn state(&self) -> PathBuf {
        self.state.path()
    }

    /// Folder of one run on the host.
    pub fn run_folder(&self, run: &str) -> PathBuf {
        self.state().join("runs").join(run)
    }

    /// Kills the host's observer, if one lives.
    pub fn end_observer(&self) {
        self.state.end_observer();
    }

    /// Kills the host's observer, once the one who was started lives.
    ///
    /// # Panics
    /// When none comes to live, or it stays.
    pub fn kill_observer(&self) {
        self.state.kill_observer();
    }

    /// Runs a shell script in a container on the host: `farrun run BUSYBOX … -- /bin/sh -c SCRIPT`.
    ///
    /// # Panics
    /// When it takes too long.
    pub fn shell(&self, options: &[&str], script: &str) -> Outcome {
        self.home
            .farrun(&self.shell_arguments(crate::BUSYBOX, options, script))
    }

    /// The arguments of [`Lab::shell`], with an image.
    pub fn shell_arguments(&self, image: &str, options: &[&str], script: &str) -> Vec<String> {
        let head = ["run", image, "--host", "lab"];
        let tail = ["--", "/bin/sh", "-c", script];
        head.iter()
            .chain(options)
            .chain(&tail)
            .map(|text| (*text).to_owned())
            .collect()
    }

    /// Starts a script detached and returns the run's id.
    ///
    /// # Panics
    /// When the launch fails.
    pub fn detached(&self, options: &[&str], script: &str) -> String {
        let options: Vec<&str> = options.iter().copied().chain(["--detach", "--json"]).collect();
        // Whatever became of a job that was started, the order was carried out.
        let outcome = self.shell(&options, script);
        id_in(&outcome.ok().json())
    }

    /// What `farrun show RUN --json` says.
    ///
    /// # Panics
    /// When it fails.
    pub fn show(&self, run: &str) -> Value {
        self.home.farrun(&["show", run, "--json"]).ok().json()
    }

    /// The run's state.
    ///
    /// # Panics
    /// When `farrun show` fails.
    pub fn status(&self, run: &str) -> String {
        text_in(&self.show(run), "status")
    }

    /// Waits until a run has one of these states.
    ///
    /// # Panics
    /// When `deadline` passes.
    pub fn wait_status(&self, run: &str, wanted: &[&str], deadline: Duration) -> String {
        wait_for(&format!("{run} to be {wanted:?}"), deadline, || {
            Some(self.status(run)).filter(|status| wanted.contains(&status.as_str()))
        })
    }

    /// The local copy of a run's log.
    ///
    /// # Panics
    /// When there is none.
    pub fn mirror(&self, run: &str) -> Vec<u8> {
        let name = format!("run_{run}.log");
        let path = find(&self.home.outputs(), &name).unwrap_or_else(|| panic!("no {name} below the outputs"));
        std::fs::read(path).expect("mirror of the log")
    }

    /// The containers of a run, with their states, as the engine tells them.
    pub fn containers(&self, run: &str) -> Vec<String> {
        let filter = format!("label=farrun.run_id={run}");
        let listed = self
            .engine
            .ask(&["ps", "-a", "--filter", &filter, "--format", "{{.ID}} {{.State}}"]);
        listed.lines().map(str::to_owned).collect()
    }
}

impl Default for Lab {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Lab {
    /// Removes this lab's containers; those of other tests on the shared engine stay.
    fn drop(&mut self) {
        self.state.end_observer();
        let Ok(runs) = std::fs::read_dir(self.state().join("runs")) else {
            return;
        };
        for name in runs.filter_map(|entry| entry.ok()?.file_name().into_string().ok()) {
            let mut list = self.engine.docker();
            list.args(["ps", "-aq", "--filter", &format!("label=farrun.run_id={name}")]);
            let listed = run(list, Duration::from_secs(30));
            for id in String::from_utf8_lossy(&listed.stdout).lines() {
                let mut remove = self.engine.docker();
                remove.args(["rm", "-f", "-v", id]);
                let _ = run(remove, Duration::from_secs(30));
            }
        }
        // Outputs may belong to users that only root may touch; the guard of the folder would give up on them.
        let mut remove = if rustix::process::geteuid().is_root() {
            Command::new("rm")
        } else {
            crate::process::privileged("rm")
        };
        remove.arg("-rf").arg(self.state());
        let _ = run(remove, Duration::from_secs(60));
    }
}

/// The first run id that a JSON answer names: as `run_id`, `id`, or within `run`.
fn id_in(answer: &Value) -> String {
    ["run_id", "id"]
        .iter()
        .find_map(|key| find_text(answer, key).filter(|id| id.starts_with("rs_")))
        .unwrap_or_else(|| panic!("no run id in {answer}"))
}

/// The first text under a key, at any depth.
fn text_in(answer: &Value, key: &str) -> String {
    find_text(answer, key).unwrap_or_else(|| panic!("no `{key}` in {answer}"))
}

fn find_text(answer: &Value, key: &str) -> Option<String> {
    match answer {
        Value::Object(fields) => fields
            .get(key)
            .and_then(|value| value.as_str().map(str::to_owned))
            .or_else(|| fields.values().find_map(|value| find_text(value, key))),
        Value::Array(values) => values.iter().find_map(|value| find_text(value, key)),
        _ => None,
    }
}

fn find(folder: &std::path::Path, name: &str) -> Option<PathBuf> {
    std::fs::read_dir(folder)
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find_map(|path| {
            if path.is_dir() {
                find(&path, name)
            } else {
                path.ends_with(name).then_some(path)
            }
        })
}
