//! Secrets that are known by how they look.

use super::Found;
use regex::bytes::{Captures, Regex, RegexBuilder};
use std::ops::Range;
use std::sync::LazyLock;

/// Bytes before the place to begin at that are looked through again, for what began in them.
pub(super) const BACK: usize = 256;
/// Longest PEM block, in bytes.
const PEM: usize = 16 * 1024;
/// Shortest line of base64 in a PEM block that is taken for one whatever follows.
const PEM_LINE: usize = 16;

struct Shape {
    name: &'static str,
    regex: Regex,
    /// Whether the secret is the first group and not the whole.
    group: bool,
    spared: Spared,
}

/// What a shape leaves alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spared {
    Nothing,
    /// What looks like a word of prose.
    Words,
    /// Numbers that are no longer than counts are.
    Counts,
}
use Spared::{Counts, Nothing, Words};

/// Digits from which on a number is no count.
pub(super) const LONG_NUMBER: usize = 12;

/// Name, pattern, whether the first group is the secret, what is left alone.
const PATTERNS: [(&str, &str, bool, Spared); 20] = [
    (
        "huggingface",
        r"\b(?:hf|api_org)_[A-Za-z0-9]{20,}",
        false,
        Nothing,
    ),
    ("openai", r"\bsk-[A-Za-z0-9_-]{16,}", false, Words),
    (
        "stripe",
        r"\b[rs]k_(?:live|test)_[A-Za-z0-9]{16,}",
        false,
        Nothing,
    ),
    (
        "github",
        r"\b(?:gh[oprsu]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,})",
        false,
        Nothing,
    ),
    ("gitlab", r"\bgl[a-z]{2,4}-[A-Za-z0-9_-]{20,}", false, Words),
    ("aws", r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b", false, Nothing),
    (
        "slack",
        r"\bxox[a-z]-[A-Za-z0-9-]{10,}|\bxapp-[A-Za-z0-9-]{10,}",
        false,
        Words,
    ),
    ("nvidia", r"\bnvapi-[A-Za-z0-9_-]{16,}", false, Nothing),
    ("google", r"\bAIza[A-Za-z0-9_-]{30,}", false, Nothing),
    ("replicate", r"\br8_[A-Za-z0-9]{30,}", false, Nothing),
    ("npm", r"\bnpm_[A-Za-z0-9]{30,}", false, Nothing),
    ("pypi", r"\bpypi-[A-Za-z0-9_-]{32,}", false, Words),
    ("docker", r"\bdckr_[a-z]{2,4}_[A-Za-z0-9_-]{20,}", false, Nothing),
    (
        "jwt",
        r"\beyJ[A-Za-z0-9_-]{10,}(?:\.[A-Za-z0-9_-]*){1,4}",
        false,
        Nothing,
    ),
    (
        "bearer",
        r"(?i)\b(?:bearer|basic)[ \t]{1,8}([A-Za-z0-9._~+/=-]{8,})",
        true,
        Words,
    ),
    (
        "authorization",
        r#"(?i)\b(?:proxy-)?authorization(?:\\{0,3}["'])?[ \t]{0,8}[:=][ \t]{0,8}(?:\\{0,3}["'])?((?:(?:bearer|basic|token|digest|negotiate|apikey|aws4-hmac-sha256)[ \t]{1,8})?[^\x00-\x20\x7f"'\\]+)"#,
        true,
        Nothing,
    ),
    (
        "cookie",
        r#"(?i)\b(?:set-)?cookie[ \t]{0,8}:[ \t]{0,8}([^\x00-\x20\x7f"'\\;=]{1,128}=[^\x00-\x1f\x7f"'\\]{1,4096})"#,
        true,
        Nothing,
    ),
    (
        "url_login",
        r#"://([^\x00-\x20/?\#"'<>@\[\]:]{0,256}:[^\x00-\x20/?\#"'<>]{1,1024})@"#,
        true,
        Nothing,
    ),
    (
        "url_login",
        r#"://([^\x00-\x20/?\#"'<>@\[\]:]{20,1024})@"#,
        true,
        Nothing,
    ),
    (
        "url_query",
        r#"(?i)[?&](?:[a-z0-9_.-]{0,40}(?:token|secret|passw|credential|signature|apikey|api_key|api-key|accesskeyid|access_key)[a-z0-9_.-]{0,40}|key|sig|auth|pwd)=([^&\#\x00-\x20\x7f"'<>\\]+)"#,
        true,
        Counts,
    ),
];

static SHAPES: LazyLock<Vec<Shape>> = LazyLock::new(|| {
    let shape = |(name, pattern, group, spared): (&'static str, &str, bool, Spared)| {
        Some(Shape {
            name,
            regex: compile(pattern)?,
            group,
            spared,
        })
    };
    PATTERNS.into_iter().filter_map(shape).collect()
});
static PEM_BEGIN: LazyLock<Option<Regex>> = LazyLock::new(|| compile(r"-----BEGIN [A-Z0-9 ]{1,40}-----"));
static PEM_END: LazyLock<Option<Regex>> = LazyLock::new(|| compile(r"-----END [A-Z0-9 ]{1,40}-----"));
static PLACEHOLDER: LazyLock<Option<Regex>> = LazyLock::new(|| compile(r"\[redacted:[A-Za-z0-9_.-]{1,64}\]"));

/// A pattern over bytes. All are constants, and a test compiles each.
pub(super) fn compile(pattern: &str) -> Option<Regex> {
    RegexBuilder::new(pattern).unicode(false).build().ok()
}

pub(super) fn find(text: &[u8], from: usize) -> Vec<Found> {
    let mut found = Vec::new();
    for shape in SHAPES.iter() {
        each(text, from, shape, &mut found);
    }
    if let (Some(begin), Some(end)) = (PEM_BEGIN.as_ref(), PEM_END.as_ref()) {
        let mut at = from.saturating_sub(BACK);
        while let Some(header) = begin.find_at(text, at) {
            let range = header.start()..pem_block(text, header.end(), end);
            at = range.end;
            found.push(Found {
                range,
                name: "pem".to_owned(),
            });
        }
    }
    found
}

fn each(text: &[u8], from: usize, shape: &Shape, found: &mut Vec<Found>) {
    let secret = |captures: &Captures<'_>| {
        captures
            .get(usize::from(shape.group))
            .map(|secret| secret.range())
    };
    let mut at = from.saturating_sub(BACK);
    while let Some(whole) = shape.regex.find_at(text, at) {
        let range = if shape.group {
            // Groups cost more than finding, so they are resolved where something was found.
            let captures = shape.regex.captures_at(text, whole.start());
            captures.as_ref().and_then(secret).unwrap_or(whole.range())
        } else {
            whole.range()
        };
        at = range.end.max(whole.start() + 1);
        if !shape.spared.spares(text.get(range.clone()).unwrap_or_default()) {
            found.push(Found {
                range,
                name: shape.name.to_owned(),
            });
        }
    }
}

impl Spared {
    fn spares(self, bytes: &[u8]) -> bool {
        match self {
            Nothing => false,
            Words => !looks_made(bytes),
            Counts => bytes.len() < LONG_NUMBER && bytes.iter().all(u8::is_ascii_digit),
        }
    }
}

/// Whether these bytes look generated: words of prose have no digit and no capital inside.
fn looks_made(bytes: &[u8]) -> bool {
    let inner = bytes.get(1..).unwrap_or_default();
    let any = |is: fn(&u8) -> bool| inner.iter().any(is);
    any(u8::is_ascii_digit) || (any(u8::is_ascii_uppercase) && any(u8::is_ascii_lowercase))
}

/// End of the block whose first line ends at `at`.
///
/// A log may cut it, put something before each line, or print it on one line with `\n` in it.
fn pem_block(text: &[u8], at: usize, end: &Regex) -> usize {
    let limit = text.len().min(at + PEM);
    let block = text.get(at..limit).unwrap_or_default();
    let mut taken = 0;
    for (number, line) in block.split_inclusive(|byte| *byte == b'\n').enumerate() {
        if let Some(footer) = end.find(line) {
            return at + taken + footer.end();
        }
        let next = block.get(taken + line.len()..).unwrap_or_default();
        if number == 0 {
            let quote = line.iter().position(|byte| matches!(byte, b'"' | b'\'' | b'`'));
            taken += quote.unwrap_or(line.trim_ascii_end().len());
            if quote.is_some() || taken == line.len() {
                return at + taken;
            }
            if !is_pem_line(first_line(next), end) && !end.is_match(first_line(next)) {
                return at + taken;
            }
            taken = line.len();
        } else if is_pem_line(line, end) || end.is_match(first_line(next)) {
            taken += line.len();
        } else {
            break;
        }
    }
    at + block.get(..taken).unwrap_or_default().trim_ascii_end().len()
}

fn first_line(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == b'\n').next().unwrap_or_default()
}

/// Whether a line may be one of a block, whatever stands before it.
fn is_pem_line(line: &[u8], end: &Regex) -> bool {
    let line = line.trim_ascii_end();
    let last = line
        .rsplit(|byte| byte.is_ascii_whitespace())
        .next()
        .unwrap_or_default();
    let base64 = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=');
    let head = |name: &[u8]| line.windows(name.len()).any(|part| part == name);
    end.is_match(line)
        || line.is_empty()
        || (last.len() >= PEM_LINE && last.iter().all(base64))
        || head(b"Proc-Type:")
        || head(b"DEK-Info:")
}

/// Where placeholders stand already.
pub(super) fn placeholders(text: &[u8]) -> Vec<Range<usize>> {
    PLACEHOLDER.as_ref().map_or_else(Vec::new, |regex| {
        regex.find_iter(text).map(|found| found.range()).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pattern_compiles() {
        assert_eq!(SHAPES.len(), PATTERNS.len());
        assert!(PEM_BEGIN.is_some() && PEM_END.is_some() && PLACEHOLDER.is_some());
    }
}
