//! Writing a bundle where there is room for it.

use super::parcel::Parcel;
use super::place::{self, Place};
use super::retention;
use super::scene::Scene;
use super::summary::summary;
use crate::record::make_private_folder;
use farrun_protocol::diagnostics::Bundle;
use std::path::{Path, PathBuf};

/// A bundle that was made.
#[derive(Debug, Clone)]
pub(crate) struct Made {
    pub(crate) bundle: Bundle,
    /// None where nothing could be written.
    pub(crate) place: Option<Place>,
}

/// Writes the bundle where there is room for it, then tidies up.
pub(super) fn write_down(state: &Path, scene: &Scene, parcel: Parcel, mut bundle: Bundle) -> Made {
    let own = match &scene.run {
        Some(run) => Place::of_run(run),
        None => Place::of_host(state, bundle.began_at),
    };
    let mut complaints = Vec::new();
    let others: Vec<PathBuf> = std::iter::once(PathBuf::new())
        .chain(place::elsewhere(true))
        .collect();
    for root in others {
        let is_own = root.as_os_str().is_empty();
        let place = if is_own {
            own.clone()
        } else {
            place::outside(&root, state, &own)
        };
        if let Some(parent) = place.folder.parent().filter(|_| !is_own || scene.run.is_none()) {
            // Where it cannot be made it cannot be written to either, and that is said.
            let _ = make_private_folder(parent);
        }
        bundle.elsewhere = (!is_own).then(|| complaints.join("; "));
        match parcel.store(&place.folder, &bundle, &summary(&bundle, scene)) {
            Ok(()) => {
                retention::prune(state);
                return Made {
                    bundle,
                    place: Some(place),
                };
            }
            Err(error) => complaints.push(error.to_string()),
        }
    }
    let why = complaints.join("; ");
    bundle.items = parcel.lost(&format!("it was collected and could be written nowhere: {why}"));
    bundle.elsewhere = Some(why);
    Made { bundle, place: None }
}
