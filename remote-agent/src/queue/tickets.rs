//! Tickets: how the waiting runs of one account are known to the others. Only the account's observer writes them.

use super::order::{Key, Order, key};
use crate::leases::{LockFolder, LocksUnusable, Wish};
use crate::series::Moment;
use chrono::{DateTime, Utc};
use farrun_protocol::RunId;
use farrun_protocol::lease::{FORMAT, Placement};
use farrun_protocol::spec::{Gpus, RunSpec};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

/// Longest ticket that is read.
const LONGEST: u64 = 16 * 1024;
/// Most tickets that are looked at: nobody can make a host slow by leaving files.
const MOST: usize = 1000;

/// A waiting run, as other accounts see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticket {
    /// [`FORMAT`].
    pub format: u32,
    /// The run.
    pub run_id: RunId,
    /// Since when it waits.
    pub at: DateTime<Utc>,
    /// The same by the clock that nobody can set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arrived: Option<Moment>,
    /// Greater goes first.
    #[serde(default)]
    pub priority: i32,
    /// How many GPUs it wants, or which.
    pub gpus: Gpus,
    /// What else it wants.
    #[serde(default)]
    pub placement: Placement,
}

impl Ticket {
    /// The ticket of a waiting run.
    pub fn new(order: &Order, spec: &RunSpec) -> Self {
        Self {
            format: FORMAT,
            run_id: order.run_id.clone(),
            at: order.at,
            arrived: order.arrived.clone(),
            priority: order.priority,
            gpus: spec.gpus.clone(),
            placement: spec.placement.clone(),
        }
    }

    pub(super) fn key(&self, boot_id: &str) -> Key {
        key(
            self.priority,
            self.arrived.as_ref(),
            self.at,
            &self.run_id,
            boot_id,
        )
    }

    pub(super) fn wish(&self) -> Wish {
        Wish {
            run_id: Some(self.run_id.clone()),
            gpus: self.gpus.clone(),
            placement: self.placement.clone(),
        }
    }
}

fn name(run_id: &RunId) -> String {
    format!("ticket-{run_id}.json")
}

/// Tickets that are held; they go with this value, or with the process.
#[derive(Debug, Default)]
pub struct Tickets {
    held: Vec<(Ticket, PathBuf, File)>,
}

impl Tickets {
    /// Holds exactly these from now on: what is new gets a ticket, what is gone loses it.
    ///
    /// # Errors
    /// A ticket cannot be written; those written before it are held.
    pub fn update(&mut self, folder: &LockFolder, wanted: &[Ticket]) -> Result<(), LocksUnusable> {
        let (kept, gone): (Vec<_>, Vec<_>) = std::mem::take(&mut self.held)
            .into_iter()
            .partition(|(ticket, ..)| wanted.contains(ticket));
        self.held = kept;
        for (_, path, _) in gone {
            let _ = std::fs::remove_file(path);
        }
        for ticket in wanted {
            if self.held.iter().any(|(held, ..)| held == ticket) {
                continue;
            }
            let path = folder.path().join(name(&ticket.run_id));
            let file = write(&path, ticket).map_err(|error| LocksUnusable {
                path: path.clone(),
                cause: error.to_string(),
            })?;
            self.held.push((ticket.clone(), path, file));
        }
        Ok(())
    }
}

impl Drop for Tickets {
    fn drop(&mut self) {
        for (_, path, _) in &self.held {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// The ticket gets its name when it is whole and held, so nobody meets it as a dead one.
fn write(path: &std::path::Path, ticket: &Ticket) -> std::io::Result<File> {
    let temporary = path.with_file_name(format!(".farrun-{}", uuid::Uuid::new_v4().simple()));
    let written = (|| {
        let mut file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&temporary)?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        file.write_all(&serde_json::to_vec(ticket)?)?;
        file.set_permissions(std::fs::Permissions::from_mode(0o644))?;
        std::fs::rename(&temporary, path)?;
        Ok(file)
    })();
    if written.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    written
}

/// Tickets that somebody holds.
pub fn living(folder: &LockFolder) -> Vec<Ticket> {
    let entries = std::fs::read_dir(folder.path()).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| {
        let file = entry.file_name().to_str()?.to_owned();
        let run_id: RunId = file
            .strip_prefix("ticket-")?
            .strip_suffix(".json")?
            .parse()
            .ok()?;
        Some((file, run_id))
    });
    names
        .take(MOST)
        .filter_map(|(file, run_id)| read(folder, &file).filter(|ticket| ticket.run_id == run_id))
        .collect()
}

fn read(folder: &LockFolder, name: &str) -> Option<Ticket> {
    let file = folder.find_to_read(name).ok()??;
    if flock(&file, FlockOperation::NonBlockingLockShared) != Err(Errno::WOULDBLOCK) {
        return None;
    }
    let mut bytes = Vec::new();
    file.take(LONGEST).read_to_end(&mut bytes).ok()?;
    serde_json::from_slice::<Ticket>(&bytes)
        .ok()
        .filter(|ticket| ticket.format == FORMAT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_counts_while_it_is_held() {
        let below = tempfile::tempdir().unwrap();
        let folder = LockFolder::open(Some(below.path())).unwrap();
        let ticket = |run: &str| Ticket {
            format: FORMAT,
            run_id: run.parse().unwrap(),
            at: "2026-01-01T00:00:00Z".parse().unwrap(),
            arrived: None,
            priority: 0,
            gpus: Gpus::Count(1),
            placement: Placement::default(),
        };
        let (one, two) = (ticket("rs_aaaaaaaa"), ticket("rs_bbbbbbbb"));
        let mut tickets = Tickets::default();
        tickets.update(&folder, &[one.clone(), two.clone()]).unwrap();
        assert_eq!(living(&folder).len(), 2);
        tickets.update(&folder, std::slice::from_ref(&two)).unwrap();
        assert_eq!(living(&folder), std::slice::from_ref(&two));
        // What a dead observer left counts for nothing.
        std::fs::write(
            below.path().join(name(&one.run_id)),
            serde_json::to_vec(&one).unwrap(),
        )
        .unwrap();
        assert_eq!(living(&folder), [two]);
        drop(tickets);
        assert!(living(&folder).is_empty());
    }
}
