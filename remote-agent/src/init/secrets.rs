//! Secrets, which arrive on stdin as one line and live in the job's environment only.
//!
//! ```text
//! secrets:<base64 of a JSON object, name to value>:<SHA-256 of that base64 text in hex>
//! ```
//!
//! A delivery may be cut and repeated, so everything that is not such a line, whole and correct, is ignored.

use super::signals::Signals;
use base64::Engine as _;
use farrun_protocol::Sha256;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::os::fd::AsFd;

/// Longest line that is looked at, in bytes.
const LINE_LIMIT: usize = 4 * 1024 * 1024;
/// Bytes read at once.
const READ_SIZE: usize = 64 * 1024;

/// Names and values; deliberately without `Debug`.
pub(super) type Secrets = BTreeMap<String, String>;

/// No secrets will come.
#[derive(Debug)]
pub(super) struct NoSecrets {
    /// The signal that ended the wait; none when the delivery ended.
    pub(super) signal: Option<Signal>,
}

/// Waits for the one valid line.
///
/// # Errors
/// When `input` ends or cannot be read, or somebody asks us to end.
pub(super) fn wait(input: impl AsFd, signals: &Signals) -> Result<Secrets, NoSecrets> {
    let mut lines = Lines::default();
    let mut buffer = vec![0; READ_SIZE];
    loop {
        let mut sources = [
            PollFd::new(&input, PollFlags::IN),
            PollFd::new(signals, PollFlags::IN),
        ];
        match poll(&mut sources, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => return Err(NoSecrets { signal: None }),
        }
        let readable = sources.first().is_some_and(|source| !source.revents().is_empty());
        if let Some(signal) = signals.drain().into_iter().find(|signal| ends(*signal)) {
            return Err(NoSecrets { signal: Some(signal) });
        }
        if !readable {
            continue;
        }
        match rustix::io::read(&input, &mut buffer) {
            Err(Errno::INTR | Errno::AGAIN) => {}
            Ok(0) | Err(_) => return Err(NoSecrets { signal: None }),
            Ok(count) => {
                if let Some(secrets) = lines.feed(buffer.get(..count).unwrap_or_default()) {
                    return Ok(secrets);
                }
            }
        }
    }
}

/// Whether a signal ends a job that has not begun.
fn ends(signal: Signal) -> bool {
    [Signal::HUP, Signal::INT, Signal::QUIT, Signal::TERM].contains(&signal)
}

/// Cuts what arrives into lines, in bounded memory.
#[derive(Default)]
struct Lines {
    line: Vec<u8>,
    /// Whether the line is longer than any delivery and is skipped up to its end.
    too_long: bool,
}

impl Lines {
    /// Takes more bytes and returns the first valid delivery that they complete.
    fn feed(&mut self, bytes: &[u8]) -> Option<Secrets> {
        let mut pieces = bytes.split(|byte| *byte == b'\n').peekable();
        while let Some(piece) = pieces.next() {
            self.extend(piece);
            if pieces.peek().is_some()
                && let Some(secrets) = self.end_line()
            {
                return Some(secrets);
            }
        }
        None
    }

    fn extend(&mut self, piece: &[u8]) {
        if self.line.len() + piece.len() > LINE_LIMIT {
            self.too_long = true;
            self.line = Vec::new();
        }
        if !self.too_long {
            self.line.extend_from_slice(piece);
        }
    }

    fn end_line(&mut self) -> Option<Secrets> {
        let line = std::mem::take(&mut self.line);
        let too_long = std::mem::take(&mut self.too_long);
        if too_long { None } else { parse(&line) }
    }
}

fn parse(line: &[u8]) -> Option<Secrets> {
    let line = std::str::from_utf8(line).ok()?;
    let (text, hash) = line.strip_prefix("secrets:")?.split_once(':')?;
    if Sha256::of(text.as_bytes()).as_str() != hash {
        return None;
    }
    let json = base64::engine::general_purpose::STANDARD.decode(text).ok()?;
    let secrets: Secrets = serde_json::from_slice(&json).ok()?;
    secrets
        .iter()
        .all(|(name, value)| !name.is_empty() && !name.contains(['=', '\0']) && !value.contains('\0'))
        .then_some(secrets)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn delivery(json: &str) -> String {
        let text = base64::engine::general_purpose::STANDARD.encode(json);
        format!("secrets:{text}:{}\n", Sha256::of(text.as_bytes()))
    }

    fn token() -> Option<Secrets> {
        Some(BTreeMap::from([("TOKEN".to_owned(), "a:b\nc".to_owned())]))
    }

    proptest! {
        #[test]
        fn a_delivery_is_found_however_it_is_cut(cut in 0usize..100, size in 1usize..40) {
            let whole = delivery(r#"{"TOKEN":"a:b\nc"}"#);
            let cut = cut.min(whole.len() - 1);
            let stream = format!("\nnoise\n{}\n{whole}", &whole[..cut]);
            let mut lines = Lines::default();
            let found = stream.as_bytes().chunks(size).filter_map(|chunk| lines.feed(chunk)).next();
            // A cut that lost the newline alone is a whole delivery already.
            prop_assert_eq!(found, token());
        }

        #[test]
        fn nothing_else_is_believed(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert_eq!(Lines::default().feed(&bytes), None);
        }
    }

    #[test]
    fn a_wrong_hash_or_name_is_ignored() {
        let whole = delivery(r#"{"TOKEN":"a:b\nc"}"#);
        let mut lines = Lines::default();
        assert_eq!(
            lines.feed(whole.replace("secrets:", "secrets:A").as_bytes()),
            None
        );
        assert_eq!(lines.feed(delivery(r#"{"A=B":"x"}"#).as_bytes()), None);
        assert_eq!(lines.feed(delivery(r#"{"A":"\u0000"}"#).as_bytes()), None);
        assert_eq!(lines.feed(delivery(r#"["A"]"#).as_bytes()), None);
        assert_eq!(lines.feed(whole.as_bytes()), token());
    }

    #[test]
    fn an_endless_line_is_skipped_in_bounded_memory() {
        let mut lines = Lines::default();
        for _ in 0..200 {
            assert_eq!(lines.feed(&[b'x'; READ_SIZE]), None);
            assert!(lines.line.capacity() <= 2 * LINE_LIMIT);
        }
        assert_eq!(lines.feed(b"\n"), None);
        assert_eq!(lines.feed(delivery(r#"{"TOKEN":"a:b\nc"}"#).as_bytes()), token());
    }
}
