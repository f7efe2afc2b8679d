//! Lines of the kernel's log around a run that may have to do with its end.

use super::command::{self, Command};
use crate::diagnostics::item::{Found, Looked};
use chrono::{DateTime, TimeDelta, Utc};
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

/// How long before a run its trouble may have begun.
const BEFORE: TimeDelta = TimeDelta::minutes(5);
const AFTER: TimeDelta = TimeDelta::minutes(1);
/// Newest lines that are looked through.
const LINES: &str = "50000";
/// What makes a line matter.
const WORDS: [&str; 14] = [
    "NVRM",
    "nvidia",
    "Xid",
    "oom-kill",
    "oom_reaper",
    "Out of memory",
    "Killed process",
    "I/O error",
    "EXT4-fs error",
    "XFS",
    "blk_update",
    "segfault",
    "traps:",
    "Remounting filesystem",
];

/// The journal's word, else the kernel's own buffer.
pub(in crate::diagnostics) fn messages(
    command: &Command,
    from: DateTime<Utc>,
    until: DateTime<Utc>,
    limit: Duration,
) -> Looked {
    let (from, until) = (from - BEFORE, until + AFTER);
    let (since, to) = (
        format!("--since=@{}", from.timestamp()),
        format!("--until=@{}", until.timestamp()),
    );
    let arguments = [
        "-k",
        "-q",
        "--no-pager",
        "-o",
        "short-iso",
        "-n",
        LINES,
        &since,
        &to,
    ];
    let journal = command::find("journalctl")
        .ok_or_else(|| "there is no journalctl".to_owned())
        .and_then(|program| command.output(&program, &arguments, limit));
    let said = match journal {
        Ok(Found::Whole(text)) if !text.is_empty() => return Ok(Found::Whole(matching(&text))),
        Ok(Found::Part(text, why)) => return Ok(Found::Part(matching(&text), why)),
        Ok(_) => "journalctl shows no message of the kernel".to_owned(),
        Err(why) => format!("journalctl: {why}"),
    };
    match buffer(from, until) {
        Ok(lines) => Ok(Found::Whole(lines)),
        Err(error) => Err(format!("not permitted: {said}; /dev/kmsg: {error}")),
    }
}

fn matters(line: &str) -> bool {
    let is_nvme = line.contains("nvme") && (line.contains("reset") || line.contains("timeout"));
    is_nvme || WORDS.iter().any(|word| line.contains(word))
}

fn matching(text: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(text);
    let lines = text.lines().filter(|line| matters(line));
    lines
        .flat_map(|line| [line, "\n"])
        .collect::<String>()
        .into_bytes()
}

/// The kernel's buffer, record by record.
fn buffer(from: DateTime<Utc>, until: DateTime<Utc>) -> std::io::Result<Vec<u8>> {
    let flags = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or_default();
    let mut file = File::options().read(true).custom_flags(flags).open("/dev/kmsg")?;
    let booted = booted_at(Path::new("/proc/uptime")).ok_or(std::io::ErrorKind::NotFound)?;
    let mut lines = Vec::new();
    let mut record = vec![0; 16 * 1024];
    loop {
        match file.read(&mut record) {
            Ok(0) => break,
            Ok(count) => {
                let text = String::from_utf8_lossy(record.get(..count).unwrap_or_default()).into_owned();
                lines.extend(line(&text, booted, from, until).unwrap_or_default().into_bytes());
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
            // Records that were overwritten while we read.
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::PIPE.raw_os_error()) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(lines)
}

fn booted_at(uptime: &Path) -> Option<DateTime<Utc>> {
    let text = std::fs::read_to_string(uptime).ok()?;
    let seconds: f64 = text.split(' ').next()?.parse().ok()?;
    Utc::now().checked_sub_signed(TimeDelta::try_milliseconds((seconds * 1000.0) as i64)?)
}

/// `priority,number,microseconds,flags;text`, as the journal would show it.
fn line(record: &str, booted: DateTime<Utc>, from: DateTime<Utc>, until: DateTime<Utc>) -> Option<String> {
    let (head, text) = record.split_once(';')?;
    let text = text.lines().next()?;
    let microseconds: i64 = head.split(',').nth(2)?.parse().ok()?;
    let at = booted.checked_add_signed(TimeDelta::microseconds(microseconds))?;
    let is_due = at >= from && at <= until && matters(text);
    is_due.then(|| format!("{} kernel: {text}\n", at.format("%Y-%m-%dT%H:%M:%S%z")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_matter_are_kept_with_their_times() {
        let text = "2026-01-02T03:04:05+0000 h kernel: NVRM: Xid (PCI:0000:0b:00): 79, GPU has fallen off the bus.\n\
                    2026-01-02T03:04:06+0000 h kernel: usb 1-1: new device\n\
                    2026-01-02T03:04:07+0000 h kernel: nvme nvme0: I/O 1 QID 2 timeout, reset controller\n";
        let kept = String::from_utf8(matching(text.as_bytes())).unwrap();
        assert_eq!(kept.lines().count(), 2);
        assert!(!kept.contains("usb"));
    }

    #[test]
    fn a_record_of_the_buffer_gets_its_time() {
        let at = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
        let (booted, from, until) = (
            at("2026-01-02T03:00:00Z"),
            at("2026-01-02T03:00:01Z"),
            at("2026-01-02T03:10:00Z"),
        );
        let seen = |record: &str| line(record, booted, from, until);
        let oom = "4,1,65000000,-;Out of memory: Killed process 7 (python)\n SUBSYSTEM=x\n";
        let expected = "2026-01-02T03:01:05+0000 kernel: Out of memory: Killed process 7 (python)\n";
        assert_eq!(seen(oom).as_deref(), Some(expected));
        assert_eq!(seen("4,1,500,-;Out of memory"), None, "too early");
        assert_eq!(seen("4,1,65000000,-;usb 1-1"), None);
        assert_eq!(seen("nonsense"), None);
    }
}
