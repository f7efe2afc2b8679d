//! Sizes, durations, ages and times as people read them.

use chrono::{DateTime, Local, TimeZone, Utc};
pub use farrun_protocol::explain::size as bytes;
use std::fmt::Display;
use std::time::Duration;

/// The words of a command as a shell would take them: quoted where they must be.
pub fn words(words: &[String]) -> String {
    let plain = |c: char| c.is_alphanumeric() || "_@%+=:,./-".contains(c);
    let quoted: Vec<String> = words
        .iter()
        .map(|word| {
            if !word.is_empty() && word.chars().all(plain) {
                word.clone()
            } else {
                format!("'{}'", word.replace('\'', r"'\''"))
            }
        })
        .collect();
    quoted.join(" ")
}

/// A duration in its two largest units: `0.4 s`, `42 s`, `2 m 05 s`, `3 h 04 m`, `2 d 03 h`.
pub fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 => format!("{:.1} s", f64::from(duration.subsec_millis() / 100) / 10.0),
        1..60 => format!("{seconds} s"),
        60..3600 => format!("{} m {:02} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {:02} m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {:02} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// How long ago `then` was at `now`: `just now`, `42 s ago`, `4 min ago`, `3 h ago`, `5 days ago`.
///
/// A moment in the future counts as now: clocks of two machines differ.
pub fn age(then: DateTime<Utc>, now: DateTime<Utc>) -> String {
    let seconds = (now - then).num_seconds();
    match seconds {
        ..2 => "just now".to_owned(),
        2..60 => format!("{seconds} s ago"),
        60..3600 => format!("{} min ago", seconds / 60),
        3600..86_400 => format!("{} h ago", seconds / 3600),
        86_400..172_800 => "1 day ago".to_owned(),
        _ => format!("{} days ago", seconds / 86_400),
    }
}

/// A moment on the user's own clock: `2026-01-02 03:04:05`.
pub fn time(moment: DateTime<Utc>) -> String {
    time_in(moment, &Local)
}

/// A moment on the clock of `zone`.
pub fn time_in<Z: TimeZone>(moment: DateTime<Utc>, zone: &Z) -> String
where
    Z::Offset: Display,
{
    moment.with_timezone(zone).format("%Y-%m-%d %H:%M:%S").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_shown_as_it_can_be_pasted() {
        let command = ["sh", "-c", "echo it's > x", "", "a=b", "~/x"].map(str::to_owned);
        assert_eq!(words(&command), r"sh -c 'echo it'\''s > x' '' a=b '~/x'");
    }

    #[test]
    fn durations_show_two_units() {
        let shown =
            [0, 450, 42_000, 125_000, 11_040_000, 183_600_000].map(|ms| duration(Duration::from_millis(ms)));
        assert_eq!(
            shown,
            ["0.0 s", "0.4 s", "42 s", "2 m 05 s", "3 h 04 m", "2 d 03 h"]
        );
    }

    #[test]
    fn ages_and_times() {
        let now = Utc.with_ymd_and_hms(2026, 1, 2, 3, 4, 5).unwrap();
        let shown = [-30, 1, 42, 250, 3 * 3600, 90_000, 5 * 86_400]
            .map(|seconds| age(now - chrono::TimeDelta::seconds(seconds), now));
        assert_eq!(
            shown,
            [
                "just now",
                "just now",
                "42 s ago",
                "4 min ago",
                "3 h ago",
                "1 day ago",
                "5 days ago"
            ]
        );
        let zone = chrono::FixedOffset::east_opt(2 * 3600).unwrap();
        assert_eq!(time_in(now, &zone), "2026-01-02 05:04:05");
    }
}
