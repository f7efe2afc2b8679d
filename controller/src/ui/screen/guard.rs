//! A second process that gives the terminal back when this one was killed and could not do so itself.
//!
//! It is this program again, in a group of its own. It reads from a socket whether the terminal is taken, and the end of the
//! socket is the end of this process, however that came.

use super::GIVEN_BACK;
use nix::sys::signal::{SigSet, Signal};
use rustix::termios::{OptionalActions, OutputModes, tcgetattr, tcsetattr};
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The one argument of the second process.
const ARGUMENT: &str = "--guard-terminal";
/// How long it may take to say that it watches. Without it the view is shown all the same.
const PATIENCE: Duration = Duration::from_secs(1);
/// What is said on the socket.
const WATCHES: u8 = b'w';
const TAKEN: u8 = b't';
const LEFT: u8 = b'l';

static SOCKET: Mutex<Option<UnixStream>> = Mutex::new(None);

/// Starts the second process; best effort. It has to see the terminal before it is taken.
pub(super) fn start() {
    let mut socket = SOCKET.lock().unwrap_or_else(PoisonError::into_inner);
    if socket.is_none() {
        *socket = begin().ok();
    }
}

fn begin() -> io::Result<UnixStream> {
    let (mut own, its) = UnixStream::pair()?;
    let mut child = Command::new(std::env::current_exe()?)
        .arg(ARGUMENT)
        .stdin(Stdio::from(OwnedFd::from(its)))
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()?;
    own.set_read_timeout(Some(PATIENCE))?;
    let mut word = [0];
    let read = own.read_exact(&mut word);
    // It ends with the socket.
    std::thread::spawn(move || child.wait());
    read.map(|()| own)
}

/// Tells whether the terminal is taken now.
pub(super) fn tell(is_taken: bool) {
    let mut socket = SOCKET.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(socket) = socket.as_mut() {
        let _ = socket.write_all(&[if is_taken { TAKEN } else { LEFT }]);
    }
}

/// Does the work of the second process when this is it; answers whether it was.
pub fn guards_terminal() -> bool {
    let mut arguments = std::env::args_os().skip(1);
    let asked = arguments.next().is_some_and(|argument| argument == ARGUMENT) && arguments.next().is_none();
    if asked {
        // Nobody hears of an error.
        let _ = guard();
    }
    asked
}

fn guard() -> io::Result<()> {
    // A terminal stops whoever sets its modes from the background, and its signals are for the program that is guarded.
    let signals = [
        Signal::SIGTTOU,
        Signal::SIGTTIN,
        Signal::SIGTSTP,
        Signal::SIGINT,
        Signal::SIGQUIT,
        Signal::SIGHUP,
        Signal::SIGTERM,
    ];
    signals.into_iter().collect::<SigSet>().thread_block()?;
    let terminal = io::stdout();
    let before = tcgetattr(&terminal)?;
    let mut socket = UnixStream::from(rustix::io::dup(io::stdin())?);
    socket.write_all(&[WATCHES])?;
    let (mut word, mut is_taken) = ([0], false);
    while let Ok(1..) = socket.read(&mut word) {
        is_taken = word == [TAKEN];
    }
    if !is_taken {
        return Ok(());
    }
    // A shell that is quicker has set modes of its own, and none of them prints without line ends.
    if !tcgetattr(&terminal)?.output_modes.contains(OutputModes::OPOST) {
        tcsetattr(&terminal, OptionalActions::Now, &before)?;
    }
    let mut terminal = terminal.lock();
    terminal.write_all(GIVEN_BACK)?;
    terminal.flush()
}
