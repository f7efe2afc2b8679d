//! The loop around a running job: capture what it prints, pass signals on, reap, keep the time limit.

use super::capture::Capture;
use super::echo::Echo;
use super::signals::Signals;
use super::spawn::Job;
use chrono::{DateTime, Utc};
use farrun_protocol::record::END_SIGNALS;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, ioctl_fionread, retry_on_intr};
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process, kill_process_group};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// How long the pipe is read after the main process has ended; its descendants may hold the pipe for ever.
const DRAIN: Duration = Duration::from_secs(1);

/// Signals that the exit record remembers.
const REMEMBERED: usize = 16;

/// How a job ended.
#[derive(Debug)]
pub(super) struct Ended {
    /// Of the main process.
    pub(super) status: WaitStatus,
    /// When the main process had ended.
    pub(super) at: DateTime<Utc>,
    /// Signals passed on to it.
    pub(super) forwarded: Vec<i32>,
    /// The last of them that asked it to end.
    pub(super) end_signal: Option<i32>,
    /// Whether it ran into its time limit.
    pub(super) timed_out: bool,
}

/// What the run's order says about time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// How long the job may run.
    pub(super) time: Option<Duration>,
    /// Time between SIGTERM and SIGKILL.
    pub(super) grace: Duration,
}

/// A job under supervision.
#[derive(Debug)]
pub(super) struct Supervisor<'a> {
    job: Pid,
    /// None once every writer has closed it.
    output: Option<OwnedFd>,
    signals: &'a Signals,
    grace: Duration,
    /// When SIGTERM is due.
    limit: Option<Instant>,
    /// When SIGKILL is due.
    kill: Option<Instant>,
    /// Set when the main process has ended.
    end: Option<(WaitStatus, DateTime<Utc>)>,
    drain: Drain,
    forwarded: Vec<i32>,
    end_signal: Option<i32>,
    timed_out: bool,
}

/// What is still read after the main process has ended.
#[derive(Debug, Default)]
struct Drain {
    until: Option<Instant>,
    /// Bytes that were in the pipe when it ended. They are its last words, however slow the disk is.
    owed: u64,
}

impl<'a> Supervisor<'a> {
    /// Takes charge of a job that was started just now.
    pub(super) fn new(job: Job, signals: &'a Signals, limits: Limits) -> Self {
        Self {
            job: job.pid,
            output: Some(job.output),
            signals,
            grace: limits.grace,
            limit: limits.time.and_then(|time| Instant::now().checked_add(time)),
            kill: None,
            end: None,
            drain: Drain::default(),
            forwarded: Vec::new(),
            end_signal: None,
            timed_out: false,
        }
    }

    /// Runs until the job has ended and its output is drained.
    ///
    /// # Errors
    /// When the kernel refuses to wait for events; nothing short of a broken kernel or sandbox does that.
    pub(super) fn run(
        mut self,
        capture: &mut Capture,
        echo: &mut Echo,
        buffer: &mut [u8],
    ) -> rustix::io::Result<Ended> {
        loop {
            let now = Instant::now();
            self.enforce(now);
            if let Some((status, at)) = self.end.filter(|_| self.is_drained(now)) {
                return Ok(Ended {
                    status,
                    at,
                    forwarded: self.forwarded,
                    end_signal: self.end_signal,
                    timed_out: self.timed_out,
                });
            }
            let (signalled, readable) = self.wait(now)?;
            if signalled {
                self.handle_signals();
            }
            if readable && let Some(count) = self.read(buffer) {
                let bytes = buffer.get(..count).unwrap_or_default();
                capture.take(bytes);
                echo.offer(bytes);
            }
        }
    }

    /// Waits for signals, output or the next deadline.
    fn wait(&self, now: Instant) -> rustix::io::Result<(bool, bool)> {
        let timeout = [self.limit, self.kill, self.drain.until]
            .into_iter()
            .flatten()
            .min()
            .and_then(|deadline| timespec(deadline.saturating_duration_since(now)));
        let output = self.output.as_ref();
        let mut sources = [
            PollFd::new(self.signals, PollFlags::IN),
            // Once there is no output, the signals stand in twice; a poll set of fixed size needs no allocation.
            output.map_or_else(
                || PollFd::new(self.signals, PollFlags::empty()),
                |fd| PollFd::new(fd, PollFlags::IN),
            ),
        ];
        match poll(&mut sources, timeout.as_ref()) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok((true, false)),
            Err(error) => return Err(error),
        }
        let [signals, pipe] = sources.map(|source| !source.revents().is_empty());
        Ok((signals, pipe && output.is_some()))
    }

    /// Reads once; `None` when there was nothing or the pipe is at its end.
    fn read(&mut self, buffer: &mut [u8]) -> Option<usize> {
        let result =
            retry_on_intr(|| rustix::io::read(self.output.as_ref().ok_or(Errno::BADF)?, &mut *buffer));
        match result {
            Ok(count) if count > 0 => {
                self.drain.owed = self.drain.owed.saturating_sub(count as u64);
                Some(count)
            }
            Err(Errno::AGAIN) => None,
            Ok(_) | Err(_) => {
                self.output = None;
                None
            }
        }
    }

    fn is_drained(&self, now: Instant) -> bool {
        self.output.is_none() || (self.drain.owed == 0 && self.drain.until.is_some_and(|until| until <= now))
    }

    fn handle_signals(&mut self) {
        let arrived = self.signals.drain();
        // Before any is passed on, so that one which came after the end is not taken for its cause.
        self.reap();
        for signal in arrived {
            if signal != Signal::CHILD {
                self.forward(signal);
            }
        }
    }

    fn forward(&mut self, signal: Signal) {
        // Once reaped, the process id may belong to somebody else.
        if self.end.is_some() || kill_process(self.job, signal).is_err() {
            return;
        }
        if END_SIGNALS.contains(&signal.as_raw()) {
            self.end_signal = Some(signal.as_raw());
        }
        let passing = [Signal::WINCH, Signal::CONT].contains(&signal);
        if !passing && self.forwarded.len() < REMEMBERED {
            self.forwarded.push(signal.as_raw());
        }
    }

    /// Reaps every process that has ended, ours or left to us.
    fn reap(&mut self) {
        while let Ok(Some((pid, status))) = retry_on_intr(|| rustix::process::wait(WaitOptions::NOHANG)) {
            if pid == self.job && self.end.is_none() {
                self.end = Some((status, Utc::now()));
                self.limit = None;
                self.kill = None;
                self.drain = Drain {
                    until: Some(Instant::now() + DRAIN),
                    owed: self
                        .output
                        .as_ref()
                        .map_or(0, |pipe| ioctl_fionread(pipe).unwrap_or(0)),
                };
            }
        }
    }

    /// Keeps the time limit.
    fn enforce(&mut self, now: Instant) {
        if self.limit.is_some_and(|limit| limit <= now) {
            self.limit = None;
            self.timed_out = true;
            self.kill = now.checked_add(self.grace);
            let _ = kill_process(self.job, Signal::TERM);
        }
        if self.kill.is_some_and(|kill| kill <= now) {
            self.kill = None;
            // The main process may have moved to another group.
            let _ = kill_process_group(self.job, Signal::KILL);
            let _ = kill_process(self.job, Signal::KILL);
        }
    }
}

/// Rounded up, so that a deadline has passed when the wait for it returns.
fn timespec(duration: Duration) -> Option<Timespec> {
    Timespec::try_from(duration.saturating_add(Duration::from_micros(100))).ok()
}
