//! The last step of a download: verified parts get their mode, their time, a sync and their final names.

use super::TransferError;
use super::destination::Destination;
use super::job::Job;
use rustix::fs::{Timespec, Timestamps, fsync, futimens, syncfs};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::{Arc, mpsc};

/// From this many files on, one sync of the file system is cheaper than one of each file.
const MANY: usize = 8;
/// Most files in one batch.
const BATCH: usize = 128;

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
    // Names are durable only when their folders are; nothing is reported before that.
    let mut folders: BTreeMap<String, (Arc<OwnedFd>, Vec<&Arc<Job>>)> = BTreeMap::new();
    for job in ready {
        let path = &job.wanted.path;
        match destination
            .folder
            .place(destination.parts(), &job.part_name, path)
        {
            Ok(folder) => {
                let above = super::folder::split(path).0.to_owned();
                folders
                    .entry(above)
                    .or_insert_with(|| (folder, Vec::new()))
                    .1
                    .push(job);
            }
            Err(error) => report(job, Err(error)),
        }
    }
    for (above, (folder, jobs)) in folders {
        let synced = fsync(&*folder);
        for job in jobs {
            report(
                job,
                synced.map_err(|errno| destination.folder.error(&above, errno)),
            );
        }
    }
}

/// Gives the part what the final file shall have, while no other name leads to it.
fn settle(destination: &Destination, job: &Job, sync: bool) -> Result<(), TransferError> {
    let error = |error: std::io::Error| destination.part_error(&job.part_name, error);
    let part = job.part().ok_or_else(|| error(Errno::NOENT.into()))?;
    let mode = (job.wanted.mode & 0o777) | 0o600;
    part.set_permissions(std::fs::Permissions::from_mode(mode))
        .map_err(error)?;
    let nanoseconds = job.wanted.modified_ns;
    let modified = Timespec {
        tv_sec: nanoseconds.div_euclid(1_000_000_000),
        tv_nsec: nanoseconds.rem_euclid(1_000_000_000),
    };
    futimens(
        part,
        &Timestamps {
            last_access: modified,
            last_modification: modified,
        },
    )
    .map_err(|errno| error(errno.into()))?;
    if sync {
        fsync(part).map_err(|errno| error(errno.into()))?;
    }
    Ok(())
}
