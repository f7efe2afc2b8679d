//! `NAME=value`, `"name": "value"`, `name: value`, where the name speaks of secrets.

use super::names::{self, Sure, is_variable};
use super::shapes::{BACK, LONG_NUMBER, compile};
use super::{Found, apart};
use regex::bytes::Regex;
use std::ops::Range;
use std::sync::LazyLock;

/// Longest name, in bytes.
const NAME: usize = 64;
/// Shortest value of a name that is only [`Sure::Likely`].
const LIKELY: usize = 8;
/// Shortest value of a name that is only [`Sure::Perhaps`].
const MADE: usize = 16;
/// Values that say that there is no secret, or speak about one.
const SAID: [&str; 20] = [
    "none",
    "null",
    "nil",
    "true",
    "false",
    "yes",
    "no",
    "on",
    "off",
    "undefined",
    "unset",
    "empty",
    "required",
    "disabled",
    "enabled",
    "invalid",
    "expired",
    "missing",
    "incorrect",
    "rejected",
];

/// A part of a name that may matter, the rest of the name, what may close it, and the sign of an assignment.
static SIGN: LazyLock<Option<Regex>> = LazyLock::new(|| {
    compile(
        r#"(?i)(?:token|secret|pass|key|credential|auth|cookie|dsn|conn)([a-z0-9_.-]{0,64})(?:\\{0,3}["']\]?)?[ \t]{0,8}(?:=>|:=|=|:)"#,
    )
});

struct Value {
    range: Range<usize>,
    quoted: bool,
}

/// Quotation marks that have no counterpart, with the place up to which that is known: a line full of them is not
/// searched to its end for each.
#[derive(Default)]
struct Unclosed(Vec<(u8, usize, usize)>);

/// Adds the values of assignments.
pub(super) fn find(text: &[u8], from: usize, found: &mut Vec<Found>) {
    let Some(sign) = SIGN.as_ref() else { return };
    let mut unclosed = Unclosed::default();
    let hidden = apart(found.clone());
    let mut at = from.saturating_sub(BACK);
    while let Some(assignment) = sign.find_at(text, at) {
        at = assignment.end();
        let name_end = end_of_name(text, assignment.range());
        let name_start = behind_hidden(&hidden, start_of_name(text, assignment.start())..name_end);
        let name = text.get(name_start..name_end).unwrap_or_default();
        let Ok(name) = std::str::from_utf8(name) else {
            continue;
        };
        let Some(sure) = names::judge(name) else { continue };
        let is_colon = text.get(assignment.end() - 1) == Some(&b':');
        let is_closed = name_end < assignment.end()
            && text
                .get(name_end)
                .is_some_and(|byte| matches!(byte, b'"' | b'\'' | b'\\'));
        let Some(value) = value(text, assignment.end(), is_variable(name), &mut unclosed) else {
            continue;
        };
        let is_prose = is_colon && !value.quoted && !is_closed;
        let bytes = text.get(value.range.clone()).unwrap_or_default();
        if is_prose && is_path(text, name_start) && is_word(bytes) {
            continue;
        }
        if is_secret(bytes, sure, is_prose) {
            found.push(Found {
                range: value.range,
                name: name.to_owned(),
            });
        }
    }
}

/// Whether a name is the end of a path, as in `/etc/passwd: Permission denied`.
fn is_path(text: &[u8], name: usize) -> bool {
    name.checked_sub(1).and_then(|before| text.get(before)) == Some(&b'/')
}

/// Whether a sentence may begin with it.
fn is_word(value: &[u8]) -> bool {
    let rest = value.get(1..).unwrap_or_default();
    value.first().is_some_and(u8::is_ascii_uppercase) && rest.iter().all(u8::is_ascii_lowercase)
}

/// Whether a field of this name and value, both known, is secret.
pub(super) fn is_secret_field(name: &str, value: &str) -> bool {
    names::judge(name).is_some_and(|sure| is_secret(value.as_bytes(), sure, false))
}

/// Where a name begins when what is secret in it is left out: it would be told in the placeholder.
fn behind_hidden(hidden: &[Found], name: Range<usize>) -> usize {
    let until = hidden.partition_point(|found| found.range.start < name.end);
    let last = until.checked_sub(1).and_then(|last| hidden.get(last));
    last.map_or(name.start, |found| found.range.end.clamp(name.start, name.end))
}

fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.')
}

fn start_of_name(text: &[u8], core: usize) -> usize {
    let before = text.get(core.saturating_sub(NAME)..core).unwrap_or_default();
    let length = before.iter().rev().take_while(|byte| is_name(**byte)).count();
    let start = core - length;
    let name = text.get(start..core).unwrap_or_default();
    if let Some(end) = colour_end(text, start, name) {
        return end;
    }
    // `--api-key=` is `api-key`.
    start + name.iter().take_while(|byte| matches!(byte, b'-' | b'.')).count()
}

/// Where a name begins that stands behind a sequence of a terminal, such as `ESC [ 1 ; 32 m`.
fn colour_end(text: &[u8], start: usize, name: &[u8]) -> Option<usize> {
    let digits = name.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let before = text.get(start.saturating_sub(16)..start).unwrap_or_default();
    let numbers = before
        .iter()
        .rev()
        .take_while(|byte| byte.is_ascii_digit() || **byte == b';')
        .count();
    let is_sequence = before
        .get(..before.len() - numbers)
        .is_some_and(|rest| rest.ends_with(b"\x1b["));
    (is_sequence && name.get(digits) == Some(&b'm')).then_some(start + digits + 1)
}

fn end_of_name(text: &[u8], assignment: Range<usize>) -> usize {
    let rest = text.get(assignment.clone()).unwrap_or_default();
    assignment.start + rest.iter().take_while(|byte| is_name(**byte)).count()
}

/// The value behind the sign of an assignment. That of a variable goes up to a blank, as in the output of `env`.
fn value(text: &[u8], sign: usize, is_variable: bool, unclosed: &mut Unclosed) -> Option<Value> {
    if text.get(sign) == Some(&b'=') || text.get(sign..).is_some_and(|rest| rest.starts_with(b"//")) {
        return None;
    }
    let rest = text.get(sign..).unwrap_or_default();
    let blanks = rest
        .iter()
        .take(8)
        .take_while(|byte| matches!(byte, b' ' | b'\t'))
        .count();
    let blank = |at: usize| text.get(at).is_some_and(|byte| matches!(byte, b' ' | b'\t'));
    if blanks > 0 && text.get(sign - 1) == Some(&b'=') && !blank(sign.saturating_sub(2)) {
        // `NAME= and so on` has no value.
        return None;
    }
    let mut start = sign + blanks;
    // Python prints bytes as b'…'.
    if let [b'b' | b'r' | b'u' | b'f', b'"' | b'\'', ..] = text.get(start..).unwrap_or_default() {
        start += 1;
    }
    if let Some(range) = quoted(text, start, unclosed) {
        let range = placeholder(text, &range).unwrap_or(range);
        return Some(Value { range, quoted: true });
    }
    let mut end = start;
    while let Some(byte) = text.get(end) {
        match byte {
            0..=b' ' | 0x7f | b'`' => break,
            b'\\' if text.get(end + 1).is_some_and(|next| b"nrt\"'\\u".contains(next)) => break,
            b'&' if !is_variable => break,
            b'"' | b'\'' => {
                // `SecretStr('…')` goes on with what it quotes.
                if end > start && text.get(end - 1) == Some(&b'(') {
                    let inner = quoted(text, end, unclosed);
                    end = inner.map_or(end, |inner| text.len().min(inner.end + 1));
                }
                break;
            }
            _ => end += 1,
        }
    }
    let raw = text.get(start..end).unwrap_or_default();
    let kept = raw
        .iter()
        .rev()
        .take_while(|byte| b"),;}]>.".contains(*byte))
        .count();
    let end = placeholder(text, &(start..end)).map_or(end - kept, |placeholder| placeholder.end);
    (start < end).then_some(Value {
        range: start..end,
        quoted: false,
    })
}

/// The placeholder at the beginning of a value. Its bracket belongs to it, and what follows was looked at when it was made:
/// the quotation mark that ended the value may have gone with it.
fn placeholder(text: &[u8], value: &Range<usize>) -> Option<Range<usize>> {
    let bytes = text.get(value.clone())?;
    let end = bytes.iter().position(|byte| *byte == b']')?;
    bytes
        .starts_with(b"[redacted:")
        .then_some(value.start..value.start + end + 1)
}

/// What stands between the quotation mark at `at`, however often it is escaped, and its counterpart in the same line.
fn quoted(text: &[u8], at: usize, unclosed: &mut Unclosed) -> Option<Range<usize>> {
    let rest = text.get(at..)?;
    let escapes = rest.iter().take(8).take_while(|byte| **byte == b'\\').count();
    let quote = *rest.get(escapes)?;
    if quote != b'"' && quote != b'\'' {
        return None;
    }
    let start = at + escapes + 1;
    if let Some(until) = unclosed.until(quote, escapes, start) {
        return Some(start..until);
    }
    let mut end = start;
    let mut backslashes = 0;
    while let Some(byte) = text.get(end) {
        match *byte {
            b'\n' | b'\r' => break,
            b'\\' => backslashes += 1,
            byte if byte == quote && backslashes <= escapes => {
                return Some(start..end - backslashes);
            }
            _ => backslashes = 0,
        }
        end += 1;
    }
    unclosed.0.push((quote, escapes, end));
    Some(start..end)
}

impl Unclosed {
    fn until(&self, quote: u8, escapes: usize, from: usize) -> Option<usize> {
        let (_, _, until) = self
            .0
            .iter()
            .rev()
            .take(8)
            .find(|known| (known.0, known.1) == (quote, escapes))?;
        (from <= *until).then_some(*until)
    }
}

fn is_secret(value: &[u8], sure: Sure, is_prose: bool) -> bool {
    let is_said = SAID
        .iter()
        .any(|said| value.eq_ignore_ascii_case(said.as_bytes()));
    if value.is_empty() || is_said || value.iter().all(|byte| *byte == b'*') {
        return false;
    }
    let is_number = value
        .iter()
        .all(|byte| byte.is_ascii_digit() || b".-+e_,".contains(byte));
    match sure {
        Sure::Certain => true,
        Sure::Variable => !is_number || value.len() >= LONG_NUMBER,
        Sure::Likely => value.len() >= LIKELY && !is_number && (!is_prose || looks_made(value, LIKELY)),
        Sure::Perhaps => looks_made(value, MADE),
    }
}

/// Whether a value looks generated: one long word with digits and letters of both sizes, or many hexadecimal digits.
fn looks_made(value: &[u8], least: usize) -> bool {
    let count = |is: fn(&u8) -> bool| value.iter().filter(|byte| is(byte)).count();
    let separators = value.iter().filter(|byte| b"._-/:,".contains(*byte)).count();
    let is_word = value
        .iter()
        .all(|byte| byte.is_ascii_alphanumeric() || b"+/=._-".contains(byte));
    let digits = count(u8::is_ascii_digit);
    let is_mixed = digits > 0 && count(u8::is_ascii_lowercase) > 0 && count(u8::is_ascii_uppercase) > 0;
    let is_hexadecimal = value.len() >= 2 * MADE && value.iter().all(u8::is_ascii_hexdigit);
    value.len() >= least && is_word && separators <= 1 && (is_mixed || is_hexadecimal)
}
