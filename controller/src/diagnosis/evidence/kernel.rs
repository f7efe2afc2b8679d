//! Lines of the kernel's log: when, what about a GPU, what about memory.

use chrono::{DateTime, Utc};
use regex::Regex;
use std::sync::LazyLock;

/// Most lines that are read.
const MOST: usize = 10_000;

/// A line with its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::diagnosis) struct KernelLine {
    /// When.
    pub(in crate::diagnosis) at: DateTime<Utc>,
    /// What the kernel said, with the time in front.
    pub(in crate::diagnosis) text: String,
}

impl KernelLine {
    /// What the kernel said, without time, machine and its own name.
    pub(in crate::diagnosis) fn message(&self) -> &str {
        let text = self.text.split_once(' ').map_or("", |(_, text)| text);
        let named = text.strip_prefix("kernel: ").or_else(|| {
            let (machine, rest) = text.split_once(' ')?;
            let rest = rest.strip_prefix("kernel: ")?;
            (!machine.ends_with(':')).then_some(rest)
        });
        named.unwrap_or(text)
    }

    /// The ids of containers that it names.
    pub(in crate::diagnosis) fn containers(&self) -> impl Iterator<Item = &str> {
        let words = self.text.split(|c: char| !c.is_ascii_alphanumeric());
        words.filter(|word| word.len() == 64 && word.chars().all(|c| c.is_ascii_hexdigit()))
    }

    /// Whether its time has whole seconds only, so that it happened then or up to a second later.
    pub(in crate::diagnosis) fn is_coarse(&self) -> bool {
        self.at.timestamp_subsec_nanos() == 0
    }
}

/// The process that was ended for want of memory, in each line that tells of one such end.
pub(in crate::diagnosis) fn victim(message: &str) -> Option<u32> {
    let marks = ["Killed process ", "Kill process ", "reaped process ", ",pid="];
    let (_, rest) = marks.iter().find_map(|mark| message.split_once(mark))?;
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest.get(..digits)?.parse().ok()
}

/// Every line that begins with a time; others cannot be laid to a run.
pub(super) fn lines(text: &str) -> Vec<KernelLine> {
    text.lines()
        .rev()
        .take(MOST)
        .filter_map(|line| {
            let (first, _) = line.split_once(char::is_whitespace)?;
            Some(KernelLine {
                at: time(first)?,
                text: super::text::plain(&line.chars().take(1000).collect::<String>()),
            })
        })
        .collect::<Vec<_>>()
        .into_iter()
        .rev()
        .collect()
}

/// `2026-03-01T10:00:00Z`, also with an offset that has no colon, as `journalctl -o short-iso` prints it.
fn time(text: &str) -> Option<DateTime<Utc>> {
    let parsed = DateTime::parse_from_rfc3339(text)
        .or_else(|_| DateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f%z"));
    parsed.ok().map(|at| at.to_utc())
}

/// Where a GPU sits: domain, bus and device. Its function is left out, because an Xid does not name it.
pub(in crate::diagnosis) type BusId = (u32, u8, u8);

/// Reads `PCI:0000:0b:00`, `00000000:0B:00.0`, `0b:00.0` and the like.
pub(in crate::diagnosis) fn bus_id(text: &str) -> Option<BusId> {
    let text = text.trim();
    let text = text.strip_prefix("PCI:").unwrap_or(text);
    let parts: Vec<&str> = text.trim_end_matches(':').split(':').collect();
    let hex = |part: &str| u32::from_str_radix(part, 16).ok();
    let small = |part: &str| u8::from_str_radix(part, 16).ok();
    let device = |part: &str| small(part.split('.').next().unwrap_or(part));
    match parts.as_slice() {
        [domain, bus, slot] => Some((hex(domain)?, small(bus)?, device(slot)?)),
        [bus, slot] => Some((0, small(bus)?, device(slot)?)),
        _ => None,
    }
}

// Constants: a test sees that they compile.
static XID: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"NVRM: Xid \(((?:PCI:)?[0-9a-fA-F:.]+)\)[^,]*?: ([0-9]{1,4})\b").ok());
static FALLEN: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(r"\b((?:[0-9a-fA-F]{4,8}:)?[0-9a-fA-F]{2}:[0-9a-fA-F]{2}(?:\.[0-7])?)\b.*fallen off the bus")
        .ok()
});

/// The Xid that a line tells, and of which GPU.
pub(in crate::diagnosis) fn xid(line: &str) -> Option<(BusId, u32)> {
    if let Some(found) = XID.as_ref()?.captures(line) {
        return Some((
            bus_id(found.get(1)?.as_str())?,
            found.get(2)?.as_str().parse().ok()?,
        ));
    }
    let found = FALLEN.as_ref()?.captures(line)?;
    Some((bus_id(found.get(1)?.as_str())?, 79))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_texts_are_read() {
        let text = "2026-03-01T10:00:00+00:00 NVRM: x\nno time\n2026-03-01T10:00:01+0100 y\n2026-03-01T10:00:02.5Z z\n";
        let told: Vec<String> = lines(text).iter().map(|line| line.at.to_rfc3339()).collect();
        assert_eq!(
            told,
            [
                "2026-03-01T10:00:00+00:00",
                "2026-03-01T09:00:01+00:00",
                "2026-03-01T10:00:02.500+00:00"
            ]
        );
    }

    #[test]
    fn a_message_is_read_without_what_stands_before_it() {
        for before in ["", "kernel: ", "gpu1 kernel: "] {
            let text = format!("2026-03-01T10:00:00Z {before}NVRM: Xid (PCI:0000:0b:00): 79, kernel: x\n");
            let read = lines(&text);
            assert_eq!(read[0].message(), "NVRM: Xid (PCI:0000:0b:00): 79, kernel: x");
            assert!(read[0].is_coarse());
        }
        assert_eq!(
            victim("Memory cgroup out of memory: Killed process 7 (x)"),
            Some(7)
        );
        assert_eq!(
            victim("oom-kill:constraint=X,task=python,pid=4711,uid=0"),
            Some(4711)
        );
        assert_eq!(victim("NVRM: loading"), None);
    }

    #[test]
    fn xids_are_read_in_every_form() {
        let gpu = (0, 0x0b, 0);
        for (line, number) in [
            (
                "NVRM: Xid (PCI:0000:0b:00): 79, pid=4711, GPU has fallen off the bus.",
                79,
            ),
            (
                "NVRM: Xid (PCI:0000:0b:00): 31, pid='<unknown>', name=<unknown>, Ch 00000008",
                31,
            ),
            ("NVRM: Xid (0000:0b:00): 13, Graphics SM Warp Exception", 13),
            ("NVRM: Xid (PCI:0000:0b:00.0): 94, Contained: CE User Channel", 94),
            (
                "NVRM: Xid (PCI:0000:0b:00): 119, pid=1, Timeout after 6s of waiting for RPC response from GPU0",
                119,
            ),
            ("NVRM: GPU 0000:0b:00.0: GPU has fallen off the bus.", 79),
            (
                "NVRM: The NVIDIA GPU 0000:0b:00.0 (PCI ID: 10de:2330) has fallen off the bus",
                79,
            ),
        ] {
            assert_eq!(xid(line), Some((gpu, number)), "{line}");
        }
        assert_eq!(
            xid("NVRM: loading NVIDIA UNIX x86_64 Kernel Module  550.54"),
            None
        );
        assert_eq!(xid("my Xid (PCI:zz): 79"), None);
    }

    #[test]
    fn bus_ids_of_every_source_agree() {
        for text in ["PCI:0000:0b:00", "00000000:0B:00.0", "0000:0b:00.0", "0b:00.0"] {
            assert_eq!(bus_id(text), Some((0, 11, 0)), "{text}");
        }
        for text in ["", ":", "::", "0b", "1:2:3:4", "PCI:", "xx:yy"] {
            assert_eq!(bus_id(text), None, "{text}");
        }
    }
}
