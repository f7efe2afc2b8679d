//! Programs with a deadline, in a process group of their own.

use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How a program ended and what it wrote.
#[derive(Debug, Clone)]
#[must_use]
pub struct Outcome {
    /// What was run, for messages.
    pub command: String,
    /// Exit code, or 128 and the signal's number.
    pub code: i32,
    /// Bytes of its standard output.
    pub stdout: Vec<u8>,
    /// Bytes of its standard error.
    pub stderr: Vec<u8>,
    /// How long it ran.
    pub took: Duration,
}

impl Outcome {
    /// Standard output as text.
    ///
    /// # Panics
    /// When it is not UTF-8.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).expect("standard output is UTF-8")
    }

    /// Standard error as text, for looking into it.
    pub fn errors(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// Standard output as JSON.
    ///
    /// # Panics
    /// When it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.stdout)
            .unwrap_or_else(|error| panic!("{self}\nstandard output is not JSON: {error}"))
    }

    /// Standard output as one JSON value per line.
    ///
    /// # Panics
    /// When a line is none.
    pub fn json_lines(&self) -> Vec<serde_json::Value> {
        let parse = |line: &str| {
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{self}\nline `{line}`: {error}"))
        };
        self.text().lines().map(parse).collect()
    }

    /// Requires an exit code.
    ///
    /// # Panics
    /// When it ended with another one; the message shows everything it wrote.
    pub fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code, code, "exit code of {self}");
        self
    }

    /// Requires exit code 0.
    ///
    /// # Panics
    /// When it ended with another one.
    pub fn ok(self) -> Self {
        self.expect_code(0)
    }

    /// Requires that standard error holds `part`.
    ///
    /// # Panics
    /// When it does not.
    pub fn expect_error(self, part: &str) -> Self {
        assert!(self.errors().contains(part), "`{part}` is not said by {self}");
        self
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            formatter,
            "`{}` ended with {} after {:.1} s\n-- stdout\n{}\n-- stderr\n{}",
            self.command,
            self.code,
            self.took.as_secs_f32(),
            shown(&self.stdout),
            shown(&self.stderr)
        )
    }
}

/// The last 8 KiB as text that keeps a terminal whole.
fn shown(bytes: &[u8]) -> String {
    let start = bytes.len().saturating_sub(8192);
    let text = String::from_utf8_lossy(&bytes[start..]);
    text.chars()
        .map(|c| if c.is_control() && c != '\n' { '·' } else { c })
        .collect()
}

/// Ends every process of a group.
pub(crate) fn kill_group(leader: u32) {
    if let Some(pid) = pid(leader) {
        let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
    }
}

pub(crate) fn pid(raw: u32) -> Option<rustix::process::Pid> {
    i32::try_from(raw).ok().and_then(rustix::process::Pid::from_raw)
}

/// Sends a signal to one process; a process that is gone is fine.
pub(crate) fn signal(raw: u32, signal: rustix::process::Signal) {
    if let Some(pid) = pid(raw) {
        let _ = rustix::process::kill_process(pid, signal);
    }
}

/// A started program whose output is collected by threads, so that a full pipe never blocks it.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) command: String,
    pub(crate) child: Child,
    start: Instant,
    stdout: Option<JoinHandle<Vec<u8>>>,
    stderr: Option<JoinHandle<Vec<u8>>>,
}

impl Running {
    pub(crate) fn start(mut command: Command) -> Self {
        let shown = format!("{command:?}");
        command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{shown} does not start: {error}"));
        let stdout = child.stdout.take().map(collect);
        let stderr = child.stderr.take().map(collect);
        Self {
            command: shown,
            child,
            start: Instant::now(),
            stdout,
            stderr,
        }
    }

    /// Waits for its end, at most until `deadline` after its start; `Err` holds what it wrote until it was killed.
    pub(crate) fn finish(mut self, deadline: Duration) -> Result<Outcome, Outcome> {
        let mut pause = Duration::from_millis(1);
        loop {
            if let Some(status) = self.child.try_wait().expect("state of a child") {
                return Ok(self.outcome(status));
            }
            if self.start.elapsed() >= deadline {
                kill_group(self.child.id());
                let status = self.child.wait().expect("state of a child");
                return Err(self.outcome(status));
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        }
    }

    fn outcome(mut self, status: ExitStatus) -> Outcome {
        let took = self.start.elapsed();
        // A grandchild that left the group could hold the pipes; what outlives its parent is killed with it.
        kill_group(self.child.id());
        let taken = |thread: Option<JoinHandle<Vec<u8>>>| {
            thread
                .map(|thread| thread.join().expect("collected output"))
                .unwrap_or_default()
        };
        Outcome {
            command: std::mem::take(&mut self.command),
            code: status
                .code()
                .unwrap_or_else(|| 128 + status.signal().unwrap_or(0)),
            stdout: taken(self.stdout.take()),
            stderr: taken(self.stderr.take()),
            took,
        }
    }
}

fn collect(mut pipe: impl std::io::Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // A killed program's pipe ends like any other; what it wrote before is what counts.
        let _ = pipe.by_ref().read_to_end(&mut bytes);
        bytes
    })
}

/// Runs a program to its end.
///
/// # Panics
/// When it does not start, or has not ended after `deadline`; then its whole process group is killed.
pub fn run(mut command: Command, deadline: Duration) -> Outcome {
    command.stdin(Stdio::null());
    Running::start(command)
        .finish(deadline)
        .unwrap_or_else(|late| panic!("still running after {} s, killed: {late}", deadline.as_secs()))
}

/// A command that needs the rights of root: itself for root, behind `sudo -n` for others.
pub fn privileged(program: &str) -> Command {
    if rustix::process::geteuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("sudo");
    command.arg("-n").arg(program);
    command
}

/// Direct children of a process.
pub(crate) fn children(parent: u32) -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    let numbers = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    numbers.filter(|pid| parent_of(*pid) == Some(parent)).collect()
}

/// Everything below a process.
pub(crate) fn descendants(ancestor: u32) -> Vec<u32> {
    let mut found = children(ancestor);
    let mut next = 0;
    while let Some(pid) = found.get(next).copied() {
        found.extend(children(pid));
        next += 1;
    }
    found
}

fn parent_of(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything, also parentheses and blanks.
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn code_and_both_outputs_are_kept() {
        let outcome = run(shell("echo out; echo err >&2; exit 3"), Duration::from_secs(10)).expect_code(3);
        assert_eq!((outcome.text(), outcome.errors().as_str()), ("out\n", "err\n"));
    }

    #[test]
    fn signal_is_128_and_its_number() {
        let _ = run(shell("kill -9 $$"), Duration::from_secs(10)).expect_code(137);
    }

    #[test]
    fn more_than_a_pipe_holds_does_not_block() {
        let outcome = run(shell("head -c 3000000 /dev/zero"), Duration::from_secs(20)).ok();
        assert_eq!(outcome.stdout.len(), 3_000_000);
    }

    #[test]
    fn late_program_is_killed_with_its_children() {
        let start = Instant::now();
        let late = Running::start(shell("echo first; sleep 600 & sleep 600"))
            .finish(Duration::from_millis(300))
            .expect_err("it was to be killed");
        assert_eq!((late.code, late.stdout.as_slice()), (137, b"first\n".as_slice()));
        assert!(start.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn a_child_is_found_below_its_parent() {
        let mut child = shell("sleep 60 & wait").process_group(0).spawn().unwrap();
        crate::wait_until("grandchild", Duration::from_secs(10), || {
            !children(child.id()).is_empty()
        });
        assert!(descendants(std::process::id()).contains(&child.id()));
        kill_group(child.id());
        child.wait().unwrap();
    }
}
