//! Hooks of users: what is done on this host when a run has ended, so that somebody learns of it who is not connected.
//!
//! ```text
//! notify/<controller_id>.json                 what that controller's user wants; 0600, an address in it is a secret
//! notify/due/<run_id>                         a run that has ended, or is about to be settled, and of which nobody was told
//! runs/<run_id>/notified/<controller_id>.json that it was told, written before it is, so that it never is twice
//! ```
//!
//! Whoever settles a run leaves the mark; the observer tells, beside everything else that it does.

mod deliveries;
mod due;

pub(crate) use deliveries::Deliveries;
pub(crate) use due::{is_due, mark};

use crate::record::{RecordError, RunFolder, make_private_folder, read_json, remove_if_present, write_json};
use farrun_protocol::notify::{FORMAT, HookFile, Notified, Outcome};
use farrun_protocol::{ControllerId, layout};
use std::path::{Path, PathBuf};

fn hook_path(state: &Path, controller_id: &ControllerId) -> PathBuf {
    state.join(layout::NOTIFY).join(format!("{controller_id}.json"))
}

/// Sets or takes away what a controller's user wants.
pub(crate) fn set(
    state: &Path,
    controller_id: &ControllerId,
    hook: Option<&HookFile>,
) -> Result<(), RecordError> {
    make_private_folder(&state.join(layout::NOTIFY))?;
    let path = hook_path(state, controller_id);
    match hook {
        Some(hook) => write_json(&path, hook),
        None => remove_if_present(&path),
    }
}

/// What a controller's user wants. A file that cannot be read is as good as none: it must not be in the way of runs.
fn hook(state: &Path, controller_id: &ControllerId) -> Option<HookFile> {
    read_json(&hook_path(state, controller_id), FORMAT).ok().flatten()
}

/// Everybody who may want to know of a run: who ordered it and who adopted it.
fn owners(folder: &RunFolder) -> Vec<ControllerId> {
    let ordered = folder.spec().ok().flatten().map(|spec| spec.controller_id);
    let adopted = folder.adopted().unwrap_or_default();
    ordered.into_iter().chain(adopted).collect()
}

fn notified_path(folder: &RunFolder, controller_id: &ControllerId) -> PathBuf {
    folder
        .path()
        .join("notified")
        .join(format!("{controller_id}.json"))
}

/// What became of telling an owner of a run; the first owner who wants to be told counts. None when nobody wants it.
pub(crate) fn told(folder: &RunFolder) -> Option<Notified> {
    if !folder.path().join("notified").exists() && !due::is_marked(folder) {
        return None;
    }
    let owners = owners(folder);
    let told = owners.iter().find_map(|owner| {
        let path = notified_path(folder, owner);
        read_json::<Notified>(&path, FORMAT).ok().flatten()
    });
    told.or_else(|| {
        let owner = owners
            .into_iter()
            .find(|owner| hook_path(folder.state(), owner).exists())?;
        Some(Notified {
            format: FORMAT,
            controller_id: owner,
            at: chrono::Utc::now(),
            outcome: Outcome::Begun,
        })
    })
}
