//! Who is working on an order that its host has not acknowledged: a process, told apart from a later one that got
//! the same number.

use crate::model::Run;
use farrun_protocol::Sha256;
use std::fmt;

/// Marks an order that its host was asked to start: from then on only the host knows what became of it.
const ASKED: &str = "asked";
/// How the word begins that names a machine.
const ON: &str = "on:";

/// A process of a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    pid: u32,
    boot_id: String,
    started: String,
    /// The machine, as one word; none of nobody and in rows of earlier versions.
    machine: Option<String>,
    asked: bool,
}

impl Owner {
    /// This process, of `machine` as the database knows it.
    pub fn this(machine: &str) -> Self {
        let pid = std::process::id();
        Self {
            pid,
            boot_id: boot_id(),
            started: start_time(pid).unwrap_or_default(),
            machine: Some(word(machine)),
            asked: false,
        }
    }

    /// Nobody any more.
    pub fn nobody() -> Self {
        Self {
            pid: 0,
            boot_id: "-".to_owned(),
            started: "-".to_owned(),
            machine: None,
            asked: false,
        }
    }

    /// The same, with or without the mark that the host was asked to start the run.
    #[must_use]
    pub fn having_asked(self, asked: bool) -> Self {
        Self { asked, ..self }
    }

    /// Whether the host of a run may know it: it acknowledged the order, or was asked and its answer did not come.
    pub fn has_asked(run: &Run) -> bool {
        run.launched_at.is_some()
            || run
                .owner
                .as_deref()
                .and_then(Self::parse)
                .is_some_and(|owner| owner.asked)
    }

    /// Whether another living process works on an order.
    pub fn is_other(run: &Run) -> bool {
        let owner = run.owner.as_deref().and_then(Self::parse);
        owner.is_some_and(|owner| owner.is_alive() && owner.pid != std::process::id())
    }

    /// Whether an order that no host was asked to start belongs to another machine that shares the database: only there
    /// it can be told whether somebody works on it.
    pub fn is_elsewhere(run: &Run, machine: &str) -> bool {
        let owner = run.owner.as_deref().and_then(Self::parse);
        !Self::has_asked(run)
            && owner
                .and_then(|owner| owner.machine)
                .is_some_and(|owner| owner != word(machine))
    }

    /// Reads what [`fmt::Display`] wrote.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(' ');
        let (pid, boot_id, started) = (
            parts.next()?.parse().ok()?,
            parts.next()?.to_owned(),
            parts.next()?.to_owned(),
        );
        let mut next = parts.next();
        let machine = next.and_then(|word| word.strip_prefix(ON)).map(str::to_owned);
        if machine.is_some() {
            next = parts.next();
        }
        let asked = match next {
            None => false,
            Some(ASKED) => true,
            Some(_) => return None,
        };
        parts.next().is_none().then_some(Self {
            pid,
            boot_id,
            started,
            machine,
            asked,
        })
    }

    /// Whether the process still lives. One of another machine or another boot does not.
    pub fn is_alive(&self) -> bool {
        self.boot_id == boot_id() && start_time(self.pid).is_some_and(|started| started == self.started)
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {} {}", self.pid, self.boot_id, self.started)?;
        if let Some(machine) = &self.machine {
            write!(formatter, " {ON}{machine}")?;
        }
        if self.asked {
            write!(formatter, " {ASKED}")
        } else {
            Ok(())
        }
    }
}

/// A word for a machine that tells others nothing else about it.
fn word(machine: &str) -> String {
    let hash = Sha256::of(machine.as_bytes());
    hash.as_str().chars().take(16).collect()
}

fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .unwrap_or_default()
        .trim()
        .to_owned()
}

/// Field 22 of `/proc/PID/stat`, counted behind the command's name, which may hold anything (proc(5)); none of a
/// process that is dead and was not yet waited for.
fn start_time(pid: u32) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, behind) = stat.rsplit_once(')')?;
    let mut fields = behind.split_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    fields.nth(18).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_alive_and_an_earlier_boot_is_not() {
        let owner = Owner::this("laptop");
        assert!(owner.is_alive());
        let read = Owner::parse(&owner.to_string()).unwrap();
        assert_eq!(read, owner);
        assert!(
            !Owner {
                boot_id: "other".into(),
                ..owner.clone()
            }
            .is_alive()
        );
        assert!(
            !Owner {
                started: "1".into(),
                ..owner
            }
            .is_alive()
        );
        assert_eq!(Owner::parse("nonsense"), None);
        for nonsense in [
            "1 2 3 else",
            "1 2 3 asked on:x",
            "1 2 3 on:x on:y",
            "1 2 3 on:x asked else",
        ] {
            assert_eq!(Owner::parse(nonsense), None, "{nonsense}");
        }
        // As an earlier version wrote it.
        let earlier = Owner::parse("1 2 3 asked").unwrap();
        assert_eq!((earlier.machine, earlier.asked), (None, true));
    }

    #[test]
    fn the_mark_is_read_as_it_was_written_and_nobody_is_not_alive() {
        let asked = Owner::this("laptop").having_asked(true);
        assert_eq!(Owner::parse(&asked.to_string()), Some(asked.clone()));
        assert!(asked.is_alive());
        let nobody = Owner::nobody().having_asked(true);
        assert_eq!(Owner::parse(&nobody.to_string()), Some(nobody.clone()));
        assert!(!nobody.is_alive());
    }
}
