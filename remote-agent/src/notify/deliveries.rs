//! Telling, beside everything else an observer does: each hook in a thread of its own, for one may hang.

use super::{due, hook, notified_path, owners};
use crate::record::{RecordError, RunFolder, make_private_folder, sync_folder, write_json};
use chrono::Utc;
use farrun_protocol::notify::{Event, FORMAT, Notified, Outcome, carry_out};
use farrun_protocol::{ControllerId, RunId};
use std::collections::HashSet;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};

/// Runs of which somebody is told at a time.
const ABREAST: usize = 8;

/// What is under way.
#[derive(Debug)]
pub(crate) struct Deliveries {
    state: PathBuf,
    under_way: HashSet<RunId>,
    finished: (Sender<RunId>, Receiver<RunId>),
}

impl Deliveries {
    pub(crate) fn new(state: PathBuf) -> Self {
        Self {
            state,
            under_way: HashSet::new(),
            finished: channel(),
        }
    }

    /// Begins with what is due. Costs one listing of a folder when nothing is.
    pub(crate) fn look(&mut self) {
        while let Ok(run_id) = self.finished.1.try_recv() {
            self.under_way.remove(&run_id);
        }
        for run_id in due::list(&self.state) {
            if self.under_way.len() >= ABREAST {
                return;
            }
            if self.under_way.insert(run_id.clone()) {
                self.begin(run_id);
            }
        }
    }

    fn begin(&self, run_id: RunId) {
        let (state, finished) = (self.state.clone(), self.finished.0.clone());
        let own = run_id.clone();
        let thread = std::thread::Builder::new().name("hook".into());
        let begun = thread.spawn(move || {
            deliver(&state, &run_id);
            let _ = finished.send(run_id);
        });
        if begun.is_err() {
            // No thread to be had; the next look tries again.
            let _ = self.finished.0.send(own);
        }
    }

    pub(crate) fn is_busy(&self) -> bool {
        !self.under_way.is_empty()
    }
}

/// Tells everybody who wants to know of a run, each once.
fn deliver(state: &Path, run_id: &RunId) {
    let folder = RunFolder::new(state, run_id);
    if !folder.path().is_dir() {
        due::clear(&folder);
        return;
    }
    // Marked by one who was about to settle it and died; whoever settles it leaves the mark again.
    let (Ok(Some(settled)), Ok(Some(spec))) = (folder.settled(), folder.spec()) else {
        return;
    };
    for owner in owners(&folder) {
        let Some(file) = hook(state, &owner) else { continue };
        if !matches!(claim(&folder, &owner), Ok(true)) {
            continue;
        }
        let event = Event::settled(&settled, &spec, &file.host);
        let outcome = carry_out(&file.hook.call(&event));
        let _ = write_json(&notified_path(&folder, &owner), &notified(&owner, outcome));
    }
    due::clear(&folder);
}

fn notified(owner: &ControllerId, outcome: Outcome) -> Notified {
    Notified {
        format: FORMAT,
        controller_id: owner.clone(),
        at: Utc::now(),
        outcome,
    }
}

/// Whether telling this owner is ours to do. What lies on disk afterwards keeps everybody else from it, for good.
fn claim(folder: &RunFolder, owner: &ControllerId) -> Result<bool, RecordError> {
    let path = notified_path(folder, owner);
    let below = folder.path().join("notified");
    make_private_folder(&below)?;
    let json = serde_json::to_vec(&notified(owner, Outcome::Begun)).unwrap_or_default();
    let made = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path);
    let mut file = match made {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => return Ok(false),
        Err(error) => return Err(RecordError::io(&path)(error)),
    };
    file.write_all(&json)
        .and_then(|()| file.sync_all())
        .map_err(RecordError::io(&path))?;
    sync_folder(&below)?;
    Ok(true)
}

#[cfg(test)]
mod tests;
