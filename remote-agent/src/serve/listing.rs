//! Listing what an ended run left, one process at a time: whoever comes second waits for that list and tells how far it
//! is, instead of hashing the same files beside it.

use super::call::cancelled;
use crate::diagnostics;
use crate::outputs::{Hashing, build_somewhere};
use crate::record::{Lock, RecordError, RunFolder, make_private_folder, read_bounded};
use farrun_protocol::manifest::Manifest;
use farrun_protocol::{Failure, RunId};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// Time between two attempts to begin.
const TRIED_APART: Duration = Duration::from_millis(20);
/// How often those who wait are told how far the list is.
const NOTED_APART: Duration = Duration::from_millis(200);
/// Two numbers of 20 digits and what is between them.
const MOST_NOTED: u64 = 42;

/// The right to list the outputs of one run.
#[derive(Debug)]
pub(crate) struct Turn {
    folder: RunFolder,
    /// None where no lock can be made: a full disk must not keep outputs from being brought home.
    lock: Option<Lock>,
}

impl Turn {
    /// Waits until nobody else is at it, and reports how far the other one is.
    pub(crate) async fn wait(
        folder: &RunFolder,
        cancel: &CancellationToken,
        mut report: impl FnMut(Hashing),
    ) -> Result<Self, Failure> {
        loop {
            if let Some(turn) = Self::take(folder) {
                return Ok(turn);
            }
            report(noted(folder));
            tokio::select! {
                () = tokio::time::sleep(TRIED_APART) => {}
                () = cancel.cancelled() => return Err(cancelled()),
            }
        }
    }

    /// The turn, unless somebody else has it.
    pub(crate) fn take(folder: &RunFolder) -> Option<Self> {
        let lock = match Lock::try_take(&folder.listing()) {
            Ok(None) => return None,
            Ok(lock) => lock,
            Err(_) => None,
        };
        let folder = folder.clone();
        Some(Self { folder, lock })
    }

    /// The manifest and where it lies. Blocks for as long as hashing takes.
    pub(crate) fn list(self, mut report: impl FnMut(Hashing)) -> Result<(Manifest, PathBuf), RecordError> {
        let (folder, run_id) = (&self.folder, self.folder.run_id());
        let other = |make| elsewhere(folder.state(), run_id, make);
        let mut last: Option<Instant> = None;
        let listed = build_somewhere(
            &folder.outputs(),
            run_id,
            &folder.manifest(),
            &other,
            &folder.pack(),
            |hashing| {
                if last.is_none_or(|last| last.elapsed() >= NOTED_APART) {
                    last = Some(Instant::now());
                    self.note(hashing);
                }
                report(hashing);
            },
        );
        drop(self.lock);
        listed
    }

    fn note(&self, Hashing { bytes_done, bytes }: Hashing) {
        if let Some(lock) = &self.lock {
            lock.note(&format!("{bytes_done:>20} {bytes:>20}\n"));
        }
    }
}

/// How far whoever lists the outputs says it is.
fn noted(folder: &RunFolder) -> Hashing {
    let bytes = read_bounded(&folder.listing(), MOST_NOTED).ok().flatten();
    let text = String::from_utf8(bytes.unwrap_or_default()).unwrap_or_default();
    let mut numbers = text
        .split_whitespace()
        .map(|word| word.parse().unwrap_or_default());
    Hashing {
        bytes_done: numbers.next().unwrap_or_default(),
        bytes: numbers.next().unwrap_or_default(),
    }
}

/// Where the list of a run's outputs lies when the state folder has no room for it; with `make` the folders are made.
pub(super) fn elsewhere(state: &Path, run_id: &RunId, make: bool) -> Vec<PathBuf> {
    let place = |root: PathBuf| {
        let folder = diagnostics::of_state(&root, state);
        let lists = folder.join("manifests");
        if make {
            // Where they cannot be made nothing can be written either.
            let _ = make_private_folder(&folder).and_then(|()| make_private_folder(&lists));
        }
        lists.join(format!("{run_id}.json"))
    };
    diagnostics::elsewhere(make).map(place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt as _;

    fn folder(state: &Path) -> RunFolder {
        let folder = RunFolder::new(state, &"rs_aaaaaaaaaaaa".parse().unwrap());
        std::fs::create_dir_all(folder.outputs()).unwrap();
        folder
    }

    #[tokio::test]
    async fn one_lists_and_the_other_waits_and_hears_how_far_it_is() {
        let state = tempfile::tempdir().unwrap();
        let folder = folder(state.path());
        std::fs::write(folder.outputs().join("a"), "content").unwrap();
        let cancel = CancellationToken::new();
        let first = Turn::take(&folder).unwrap();
        assert!(Turn::take(&folder).is_none());
        let half = Hashing {
            bytes_done: 3,
            bytes: u64::MAX,
        };
        first.note(half);
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        let waiting = tokio::spawn({
            let (folder, cancel) = (folder.clone(), cancel.clone());
            async move { Turn::wait(&folder, &cancel, |hashing| tell.send(hashing).unwrap()).await }
        });
        assert_eq!(told.recv().await, Some(half));
        // A list that is no younger than a file is not believed, and the clock of a file system moves in steps.
        let changed = |path: &Path| {
            let facts = std::fs::metadata(path).unwrap();
            (facts.ctime(), facts.ctime_nsec())
        };
        let (deadline, tick) = (
            Instant::now() + Duration::from_secs(30),
            state.path().join("tick"),
        );
        while std::fs::write(&tick, "").is_err() || changed(&tick) <= changed(&folder.outputs().join("a")) {
            assert!(Instant::now() < deadline, "the clock stands still");
        }
        let (manifest, path) = first.list(|_| {}).unwrap();
        assert_eq!((manifest.files.len(), &path), (1, &folder.manifest()));
        let second = waiting.await.unwrap().unwrap();
        let mut hashed = 0;
        second.list(|_| hashed += 1).unwrap();
        assert_eq!(hashed, 0, "the list is there");
    }

    #[tokio::test]
    async fn whoever_waits_can_be_called_off() {
        let state = tempfile::tempdir().unwrap();
        let folder = folder(state.path());
        let _first = Turn::take(&folder).unwrap();
        let cancel = CancellationToken::new();
        let called_off = Turn::wait(&folder, &cancel, |_| cancel.cancel()).await;
        assert_eq!(
            called_off.unwrap_err().code,
            farrun_protocol::ErrorCode::Cancelled
        );
    }

    #[test]
    fn without_a_place_for_the_lock_the_outputs_are_listed() {
        let state = tempfile::tempdir().unwrap();
        let folder = folder(state.path());
        std::fs::create_dir(folder.listing()).unwrap();
        let (manifest, _) = Turn::take(&folder).unwrap().list(|_| {}).unwrap();
        assert!(manifest.files.is_empty());
    }
}
