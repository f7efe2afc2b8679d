//! Runs of whose end nobody was told yet.

use super::{hook_path, owners};
use crate::record::{RunFolder, make_private_folder, remove_if_present};
use farrun_protocol::{RunId, layout};
use std::path::{Path, PathBuf};

fn folder_of(state: &Path) -> PathBuf {
    state.join(layout::NOTIFY).join("due")
}

fn path(folder: &RunFolder) -> PathBuf {
    folder_of(folder.state()).join(folder.run_id().as_str())
}

/// Marks a run that is about to be settled, when somebody wants to be told. A disk that is too full for the mark costs the
/// notification and not the record.
pub(crate) fn mark(folder: &RunFolder) {
    let wanted = owners(folder)
        .iter()
        .any(|owner| hook_path(folder.state(), owner).exists());
    if wanted && make_private_folder(&folder_of(folder.state())).is_ok() {
        let _ = std::fs::File::create(path(folder));
    }
}

pub(super) fn is_marked(folder: &RunFolder) -> bool {
    path(folder).exists()
}

pub(super) fn clear(folder: &RunFolder) {
    let _ = remove_if_present(&path(folder));
}

/// Every run with a mark.
pub(super) fn list(state: &Path) -> Vec<RunId> {
    let entries = std::fs::read_dir(folder_of(state)).into_iter().flatten();
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect()
}

/// Whether there is one.
pub(crate) fn is_due(state: &Path) -> bool {
    !list(state).is_empty()
}
