//! Docker engines of our own.
//!
//! Each runs in a network namespace, data folder, socket and pid file of its own: an engine started beside
//! another one in the same namespace with `--bridge none` deletes the other's bridge. Containers therefore
//! run with `--network none`.

mod common;
mod disk;
mod remains;

pub use disk::{Filler, SMALL_DISK};

use crate::place::temporary_folder;
use crate::process::{kill_group, pid, privileged, run, signal};
use crate::wait::wait_until;
use rustix::process::Signal;
use std::fs::File;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

/// What an engine of one's own is asked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct EngineOptions {
    /// Containers go on while the engine is down.
    pub live_restore: bool,
    /// What the engine has for containers that want a GPU.
    pub toolkit: Toolkit,
    /// The engine gives a layer up when its connection breaks, instead of trying for more than a minute.
    pub one_download_attempt: bool,
    /// Its images and containers lie on a disk of their own of [`SMALL_DISK`], which [`Engine::fill_disk`] fills.
    pub small_disk: bool,
}

/// A stand-in for NVIDIA's container toolkit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Toolkit {
    /// None: the engine refuses such containers.
    #[default]
    Absent,
    /// One that puts a device for each GPU into the container.
    Gives,
    /// One that lets the container start and gives it nothing, as a broken one does.
    GivesNothing,
}

/// A Docker engine and the folder it lives in.
#[derive(Debug)]
pub struct Engine {
    folder: PathBuf,
    options: EngineOptions,
    /// Present for an engine of one's own, which ends with its guard.
    own: Option<tempfile::TempDir>,
    /// Held shared while a test uses the common engine.
    _user: Option<File>,
}

impl Engine {
    /// An engine for one test, which may kill it.
    ///
    /// # Panics
    /// When no engine can be started here.
    pub fn own(options: EngineOptions) -> Self {
        let own = temporary_folder();
        let engine = Self {
            folder: own.path().join("engine"),
            options,
            own: Some(own),
            _user: None,
        };
        engine.launch();
        crate::image::import_all(|| engine.docker());
        engine
    }

    /// Path of the engine's socket.
    pub fn socket(&self) -> PathBuf {
        self.folder.join("docker.sock")
    }

    /// The engine's address as Docker writes it.
    pub fn url(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// The `docker` program speaking to this engine, with no settings of the account.
    pub fn docker(&self) -> Command {
        let mut command = Command::new("docker");
        command.env("DOCKER_CONFIG", self.folder.join("client"));
        command.env_remove("DOCKER_CONTEXT").arg("-H").arg(self.url());
        command
    }

    /// Runs `docker` with these arguments and returns its standard output, trimmed.
    ///
    /// # Panics
    /// When it fails.
    pub fn ask(&self, arguments: &[&str]) -> String {
        let mut command = self.docker();
        command.args(arguments);
        run(command, Duration::from_secs(60))
            .ok()
            .text()
            .trim()
            .to_owned()
    }

    /// Whether the engine answers.
    pub fn answers(&self) -> bool {
        if !self.socket().exists() {
            return false;
        }
        let mut command = self.docker();
        command.args(["version", "--format", "{{.Server.Version}}"]);
        run(command, Duration::from_secs(20)).code == 0
    }

    /// Process id of the engine.
    pub fn pid(&self) -> Option<u32> {
        std::fs::read_to_string(self.folder.join("pid"))
            .ok()?
            .trim()
            .parse()
            .ok()
    }

    /// Kills an engine of one's own on the spot.
    ///
    /// # Panics
    /// When it is the shared one, or does not die.
    pub fn kill(&self) {
        self.end(Signal::KILL);
    }

    /// Asks an engine of one's own to end.
    ///
    /// # Panics
    /// When it is the shared one, or does not end.
    pub fn stop(&self) {
        self.end(Signal::TERM);
    }

    /// Freezes (or thaws) an engine of one's own: it accepts connections and answers nothing.
    ///
    /// # Panics
    /// When it is the shared one.
    pub fn freeze(&self, frozen: bool) {
        assert!(self.own.is_some(), "the shared engine is not to be frozen");
        let Some(pid) = self.pid() else { return };
        send(pid, if frozen { Signal::STOP } else { Signal::CONT });
    }

    /// Starts an engine of one's own again, on the same folder and socket.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn start_again(&self) {
        assert!(self.own.is_some(), "the shared engine is not to be restarted");
        let _ = std::fs::remove_file(self.folder.join("pid"));
        // The engine takes a dead containerd that nobody has reaped for a running one, and waits for it in vain.
        let containerd = self.folder.join("exec/containerd/containerd.pid");
        let number = std::fs::read_to_string(&containerd)
            .ok()
            .and_then(|text| text.trim().parse().ok());
        if let Some(number) = number {
            wait_until("the end of the old containerd", Duration::from_secs(20), || {
                !alive(number)
            });
        }
        let _ = std::fs::remove_file(containerd);
        self.launch();
    }

    /// A command inside the engine's network namespace.
    pub(crate) fn inside(&self, program: &str) -> Command {
        let mut command = privileged("nsenter");
        let pid = self.pid().expect("the engine's process id");
        command.arg(format!("--net=/proc/{pid}/ns/net")).arg(program);
        command
    }

    fn end(&self, how: Signal) {
        assert!(
            self.own.is_some(),
            "the shared engine is not to be ended by a test"
        );
        let Some(engine) = self.pid() else { return };
        send(engine, Signal::CONT);
        send(engine, how);
        wait_until("the end of the engine", Duration::from_secs(40), || {
            !alive(engine)
        });
    }

    fn launch(&self) {
        std::fs::create_dir_all(&self.folder).expect("folder of the engine");
        if self.options.small_disk {
            self.mount_disk();
        }
        let folder = self.folder.display();
        let path = std::env::var("PATH").unwrap_or_default();
        // Debian keeps dockerd where an account's PATH does not lead.
        let mut path = format!("{path}:/usr/sbin:/sbin");
        if let Some(toolkit) = self.install_toolkit() {
            path = format!("{}:{path}", toolkit.display());
        }
        let mut command = privileged("unshare");
        command.args(["--net", "env"]).arg(format!("PATH={path}"));
        command.args(["sh", "-c", "ip link set lo up; exec dockerd \"$@\"", "dockerd"]);
        for option in ["data", "exec"] {
            command.arg(format!("--{option}-root={folder}/{option}"));
        }
        command
            .arg(format!("--pidfile={folder}/pid"))
            .arg("-H")
            .arg(self.url());
        command.arg(format!("--group={}", socket_group()));
        command.args([
            "--bridge=none",
            "--iptables=false",
            "--ip-masq=false",
            "--log-level=warn",
        ]);
        if self.options.live_restore {
            command.arg("--live-restore");
        }
        if self.options.one_download_attempt {
            command.arg("--max-download-attempts=1");
        }
        let log = File::create(self.folder.join("log")).expect("log of the engine");
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("log"))
            .stderr(log);
        let mut child = command.process_group(0).spawn().expect("unshare does not start");
        // Reaps the engine whenever it ends; without this it would stay as a zombie that looks alive.
        let starter = child.id();
        std::thread::spawn(move || child.wait());
        wait_until(
            &format!("the engine in {folder}"),
            Duration::from_secs(60),
            || {
                assert!(alive(starter), "the engine ended: {}", self.log());
                self.answers()
            },
        );
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    fn install_toolkit(&self) -> Option<PathBuf> {
        let script = match self.options.toolkit {
            Toolkit::Absent => return None,
            Toolkit::Gives => include_str!("toolkit_hook.sh"),
            Toolkit::GivesNothing => "#!/bin/sh\ncat >/dev/null\n",
        };
        let folder = self.folder.join("toolkit");
        std::fs::create_dir_all(&folder).expect("folder of the toolkit");
        let hook = folder.join("nvidia-container-runtime-hook");
        std::fs::write(&hook, script).expect("the toolkit's hook");
        std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).expect("mode of the hook");
        Some(folder)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if self.own.is_none() {
            return;
        }
        if let Some(engine) = self.pid().filter(|pid| alive(*pid)) {
            send(engine, Signal::CONT);
            let mut remove = self.docker();
            remove.args(["ps", "-aq"]);
            let listed = run(remove, Duration::from_secs(30));
            let ids: Vec<String> = String::from_utf8_lossy(&listed.stdout)
                .lines()
                .map(str::to_owned)
                .collect();
            if !ids.is_empty() {
                let mut remove = self.docker();
                remove.args(["rm", "-f"]).args(&ids);
                let _ = run(remove, Duration::from_secs(60));
            }
            send(engine, Signal::TERM);
            let start = std::time::Instant::now();
            while alive(engine) && start.elapsed() < Duration::from_secs(20) {
                std::thread::sleep(Duration::from_millis(20));
            }
            kill_group(engine);
        }
        self.sweep();
        let _ = remains::remove(&self.folder);
    }
}

/// The group that may speak to test engines: that of the test account where there is one.
fn socket_group() -> String {
    crate::test_account().map_or_else(
        || rustix::process::getgid().as_raw().to_string(),
        |(_, group)| group.to_string(),
    )
}

fn send(raw: u32, what: Signal) {
    if rustix::process::geteuid().is_root() {
        signal(raw, what);
    } else {
        let mut command = privileged("kill");
        command.arg(format!("-{}", what.as_raw())).arg(raw.to_string());
        let _ = run(command, Duration::from_secs(10));
    }
}

fn alive(raw: u32) -> bool {
    let state = std::fs::read_to_string(format!("/proc/{raw}/stat")).unwrap_or_default();
    let state = state
        .rsplit_once(')')
        .map(|(_, rest)| rest.trim_start().to_owned())
        .unwrap_or_default();
    pid(raw).is_some() && !state.is_empty() && !state.starts_with('Z')
}
