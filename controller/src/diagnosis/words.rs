//! Words for sentences: sizes, and text of a host made fit for a finding.

use super::evidence::text::plain;
use farrun_protocol::redact::Redactor;

/// Text of a host: on one line, redacted by shape, cut.
pub(super) fn shown(text: &str, most: usize) -> String {
    let line = plain(text).split_whitespace().collect::<Vec<_>>().join(" ");
    cut(&redacted(&line), most)
}

/// Text without what has the shape of a secret.
pub(super) fn redacted(text: &str) -> String {
    Redactor::by_shape().text(text)
}

/// At most `most` characters, with a sign that there were more.
pub(super) fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => text.to_owned(),
        Some((at, _)) => format!("{}…", text.get(..at).unwrap_or_default()),
    }
}

/// A size: `512 B`, `79.2 GiB`.
pub(super) fn size(bytes: u64) -> String {
    crate::ui::format::bytes(bytes)
}

/// A size in MiB.
pub(super) fn mebibytes(mebibytes: u64) -> String {
    size(mebibytes.saturating_mul(1024 * 1024))
}

/// Reads `2.00 GiB`, `20 MB`, `64M`, `1024`; decimal units count as binary ones.
pub(super) fn read_size(text: &str) -> Option<u64> {
    let text = text.trim();
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let number: f64 = number.parse().ok()?;
    let factor = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" | "bytes" => 1.0,
        "k" | "kb" | "kib" => 1024.0,
        "m" | "mb" | "mib" => 1024.0 * 1024.0,
        "g" | "gb" | "gib" => 1024.0 * 1024.0 * 1024.0,
        "t" | "tb" | "tib" => 1024.0 * 1024.0 * 1024.0 * 1024.0,
        _ => return None,
    };
    Some((number * factor) as u64)
}
