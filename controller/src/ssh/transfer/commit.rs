//! The last step of a download: verified parts get their mode, their time, a sync and their final names.

use super::TransferError;
use super::destination::Destination;
use super::job::Job;
use rustix::fs::{fsync, syncfs};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::{Arc, mpsc};

/// From this many files on, one sync of the file system is cheaper than one of each file.
const MANY: usize = 8;
/// Most files in one batch.
const BATCH: usize = 1024;

/// Places what arrives until nobody is left to send; `report` hears of each file.
pub(super) fn commit_all(
    destination: &Destination,
    verified: &mpsc::Receiver<Arc<Job>>,
    report: impl Fn(&Job, Result<(), TransferError>),
) {
    while let Ok(first) = verified.recv() {
        let mut batch = vec![first];
        while batch.len() < BATCH
            && let Ok(next) = verified.try_recv()
        {
            batch.push(next);
        }
        commit(destination, &batch, &report);
    }
}

fn commit(destination: &Destination, batch: &[Arc<Job>], report: &impl Fn(&Job, Result<(), TransferError>)) {
    let together = batch.len() >= MANY;
    let mut ready = Vec::with_capacity(batch.len());
    for job in batch {
        match settle(destination, job, !together) {
            Ok(()) => ready.push(job),
            Err(error) => report(job, Err(error)),
        }
    }
    if together && let Err(errno) = syncfs(destination.parts()) {
        ready
            .drain(..)
            .for_each(|job| report(job, Err(destination.part_error(&job.part_name, errno))));
    }
    let mut placed = Vec::with_capacity(ready.len());
    let mut folders = BTreeMap::new();
    for job in ready {
        let path = &job.wanted.path;
        let shelf = destination.shelf(&job.part_name, job.wanted.block_count() > 1, true);
        let placed_in = shelf.and_then(|shelf| {
            let shelf = shelf.ok_or_else(|| destination.part_error(&job.part_name, Errno::NOENT))?;
            destination.folder.place(shelf.as_fd(), &job.part_name, path)
        });
        match placed_in {
            Ok(folder) => {
                folders.insert(super::folder::split(path).0.to_owned(), folder);
                placed.push(job);
            }
            Err(error) => report(job, Err(error)),
        }
    }
    // Names are durable only when their folders are, and those above that were made for them; nothing is reported
    // before that.
    folders.extend(destination.folder.take_unsynced());
    let synced = sync_folders(destination, &folders);
    for job in placed {
        let failed = synced
            .clone()
            .map_err(|(above, errno)| destination.folder.error(&above, errno));
        report(job, failed);
    }
}

fn sync_folders(
    destination: &Destination,
    folders: &BTreeMap<String, Arc<OwnedFd>>,
) -> Result<(), (String, Errno)> {
    if folders.len() >= MANY {
        return syncfs(destination.parts()).map_err(|errno| (String::new(), errno));
    }
    folders
        .iter()
        .try_for_each(|(above, folder)| fsync(&**folder).map_err(|errno| (above.clone(), errno)))
}

/// Settles what was not settled when it was written, and syncs a file that no sync of the file system covers.
fn settle(destination: &Destination, job: &Job, sync: bool) -> Result<(), TransferError> {
    let missing = || destination.part_error(&job.part_name, Errno::NOENT);
    let opened;
    let part = match job.part() {
        Some(part) => part,
        // A small one was closed when it was written.
        None if !sync => return Ok(()),
        None => {
            opened = destination.part(&job.part_name, false)?.ok_or_else(missing)?;
            &opened
        }
    };
    job.settle(part)?;
    // A large one has been on its way to the disk for long, and what was refused meanwhile is told by its own sync on
    // every kernel; by that of the file system since Linux 5.8 (syncfs(2)).
    if sync || job.part().is_some() {
        fsync(part).map_err(|errno| destination.part_error(&job.part_name, errno))?;
    }
    Ok(())
}
