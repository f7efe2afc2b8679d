//! Where bundles lie: in the folder of their run, or below the state folder for the host. Where that cannot be written
//! to, in a folder of the account's own in memory or among temporary files.

use crate::record::{RecordError, RunFolder, make_private_folder, read_json, remove_if_present};
use chrono::{DateTime, Utc};
use farrun_protocol::diagnostics::{BUNDLE, Bundle, FORMAT};
use farrun_protocol::verdict::RunResult;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// How the names of folders begin that are being filled or removed.
pub(super) const UNFINISHED: &str = ".diagnostics.";
/// Where bundles go when the state folder takes none.
const ELSEWHERE: [&str; 2] = ["/dev/shm", "/tmp"];
/// What is left of a bundle that was removed for its age.
const MARKER: &str = "diagnosed";

/// A bundle's folder and what lies beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) folder: PathBuf,
}

impl Place {
    pub(super) fn of_run(run: &RunFolder) -> Self {
        Self {
            folder: run.path().join("diagnostics"),
        }
    }

    pub(super) fn of_host(state: &Path, began: DateTime<Utc>) -> Self {
        let name = began.format("%Y%m%dT%H%M%S%3fZ").to_string();
        Self {
            folder: host_folder(state).join(name),
        }
    }

    /// The list of its files, made when it is asked for.
    pub(crate) fn manifest(&self) -> PathBuf {
        self.beside("manifest.json")
    }

    /// Its files end to end.
    pub(crate) fn pack(&self) -> PathBuf {
        self.beside("pack")
    }

    fn beside(&self, ending: &str) -> PathBuf {
        let name = self.folder.file_name().unwrap_or_default().to_string_lossy();
        self.folder.with_file_name(format!("{name}.{ending}"))
    }

    /// When it was finished.
    pub(crate) fn stored_at(&self) -> Option<SystemTime> {
        std::fs::metadata(self.folder.join(BUNDLE)).ok()?.modified().ok()
    }
}

/// Where bundles about the host lie.
pub(super) fn host_folder(state: &Path) -> PathBuf {
    state.join("diagnostics")
}

/// Bundles about the host, oldest first.
pub(crate) fn about_host(state: &Path) -> Vec<Place> {
    let entries = std::fs::read_dir(host_folder(state)).into_iter().flatten();
    let folders = entries.flatten().filter(|entry| {
        let unfinished = entry.file_name().to_string_lossy().starts_with('.');
        !unfinished && entry.file_type().is_ok_and(|kind| kind.is_dir())
    });
    let mut places: Vec<Place> = folders.map(|entry| Place { folder: entry.path() }).collect();
    places.sort_by(|one, other| one.folder.cmp(&other.folder));
    places
}

/// Folders of the account outside of its state folder, those that are safe to use. With `make` they are made.
pub(crate) fn elsewhere(make: bool) -> impl Iterator<Item = PathBuf> {
    let own = rustix::process::geteuid().as_raw();
    ELSEWHERE.iter().filter_map(move |root| {
        let folder = Path::new(root).join(format!("farrun-{own}"));
        if make {
            let _ = make_private_folder(&folder);
        }
        // Anybody may have made it before us.
        let found = std::fs::symlink_metadata(&folder).ok()?;
        (found.is_dir() && found.uid() == own && found.mode() & 0o077 == 0).then_some(folder)
    })
}

/// The same place outside of the state folder.
pub(super) fn outside(root: &Path, state: &Path, place: &Place) -> Place {
    let inside = place.folder.strip_prefix(state).unwrap_or(&place.folder);
    Place {
        folder: of_state(root, state).join(inside),
    }
}

/// The part of a folder outside that belongs to one state folder: an account may have two.
pub(crate) fn of_state(root: &Path, state: &Path) -> PathBuf {
    let state = farrun_protocol::Sha256::of(state.as_os_str().as_encoded_bytes());
    let name: String = state.as_str().chars().take(16).collect();
    root.join(name)
}

/// The newest bundle of a run.
pub(crate) fn find(state: &Path, run: &RunFolder) -> Option<Place> {
    let own = Place::of_run(run);
    let others: Vec<Place> = elsewhere(false).map(|root| outside(&root, state, &own)).collect();
    std::iter::once(own)
        .chain(others)
        .filter_map(|place| Some((place.stored_at()?, place)))
        .max_by_key(|(at, _)| *at)
        .map(|(_, place)| place)
}

/// What a bundle says about itself.
pub(crate) fn read(place: &Place) -> Result<Bundle, RecordError> {
    let path = place.folder.join(BUNDLE);
    read_json(&path, FORMAT)?.ok_or_else(|| RecordError::io(&path)(std::io::ErrorKind::NotFound.into()))
}

/// When the newest bundle of a run was made.
pub(crate) fn explained_at(state: &Path, run: &RunFolder) -> Option<DateTime<Utc>> {
    find(state, run)?.stored_at().map(DateTime::from)
}

/// Whether the evidence of how a run ended was collected, though it may be gone again.
pub(crate) fn is_explained(state: &Path, run: &RunFolder) -> bool {
    let modified = |path: PathBuf| std::fs::metadata(path).ok()?.modified().ok();
    let Some(settled) = modified(run.path().join("settled.json")) else {
        return false;
    };
    let bundle = find(state, run).and_then(|place| place.stored_at());
    let marker = modified(run.path().join(MARKER));
    [bundle, marker].into_iter().flatten().any(|at| at >= settled)
}

/// Whether a run ended and did not succeed.
pub(super) fn has_failed(run: &RunFolder) -> bool {
    let settled = run.settled().ok().flatten();
    settled.is_some_and(|settled| settled.verdict.result != RunResult::Succeeded)
}

/// Removes the values that were kept to be redacted, once nothing needs them any more: after the end and its bundle.
pub(crate) fn forget_secrets(run: &RunFolder) {
    if !run.is_open() {
        let _ = remove_if_present(&run.secrets());
    }
}

/// Gives a finished folder its name, in the place of what has it.
pub(super) fn take_the_place(finished: &Path, folder: &Path) -> Result<(), RecordError> {
    if std::fs::rename(finished, folder).is_ok() {
        return Ok(());
    }
    remove(&Place {
        folder: folder.to_owned(),
    })?;
    std::fs::rename(finished, folder).map_err(RecordError::io(folder))
}

/// Removes a bundle: first its name, so that half a bundle is never taken for one.
pub(crate) fn remove(place: &Place) -> Result<(), RecordError> {
    for file in [place.manifest(), place.pack()] {
        remove_if_present(&file)?;
    }
    let gone = place
        .folder
        .with_file_name(format!("{UNFINISHED}{}", uuid::Uuid::new_v4().simple()));
    match std::fs::rename(&place.folder, &gone) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(RecordError::io(&place.folder)(error)),
        Ok(()) => std::fs::remove_dir_all(&gone).map_err(RecordError::io(&gone)),
    }
}

/// Remembers that a run had a bundle, so that none is made anew.
pub(super) fn mark(run: &Path) {
    let _ = std::fs::write(run.join(MARKER), b"");
}
