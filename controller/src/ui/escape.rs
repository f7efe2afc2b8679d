//! Which characters never reach a terminal, and how they are shown instead.
//!
//! A control character, an escape sequence or a bidirectional override in a host's text could move the cursor, set
//! the window's title or clipboard, or make a line read as something else. Each is written as visible ASCII, such
//! as `\x1b` or `\u{202e}`. Only the run log keeps colours: SGR sequences, and nothing else that starts with ESC.

use std::fmt::Write as _;

/// Longest parameter part of an SGR sequence that is passed on.
const MAX_SGR: usize = 64;

/// Whether a terminal could act on `c`, or a reader could be misled by it.
pub fn is_hostile(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
            | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Text for one line: every hostile character, line breaks included, becomes visible.
pub fn line(text: &str) -> String {
    escaped(text, |_| false)
}

/// Text that may have several lines: line feeds and tabs stay, everything else hostile becomes visible.
pub fn block(text: &str) -> String {
    escaped(text, |c| c == '\n' || c == '\t')
}

/// Text within HTML or SVG, between tags or in a quoted attribute.
pub fn markup(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 16);
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

fn escaped(text: &str, keep: fn(char) -> bool) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_hostile(c) && !keep(c) {
            push_visible(&mut out, c);
        } else {
            out.push(c);
        }
    }
    out
}

fn push_visible(out: &mut String, c: char) {
    // Writing to a String cannot fail.
    let _ = match c {
        '\n' => write!(out, "\\n"),
        '\r' => write!(out, "\\r"),
        '\t' => write!(out, "\\t"),
        '\0'..='\x7f' => write!(out, "\\x{:02x}", u32::from(c)),
        _ => write!(out, "\\u{{{:x}}}", u32::from(c)),
    };
}

/// JSON text whose strings hold no character that a terminal could act on; it means the same.
pub fn json(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        // Line feeds of a pretty document stand between its strings; within them serde_json wrote `\n` already.
        if is_hostile(c) && c != '\n' {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                let _ = write!(out, "\\u{unit:04x}");
            }
        } else {
            out.push(c);
        }
    }
    out
}

/// Makes a stream of bytes harmless for a terminal, whatever pieces it comes in.
///
/// Keeps line feeds, tabs, carriage returns (progress bars rely on them), printable UTF-8 and SGR sequences.
#[derive(Debug, Default)]
pub struct StreamEscaper {
    state: State,
    coloured: bool,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Ground,
    /// The first bytes of a character.
    Partial(Vec<u8>),
    /// ESC was seen.
    Escape,
    /// ESC `[` and these parameters were seen.
    Sequence(String),
}

impl StreamEscaper {
    /// What to write for `bytes`; an unfinished character or sequence is held back.
    pub fn push(&mut self, bytes: &[u8]) -> String {
        let mut out = String::with_capacity(bytes.len() + 16);
        let mut rest = bytes;
        while let Some((&byte, tail)) = rest.split_first() {
            match std::mem::take(&mut self.state) {
                State::Ground => rest = self.ground(rest, &mut out),
                State::Partial(mut held) => {
                    if byte & 0xc0 == 0x80 {
                        held.push(byte);
                        self.character(held, &mut out);
                        rest = tail;
                    } else {
                        push_bytes(&mut out, &held);
                    }
                }
                State::Escape if byte == b'[' => {
                    self.state = State::Sequence(String::new());
                    rest = tail;
                }
                State::Escape => out.push_str("\\x1b"),
                State::Sequence(parameters) => {
                    if self.sequence(parameters, byte, &mut out) {
                        rest = tail;
                    }
                }
            }
        }
        out
    }

    /// Whether the stream has left a colour on.
    pub fn is_coloured(&self) -> bool {
        self.coloured
    }

    /// What to write when nothing follows: what was held back, and the end of a colour that was left on.
    pub fn finish(&mut self) -> String {
        let mut out = String::new();
        match std::mem::take(&mut self.state) {
            State::Ground => {}
            State::Partial(held) => push_bytes(&mut out, &held),
            State::Escape => out.push_str("\\x1b"),
            State::Sequence(parameters) => push_refused(&mut out, &parameters),
        }
        if std::mem::take(&mut self.coloured) {
            out.push_str("\x1b[0m");
        }
        out
    }

    /// Handles the start of `bytes` outside any sequence and returns what is left.
    fn ground<'a>(&mut self, bytes: &'a [u8], out: &mut String) -> &'a [u8] {
        let plain = bytes
            .iter()
            .take_while(|byte| matches!(byte, b' '..=b'~' | b'\n' | b'\t' | b'\r'))
            .count();
        let (head, tail) = bytes.split_at(plain);
        out.extend(head.iter().map(|byte| char::from(*byte)));
        let Some((&byte, rest)) = tail.split_first() else {
            return tail;
        };
        match byte {
            0x1b => self.state = State::Escape,
            0xc2..=0xf4 => self.state = State::Partial(vec![byte]),
            _ => push_bytes(out, &[byte]),
        }
        rest
    }

    /// Takes the bytes of a character so far and writes it once it is complete.
    fn character(&mut self, held: Vec<u8>, out: &mut String) {
        match std::str::from_utf8(&held) {
            Ok(text) => out.push_str(&line(text)),
            Err(error) if error.error_len().is_none() => self.state = State::Partial(held),
            Err(_) => push_bytes(out, &held),
        }
    }

    /// Takes one byte of a sequence; false when the byte does not belong to it and is to be read anew.
    fn sequence(&mut self, mut parameters: String, byte: u8, out: &mut String) -> bool {
        match byte {
            b'0'..=b'9' | b';' | b':' if parameters.len() < MAX_SGR => {
                parameters.push(char::from(byte));
                self.state = State::Sequence(parameters);
                true
            }
            b'm' => {
                self.coloured = !matches!(parameters.as_str(), "" | "0");
                let _ = write!(out, "\x1b[{parameters}m");
                true
            }
            _ => {
                push_refused(out, &parameters);
                false
            }
        }
    }
}

fn push_refused(out: &mut String, parameters: &str) {
    out.push_str("\\x1b[");
    out.push_str(parameters);
}

fn push_bytes(out: &mut String, bytes: &[u8]) {
    for byte in bytes {
        let _ = write!(out, "\\x{byte:02x}");
    }
}

#[cfg(test)]
mod tests;
