//! Runs that wait for a GPU: one file each, in an order that does not change while they wait.
//!
//! Greater priority first, then whoever came first by the clock of the boot, which nobody can set. Whoever stands before
//! others keeps every GPU that it could use, so a large order is not starved by small ones: a later run passes only with
//! GPUs that no earlier one can use. Anybody who comes by starts what can be started (`serve::advance`); a run needs no
//! process of its own to wait.
//!
//! Runs of other accounts are known by their tickets in the folder of the locks. A ticket counts while its account
//! holds a lock on it, so the waiting of an account that has nobody left to start its runs holds up nobody.

mod order;
mod tickets;

pub use order::{DockerSettings, Order, WaitsFor, behind_all, line, order_of, write_order};
pub use tickets::{Ticket, Tickets, living};

use crate::leases::{LockFolder, Reserved, Wish, usable};
use crate::record::{RecordError, RunFolder, boot_id};
use farrun_protocol::RunId;
use farrun_protocol::gpu::GpuReport;
use farrun_protocol::lease::QueuePlace;
use std::path::Path;

/// Who stands before a place in line.
#[derive(Debug, Clone, Default)]
pub struct Ahead {
    /// Runs of this account, in order.
    pub own: Vec<(RunId, Wish)>,
    /// What runs of other accounts want.
    pub others: Vec<Wish>,
}

impl Ahead {
    /// Who stands before `order`, or before somebody who comes now when there is none.
    ///
    /// # Errors
    /// The queue's folder cannot be read.
    pub fn of(state: &Path, locks: Option<&LockFolder>, order: Option<&Order>) -> Result<Self, RecordError> {
        let line = line(state)?;
        let tickets = locks.map(living).unwrap_or_default();
        let boot_id = boot_id();
        let own_key = order.map(|own| own.key(&boot_id));
        let before = |key: &order::Key| own_key.as_ref().is_none_or(|own| key < own);
        let others = tickets
            .iter()
            .filter(|ticket| before(&ticket.key(&boot_id)))
            // Our own are read from our own files.
            .filter(|ticket| !RunFolder::new(state, &ticket.run_id).path().is_dir())
            .map(|ticket| ticket.wish());
        let own = line
            .iter()
            .filter(|other| before(&other.key(&boot_id)))
            .filter_map(|other| {
                let spec = RunFolder::new(state, &other.run_id).spec().ok().flatten()?;
                Some((other.run_id.clone(), Wish::of(&spec)))
            });
        Ok(Self {
            own: own.collect(),
            others: others.collect(),
        })
    }

    /// The GPUs that they keep.
    pub fn reserved(&self, report: &GpuReport) -> Vec<Reserved> {
        let own = self.own.iter().map(|(run_id, wish)| (Some(run_id), wish));
        let others = self.others.iter().map(|wish| (None, wish));
        own.chain(others)
            .flat_map(|(run_id, wish)| {
                usable(report, wish).into_iter().map(move |uuid| Reserved {
                    uuid,
                    run_id: run_id.cloned(),
                })
            })
            .collect()
    }
}

/// Where a waiting run stands; `None` when it does not wait.
///
/// # Errors
/// The queue cannot be read.
pub fn place(
    state: &Path,
    locks: Option<&LockFolder>,
    folder: &RunFolder,
) -> Result<Option<QueuePlace>, RecordError> {
    let Some(order) = order_of(folder)? else {
        return Ok(None);
    };
    let ahead = Ahead::of(state, locks, Some(&order))?;
    let before = ahead.own.len().saturating_add(ahead.others.len());
    Ok(Some(QueuePlace {
        position: u32::try_from(before.saturating_add(1)).unwrap_or(u32::MAX),
        since: order.at,
        until: order.until,
        priority: order.priority,
        ahead: ahead.own.into_iter().map(|(run_id, _)| run_id).collect(),
        others_ahead: u32::try_from(ahead.others.len()).unwrap_or(u32::MAX),
        waits_for: folder.waits_for().unwrap_or_default(),
        watched: crate::watch::lives(state),
        resident: crate::residence::installed(state).is_some(),
    }))
}
