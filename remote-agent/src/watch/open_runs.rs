//! Which runs have not ended, found out with one look at a folder's time when nothing is new.

use crate::queue::DockerSettings;
use crate::record::RunFolder;
use farrun_protocol::spec::RunSpec;
use farrun_protocol::{ControllerId, RunId};
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

/// Ends before that were told when the observer began.
const JUST: Duration = Duration::from_secs(600);

/// A run that has not ended.
#[derive(Debug, Clone)]
pub(super) struct OpenRun {
    pub(super) folder: RunFolder,
    pub(super) controller_id: ControllerId,
    /// How its engine is reached.
    pub(super) docker: DockerSettings,
}

/// The runs of a state folder.
#[derive(Debug)]
pub(super) struct OpenRuns {
    state: PathBuf,
    listed: Option<SystemTime>,
    /// Those that have ended.
    closed: HashSet<RunId>,
    /// Those that have not, and of which it is known how they are reached.
    known: HashMap<RunId, OpenRun>,
    /// Folders without an order yet.
    unclear: HashSet<RunId>,
    /// Those that were found to have ended since somebody took them.
    ended: Vec<RunFolder>,
}

impl OpenRuns {
    pub(super) fn new(state: PathBuf) -> Self {
        Self {
            state,
            listed: None,
            closed: HashSet::new(),
            known: HashMap::new(),
            unclear: HashSet::new(),
            ended: Vec::new(),
        }
    }

    /// Runs that were found to have ended since the last time, whoever has settled them.
    pub(super) fn take_ended(&mut self) -> Vec<RunFolder> {
        std::mem::take(&mut self.ended)
    }

    /// Every run that has not ended.
    pub(super) fn look(&mut self) -> Vec<OpenRun> {
        self.list();
        let (state, closed, known) = (&self.state, &mut self.closed, &mut self.known);
        let ended = &mut self.ended;
        self.unclear.retain(|run_id| {
            let folder = RunFolder::new(state, run_id);
            let Ok(Some(RunSpec { controller_id, .. })) = folder.spec() else {
                return folder.path().is_dir();
            };
            let docker = folder.docker_settings();
            let run = OpenRun {
                folder,
                controller_id,
                docker,
            };
            known.insert(run_id.clone(), run);
            false
        });
        known.retain(|run_id, run| {
            let open = run.folder.is_open();
            if !open {
                closed.insert(run_id.clone());
                ended.push(run.folder.clone());
            }
            open
        });
        known.values().cloned().collect()
    }

    fn list(&mut self) {
        let folder = self.state.join("runs");
        let changed = std::fs::metadata(&folder).and_then(|found| found.modified()).ok();
        // A folder whose clock is coarse can change twice within one reading.
        let settled = |time: SystemTime| time.elapsed().is_ok_and(|age| age.as_secs() >= 2);
        if changed.is_some() && changed == self.listed {
            return;
        }
        self.listed = changed.filter(|time| settled(*time));
        let entries = std::fs::read_dir(folder).into_iter().flatten();
        let run_ids: HashSet<RunId> = entries
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .collect();
        self.closed.retain(|run_id| run_ids.contains(run_id));
        self.known.retain(|run_id, _| run_ids.contains(run_id));
        self.unclear.retain(|run_id| run_ids.contains(run_id));
        for run_id in run_ids {
            let folder = RunFolder::new(&self.state, &run_id);
            if self.closed.contains(&run_id) || self.known.contains_key(&run_id) {
                continue;
            }
            if folder.is_open() {
                self.unclear.insert(run_id);
            } else {
                self.closed.insert(run_id);
                // A launch that was refused has ended before anybody saw it open.
                if has_just_ended(&folder) {
                    self.ended.push(folder);
                }
            }
        }
    }
}

fn has_just_ended(folder: &RunFolder) -> bool {
    let settled = std::fs::metadata(folder.path().join("settled.json"));
    let at = settled.and_then(|settled| settled.modified());
    at.is_ok_and(|at| at.elapsed().is_ok_and(|age| age < JUST))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn make(state: &std::path::Path, run: &str) -> RunFolder {
        let folder = RunFolder::new(state, &run.parse().unwrap());
        folder.make().unwrap();
        let spec: RunSpec = serde_json::from_value(serde_json::json!({
            "format": 1, "run_id": run, "controller_id": "co_mine0000", "operation": "inference",
            "name": "test", "created_at": "2026-01-02T03:04:05Z", "image": "x", "pull": "never",
            "inputs_target": "/i", "outputs_target": "/o", "network": "none",
        }))
        .unwrap();
        folder.write_spec(&spec).unwrap();
        folder
    }

    fn names(runs: &mut OpenRuns) -> Vec<String> {
        let mut names: Vec<String> = runs
            .look()
            .iter()
            .map(|run| run.folder.run_id().to_string())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn runs_come_and_go() {
        let state = tempfile::tempdir().unwrap();
        let mut runs = OpenRuns::new(state.path().to_owned());
        assert!(names(&mut runs).is_empty());
        let first = make(state.path(), "rs_aaaaaaaa");
        let settings = DockerSettings {
            sudo: true,
            host: None,
        };
        first.write_docker_settings(&settings).unwrap();
        std::fs::create_dir(state.path().join("runs/other")).unwrap();
        assert_eq!(names(&mut runs), ["rs_aaaaaaaa"]);
        assert_eq!(runs.look()[0].docker, settings);
        let second = make(state.path(), "rs_bbbbbbbb");
        assert_eq!(names(&mut runs), ["rs_aaaaaaaa", "rs_bbbbbbbb"]);
        std::fs::write(first.path().join("settled.json"), "{}").unwrap();
        assert_eq!(names(&mut runs), ["rs_bbbbbbbb"]);
        std::fs::remove_dir_all(second.path()).unwrap();
        assert!(names(&mut runs).is_empty());
    }
}
