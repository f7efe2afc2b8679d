//! Which bundles stay: the newest ones, for some days. And which runs still need one.

use super::place::{self, Place, UNFINISHED, elsewhere, has_failed, host_folder, is_explained, of_state};
use crate::record::RunFolder;
use farrun_protocol::diagnostics::{BUNDLE, KEPT, KEPT_DAYS};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

const DAY: Duration = Duration::from_secs(24 * 3600);
/// An unfinished folder of this age belongs to nobody.
const ABANDONED: Duration = Duration::from_secs(600);

fn kept() -> Duration {
    DAY * u32::try_from(KEPT_DAYS).unwrap_or(u32::MAX)
}

fn age_of(path: &Path) -> Option<Duration> {
    let modified = std::fs::metadata(path).ok()?.modified().ok()?;
    // What is from the future is new.
    Some(SystemTime::now().duration_since(modified).unwrap_or_default())
}

/// Ended runs that did not succeed and have no bundle, newest first. Those that get none are marked, and
/// what was kept to redact them is removed.
pub(crate) fn unexplained(state: &Path) -> Vec<RunFolder> {
    let mut runs: Vec<(Duration, RunFolder)> = folders(&state.join("runs"))
        .filter_map(|path| path.file_name()?.to_str()?.parse().ok())
        .map(|run_id| RunFolder::new(state, &run_id))
        .filter_map(|run| Some((age_of(&run.path().join("settled.json"))?, run)))
        .filter(|(_, run)| !is_explained(state, run))
        .collect();
    runs.sort_by_key(|(age, _)| *age);
    let mut wanted = Vec::new();
    for (age, run) in runs {
        if !has_failed(&run) {
            place::forget_secrets(&run);
        } else if age > kept() || wanted.len() >= KEPT {
            // Nobody needs to look at it again.
            place::mark(run.path());
            place::forget_secrets(&run);
        } else {
            wanted.push(run);
        }
    }
    wanted
}

/// Removes what is too old or too much, and what was left unfinished. Another state folder of this account counts its own:
/// of what it has outside of it only what is too old goes, for nobody else does that once it is gone.
pub(super) fn prune(state: &Path) {
    let mut own = bundles_below(state);
    let mut foreign = Vec::new();
    for root in elsewhere(false) {
        let ours = of_state(&root, state);
        own.extend(bundles_below(&ours));
        foreign.extend(
            folders(&root)
                .filter(|other| *other != ours)
                .flat_map(|other| bundles_below(&other)),
        );
    }
    own.sort();
    let too_many = own.split_off(own.len().min(KEPT));
    let too_old = own.into_iter().chain(foreign).filter(|(age, _)| *age > kept());
    for (_, folder) in too_old.chain(too_many) {
        if let Some(run) = folder.parent().filter(|run| run.join("spec.json").exists()) {
            place::mark(run);
        }
        let _ = place::remove(&Place { folder });
    }
}

/// Bundles of the runs and the host whose folders lie below one folder, with their ages. What was left unfinished is
/// removed.
fn bundles_below(state: &Path) -> Vec<(Duration, PathBuf)> {
    let parents = std::iter::once(host_folder(state)).chain(folders(&state.join("runs")));
    let mut bundles = Vec::new();
    for folder in parents.flat_map(|parent| folders(&parent)) {
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with(UNFINISHED) {
            if age_of(&folder).is_some_and(|age| age > ABANDONED) {
                let _ = std::fs::remove_dir_all(&folder);
            }
        } else if let Some(age) = age_of(&folder.join(BUNDLE)) {
            bundles.push((age, folder));
        }
    }
    bundles
}

fn folders(parent: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let entries = std::fs::read_dir(parent).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_stay_for_some_days() {
        let state = tempfile::tempdir().unwrap();
        let hour = Duration::from_secs(3600);
        let bundle = |folder: &Path, hours: u32| {
            std::fs::create_dir_all(folder).unwrap();
            let file = std::fs::File::create(folder.join(BUNDLE)).unwrap();
            file.set_modified(SystemTime::now() - hour * hours).unwrap();
        };
        let runs = state.path().join("runs");
        for number in 0..KEPT as u32 + 3 {
            let run = runs.join(format!("rs_aaaaaa{number:02}"));
            bundle(&run.join("diagnostics"), number + 1);
            std::fs::write(run.join("spec.json"), "{}").unwrap();
        }
        let host = host_folder(state.path());
        bundle(&host.join("new"), 0);
        bundle(&host.join("old"), 8 * 24);
        std::fs::create_dir_all(runs.join("rs_aaaaaa00/.diagnostics.half")).unwrap();
        prune(state.path());
        let left: Vec<u32> = (0..KEPT as u32 + 3)
            .filter(|number| runs.join(format!("rs_aaaaaa{number:02}/diagnostics")).exists())
            .collect();
        assert_eq!(left, (0..KEPT as u32 - 1).collect::<Vec<_>>());
        assert!(host.join("new").exists() && !host.join("old").exists());
        assert!(runs.join("rs_aaaaaa21/diagnosed").exists());
        assert!(
            runs.join("rs_aaaaaa00/.diagnostics.half").exists(),
            "it is being filled"
        );
        let leftovers = std::fs::read_dir(runs.join("rs_aaaaaa21")).unwrap().count();
        assert_eq!(leftovers, 2, "order and marker");
    }

    #[test]
    fn what_another_state_folder_has_outside_counts_there() {
        let (state, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let root = elsewhere(true).next().unwrap();
        let parts = [state.path(), other.path()].map(|state| of_state(&root, state));
        for part in &parts {
            for number in 0..KEPT + 1 {
                let folder = part.join(format!("runs/rs_aaaaaa{number:02}/diagnostics"));
                std::fs::create_dir_all(&folder).unwrap();
                std::fs::write(folder.join(BUNDLE), "{}").unwrap();
            }
        }
        let old = parts[1].join("diagnostics/old");
        std::fs::create_dir_all(&old).unwrap();
        let file = std::fs::File::create(old.join(BUNDLE)).unwrap();
        file.set_modified(SystemTime::now() - 8 * DAY).unwrap();
        prune(state.path());
        let left = parts.each_ref().map(|part| bundles_below(part).len());
        for part in &parts {
            std::fs::remove_dir_all(part).unwrap();
        }
        assert_eq!(left, [KEPT, KEPT + 1]);
    }
}
