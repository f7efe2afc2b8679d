//! A panic while the live view has the terminal: a real terminal, and a process of its own that panics.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on must stop"
)]

#[allow(dead_code, unreachable_pub, reason = "the other suite uses the rest")]
#[path = "../../tests/src/pty.rs"]
mod pty;

use farrun::ui::screen::{Picture, Screen};
use pty::Pty;
use std::process::Command;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Set where this very test is the process that panics: `here` or `elsewhere`.
const ROLE: &str = "FARRUN_TEST_PANICS";
const SOON: Duration = Duration::from_secs(60);

#[test]
fn a_panic_gives_the_terminal_back_and_is_read_there() {
    if let Ok(role) = std::env::var(ROLE) {
        return panics(&role);
    }
    for role in ["here", "elsewhere"] {
        let mut program = Command::new(std::env::current_exe().unwrap());
        program
            .args([
                "--exact",
                "a_panic_gives_the_terminal_back_and_is_read_there",
                "--nocapture",
            ])
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env(ROLE, role);
        let mut terminal = Pty::start(&program, 24, 80);
        let code = terminal.wait(SOON);
        let words = terminal.words(0);
        assert!(
            words.contains("a picture") && words.contains("a defect of this test"),
            "{words}"
        );
        assert_eq!(code, Some(if role == "here" { 101 } else { 0 }), "{words}");
        assert_eq!(terminal.left_behind(), [""; 0], "{role}");
    }
}

fn panics(role: &str) {
    let broken = CancellationToken::new();
    let (mut screen, _keys) = Screen::open(&broken).unwrap();
    let picture = Picture {
        title: "a picture".to_owned(),
        ..Picture::default()
    };
    screen.show(&picture).unwrap();
    if role == "here" {
        panic!("a defect of this test");
    }
    let other = std::thread::spawn(|| panic!("a defect of this test"));
    assert!(other.join().is_err());
    assert!(broken.is_cancelled());
}
