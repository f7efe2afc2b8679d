//! Exact values: the secrets that a run was given.

use super::{Found, SHORT};
use memchr::memmem::Finder;
use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::ops::Range;

/// Lines of a value of several lines are looked for on their own from this length on.
const LINE: usize = 16;

/// What to look for. Its values are never shown.
#[derive(Default)]
pub(super) struct Values(Vec<Value>);

struct Value {
    name: String,
    bytes: Vec<u8>,
    finder: Finder<'static>,
}

impl fmt::Debug for Values {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_list()
            .entries(self.0.iter().map(|value| &value.name))
            .finish()
    }
}

impl Values {
    pub(super) fn new<N: AsRef<str>, V: AsRef<str>>(values: impl IntoIterator<Item = (N, V)>) -> Self {
        let mut forms: BTreeMap<Vec<u8>, String> = BTreeMap::new();
        for (name, value) in values {
            for form in forms_of(value.as_ref()) {
                forms.entry(form).or_insert_with(|| name.as_ref().to_owned());
            }
        }
        let mut values: Vec<Value> = forms
            .into_iter()
            .map(|(bytes, name)| Value {
                name,
                finder: Finder::new(&bytes).into_owned(),
                bytes,
            })
            .collect();
        // Of two that begin together the longer names the place.
        values.sort_by_key(|value| std::cmp::Reverse(value.bytes.len()));
        Self(values)
    }

    /// Length of the longest, in bytes.
    pub(super) fn longest(&self) -> usize {
        self.0.iter().map(|value| value.bytes.len()).max().unwrap_or(0)
    }

    pub(super) fn find(&self, text: &[u8], from: usize) -> Vec<Found> {
        let mut found = Vec::new();
        // The longest come first: a short one may stand alone because of what they hide beside it.
        let mut borders = HashSet::new();
        for value in &self.0 {
            let is_short = value.bytes.len() < SHORT;
            let mut at = from;
            while let Some(position) = text.get(at..).and_then(|rest| value.finder.find(rest)) {
                let start = at + position;
                let range = start..start + value.bytes.len();
                at = start + 1;
                if is_short && !stands_alone(text, &range, &borders) {
                    continue;
                }
                at = range.end;
                if !is_short {
                    borders.extend([range.start, range.end]);
                }
                found.push(Found {
                    range,
                    name: value.name.clone(),
                });
            }
        }
        found
    }
}

fn stands_alone(text: &[u8], range: &Range<usize>, borders: &HashSet<usize>) -> bool {
    let is_word = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let before = range.start.checked_sub(1).and_then(|at| text.get(at));
    (!is_word(before) || borders.contains(&range.start))
        && (!is_word(text.get(range.end)) || borders.contains(&range.end))
}

/// The ways in which a value may stand in a text.
fn forms_of(value: &str) -> Vec<Vec<u8>> {
    let trimmed = value.trim();
    if trimmed.is_empty() {
        return Vec::new();
    }
    let mut forms = vec![trimmed.as_bytes().to_vec()];
    if let Ok(escaped) = serde_json::to_string(trimmed) {
        forms.push(escaped.trim_matches('"').as_bytes().to_vec());
    }
    forms.push(percent_encoded(trimmed));
    if trimmed.contains('\n') {
        // Whatever prints it line by line puts something before each.
        let lines = trimmed.lines().map(str::trim).filter(|line| line.len() >= LINE);
        forms.extend(lines.map(|line| line.as_bytes().to_vec()));
    }
    forms.retain(|form| !form.is_empty());
    forms
}

fn percent_encoded(value: &str) -> Vec<u8> {
    let mut encoded = Vec::new();
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(byte);
        } else {
            encoded.extend_from_slice(format!("%{byte:02X}").as_bytes());
        }
    }
    encoded
}
