//! A record folder as `serve` makes it, and PID 1 run on it with a deadline.

use farrun_protocol::Sha256;
use farrun_protocol::record::{EXIT_SIZE, ExitRecord};
use rustix::process::{Pid, Signal, kill_process};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// No job in this suite takes longer, even on a machine that is busy with other things.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// Waits until `condition` gives something.
pub(crate) fn eventually<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(Instant::now() < end, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(3));
    }
}

/// A run's record, made beforehand.
pub(crate) struct Record {
    _folder: Option<TempDir>,
    pub(crate) path: PathBuf,
}

impl Record {
    pub(crate) fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("record");
        fs::create_dir(&path).unwrap();
        Self {
            _folder: Some(folder),
            ..Self::below(&path)
        }
    }

    pub(crate) fn below(path: &Path) -> Self {
        for name in ["run.log", "run.tail", "started", "generation"] {
            fs::write(path.join(name), "").unwrap();
        }
        fs::write(path.join("exit.json"), [0; EXIT_SIZE]).unwrap();
        Self {
            _folder: None,
            path: path.to_owned(),
        }
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path.join(name)).unwrap()
    }

    pub(crate) fn text(&self, name: &str) -> String {
        String::from_utf8(self.read(name)).unwrap()
    }

    /// A scratch path beside the record's files that a job may use.
    pub(crate) fn scratch(&self, name: &str) -> String {
        self.path
            .parent()
            .unwrap()
            .join(name)
            .to_str()
            .unwrap()
            .to_owned()
    }

    pub(crate) fn exit(&self) -> ExitRecord {
        let bytes = self.read("exit.json");
        assert_eq!(bytes.len(), EXIT_SIZE);
        ExitRecord::decode(&bytes).expect("a finished exit record")
    }

    /// The whole of `init`'s command line up to the job.
    pub(crate) fn command<S: AsRef<OsStr>>(&self, flags: &[S]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_farrun-agent"));
        command
            .args(["init", "--record"])
            .arg(&self.path)
            .args(flags)
            .arg("--")
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        command
    }

    /// Runs a job to its end and returns the exit code of `init`.
    pub(crate) fn run(&self, flags: &[&str], job: &[&str]) -> i32 {
        Running::start(self.command(flags).args(job)).wait()
    }

    /// Runs a shell script as the job.
    pub(crate) fn shell(&self, flags: &[&str], script: &str) -> i32 {
        self.run(flags, &["sh", "-c", script])
    }

    /// Checks that the exit record describes `run.log` and `run.tail` as they lie there, and returns it.
    pub(crate) fn checked_exit(&self) -> ExitRecord {
        let exit = self.exit();
        let log = self.read("run.log");
        assert_eq!(exit.log.length, log.len() as u64);
        assert_eq!(exit.log.sha256, Sha256::of(&log));
        assert_eq!(exit.tail, self.read("run.tail").len() as u64);
        exit
    }
}

/// A started `init`.
pub(crate) struct Running {
    child: Child,
}

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        Self {
            child: command.spawn().unwrap(),
        }
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32).unwrap()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    pub(crate) fn stdin(&mut self) -> ChildStdin {
        self.child.stdin.take().unwrap()
    }

    pub(crate) fn stdout(&mut self) -> ChildStdout {
        self.child.stdout.take().unwrap()
    }

    /// The exit code, once it has ended.
    pub(crate) fn wait(&mut self) -> i32 {
        let status = eventually("the end of init", || self.child.try_wait().unwrap());
        assert_eq!(status.signal(), None, "init itself was killed");
        status.code().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Bytes of every value, the same in every run of the suite.
pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}
