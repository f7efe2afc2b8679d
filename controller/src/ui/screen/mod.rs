//! The live view: a whole screen that is drawn again and again, and given back as it was.
//!
//! The terminal is restored when [`Screen`] goes, when anything panics, and while the program is stopped by Ctrl-Z. When it is
//! killed, a second process does so.

mod draw;
mod guard;
mod picture;

pub use draw::draw;
pub use guard::guards_terminal;
pub use picture::{GpuRow, HostPanel, Picture, RunRow};

use crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use crossterm::terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode};
use crossterm::{cursor, execute};
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use rustix::process::{Signal, kill_current_process_group};
use std::io::{self, Stdout};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// How long the reader of keys waits before it looks whether anybody still wants them.
const PATIENCE: Duration = Duration::from_millis(200);

/// A program that still runs so long after it was to be stopped is not stopped at all.
const NOT_STOPPED: Duration = Duration::from_secs(1);

/// What the user wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// The run above.
    Up,
    /// The run below.
    Down,
    /// Hosts further up.
    PageUp,
    /// Hosts further down.
    PageDown,
    /// Leave.
    Quit,
    /// Stop the program until it is continued.
    Suspend,
    /// The terminal has another size.
    Resized,
}

/// The whole terminal, until it is dropped.
pub struct Screen {
    terminal: Terminal<CrosstermBackend<Stdout>>,
    /// Tells the reader of keys that nobody listens any more.
    over: Arc<AtomicBool>,
}

impl std::fmt::Debug for Screen {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Screen").finish_non_exhaustive()
    }
}

impl Screen {
    /// Takes the terminal. Keys arrive through the receiver; `broken` is cancelled when anything panics.
    ///
    /// # Errors
    /// The terminal refuses.
    pub fn open(broken: &CancellationToken) -> io::Result<(Self, mpsc::UnboundedReceiver<Key>)> {
        restore_on_panic(broken.clone());
        guard::start();
        enter()?;
        let over = Arc::new(AtomicBool::new(false));
        let (keys, pressed) = mpsc::unbounded_channel();
        let reading = Arc::clone(&over);
        let made = Terminal::new(CrosstermBackend::new(io::stdout())).and_then(|terminal| {
            std::thread::Builder::new()
                .name("keys".to_owned())
                .spawn(move || read_keys(&keys, &reading))?;
            Ok(Self { terminal, over })
        });
        match made {
            Ok(screen) => Ok((screen, pressed)),
            Err(error) => {
                leave();
                Err(error)
            }
        }
    }

    /// Shows a picture.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn show(&mut self, picture: &Picture) -> io::Result<()> {
        self.terminal.draw(|frame| draw(frame, picture)).map(drop)
    }

    /// Gives the terminal back, stops the program, and takes the terminal again once it is continued, which `continued`
    /// hears. Any thread may take the signal, so that this one can still run for a moment.
    ///
    /// # Errors
    /// The terminal refuses.
    pub async fn suspend(&mut self, continued: impl Future<Output = Option<()>>) -> io::Result<()> {
        leave();
        // As the terminal would do it outside raw mode: the whole job, so that a wrapping script stops as well.
        kill_current_process_group(Signal::TSTP)?;
        // The kernel does not stop a job that no shell could continue, and whoever started us may have it ignored.
        let _ = tokio::time::timeout(NOT_STOPPED, continued).await;
        self.take_again()
    }

    /// Takes the terminal once more: whoever stopped and continued the program may have used it meanwhile.
    ///
    /// # Errors
    /// The terminal refuses.
    pub fn take_again(&mut self) -> io::Result<()> {
        enter()?;
        // A new one draws everything; clearing the old one would ask the terminal where its cursor is.
        self.terminal = Terminal::new(CrosstermBackend::new(io::stdout()))?;
        Ok(())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        leave();
    }
}

/// What leaves the other screen and shows the cursor: `LeaveAlternateScreen` and `cursor::Show`.
const GIVEN_BACK: &[u8] = b"\x1b[?1049l\x1b[?25h";

/// Whether the terminal is ours now.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// Gives the terminal back when it is still taken: for whoever ends the program without waiting for its command.
pub fn give_back() {
    if TAKEN.load(Ordering::Relaxed) {
        leave();
    }
}

fn enter() -> io::Result<()> {
    TAKEN.store(true, Ordering::Relaxed);
    guard::tell(true);
    // It remembers that it is on; where a shell has taken the terminal meanwhile, that is not so.
    let _ = disable_raw_mode();
    enable_raw_mode()?;
    execute!(io::stdout(), EnterAlternateScreen, cursor::Hide).inspect_err(|_| leave())
}

fn leave() {
    // Each on its own: one that fails must not keep the others from being tried.
    let _ = execute!(io::stdout(), LeaveAlternateScreen, cursor::Show);
    let _ = disable_raw_mode();
    TAKEN.store(false, Ordering::Relaxed);
    guard::tell(false);
}

/// A panic's message is for the terminal that the user had before.
fn restore_on_panic(broken: CancellationToken) {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !broken.is_cancelled() {
            leave();
        }
        broken.cancel();
        before(panic);
    }));
}

fn read_keys(keys: &mpsc::UnboundedSender<Key>, over: &AtomicBool) {
    while !over.load(Ordering::Relaxed) {
        let key = match event::poll(PATIENCE) {
            Ok(false) => continue,
            Ok(true) => event::read().map(meaning),
            Err(error) => Err(error),
        };
        match key {
            Ok(None) => {}
            Ok(Some(key)) => {
                if keys.send(key).is_err() {
                    return;
                }
            }
            // The terminal is gone; dropping the sender says so.
            Err(_) => return,
        }
    }
}

fn meaning(event: Event) -> Option<Key> {
    match event {
        Event::Resize(..) => Some(Key::Resized),
        Event::Key(key) if key.kind != KeyEventKind::Release => of_key(key),
        _ => None,
    }
}

fn of_key(key: KeyEvent) -> Option<Key> {
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    match key.code {
        KeyCode::Char('c' | 'd') if control => Some(Key::Quit),
        KeyCode::Char('z') if control => Some(Key::Suspend),
        KeyCode::Char('q') | KeyCode::Esc => Some(Key::Quit),
        KeyCode::Up | KeyCode::Char('k') => Some(Key::Up),
        KeyCode::Down | KeyCode::Char('j') => Some(Key::Down),
        KeyCode::PageUp => Some(Key::PageUp),
        KeyCode::PageDown => Some(Key::PageDown),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_guards_the_terminal_says_what_the_program_says() {
        let mut said = Vec::new();
        crossterm::queue!(said, LeaveAlternateScreen, cursor::Show).unwrap();
        assert_eq!(said, GIVEN_BACK);
    }

    #[test]
    fn keys_mean_what_the_help_line_says() {
        let plain = |code| of_key(KeyEvent::new(code, KeyModifiers::NONE));
        let control = |c| of_key(KeyEvent::new(KeyCode::Char(c), KeyModifiers::CONTROL));
        assert_eq!(plain(KeyCode::Esc), Some(Key::Quit));
        assert_eq!(plain(KeyCode::Char('q')), Some(Key::Quit));
        assert_eq!(control('c'), Some(Key::Quit));
        assert_eq!(control('z'), Some(Key::Suspend));
        assert_eq!(plain(KeyCode::Char('z')), None);
        assert_eq!(plain(KeyCode::Down), Some(Key::Down));
    }
}
