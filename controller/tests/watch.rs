//! `farrun status --watch` on a terminal of its own: it takes the terminal, and always gives it back.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail by panicking, also in the functions that tests share"
)]

use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const ENTER: &str = "\u{1b}[?1049h";
const LEAVE: &str = "\u{1b}[?1049l";
/// A machine under load starts programs slowly.
const SOON: Duration = Duration::from_secs(60);

/// The program on a terminal of 80 by 24, with one host that refuses every connection.
struct Watch {
    child: Child,
    master: File,
    terminal: File,
    said: Arc<Mutex<Vec<u8>>>,
    _home: tempfile::TempDir,
}

fn farrun(home: &std::path::Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_farrun"));
    command
        .env_clear()
        .env("HOME", home)
        .env("TERM", "xterm")
        .env("NO_COLOR", "1");
    command
}

impl Watch {
    fn start() -> Self {
        Self::start_as(|program| {
            program.process_group(0);
        })
    }

    /// No shell could continue it, were it stopped.
    fn start_in_a_session_of_its_own() -> Self {
        Self::start_as(|program| {
            let mut alone = Command::new("setsid");
            alone.arg(program.get_program()).args(program.get_args());
            alone.env_clear();
            let set = program.get_envs();
            alone.envs(set.filter_map(|(name, value)| Some((name, value?))));
            alone.env("PATH", "/usr/local/bin:/usr/bin:/bin");
            *program = alone;
        })
    }

    fn start_as(change: impl FnOnce(&mut Command)) -> Self {
        let home = tempfile::tempdir().unwrap();
        let database = home.path().join(".local/state/farrun/farrun.db");
        // Adding a host needs it to answer, so its row is written as another machine would have written it.
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let location = farrun::store::Location::Sqlite(database);
            let store = farrun::store::Store::open(&location, "laptop").await.unwrap();
            let host = farrun::model::Host {
                name: "gpu1".to_owned(),
                settings: farrun::model::HostSettings {
                    address: Some("me@127.0.0.1:1".to_owned()),
                    ..Default::default()
                },
                host_id: None,
                platform: None,
                added_at: chrono::Utc::now(),
                last_seen: None,
            };
            store.add_host(&host).await.unwrap();
            store.close().await.unwrap();
        });
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let size = Winsize {
            ws_row: 24,
            ws_col: 80,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&master, size).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let terminal = File::options()
            .read(true)
            .write(true)
            .open(name.to_str().unwrap())
            .unwrap();
        let stdio = || Stdio::from(terminal.try_clone().unwrap());
        let mut program = farrun(home.path());
        program.args(["status", "--watch"]);
        change(&mut program);
        program.stdin(stdio()).stdout(stdio()).stderr(stdio());
        let child = program.spawn().unwrap();
        let master = File::from(master);
        let said = Arc::new(Mutex::new(Vec::new()));
        let (mut reader, heard) = (master.try_clone().unwrap(), Arc::clone(&said));
        std::thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(count @ 1..) = reader.read(&mut piece) {
                heard.lock().unwrap().extend_from_slice(&piece[..count]);
            }
        });
        Self {
            child,
            master,
            terminal,
            said,
            _home: home,
        }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.said.lock().unwrap()).into_owned()
    }

    fn wait_for(&mut self, what: &str, condition: impl Fn(&mut Self) -> bool) {
        let deadline = Instant::now() + SOON;
        while !condition(self) {
            assert!(Instant::now() < deadline, "{what}: {}", self.text());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn wait_for_picture(&mut self) {
        self.wait_for("the picture", |watch| {
            // Between words the cursor may be moved instead of a space be written.
            let text = watch.text();
            ["gpu1", "away", "refused", "active"]
                .iter()
                .all(|word| text.contains(word))
        });
    }

    fn press(&mut self, keys: &[u8]) {
        self.master.write_all(keys).unwrap();
    }

    /// Whether the terminal shows what is typed and understands Ctrl-C, as before.
    fn is_restored(&self) -> bool {
        let modes = tcgetattr(&self.terminal).unwrap().local_modes;
        let text = self.text();
        modes.contains(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG)
            && text.matches(ENTER).count() == text.matches(LEAVE).count()
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().cast_signed()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    fn state(&self) -> char {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let behind = stat.rsplit_once(") ").unwrap().1;
        behind.chars().next().unwrap()
    }

    fn ends(mut self) {
        self.wait_for("the end", |watch| watch.child.try_wait().unwrap().is_some());
        assert_eq!(self.child.wait().unwrap().code(), Some(0), "{}", self.text());
        self.wait_for("the last words", Self::restored);
    }

    fn restored(&mut self) -> bool {
        self.is_restored()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn keys_leave_it_and_the_terminal_is_as_before() {
    for keys in [&b"q"[..], b"\x1b", b"\x03"] {
        let mut watch = Watch::start();
        watch.wait_for_picture();
        assert!(!watch.is_restored());
        watch.press(keys);
        watch.ends();
    }
}

#[test]
fn signals_end_it_and_the_terminal_is_as_before() {
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        let mut watch = Watch::start();
        watch.wait_for_picture();
        watch.signal(signal);
        watch.ends();
    }
}

#[test]
fn while_it_is_stopped_the_terminal_is_as_before() {
    let mut watch = Watch::start();
    watch.wait_for_picture();
    watch.press(b"\x1a");
    watch.wait_for("the stop", |watch| watch.state() == 'T' && watch.is_restored());
    watch.signal(Signal::CONT);
    watch.wait_for("the terminal taken again", |watch| {
        watch.text().matches(ENTER).count() == 2
    });
    watch.press(b"q");
    watch.ends();
}

#[test]
fn where_nobody_could_continue_it_it_goes_on_instead_of_stopping() {
    let mut watch = Watch::start_in_a_session_of_its_own();
    watch.wait_for_picture();
    watch.press(b"\x1a");
    watch.wait_for("the terminal taken again", |watch| {
        let text = watch.text();
        (text.matches(ENTER).count(), text.matches(LEAVE).count()) == (2, 1)
    });
    assert_ne!(watch.state(), 'T');
    watch.press(b"q");
    watch.ends();
}

#[test]
fn another_size_is_drawn_anew() {
    let mut watch = Watch::start();
    watch.wait_for_picture();
    let size = Winsize {
        ws_row: 8,
        ws_col: 30,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(&watch.master, size).unwrap();
    // The kernel tells the foreground group of a controlling terminal; this one controls nobody.
    watch.signal(Signal::WINCH);
    watch.wait_for("a plea", |watch| watch.text().contains("larger"));
    watch.press(b"q");
    watch.ends();
}

#[test]
fn without_a_terminal_it_says_so() {
    let home = tempfile::tempdir().unwrap();
    let ended = farrun(home.path())
        .args(["status", "--watch"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(ended.status.code(), Some(2));
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(said.contains("needs a terminal"), "{said}");
    assert!(ended.stdout.is_empty());
}
