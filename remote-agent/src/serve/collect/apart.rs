//! What belongs to no run: evidence of the host, and images of the demo.

use super::{garbage, size};
use crate::diagnostics;
use crate::docker::Engine;
use farrun_protocol::Failure;
use farrun_protocol::message::Garbage;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// Evidence about the host that is older than `age`.
pub(super) fn diagnostics(state: &Path, age: Duration, dry_run: bool) -> Result<Vec<Garbage>, Failure> {
    let mut items = Vec::new();
    for place in diagnostics::about_host(state) {
        let made = place.stored_at();
        let old = made.and_then(|made| SystemTime::now().duration_since(made).ok());
        if old.is_none_or(|old| old < age) {
            continue;
        }
        let name = place.folder.file_name().unwrap_or_default().to_string_lossy();
        items.push(garbage("diagnostics", name, size(&place.folder), None));
        if !dry_run {
            diagnostics::remove(&place)?;
        }
    }
    Ok(items)
}

/// Images that `scripts/build-demo-image` made; one that a container uses stays.
pub(super) async fn images(engine: &Engine, dry_run: bool) -> Result<Vec<Garbage>, Failure> {
    /// What that script labels them with.
    const LABEL: &str = "farrun.demo";
    let used = engine.used_images().await?;
    let mut items = Vec::new();
    for image in engine.labelled_images(LABEL).await? {
        let kept = used.contains(&image.id).then_some("used");
        items.push(garbage("image", &image.name, image.size, kept));
        if kept.is_none() && !dry_run {
            engine.remove_image(&image.name).await?;
        }
    }
    Ok(items)
}
