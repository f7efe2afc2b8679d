//! What the kernel wrote about GPUs since its boot, from `/dev/kmsg` where the account may read it, else from the
//! journal.

use super::program::{self, LOOKS};
use super::refused;
use crate::gpu::boot_clock;
use farrun_protocol::doctor::{KernelLog, Looked, MOST, Unseen, Why, Xid};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::path::Path;

/// Longest line that is kept.
const LONGEST: usize = 300;
/// Most records that are read; the kernel's own memory holds fewer.
const RECORDS: usize = 200_000;

/// A line and the moment at which it was written, in milliseconds since the boot.
type Line = (u64, String);

/// Reads the log.
pub(crate) fn facts(launcher: &Path) -> Looked<KernelLog> {
    let lines = match kernel_memory() {
        Ok(lines) => lines,
        Err(unseen) => journal(launcher).map_err(|other| match other.why {
            Why::Absent => unseen,
            _ => other,
        })?,
    };
    Ok(judge(&lines, boot_clock()))
}

fn kernel_memory() -> Looked<Vec<Line>> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::open("/dev/kmsg", flags, Mode::empty()).map_err(|error| refused(&error.into()))?;
    let mut lines = Vec::new();
    let mut record = [0; 8192];
    for _ in 0..RECORDS {
        match rustix::io::read(&file, &mut record) {
            Ok(0) | Err(Errno::AGAIN) => break,
            Ok(count) => {
                let text = String::from_utf8_lossy(record.get(..count).unwrap_or_default()).into_owned();
                lines.extend(of_record(&text));
            }
            // It was overwritten while we read, or is too long.
            Err(Errno::PIPE | Errno::INVAL | Errno::INTR) => {}
            Err(error) => return Err(refused(&error.into())),
        }
    }
    Ok(lines)
}

/// `6,1234,5678901,-;text`, the third being microseconds since the boot, then lines about devices.
fn of_record(record: &str) -> Option<Line> {
    let (head, text) = record.split_once(';')?;
    let micros: u64 = head.split(',').nth(2)?.parse().ok()?;
    Some((micros / 1000, text.lines().next()?.to_owned()))
}

fn journal(launcher: &Path) -> Looked<Vec<Line>> {
    let arguments = [
        "-k",
        "-b",
        "-q",
        "--no-pager",
        "-o",
        "short-monotonic",
        "-n",
        "20000",
    ];
    let said = program::run(launcher, "journalctl", &arguments, LOOKS)?;
    if said.code != 0 || said.stdout.trim().is_empty() {
        return Err(Unseen::because(Why::NotPermitted, said.stderr.trim()));
    }
    Ok(said.stdout.lines().filter_map(of_journal).collect())
}

/// `[    5.678901] host kernel: text`
fn of_journal(line: &str) -> Option<Line> {
    let (moment, rest) = line.strip_prefix('[')?.split_once(']')?;
    let (seconds, micros) = moment.trim().split_once('.')?;
    let (_, text) = rest.split_once("kernel: ")?;
    let micros: u64 = micros.get(..6).unwrap_or(micros).parse().ok()?;
    let seconds: u64 = seconds.parse().ok()?;
    Some((
        seconds.saturating_mul(1000).saturating_add(micros / 1000),
        text.to_owned(),
    ))
}

fn judge(lines: &[Line], now: u64) -> KernelLog {
    let mut log = KernelLog::default();
    for (at, text) in lines {
        let kept: String = text.chars().filter(|c| !c.is_control()).take(LONGEST).collect();
        if let Some((bus_id, code)) = xid(text) {
            let age = now.saturating_sub(*at) / 1000;
            let known = log
                .xids
                .iter()
                .position(|xid| xid.bus_id == bus_id && xid.code == code);
            let count = known.map_or(0, |at| log.xids.remove(at).count).saturating_add(1);
            log.xids.push(Xid {
                bus_id,
                code,
                count,
                age,
                line: kept,
            });
        } else if text.contains("fallen off the bus") {
            log.lost.push(kept);
        }
    }
    let surplus = log.xids.len().saturating_sub(MOST);
    log.xids.drain(..surplus);
    let surplus = log.lost.len().saturating_sub(MOST);
    log.lost.drain(..surplus);
    log
}

/// `NVRM: Xid (PCI:0000:01:00): 79, pid='<unknown>', …`
fn xid(text: &str) -> Option<(String, u32)> {
    let (_, rest) = text.split_once("NVRM: Xid (")?;
    let (bus_id, rest) = rest.split_once(')')?;
    let bus_id = bus_id.strip_prefix("PCI:").unwrap_or(bus_id);
    let plain = !bus_id.is_empty()
        && bus_id
            .chars()
            .all(|c| c.is_ascii_hexdigit() || c == ':' || c == '.');
    let digits = rest.split_once(": ")?.1;
    let digits = digits.split(',').next()?;
    plain.then_some((bus_id.to_owned(), digits.trim().parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_counted_by_gpu_and_number() {
        let record = |text: &str| of_record(&format!("6,1,60000000,-;{text}\n SUBSYSTEM=pci\n")).unwrap();
        let mut lines = vec![
            record("NVRM: Xid (PCI:0000:01:00): 31, pid=77, name=python, MMU Fault"),
            record(
                "NVRM: Xid (PCI:0000:02:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.",
            ),
            record("NVRM: GPU 0000:02:00.0: GPU has fallen off the bus."),
            record("NVRM: Xid (PCI:0000:01:00): 31, pid=78, name=python, MMU Fault"),
            record("NVRM: Xid (no address): 31, x"),
            record("usb 1-1: new device"),
        ];
        lines.extend(of_journal(
            "[   61.500000] gpu1 kernel: NVRM: Xid (0000:01:00): 31, pid=79",
        ));
        let log = judge(&lines, 100_000);
        let short: Vec<_> = log
            .xids
            .iter()
            .map(|xid| (xid.bus_id.as_str(), xid.code, xid.count, xid.age))
            .collect();
        assert_eq!(short, [("0000:02:00", 79, 1, 40), ("0000:01:00", 31, 3, 38)]);
        assert_eq!(log.lost, ["NVRM: GPU 0000:02:00.0: GPU has fallen off the bus."]);
    }

    #[test]
    fn what_is_no_line_of_the_kernel_is_left_out() {
        for text in ["", "[x] y", "[1.5] host sshd: kernel", "[1] host kernel: x"] {
            assert_eq!(of_journal(text), None, "{text}");
        }
        assert_eq!(of_record("no head"), None);
    }
}
