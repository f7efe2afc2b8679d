//! Who is working on an order that its host has not acknowledged: a process, told apart from a later one that got
//! the same number.

use std::fmt;

/// A process of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    pid: u32,
    boot_id: String,
    started: String,
}

impl Owner {
    /// This process.
    pub fn this() -> Self {
        let pid = std::process::id();
        Self {
            pid,
            boot_id: boot_id(),
            started: start_time(pid).unwrap_or_default(),
        }
    }

    /// Reads what [`fmt::Display`] wrote.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(' ');
        let owner = Self {
            pid: parts.next()?.parse().ok()?,
            boot_id: parts.next()?.to_owned(),
            started: parts.next()?.to_owned(),
        };
        parts.next().is_none().then_some(owner)
    }

    /// Whether the process still lives. One of another machine or another boot does not.
    pub fn is_alive(&self) -> bool {
        self.boot_id == boot_id() && start_time(self.pid).is_some_and(|started| started == self.started)
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {} {}", self.pid, self.boot_id, self.started)
    }
}

fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .unwrap_or_default()
        .trim()
        .to_owned()
}

/// Field 22 of `/proc/PID/stat`, counted behind the command's name, which may hold anything (proc(5)).
fn start_time(pid: u32) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, behind) = stat.rsplit_once(')')?;
    behind.split_whitespace().nth(19).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_alive_and_an_earlier_boot_is_not() {
        let owner = Owner::this();
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
    }
}
