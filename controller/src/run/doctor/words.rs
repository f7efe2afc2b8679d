//! Sizes, versions and reasons in the sentences of checks.

use farrun_protocol::doctor::{Unseen, Why};

/// A GiB.
pub(super) const GIB: u64 = 1 << 30;

/// `12.3 GiB`
pub(super) fn bytes(size: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut scaled = size as f64;
    let mut unit = UNITS[0];
    for larger in UNITS.iter().skip(1) {
        if scaled < 1024.0 {
            break;
        }
        scaled /= 1024.0;
        unit = larger;
    }
    if unit == "B" {
        format!("{size} B")
    } else {
        format!("{scaled:.1} {unit}")
    }
}

/// The numbers at the beginning of a version: `1.16.2-rc1` as 1, 16, 2.
pub(super) fn numbers(version: &str) -> Vec<u64> {
    version
        .trim_start_matches('v')
        .split(['-', '+', '~'])
        .next()
        .unwrap_or_default()
        .split('.')
        .map_while(|part| part.parse().ok())
        .collect()
}

/// Whether a version is older than this one; one that cannot be read is not.
pub(super) fn is_older(version: &str, floor: &[u64]) -> bool {
    let numbers = numbers(version);
    !numbers.is_empty() && numbers.as_slice() < floor
}

/// Why something was not looked at.
pub(super) fn unseen(unseen: &Unseen) -> String {
    let detail = unseen.detail.as_deref().unwrap_or_default();
    let reason = match unseen.why {
        Why::Late => "it did not answer in time",
        Why::NotPermitted => "not permitted",
        Why::Absent => "there is none",
        Why::Needs => "not checked",
        Why::Failed => "it failed",
    };
    if detail.is_empty() {
        reason.to_owned()
    } else {
        format!("{reason}: {detail}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_their_numbers() {
        assert!(is_older("1.9.9", &[1, 16, 2]));
        assert!(is_older("1.16", &[1, 16, 2]));
        assert!(!is_older("1.16.2-rc.1", &[1, 16, 2]));
        assert!(!is_older("v2.0", &[1, 16, 2]));
        assert!(!is_older("unknown", &[1, 16, 2]));
        assert_eq!(numbers("20.10.24+dfsg1"), [20, 10, 24]);
    }

    #[test]
    fn sizes_are_short() {
        assert_eq!(bytes(512), "512 B");
        assert_eq!(bytes(64 << 20), "64.0 MiB");
        assert_eq!(bytes(3 * GIB / 2), "1.5 GiB");
    }
}
