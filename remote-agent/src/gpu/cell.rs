//! One cell of a table of `nvidia-smi`: a value, or the reason why there is none.

use farrun_protocol::gpu::{Absence, Reading};

/// The reason that a cell gives for having no value.
pub(super) fn absence(cell: &str) -> Option<Absence> {
    let cell = cell.trim();
    let bracketed = cell.strip_prefix('[').and_then(|cell| cell.strip_suffix(']'));
    let word = bracketed.unwrap_or(cell).trim().to_ascii_lowercase();
    Some(match word.as_str() {
        "n/a" | "not found" | "" => Absence::NotAvailable,
        "not supported" => Absence::NotSupported,
        "unknown error" | "err!" => Absence::UnknownError,
        "insufficient permissions" | "no permission" => Absence::NoPermission,
        "function not found" => Absence::FunctionNotFound,
        "gpu is lost" => Absence::GpuLost,
        "gpu requires reset" | "reset required" => Absence::ResetRequired,
        word if word.contains("deprecated") => Absence::Deprecated,
        // A reason that a later driver invents is still no value.
        _ if bracketed.is_some() => Absence::UnknownError,
        _ => return None,
    })
}

/// A whole number of at most `most`; a unit behind it is allowed.
pub(super) fn number(cell: &str, most: u64) -> Reading<u64> {
    if let Some(reason) = absence(cell) {
        return Reading::absent(reason);
    }
    match first_word(cell).parse() {
        Ok(value) if value <= most => Reading::Value(value),
        _ => Reading::absent(Absence::Garbled),
    }
}

/// A decimal number in thousandths, of at most `most` thousandths.
pub(super) fn thousandths(cell: &str, most: u64) -> Reading<u64> {
    if let Some(reason) = absence(cell) {
        return Reading::absent(reason);
    }
    match decimal(first_word(cell)) {
        Some(value) if value <= most => Reading::Value(value),
        _ => Reading::absent(Absence::Garbled),
    }
}

fn decimal(word: &str) -> Option<u64> {
    let (whole, fraction) = word.split_once('.').unwrap_or((word, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) {
        return None;
    }
    let fraction: String = fraction.chars().chain("000".chars()).take(3).collect();
    whole
        .parse::<u64>()
        .ok()?
        .checked_mul(1000)?
        .checked_add(fraction.parse().ok()?)
}

/// Free text of at most 200 characters.
pub(super) fn text(cell: &str) -> Option<String> {
    absence(cell)
        .is_none()
        .then(|| super::text::bounded(cell.trim(), 200))
}

/// `Enabled` or `Disabled`, `Yes` or `No`.
pub(super) fn switch(cell: &str) -> Option<bool> {
    match cell.trim().to_ascii_lowercase().as_str() {
        "enabled" | "yes" | "on" => Some(true),
        "disabled" | "no" | "off" => Some(false),
        _ => None,
    }
}

fn first_word(cell: &str) -> &str {
    cell.split_whitespace().next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_token_has_its_reason() {
        for (cell, expected) in [
            ("[N/A]", Absence::NotAvailable),
            ("N/A", Absence::NotAvailable),
            ("[Not Supported]", Absence::NotSupported),
            ("[Unknown Error]", Absence::UnknownError),
            ("ERR!", Absence::UnknownError),
            ("[Insufficient Permissions]", Absence::NoPermission),
            (
                "[Requested functionality has been deprecated]",
                Absence::Deprecated,
            ),
            ("[Function Not Found]", Absence::FunctionNotFound),
            ("[GPU is lost]", Absence::GpuLost),
            ("[GPU requires reset]", Absence::ResetRequired),
            ("[Something New]", Absence::UnknownError),
        ] {
            assert_eq!(number(cell, 100), Reading::absent(expected), "{cell}");
            assert_eq!(thousandths(cell, 100), Reading::absent(expected), "{cell}");
            assert_eq!(text(cell), None, "{cell}");
        }
    }

    #[test]
    fn an_unknown_is_never_a_number_and_watts_are_not_kilowatts() {
        assert_eq!(number(" 37 %", 100), Reading::Value(37));
        assert_eq!(number("0", 100), Reading::Value(0));
        assert_eq!(thousandths("71.53", 10_000_000), Reading::Value(71_530));
        assert_eq!(thousandths("9 W", 10_000_000), Reading::Value(9000));
        for cell in ["101", "-1", "1e9", "0x10", "7,5", "7.5.1", ".5", "ninety"] {
            assert_eq!(number(cell, 100), Reading::absent(Absence::Garbled), "{cell}");
        }
        for cell in ["95,00", "-1.0", "1.", "NaN", "inf", "99999999999999999999.0"] {
            assert_eq!(
                thousandths(cell, 10_000_000),
                Reading::absent(Absence::Garbled),
                "{cell}"
            );
        }
    }
}
