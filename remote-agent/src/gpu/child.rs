//! One `nvidia-smi`, from its start to its end, which is never waited for longer than its limits allow.

use super::limited::NOT_STARTED;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process_group};
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Standard output beyond this ends the child.
const MOST_OUTPUT: usize = 4 * 1024 * 1024;
/// Words of standard error that are kept.
const MOST_ERRORS: usize = 64 * 1024;
/// Longest sleep between two looks at a child.
const LOOK_APART: Duration = Duration::from_millis(20);

/// How long a child may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChildLimits {
    /// Until SIGTERM is sent to its process group.
    pub run: Duration,
    /// From there until SIGKILL.
    pub terminate: Duration,
    /// From there until it is given up.
    pub kill: Duration,
}

impl Default for ChildLimits {
    fn default() -> Self {
        Self {
            run: Duration::from_secs(10),
            terminate: Duration::from_secs(2),
            kill: Duration::from_secs(1),
        }
    }
}

/// How a child ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    /// By itself, with this code.
    Exited(i32),
    /// By a signal that was not ours.
    Signalled(i32),
    /// It could not be started, for this reason.
    NotStarted(String),
    /// It took too long and was ended.
    Late,
    /// It printed too much and was ended.
    Flooded,
    /// Not at all: SIGKILL was sent and it is still there.
    Stuck(u32),
}

/// A child's end and what it had printed by then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finished {
    pub(crate) end: End,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
}

impl Finished {
    fn silent(end: End) -> Self {
        Self {
            end,
            stdout: Vec::new(),
            stderr: Vec::new(),
        }
    }
}

/// Runs a program in a process group of its own, with an empty environment but for language and PATH.
pub(super) fn run(mut command: Command, limits: ChildLimits) -> Finished {
    command
        .env_clear()
        .env("LC_ALL", "C")
        .env(
            "PATH",
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        )
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    let child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return Finished::silent(End::NotStarted(error.to_string())),
    };
    let mut running = Running::new(child);
    let end = running.attend(limits);
    Finished {
        end: match end {
            End::Exited(code) if code == i32::from(NOT_STARTED) => {
                let said = super::text::detail(&running.stderr.kept);
                End::NotStarted(said.unwrap_or_else(|| "it cannot be started".to_owned()))
            }
            end => end,
        },
        stdout: running.stdout.kept,
        stderr: running.stderr.kept,
    }
}

struct Running {
    child: Child,
    stdout: Output<ChildStdout>,
    stderr: Output<ChildStderr>,
}

impl Running {
    fn new(mut child: Child) -> Self {
        Self {
            stdout: Output::new(child.stdout.take(), MOST_OUTPUT),
            stderr: Output::new(child.stderr.take(), MOST_ERRORS),
            child,
        }
    }

    fn attend(&mut self, limits: ChildLimits) -> End {
        let reason = match self.until(limits.run, true) {
            Some(Seen::Ended(status)) => return end_of(status),
            Some(Seen::Flood) => End::Flooded,
            None => End::Late,
        };
        for (signal, patience) in [(Signal::TERM, limits.terminate), (Signal::KILL, limits.kill)] {
            self.signal(signal);
            if let Some(Seen::Ended(_)) = self.until(patience, false) {
                return reason;
            }
        }
        End::Stuck(self.child.id())
    }

    fn signal(&self, signal: Signal) {
        let group = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let Some(group) = group {
            let _ = kill_process_group(group, signal);
        }
    }

    /// Looks after the child until it ends or prints too much, at most for `patience`.
    fn until(&mut self, patience: Duration, keep: bool) -> Option<Seen> {
        let deadline = Instant::now() + patience;
        loop {
            let flooded = self.stdout.drain(keep) | self.stderr.drain(keep);
            if let Ok(Some(status)) = self.child.try_wait() {
                // What it printed last is still in the pipes; what a process it left behind prints is not awaited.
                let flooded = self.stdout.drain(keep);
                self.stderr.drain(keep);
                // Processes it started go with it.
                self.signal(Signal::KILL);
                return Some(if flooded && keep {
                    Seen::Flood
                } else {
                    Seen::Ended(status)
                });
            }
            if flooded && keep {
                return Some(Seen::Flood);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            self.pause(left.min(LOOK_APART));
        }
    }

    /// Waits for output, at most for `longest`.
    fn pause(&self, longest: Duration) {
        let mut pipes: Vec<PollFd<'_>> = Vec::new();
        pipes.extend(
            self.stdout
                .pipe
                .as_ref()
                .map(|pipe| PollFd::new(pipe, PollFlags::IN)),
        );
        pipes.extend(
            self.stderr
                .pipe
                .as_ref()
                .map(|pipe| PollFd::new(pipe, PollFlags::IN)),
        );
        if pipes.is_empty() {
            // Both are closed: it is about to end.
            std::thread::sleep(longest.min(Duration::from_millis(2)));
            return;
        }
        let limit = Timespec::try_from(longest).ok();
        if poll(&mut pipes, limit.as_ref()).is_err() {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

enum Seen {
    Ended(ExitStatus),
    Flood,
}

fn end_of(status: ExitStatus) -> End {
    match status.code() {
        Some(code) => End::Exited(code),
        None => End::Signalled(status.signal().unwrap_or_default()),
    }
}

/// One of its outputs, read without waiting.
struct Output<P> {
    pipe: Option<P>,
    kept: Vec<u8>,
    most: usize,
}

impl<P: Read + AsFd> Output<P> {
    fn new(pipe: Option<P>, most: usize) -> Self {
        // A pipe that waits would hold us as long as the child holds it, so it is not read at all.
        let pipe = pipe.filter(|pipe| does_not_wait(pipe).is_ok());
        Self {
            pipe,
            kept: Vec::new(),
            most,
        }
    }

    /// Reads what is there; true when it was more than may be. A child that only prints is left after a while, so
    /// that the other pipe and the clock get their turn.
    fn drain(&mut self, keep: bool) -> bool {
        const TURNS: usize = 64;
        let mut buffer = [0; 16 * 1024];
        for _ in 0..TURNS {
            let Some(pipe) = &mut self.pipe else { return false };
            match pipe.read(&mut buffer) {
                Ok(0) => self.pipe = None,
                Ok(count) => {
                    let room = self.most.saturating_sub(self.kept.len());
                    if keep {
                        let part = buffer.get(..count.min(room)).unwrap_or_default();
                        self.kept.extend_from_slice(part);
                    }
                    if count > room {
                        return true;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                Err(_) => self.pipe = None,
            }
        }
        false
    }
}

fn does_not_wait(pipe: &impl AsFd) -> rustix::io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(pipe)?;
    rustix::fs::fcntl_setfl(pipe, flags | rustix::fs::OFlags::NONBLOCK)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        command
    }

    const SHORT: ChildLimits = ChildLimits {
        run: Duration::from_millis(300),
        terminate: Duration::from_millis(300),
        kill: Duration::from_secs(20),
    };
    const LONG: ChildLimits = ChildLimits {
        run: Duration::from_secs(60),
        terminate: Duration::from_secs(2),
        kill: Duration::from_secs(20),
    };

    #[test]
    fn output_of_both_kinds_and_the_code_are_kept() {
        let finished = run(shell("echo out; echo err >&2; exit 9"), LONG);
        assert_eq!(finished.end, End::Exited(9));
        assert_eq!(
            (&*finished.stdout, &*finished.stderr),
            (&b"out\n"[..], &b"err\n"[..])
        );
    }

    #[test]
    fn it_gets_an_empty_environment_and_no_input() {
        let finished = run(shell("env; cat; pwd"), LONG);
        let said = String::from_utf8(finished.stdout).unwrap();
        let mut names: Vec<&str> = said
            .lines()
            .filter_map(|line| Some(line.split_once('=')?.0))
            .filter(|name| !["PWD", "OLDPWD", "SHLVL", "_"].contains(name))
            .collect();
        names.sort_unstable();
        assert_eq!(names, ["LC_ALL", "PATH"]);
        assert!(said.ends_with("\n/\n"), "{said}");
    }

    #[test]
    fn one_that_hangs_is_ended_with_its_children() {
        let begun = Instant::now();
        let finished = run(shell("echo $$; sleep 600 & sleep 600"), SHORT);
        assert_eq!(finished.end, End::Late);
        assert!(begun.elapsed() < Duration::from_secs(15));
        let group: i32 = String::from_utf8(finished.stdout)
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        let gone = || rustix::process::test_kill_process_group(Pid::from_raw(group).unwrap()).is_err();
        while !gone() {
            assert!(begun.elapsed() < Duration::from_secs(30), "the group is gone");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn one_that_ignores_a_request_is_killed() {
        let finished = run(shell("trap '' TERM; while :; do sleep 600; done"), SHORT);
        assert_eq!(finished.end, End::Late);
    }

    #[test]
    fn one_that_only_prints_is_ended() {
        let begun = Instant::now();
        let finished = run(shell("exec cat /dev/zero"), LONG);
        assert_eq!(finished.end, End::Flooded);
        assert_eq!(finished.stdout.len(), MOST_OUTPUT);
        assert!(begun.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn a_pipe_that_a_grandchild_holds_is_not_awaited() {
        let begun = Instant::now();
        let finished = run(shell("sleep 600 & echo done"), LONG);
        assert_eq!(
            (finished.end, &*finished.stdout),
            (End::Exited(0), &b"done\n"[..])
        );
        assert!(begun.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn what_is_not_there_is_not_started() {
        let finished = run(Command::new("/nonexistent/nvidia-smi"), LONG);
        assert!(matches!(finished.end, End::NotStarted(_)), "{finished:?}");
        let signalled = run(shell("kill -11 $$"), LONG);
        assert_eq!(signalled.end, End::Signalled(11));
    }
}
