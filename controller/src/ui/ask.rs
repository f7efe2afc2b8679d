//! Questions and secrets typed by the user.

use super::Ui;
use rustix::termios::{self, LocalModes, OptionalActions, Termios};
use std::io::{self, Read as _};

/// Longest secret that can be typed, in bytes.
const MAX_SECRET: usize = 4096;

impl Ui {
    /// Asks a yes-or-no question; anything but yes is no. None where nobody can answer.
    pub fn ask(&self, question: &str) -> Option<bool> {
        if !self.can_ask() {
            return None;
        }
        self.question(&format!("{question} [y/N] "));
        let mut answer = String::new();
        self.waiting_for_input(|| io::stdin().read_line(&mut answer))
            .ok()?;
        Some(is_yes(&answer))
    }

    /// Asks for a word that has to be typed out, as before a deletion of everything. None where nobody can answer.
    pub fn ask_text(&self, question: &str) -> Option<String> {
        if !self.can_ask() {
            return None;
        }
        self.question(&format!("{question} "));
        let mut answer = String::new();
        self.waiting_for_input(|| io::stdin().read_line(&mut answer))
            .ok()?;
        Some(answer.trim().to_owned())
    }

    /// Asks for a secret, which is not shown. None where nobody can answer, or when Ctrl-C was typed.
    pub fn ask_secret(&self, prompt: &str) -> Option<String> {
        if !self.can_ask() {
            return None;
        }
        self.question(&format!("{prompt}: "));
        let secret = {
            let _raw = RawInput::enter().ok()?;
            read_secret(io::stdin().lock().bytes().map_while(Result::ok))
        };
        self.message("\n");
        secret
    }

    /// Whether somebody can answer a question.
    pub fn can_ask(&self) -> bool {
        self.stdin_is_tty() && self.0.facts.stderr_tty
    }
}

fn is_yes(answer: &str) -> bool {
    matches!(answer.trim().to_lowercase().as_str(), "y" | "yes")
}

/// Keeps the terminal from showing what is typed. Signals are off too: a Ctrl-C that ended the program here would
/// leave the user's shell without echo.
struct RawInput(Termios);

impl RawInput {
    fn enter() -> rustix::io::Result<Self> {
        let before = termios::tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.local_modes
            .remove(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG);
        termios::tcsetattr(io::stdin(), OptionalActions::Flush, &raw)?;
        Ok(Self(before))
    }
}

impl Drop for RawInput {
    fn drop(&mut self) {
        // A terminal that is gone has no echo to restore.
        let _ = termios::tcsetattr(io::stdin(), OptionalActions::Flush, &self.0);
    }
}

/// Reads keys up to Enter: backspace takes a character back, Ctrl-U all of them, Ctrl-C gives up.
fn read_secret(keys: impl Iterator<Item = u8>) -> Option<String> {
    let mut typed: Vec<u8> = Vec::new();
    for key in keys {
        match key {
            b'\r' | b'\n' | 0x04 => return String::from_utf8(typed).ok(),
            0x03 => return None,
            0x08 | 0x7f => while typed.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {},
            0x15 => typed.clear(),
            _ if typed.len() < MAX_SECRET => typed.push(key),
            _ => return None,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_edit_a_secret() {
        let read = |keys: &str| read_secret(keys.bytes());
        assert_eq!(read("token\rrest"), Some("token".into()));
        assert_eq!(read("a€\u{7f}b\n"), Some("ab".into()));
        assert_eq!(read("wrong\u{15}right\n"), Some("right".into()));
        assert_eq!(read("tok\u{3}en\n"), None);
        assert_eq!(read("no end"), None);
        assert_eq!(read_secret(std::iter::repeat(b'x')), None);
    }

    #[test]
    fn nobody_is_asked_without_a_terminal() {
        let (ui, _, err) = Ui::captured();
        assert_eq!((ui.ask("Delete?"), ui.ask_secret("Token")), (None, None));
        assert_eq!(err.text(), "");
        assert!(is_yes(" Yes\n") && !is_yes("") && !is_yes("yeah"));
    }
}
