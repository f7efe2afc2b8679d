//! Taking secrets out of text that leaves a host, or that is shown to others.
//!
//! What is replaced becomes `[redacted:NAME]`: the name of the run's secret, of the variable, or of the shape it was
//! recognised by. Two ways of finding lie above one another and what either finds is gone:
//!
//! * **exact values** ([`Redactor::with_values`]): the run's own secrets, wherever they stand, also escaped for JSON
//!   or for a URL. Those shorter than [`SHORT`] bytes only where they stand alone, because replacing every `a` would
//!   leave nothing to read;
//! * **shapes** ([`Redactor::by_shape`]): tokens with a known beginning, JWTs, `Authorization` headers, logins in URLs,
//!   PEM blocks, and assignments (`NAME=value`, `"name": "value"`, `name: value`) to a name that speaks of secrets.
//!
//! Text is bytes: a log need not be UTF-8. It may be given in any pieces ([`Stream`]); what comes out depends on the
//! content alone and never on where it was cut. Redacting twice is redacting once.
//!
//! Shapes are a second line of defence. A secret that looks like a word and is called `x` is not found by any.

mod assignments;
mod json;
mod masked;
mod names;
mod shapes;
mod stream;
#[cfg(test)]
mod tests;
mod values;

pub use stream::{Piece, Stream};

use masked::Masked;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};
use stream::Limits;
use values::Values;

/// Values shorter than this are replaced only where no letter or digit stands beside them.
pub const SHORT: usize = 4;
/// How many different names are counted; what comes later is counted as `other`.
const MOST_NAMES: usize = 256;
/// Longest name in a placeholder, in bytes.
const NAME_LENGTH: usize = 64;

/// A secret that was found, as bytes of the text it was found in.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Found {
    range: Range<usize>,
    name: String,
}

/// Finds secrets, replaces them and counts what it replaced.
#[derive(Debug, Default)]
pub struct Redactor {
    values: Values,
    limits: Limits,
    counts: Mutex<BTreeMap<String, u64>>,
}

impl Redactor {
    /// One that knows no values.
    pub fn by_shape() -> Self {
        Self::default()
    }

    /// One that knows these values (name, value) as well.
    pub fn with_values<N: AsRef<str>, V: AsRef<str>>(values: impl IntoIterator<Item = (N, V)>) -> Self {
        let values = Values::new(values);
        let limits = Limits::for_values(values.longest());
        Self {
            values,
            limits,
            counts: Mutex::default(),
        }
    }

    /// The text without its secrets.
    pub fn text(&self, text: &str) -> String {
        match String::from_utf8(self.bytes(text.as_bytes())) {
            Ok(text) => text,
            Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
        }
    }

    /// The bytes without their secrets.
    pub fn bytes(&self, bytes: &[u8]) -> Vec<u8> {
        let mut redacted = Vec::with_capacity(bytes.len());
        let mut stream = self.stream();
        stream.push(bytes, &mut |piece| self.write(&piece, &mut redacted));
        stream.finish(&mut |piece| self.write(&piece, &mut redacted));
        redacted
    }

    /// Begins a text that comes in pieces. What it finds is counted when it is [written](Self::write).
    pub fn stream(&self) -> Stream<'_> {
        Stream::new(self)
    }

    /// Appends a piece as it is to be seen, and counts it when it hides something.
    pub fn write(&self, piece: &Piece<'_>, to: &mut Vec<u8>) {
        match piece {
            Piece::Plain(bytes) => to.extend_from_slice(bytes),
            Piece::Hidden { name: Some(name), .. } => to.extend_from_slice(self.hide(name).as_bytes()),
            Piece::Hidden { name: None, .. } => {}
        }
    }

    /// The placeholder for something that is known to be secret; counts it.
    pub fn hide(&self, name: &str) -> String {
        let name = tame(name);
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let counted = if counts.len() < MOST_NAMES || counts.contains_key(&name) {
            name.clone()
        } else {
            "other".to_owned()
        };
        let count = counts.entry(counted).or_default();
        *count = count.saturating_add(1);
        format!("[redacted:{name}]")
    }

    /// How often something was replaced so far, by name.
    pub fn counts(&self) -> BTreeMap<String, u64> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// All that is secret in `text`, from `from` on, in order and apart from one another. What lies before `from` is
    /// looked at only to understand what follows.
    fn find(&self, text: &[u8], from: usize) -> Vec<Found> {
        // Also what was told already: a name may hold a value, and would be told once more in a placeholder.
        let mut exact = self.values.find(text, from.saturating_sub(shapes::BACK));
        leave_placeholders(text, &mut exact);
        let exact = apart(exact);
        if exact.is_empty() {
            return shaped(text, from);
        }
        // Shapes are looked for in what is seen once the values are gone, as a second reader would.
        let masked = Masked::new(text, exact);
        let mut found: Vec<Found> = shaped(&masked.text, masked.after(from))
            .into_iter()
            .map(|found| masked.found(found))
            .collect();
        let values = masked.into_values();
        found.retain(|found| !values.iter().any(|value| value.range == found.range));
        // First among those that begin together, so that its name is the one that is kept.
        let mut all = values;
        all.append(&mut found);
        apart(all)
    }
}

/// What shapes and assignments find, apart from one another.
fn shaped(text: &[u8], from: usize) -> Vec<Found> {
    let mut found = shapes::find(text, from);
    assignments::find(text, from, &mut found);
    leave_placeholders(text, &mut found);
    apart(found)
}

/// Forgets what is a placeholder already, or lies within one.
fn leave_placeholders(text: &[u8], found: &mut Vec<Found>) {
    let placeholders = if found.is_empty() {
        Vec::new()
    } else {
        shapes::placeholders(text)
    };
    let is_left = |range: &Range<usize>| {
        let next = placeholders.partition_point(|placeholder| placeholder.end <= range.start);
        placeholders.get(next).is_some_and(|placeholder| {
            let behind = text.get(placeholder.end..range.end).unwrap_or_default();
            placeholder.start <= range.start && behind.iter().all(|byte| b"),;}]>.".contains(byte))
        })
    };
    found.retain(|found| found.range.start < found.range.end && !is_left(&found.range));
}

/// In order, with those that overlap made one.
fn apart(mut found: Vec<Found>) -> Vec<Found> {
    found.sort_by_key(|found| found.range.start);
    let mut apart: Vec<Found> = Vec::new();
    for found in found {
        match apart.last_mut() {
            Some(last) if found.range.start < last.range.end => {
                last.range.end = last.range.end.max(found.range.end);
            }
            _ => apart.push(found),
        }
    }
    apart
}

/// Whether the value of an environment variable or field of this name is taken for secret whatever it is. Stricter
/// than what is done in text, where `key` is an ordinary word.
pub fn is_secret_name(name: &str) -> bool {
    names::speaks_of_secrets(name)
}

/// A name as it may stand in a placeholder.
fn tame(name: &str) -> String {
    let tame: String = name
        .chars()
        .take(NAME_LENGTH)
        .map(|letter| {
            if letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-' | '.') {
                letter
            } else {
                '_'
            }
        })
        .collect();
    if tame.is_empty() { "value".to_owned() } else { tame }
}
