//! Which bundles stay: the newest ones, for some days. And which runs still need one.

use super::place::{self, Place, UNFINISHED, elsewhere, has_failed, host_folder, is_explained};
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

/// Removes what is too old or too much, and what was left unfinished.
pub(super) fn prune(state: &Path) {
    let mut parents: Vec<PathBuf> = vec![host_folder(state)];
    parents.extend(folders(&state.join("runs")));
    for root in elsewhere(false) {
        for state in folders(&root) {
            parents.push(host_folder(&state));
            parents.extend(folders(&state.join("runs")));
        }
    }
    let mut bundles: Vec<(Duration, PathBuf)> = Vec::new();
    for parent in &parents {
        for folder in folders(parent) {
            let name = folder.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with(UNFINISHED) {
                if age_of(&folder).is_some_and(|age| age > ABANDONED) {
                    let _ = std::fs::remove_dir_all(&folder);
                }
            } else if let Some(age) = age_of(&folder.join(BUNDLE)) {
                bundles.push((age, folder));
            }
        }
    }
    bundles.sort();
    for (number, (age, folder)) in bundles.into_iter().enumerate() {
        if number < KEPT && age <= kept() {
            continue;
        }
        if let Some(run) = folder.parent().filter(|run| run.join("spec.json").exists()) {
            place::mark(run);
        }
        let _ = place::remove(&Place { folder });
    }
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
}
