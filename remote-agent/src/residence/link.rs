//! Which agent starts after a boot.

use super::note;
use super::place::Place;
use crate::record::{RecordError, make_private_folder, remove_if_present};
use farrun_protocol::{Sha256, layout};
use std::io;
use std::path::{Path, PathBuf};

/// Folder of the link.
const FOLDER: &str = "resident";

/// The link.
pub(super) fn path(state: &Path) -> PathBuf {
    state.join(FOLDER).join(layout::AGENT)
}

/// Lets this place's agent be the one that starts.
pub(super) fn point_to(place: &Place) -> Result<(), RecordError> {
    let link = path(&place.state);
    let folder = place.state.join(FOLDER);
    make_private_folder(&folder)?;
    let target = Path::new("..").join(layout::agent(&place.agent_sha256));
    let temporary = folder.join(format!(".new-{}", uuid::Uuid::new_v4().simple()));
    let named =
        std::os::unix::fs::symlink(target, &temporary).and_then(|()| std::fs::rename(&temporary, &link));
    named.map_err(|error| {
        let _ = std::fs::remove_file(&temporary);
        RecordError::io(&link)(error)
    })
}

/// The agent that starts, which must not be removed.
pub(crate) fn agent(state: &Path) -> Option<Sha256> {
    let target = std::fs::read_link(path(state)).ok()?;
    target.parent()?.file_name()?.to_str()?.parse().ok()
}

/// Lets the agent of a conversation start from now on when it is newer than the one that does, or that is gone. An
/// equal or older one never takes its place, so two versions do not replace one another in turn.
pub(crate) fn follow(place: &Place) -> Result<(), RecordError> {
    let Some(mut note) = note::read(&place.state)? else {
        return Ok(());
    };
    if agent(&place.state).as_ref() == Some(&place.agent_sha256) {
        return Ok(());
    }
    let version = env!("CARGO_PKG_VERSION");
    let newer = crate::watch::numbers(&note.version) < crate::watch::numbers(version);
    if newer || !path(&place.state).exists() {
        point_to(place)?;
        note.version = version.to_owned();
        note::write(&place.state, &note)?;
    }
    Ok(())
}

pub(super) fn remove(state: &Path) -> Result<(), RecordError> {
    remove_if_present(&path(state))?;
    let folder = state.join(FOLDER);
    match std::fs::remove_dir(&folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(RecordError::io(&folder)(error)),
        _ => Ok(()),
    }
}
