//! A terminal of its own for a program: what it shows, which keys are pressed, its size, and how it is left.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Signal;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A program in a session of its own, whose terminal this is. It is killed when this goes.
#[derive(Debug)]
pub struct Pty {
    /// None once the terminal was closed.
    keys: Option<File>,
    /// The program's end, to look at its modes.
    line: File,
    shown: Arc<Mutex<Vec<u8>>>,
    over: Arc<AtomicBool>,
    reading: Option<JoinHandle<()>>,
    child: Child,
}

impl Pty {
    /// Starts a program at a terminal of this size.
    ///
    /// # Panics
    /// When there is no terminal or no `setsid` to be had.
    pub fn start(program: &Command, rows: u16, columns: u16) -> Self {
        let master =
            openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a terminal");
        grantpt(&master).expect("rights of the terminal");
        unlockpt(&master).expect("the terminal");
        let name = ptsname(&master, Vec::new())
            .expect("its name")
            .into_string()
            .expect("its name");
        let open = || {
            let no_controlling = i32::try_from(rustix::fs::OFlags::NOCTTY.bits()).expect("a flag");
            let mut options = File::options();
            options.read(true).write(true).custom_flags(no_controlling);
            options.open(&name).expect("the program's end")
        };
        let line = open();
        tcsetwinsize(&line, size(rows, columns)).expect("its size");
        // Not the leader of a group yet, so `setsid` becomes the program itself.
        let mut command = Command::new("setsid");
        command
            .arg("--ctty")
            .arg(program.get_program())
            .args(program.get_args());
        command.env_clear();
        command.envs(
            program
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        );
        command.env("TERM", "xterm-256color");
        if let Some(folder) = program.get_current_dir() {
            command.current_dir(folder);
        }
        let child = command
            .stdin(open())
            .stdout(open())
            .stderr(open())
            .spawn()
            .expect("setsid of util-linux");
        let keys = File::from(master);
        let shown = Arc::new(Mutex::new(Vec::new()));
        let over = Arc::new(AtomicBool::new(false));
        let reader = keys.try_clone().expect("the terminal");
        let (kept, ended) = (Arc::clone(&shown), Arc::clone(&over));
        let reading = std::thread::spawn(move || read(reader, &kept, &ended));
        Self {
            keys: Some(keys),
            line,
            shown,
            over,
            reading: Some(reading),
            child,
        }
    }

    /// Closes the terminal, as its window does.
    ///
    /// # Panics
    /// When its reader did.
    pub fn close(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(reading) = self.reading.take() {
            reading.join().expect("the reader");
        }
        self.keys = None;
    }

    /// Presses keys.
    ///
    /// # Panics
    /// When the terminal is gone.
    pub fn press(&mut self, keys: &str) {
        let open = self.keys.as_mut().expect("an open terminal");
        open.write_all(keys.as_bytes()).expect("keys");
    }

    /// Changes its size; the program is told.
    ///
    /// # Panics
    /// When the terminal refuses.
    pub fn resize(&self, rows: u16, columns: u16) {
        tcsetwinsize(&self.line, size(rows, columns)).expect("a size");
    }

    /// Sends the program a signal.
    pub fn signal(&self, signal: Signal) {
        let _ = rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), signal);
    }

    /// How many bytes it has written so far.
    pub fn written(&self) -> usize {
        self.bytes().len()
    }

    /// The words that it has written from a byte on, without what moves and colours them.
    pub fn words(&self, from: usize) -> String {
        words(self.bytes().get(from..).unwrap_or_default())
    }

    /// Waits until it has written words, from a byte on.
    ///
    /// # Panics
    /// When `deadline` passes.
    pub fn wait_for(&self, from: usize, wanted: &str, deadline: Duration) {
        let end = Instant::now() + deadline;
        while !self.words(from).contains(wanted) {
            assert!(
                Instant::now() < end,
                "`{wanted}` is not shown:\n{}",
                self.words(from)
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits for its end and answers its exit code; `None` when a signal ended it.
    ///
    /// # Panics
    /// When `deadline` passes.
    pub fn wait(&mut self, deadline: Duration) -> Option<i32> {
        let end = Instant::now() + deadline;
        loop {
            if let Some(status) = self.child.try_wait().expect("state of a child") {
                return status.code();
            }
            assert!(Instant::now() < end, "it does not end:\n{}", self.words(0));
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What keeps the terminal from being as it was before: nothing, when it was left as it should be.
    ///
    /// # Panics
    /// When the terminal is gone.
    pub fn left_behind(&self) -> Vec<&'static str> {
        let modes = tcgetattr(&self.line).expect("its modes").local_modes;
        let cooked = LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG;
        let bytes = self.bytes();
        let last = |sequence: &[u8]| bytes.windows(sequence.len()).rposition(|part| part == sequence);
        let mut found = Vec::new();
        if !modes.contains(cooked) {
            found.push("raw mode");
        }
        if last(b"\x1b[?1049h") > last(b"\x1b[?1049l") {
            found.push("the other screen");
        }
        if last(b"\x1b[?25l") > last(b"\x1b[?25h") {
            found.push("a hidden cursor");
        }
        found
    }

    fn bytes(&self) -> Vec<u8> {
        self.shown.lock().expect("what is shown").clone()
    }
}

impl Drop for Pty {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Keeps what is written, until nobody has the program's end open any more or it is over here.
fn read(mut reader: File, kept: &Mutex<Vec<u8>>, over: &AtomicBool) {
    let look_apart = Timespec {
        tv_sec: 0,
        tv_nsec: 20_000_000,
    };
    let mut bytes = [0; 4096];
    while !over.load(Ordering::Relaxed) {
        let ready = poll(&mut [PollFd::new(&reader, PollFlags::IN)], Some(&look_apart));
        if ready == Ok(0) {
            continue;
        }
        let Ok(length @ 1..) = reader.read(&mut bytes) else {
            return;
        };
        kept.lock()
            .expect("what is shown")
            .extend_from_slice(&bytes[..length]);
    }
}

fn size(rows: u16, columns: u16) -> Winsize {
    Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}

/// Control sequences count as blanks: what moves the cursor stands between words.
fn words(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut words = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\x1b' {
            words.push(if c.is_control() { ' ' } else { c });
            continue;
        }
        words.push(' ');
        if chars.next() == Some('[') {
            let _ = chars.by_ref().find(|c| ('@'..='~').contains(c));
        }
    }
    words.split_whitespace().collect::<Vec<_>>().join(" ")
}
