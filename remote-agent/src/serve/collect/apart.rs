//! What belongs to no run: evidence of the host, images of the demo, and agents that were never put in place.

use super::{ARRIVING, Sweep, garbage, size};
use crate::diagnostics;
use crate::docker::Engine;
use crate::record::RecordError;
use farrun_protocol::message::Garbage;
use farrun_protocol::{Failure, layout};
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

/// Agents that a controller was putting on the host when it was killed.
pub(super) fn broken_off(state: &Path, sweep: &Sweep) -> Result<Vec<Garbage>, Failure> {
    let mut items = Vec::new();
    let entries = std::fs::read_dir(state.join("agents")).into_iter().flatten();
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let known = [layout::AGENT_ARRIVING, layout::AGENT_DAMAGED];
        if !known.iter().any(|begin| name.starts_with(begin)) || !sweep.covers(&name) {
            continue;
        }
        let folder = entry.path();
        let fresh = touched_within(&folder, ARRIVING).then_some("fresh");
        items.push(garbage("agent", name, size(&folder), fresh));
        if fresh.is_none() && !sweep.dry_run {
            std::fs::remove_dir_all(&folder).map_err(RecordError::io(&folder))?;
        }
    }
    items.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(items)
}

/// Whether a folder or a file in it was changed so lately, or at a time that is yet to come.
fn touched_within(folder: &Path, span: Duration) -> bool {
    let inside = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let all = inside.map(|entry| entry.path()).chain([folder.to_owned()]);
    let age = |path: std::path::PathBuf| {
        let changed = path.symlink_metadata().ok()?.modified().ok()?;
        Some(SystemTime::now().duration_since(changed).unwrap_or_default())
    };
    all.filter_map(age).any(|age| age <= span)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agents_that_were_never_put_in_place_go_once_nobody_can_be_at_it() {
        let state = tempfile::tempdir().unwrap();
        let agents = state.path().join("agents");
        let old = SystemTime::now() - 2 * ARRIVING;
        // The folder and the file in it.
        let make = |name: &str, times: [SystemTime; 2]| {
            let folder = agents.join(name);
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join(layout::AGENT), "torn").unwrap();
            for (path, time) in [folder.join(layout::AGENT), folder].into_iter().zip(times) {
                std::fs::File::open(path).unwrap().set_modified(time).unwrap();
            }
        };
        make(".arriving-1", [old, old]);
        make(".arriving-2", [SystemTime::now(), old]);
        make(".damaged-3", [old, old]);
        make(&"0f".repeat(32), [old, old]);
        for dry_run in [true, false] {
            let sweep = Sweep { dry_run, only: None };
            let items = broken_off(state.path(), &sweep).unwrap();
            let told: Vec<_> = items
                .iter()
                .map(|item| (item.name.as_str(), item.bytes, item.kept.as_deref()))
                .collect();
            let expected = [
                (".arriving-1", 4, None),
                (".arriving-2", 4, Some("fresh")),
                (".damaged-3", 4, None),
            ];
            assert_eq!(told, expected);
            assert!(items.iter().all(|item| item.kind == "agent"));
            assert_eq!(agents.join(".arriving-1").exists(), dry_run);
            assert_eq!(agents.join(".damaged-3").exists(), dry_run);
        }
        assert!(agents.join(".arriving-2").exists() && agents.join("0f".repeat(32)).exists());
        let sweep = Sweep {
            dry_run: true,
            only: None,
        };
        assert!(
            broken_off(&agents, &sweep).unwrap().is_empty(),
            "no agents at all"
        );
    }
}
