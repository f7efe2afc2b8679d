//! What belongs to no run: evidence of the host, and images of the demo.

use super::{Sweep, garbage, size};
use crate::diagnostics;
use crate::docker::Engine;
use farrun_protocol::Failure;
use farrun_protocol::message::Garbage;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// Evidence about the host that is older than `age`.
pub(super) fn diagnostics(state: &Path, age: Duration, sweep: &Sweep) -> Result<Vec<Garbage>, Failure> {
    let mut items = Vec::new();
    for place in diagnostics::about_host(state) {
        let made = place.stored_at();
        let old = made.and_then(|made| SystemTime::now().duration_since(made).ok());
        let name = place.folder.file_name().unwrap_or_default().to_string_lossy();
        if old.is_none_or(|old| old < age) || !sweep.covers(&name) {
            continue;
        }
        items.push(garbage("diagnostics", name, size(&place.folder), None));
        if !sweep.dry_run {
            diagnostics::remove(&place)?;
        }
    }
    Ok(items)
}

/// Images that `scripts/build-demo-image` made; one that a container uses stays.
pub(super) async fn images(engine: &Engine, sweep: &Sweep) -> Result<Vec<Garbage>, Failure> {
    /// What that script labels them with.
    const LABEL: &str = "farrun.demo";
    let used = engine.used_images().await?;
    let mut items = Vec::new();
    let images = engine.labelled_images(LABEL).await?.into_iter();
    for image in images.filter(|image| sweep.covers(&image.name)) {
        let kept = used.contains(&image.id).then_some("used");
        items.push(garbage("image", &image.name, image.size, kept));
        if kept.is_none() && !sweep.dry_run {
            engine.remove_image(&image.name).await?;
        }
    }
    Ok(items)
}
