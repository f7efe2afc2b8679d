//! An engine of our own: its network namespace, folders and socket are its own, and it ends with the test.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// An account that is neither root nor in any group of the engine; only the socket's mode lets it in.
const ACCOUNT: &str = "54321";

pub(crate) struct TestEngine {
    folder: tempfile::TempDir,
    daemon: Child,
}

impl TestEngine {
    pub(crate) fn start() -> Self {
        let folder = tempfile::Builder::new()
            .prefix("farrun-engine")
            .tempdir()
            .unwrap();
        let daemon = spawn(folder.path());
        let engine = Self { folder, daemon };
        engine.wait_until_it_answers();
        open_for_everyone(engine.folder.path(), 0o755);
        engine
    }

    fn wait_until_it_answers(&self) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.docker(&["version"]).is_err() {
            assert!(Instant::now() < deadline, "{}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
        open_for_everyone(&self.socket(), 0o666);
    }

    /// Ends the engine as a service manager does, and starts it anew, now with the hook that makes engines accept
    /// requests for GPUs.
    pub(crate) fn restart(&mut self) {
        self.stop();
        self.toolkit(true);
        self.daemon = spawn(self.folder.path());
        self.wait_until_it_answers();
    }

    /// Whether containers that want a GPU get a device, or nothing, as from a toolkit that is broken.
    pub(crate) fn toolkit(&self, gives: bool) {
        let script = match gives {
            true => include_str!("../../../tests/src/toolkit_hook.sh"),
            false => "#!/bin/sh\ncat >/dev/null\n",
        };
        self.program("nvidia-container-runtime-hook", script);
    }

    fn stop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.daemon);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let deadline = Instant::now() + Duration::from_secs(20);
        while !matches!(self.daemon.try_wait(), Ok(Some(_))) {
            if Instant::now() > deadline {
                let _ = self.daemon.kill();
                let _ = self.daemon.wait();
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    pub(crate) fn host(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    pub(crate) fn docker(&self, args: &[&str]) -> Result<String, String> {
        let output = Command::new("docker")
            .args(["-H", &self.host()])
            .args(args)
            .output()
            .map_err(|error| error.to_string())?;
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }

    /// Imports an image with a shell and what the agent of an ordinary build is linked to.
    pub(crate) fn import_image(&self, agent: &Path) {
        let root = self.folder.path().join("image");
        std::fs::create_dir_all(root.join("bin")).unwrap();
        std::fs::copy("/bin/busybox", root.join("bin/busybox")).expect("busybox-static");
        for name in [
            "sh", "cat", "sleep", "mkdir", "touch", "chmod", "head", "id", "seq",
        ] {
            std::os::unix::fs::symlink("busybox", root.join("bin").join(name)).unwrap();
        }
        let linked = Command::new("ldd").arg(agent).output().unwrap();
        let linked = String::from_utf8_lossy(&linked.stdout).into_owned();
        for library in linked.split_whitespace().filter(|word| word.starts_with('/')) {
            let target = root.join(library.trim_start_matches('/'));
            std::fs::create_dir_all(target.parent().unwrap()).unwrap();
            std::fs::copy(library, target).unwrap();
        }
        let tar = self
            .folder
            .path()
            .join("image.tar")
            .to_string_lossy()
            .into_owned();
        let packed = Command::new("tar")
            .args(["-C", &root.to_string_lossy(), "-cf", &tar, "."])
            .status()
            .unwrap();
        assert!(packed.success());
        self.docker(&[
            "import",
            "-c",
            "CMD [\"/bin/sh\",\"-c\",\"echo default\"]",
            &tar,
            "farrun-test:1",
        ])
        .unwrap();
    }

    /// A state folder of the other account, with the agent in its place; answers with the agent's path there.
    pub(crate) fn install(&self, agent: &Path) -> PathBuf {
        let state = self.folder.path().join("state");
        let sha256 = farrun_protocol::Sha256::of(&std::fs::read(agent).unwrap());
        let place = state.join(farrun_protocol::layout::agent_folder(&sha256));
        std::fs::create_dir_all(&place).unwrap();
        let target = place.join("farrun-agent");
        std::fs::copy(agent, &target).unwrap();
        open_for_everyone(&target, 0o555);
        Self::give_to_account(&state);
        open_for_everyone(&state, 0o700);
        target
    }

    /// Makes the other account the owner of everything there.
    pub(crate) fn give_to_account(path: &Path) {
        let owner = format!("{ACCOUNT}:{ACCOUNT}");
        assert!(
            Command::new("chown")
                .args(["-R", &owner])
                .arg(path)
                .status()
                .unwrap()
                .success()
        );
    }

    /// A folder with one program of this name.
    pub(crate) fn program(&self, name: &str, script: &str) -> PathBuf {
        let folder = self.folder.path().join("programs");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(name), script).unwrap();
        open_for_everyone(&folder.join(name), 0o755);
        folder
    }

    /// The command that runs a program as the other account.
    pub(crate) fn as_account(program: &Path) -> tokio::process::Command {
        let mut command = tokio::process::Command::new("setpriv");
        command
            .args(["--reuid", ACCOUNT, "--regid", ACCOUNT, "--clear-groups", "--"])
            .arg(program)
            .env("HOME", "/nonexistent");
        command
    }
}

fn open_for_everyone(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

impl Drop for TestEngine {
    fn drop(&mut self) {
        for container in self.docker(&["ps", "-q"]).unwrap_or_default().lines() {
            let _ = self.docker(&["kill", container]);
        }
        self.stop();
    }
}

fn spawn(folder: &Path) -> Child {
    let path = |name: &str| folder.join(name).to_string_lossy().into_owned();
    let log = std::fs::File::create(path("log")).unwrap();
    let options = "--bridge none --iptables=false --ip-masq=false --storage-driver vfs";
    Command::new("unshare")
        .env("PATH", format!("{}:{}", path("programs"), env!("PATH")))
        .args(["-n", "setpriv", "--pdeathsig", "TERM", "dockerd"])
        .args(options.split(' '))
        .args(["--data-root", &path("data"), "--exec-root", &path("exec")])
        .args([
            "--pidfile",
            &path("pid"),
            "-H",
            &format!("unix://{}", path("socket")),
        ])
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("an engine to test with (docker.io)")
}
