//! A home folder from which the real program is run, in an environment with nothing of the machine in it.

use crate::place::{agents_folder, binary, temporary_folder};
use crate::process::{Outcome, Running, kill_group, signal};
use crate::sshd::Sshd;
use rustix::process::Signal;
use std::ffi::OsStr;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// How long a command may take unless a test says otherwise.
const DEADLINE: Duration = Duration::from_secs(90);

/// The user's side: home folder, settings, database, outputs.
#[derive(Debug)]
pub struct Home {
    folder: tempfile::TempDir,
    variables: Vec<(String, String)>,
    /// Files that take the place of the machine's id and its boot's for every command.
    identity: Option<[PathBuf; 2]>,
}

/// Runs a program with these two files in the place of what tells this machine from others.
const AS_ANOTHER: &str = r#"mount --bind "$1" /etc/machine-id &&
    mount --bind "$2" /proc/sys/kernel/random/boot_id && shift 2 && exec "$@""#;

impl Default for Home {
    fn default() -> Self {
        Self::new()
    }
}

impl Home {
    /// Makes an empty home.
    ///
    /// # Panics
    /// When the disk refuses.
    pub fn new() -> Self {
        let folder = temporary_folder();
        for below in [".ssh", "outputs", ".config/farrun/recipes"] {
            std::fs::create_dir_all(folder.path().join(below)).expect("folder of the home");
        }
        Self {
            folder,
            variables: Vec::new(),
            identity: None,
        }
    }

    /// Makes every command that follows one of another machine, in a mount namespace of its own. Only root may do so.
    ///
    /// # Panics
    /// When the disk refuses.
    pub fn on_another_machine(&mut self) {
        let id = rand::random::<u128>();
        let machine = self.write(".machine-id", format!("{id:032x}\n"));
        let boot = self.write(
            ".boot-id",
            format!("{:08x}-0000-4000-8000-000000000000\n", id as u32),
        );
        self.identity = Some([machine, boot]);
    }

    /// The home folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Where outputs and run logs arrive.
    pub fn outputs(&self) -> PathBuf {
        self.folder.path().join("outputs")
    }

    /// Sets a variable for every command that follows.
    pub fn set(&mut self, name: &str, value: &str) {
        self.variables.retain(|(known, _)| known != name);
        self.variables.push((name.to_owned(), value.to_owned()));
    }

    /// Writes a file below the home.
    ///
    /// # Panics
    /// When the disk refuses.
    pub fn write(&self, below: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.folder.path().join(below);
        std::fs::create_dir_all(path.parent().expect("folder")).expect("folder of a file");
        std::fs::write(&path, content).expect("file of the home");
        path
    }

    /// Trusts a server's key under a port, its own or a proxy's.
    ///
    /// # Panics
    /// When the disk refuses.
    pub fn trust(&self, server: &Sshd, port: u16) {
        let path = self.folder.path().join(".ssh/known_hosts");
        let file = std::fs::File::options().create(true).append(true).open(path);
        file.expect("known_hosts")
            .write_all(server.known_hosts(port).as_bytes())
            .expect("known_hosts");
    }

    /// The program with these arguments, not yet started.
    pub fn command<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Command {
        let home = self.folder.path();
        let mut command = match &self.identity {
            None => Command::new(binary("farrun")),
            Some([machine, boot]) => {
                let mut command = Command::new("unshare");
                command.args([
                    "--mount",
                    "--propagation",
                    "private",
                    "sh",
                    "-c",
                    AS_ANOTHER,
                    "sh",
                ]);
                command.args([machine, boot, &binary("farrun")]);
                command
            }
        };
        command.args(arguments).env_clear().current_dir(home);
        command
            .env("HOME", home)
            .env("PATH", "/usr/local/bin:/usr/bin:/bin");
        command
            .env("LANG", "C.UTF-8")
            .env("TERM", "dumb")
            .env("NO_COLOR", "1");
        command.env("XDG_CONFIG_HOME", home.join(".config"));
        command.env("XDG_STATE_HOME", home.join(".local/state"));
        command.env("XDG_DATA_HOME", home.join(".local/share"));
        command.env("XDG_CACHE_HOME", home.join(".cache"));
        command
            .env("FARRUN_OUTPUTS", self.outputs())
            .env("FARRUN_AGENTS", agents_folder());
        command.env("RUST_BACKTRACE", "1");
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs the program to its end.
    ///
    /// # Panics
    /// When it takes longer than a minute and a half; its output and telemetry are shown then.
    pub fn farrun<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Outcome {
        self.farrun_within(DEADLINE, arguments)
    }

    /// Runs the program to its end, at most for `deadline`.
    ///
    /// # Panics
    /// When it takes longer; its output and telemetry are shown then.
    pub fn farrun_within<S: AsRef<OsStr>>(&self, deadline: Duration, arguments: &[S]) -> Outcome {
        let mut command = self.command(arguments);
        command.stdin(Stdio::null());
        self.finish(Running::start(command), deadline)
    }

    /// Runs the program with bytes on its standard input.
    ///
    /// # Panics
    /// When it takes too long.
    pub fn farrun_with_input<S: AsRef<OsStr>>(&self, input: &[u8], arguments: &[S]) -> Outcome {
        let mut command = self.command(arguments);
        command.stdin(Stdio::piped());
        let mut running = Running::start(command);
        let mut pipe = running.child.stdin.take().expect("standard input");
        let input = input.to_vec();
        // A program that reads nothing must not block the test.
        std::thread::spawn(move || pipe.write_all(&input));
        self.finish(running, DEADLINE)
    }

    /// Starts the program and leaves it running; its standard output and error go to files.
    ///
    /// # Panics
    /// When it does not start.
    pub fn spawn<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Background<'_> {
        let mut command = self.command(arguments);
        command.stdin(Stdio::null());
        let stdout = tempfile::NamedTempFile::new_in(self.path()).expect("file for standard output");
        let stderr = tempfile::NamedTempFile::new_in(self.path()).expect("file for standard error");
        let shown = format!("{command:?}");
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        command
            .stdout(stdout.reopen().expect("file"))
            .stderr(stderr.reopen().expect("file"));
        let child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{shown} does not start: {error}"));
        Background {
            home: self,
            command: shown,
            child,
            stdout,
            stderr,
            start: std::time::Instant::now(),
        }
    }

    /// The newest lines of the controller's telemetry.
    pub fn telemetry(&self) -> String {
        let mut text = String::new();
        newest_lines(&self.folder.path().join(".local/state/farrun"), &mut text);
        text
    }

    fn finish(&self, running: Running, deadline: Duration) -> Outcome {
        running.finish(deadline).unwrap_or_else(|late| {
            panic!(
                "not done after {} s: {late}\n-- telemetry{}",
                deadline.as_secs(),
                self.telemetry()
            )
        })
    }
}

/// Appends the last 4 KiB of every log file below `folder`.
fn newest_lines(folder: &Path, text: &mut String) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        if path.is_dir() {
            newest_lines(&path, text);
        } else if path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().contains(".log"))
        {
            let bytes = std::fs::read(&path).unwrap_or_default();
            let start = bytes.len().saturating_sub(4096);
            text.push_str(&format!(
                "\n== {}\n{}",
                path.display(),
                String::from_utf8_lossy(&bytes[start..])
            ));
        }
    }
}

/// A started `farrun`. Its drop kills it with its whole process group.
#[derive(Debug)]
pub struct Background<'a> {
    home: &'a Home,
    command: String,
    child: std::process::Child,
    stdout: tempfile::NamedTempFile,
    stderr: tempfile::NamedTempFile,
    start: std::time::Instant,
}

impl Background<'_> {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has written to standard output so far.
    pub fn stdout(&self) -> Vec<u8> {
        std::fs::read(self.stdout.path()).unwrap_or_default()
    }

    /// What it has written to standard error so far.
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.stderr.path()).unwrap_or_default()).into_owned()
    }

    /// Presses Ctrl-C.
    pub fn interrupt(&self) {
        signal(self.child.id(), Signal::INT);
    }

    /// Freezes it, as a laptop's sleep does, or lets it go on.
    pub fn freeze(&self, frozen: bool) {
        signal(self.child.id(), if frozen { Signal::STOP } else { Signal::CONT });
    }

    /// Kills it on the spot.
    pub fn kill(mut self) -> Outcome {
        kill_group(self.child.id());
        self.outcome()
    }

    /// Waits until `condition` holds for it.
    ///
    /// # Panics
    /// When `deadline` passes or it ends before; everything it wrote is shown.
    pub fn wait_for(&mut self, what: &str, deadline: Duration, mut condition: impl FnMut(&Self) -> bool) {
        let start = std::time::Instant::now();
        while !condition(self) {
            let ended = self.child.try_wait().expect("state of a child").is_some();
            // It may have fulfilled the condition with its last breath.
            if ended && condition(self) {
                return;
            }
            assert!(
                !ended && start.elapsed() < deadline,
                "no {what}: {}",
                self.shown()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it has not ended within `deadline` from now.
    pub fn finish(mut self, deadline: Duration) -> Outcome {
        let start = std::time::Instant::now();
        while self.child.try_wait().expect("state of a child").is_none() {
            assert!(start.elapsed() < deadline, "still running: {}", self.shown());
            std::thread::sleep(Duration::from_millis(10));
        }
        self.outcome()
    }

    fn shown(&self) -> String {
        format!(
            "{}\n-- stdout\n{}\n-- stderr\n{}\n-- telemetry{}",
            self.command,
            String::from_utf8_lossy(&self.stdout()),
            self.stderr(),
            self.home.telemetry()
        )
    }

    fn outcome(&mut self) -> Outcome {
        use std::os::unix::process::ExitStatusExt as _;
        let status = self.child.wait().expect("state of a child");
        Outcome {
            command: self.command.clone(),
            code: status
                .code()
                .unwrap_or_else(|| 128 + status.signal().unwrap_or(0)),
            stdout: self.stdout(),
            stderr: self.stderr().into_bytes(),
            took: self.start.elapsed(),
        }
    }
}

impl Drop for Background<'_> {
    fn drop(&mut self) {
        // A reaped child's number could be another process by now.
        if matches!(self.child.try_wait(), Ok(None)) {
            kill_group(self.child.id());
            let _ = self.child.wait();
        }
    }
}
