//! What lies here that may go, and its removal. Nothing goes that was not listed.

use super::order::LocalPaths;
use super::{RunError, pulled};
use crate::controller::Controller;
use crate::model::Run;
use farrun_protocol::RunId;
use serde::Serialize;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// What no run of the database names may be that of one which is being ordered.
const FRESH: Duration = Duration::from_secs(3600);
/// Kind of the event that something of a run was removed here.
pub(super) const REMOVED: &str = "removed";
/// [`Item::kind`] of evidence.
pub(super) const DIAGNOSTICS: &str = "diagnostics";

/// What is looked for beyond what nobody needs once a run has ended.
#[derive(Debug, Clone, Default)]
pub struct Wants {
    /// Mirrors of logs.
    pub logs: bool,
    /// Outputs.
    pub outputs: bool,
    /// Files of runs that the database does not know.
    pub of_no_run: bool,
    /// Evidence of this host, or of all.
    pub of_hosts: Option<Hosts>,
    /// Of evidence of hosts only what is older.
    pub before: Option<SystemTime>,
}

/// Hosts whose evidence is looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hosts {
    /// Every one, also those that are not known any more.
    All,
    /// This one.
    Named(String),
}

/// Something that lies here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Item {
    /// `diagnostics`, `page`, `log`, `outputs`, `manifest`, `order`, `inputs`.
    pub kind: &'static str,
    /// Id of its run, or of what else it belongs to.
    pub name: String,
    /// Where it lies.
    pub path: PathBuf,
    /// Bytes on disk.
    pub bytes: u64,
    #[serde(skip)]
    run: Option<RunId>,
}

/// Lists what lies here of `runs`, which are final.
///
/// # Errors
/// The database.
pub async fn plan(controller: &Controller, runs: &[Run], wants: &Wants) -> Result<Vec<Item>, RunError> {
    let mut items = Vec::new();
    for run in runs {
        items.extend(of_run(controller, run, wants));
    }
    if let Some(hosts) = &wants.of_hosts {
        let folder = controller.config.outputs.join("diagnostics");
        items.extend(of_hosts(&folder, hosts, wants.before));
    }
    if wants.of_no_run {
        items.extend(of_nobody(controller, wants.before).await?);
    }
    Ok(items)
}

fn of_run(controller: &Controller, run: &Run, wants: &Wants) -> Vec<Item> {
    let state = &controller.config.state_folder;
    let paths = LocalPaths::of(&controller.config, &run.spec);
    let mut found = Vec::new();
    let mut look = |kind, path: PathBuf| found.extend(item(kind, run.id.as_str(), path, Some(&run.id)));
    let kept = run.diagnostics_path.as_ref().map(PathBuf::from);
    let evidence = kept.unwrap_or_else(|| paths.diagnostics.clone());
    look(DIAGNOSTICS, super::bundle::arriving(&evidence));
    look("page", paths.diagnostics.with_extension("html"));
    look(DIAGNOSTICS, evidence);
    if let Some(log) = run.log_path.as_ref().filter(|_| wants.logs) {
        look("log", PathBuf::from(log));
    }
    let outputs = run.outputs_path.as_ref().map(PathBuf::from);
    if let Some(outputs) = outputs.as_ref().filter(|_| wants.outputs) {
        look("outputs", outputs.clone());
    }
    // It only says that the outputs are here.
    if wants.outputs || outputs.is_none_or(|outputs| !outputs.exists()) {
        look("manifest", pulled::path(state, &run.id));
    }
    look("order", state.join("orders").join(run.id.as_str()));
    found
}

/// Evidence of hosts: a folder for each moment in one for each host.
fn of_hosts(folder: &Path, hosts: &Hosts, before: Option<SystemTime>) -> Vec<Item> {
    let mut items = Vec::new();
    let is_meant = |path: &PathBuf| match hosts {
        Hosts::All => true,
        Hosts::Named(name) => path.file_name().is_some_and(|own| own == name.as_str()),
    };
    for host in folders(folder).into_iter().filter(is_meant) {
        for moment in folders(&host) {
            let made = moment.metadata().and_then(|facts| facts.modified());
            let old = before.is_none_or(|before| made.is_ok_and(|made| made < before));
            let name = moment
                .strip_prefix(folder)
                .unwrap_or(&moment)
                .display()
                .to_string();
            if old {
                items.extend(item(DIAGNOSTICS, &name, moment, None));
            }
        }
    }
    items
}

fn folders(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect();
    found.sort();
    found
}

/// Orders and manifests of runs that the database does not know (any more). One that is young may be known in a moment.
async fn of_nobody(controller: &Controller, before: Option<SystemTime>) -> Result<Vec<Item>, RunError> {
    let state = &controller.config.state_folder;
    let young = SystemTime::now().checked_sub(FRESH);
    let before = before.into_iter().chain(young).min();
    let is_old = |path: &Path| {
        let made = path.symlink_metadata().and_then(|facts| facts.modified());
        before.is_none_or(|before| made.is_ok_and(|made| made < before))
    };
    let mut items = Vec::new();
    let mut known = HashSet::new();
    for (kind, folder) in [("order", "orders"), ("inputs", "inputs"), ("manifest", "pulled")] {
        for entry in std::fs::read_dir(state.join(folder))
            .into_iter()
            .flatten()
            .flatten()
        {
            let name = entry.file_name().to_string_lossy().into_owned();
            let Ok(id) = name.trim_end_matches(".json").parse::<RunId>() else {
                continue;
            };
            if !is_old(&entry.path()) {
                continue;
            }
            if !known.contains(&id) && controller.store.run(&id).await?.is_none() {
                items.extend(item(kind, id.as_str(), entry.path(), None));
            } else {
                known.insert(id);
            }
        }
    }
    Ok(items)
}

/// What lies at `path`, when there is a file or a folder; a link is nothing of ours.
fn item(kind: &'static str, name: &str, path: PathBuf, run: Option<&RunId>) -> Option<Item> {
    let facts = path.symlink_metadata().ok()?;
    if !facts.is_dir() && !facts.is_file() {
        return None;
    }
    Some(Item {
        kind,
        name: name.to_owned(),
        bytes: size(&path),
        path,
        run: run.cloned(),
    })
}

/// Bytes of everything at and below a path, links not followed.
fn size(path: &Path) -> u64 {
    let Ok(facts) = path.symlink_metadata() else {
        return 0;
    };
    if !facts.is_dir() {
        return facts.len();
    }
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    entries.fold(0, |sum, entry| sum.saturating_add(size(&entry.path())))
}

/// Removes what was listed, and writes down what is not here any more. The rows of runs stay.
///
/// # Errors
/// The local disk or the database refuses; what was removed before is written down.
pub async fn remove(controller: &Controller, items: Vec<Item>) -> Result<Vec<Item>, RunError> {
    for item in &items {
        let removed = if item.path.is_dir() {
            std::fs::remove_dir_all(&item.path)
        } else {
            std::fs::remove_file(&item.path)
        };
        match removed {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                let path = item.path.clone();
                return Err(RunError::Local { path, source });
            }
            _ => note(controller, item).await?,
        }
    }
    Ok(items)
}

async fn note(controller: &Controller, item: &Item) -> Result<(), RunError> {
    let Some(id) = &item.run else { return Ok(()) };
    match item.kind {
        DIAGNOSTICS => {
            let gone = |run: &mut Run| {
                if run.diagnostics_path.as_ref().map(PathBuf::from).as_ref() == Some(&item.path) {
                    run.diagnostics_path = None;
                }
            };
            controller.store.change_run(id, gone).await?;
        }
        // Without a place for it nobody brings it again.
        "log" => {
            let gone = |run: &mut Run| {
                run.log_path = None;
                run.log_complete = false;
            };
            controller.store.change_run(id, gone).await?;
        }
        "outputs" => controller.store.forget_pulls(id).await?,
        _ => return Ok(()),
    }
    controller.store.add_event(id, REMOVED, item.kind).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_nothing_of_ours_and_sizes_do_not_follow_them() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("of-a-run");
        std::fs::create_dir_all(folder.join("deeper")).unwrap();
        std::fs::write(folder.join("deeper/file"), "12345").unwrap();
        let own = size(&folder);
        std::os::unix::fs::symlink("/usr", folder.join("link")).unwrap();
        assert_eq!(own, 5);
        assert!(size(&folder) < 100, "the link's own length at most");
        assert!(item("log", "x", folder.join("link"), None).is_none());
        assert_eq!(item("outputs", "x", folder, None).unwrap().kind, "outputs");
        assert!(item("log", "x", home.path().join("none"), None).is_none());
    }

    #[test]
    fn evidence_of_hosts_goes_by_its_age() {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(home.path().join("gpu1/2026-03-01T10-00-00Z")).unwrap();
        std::fs::write(home.path().join("not-ours"), "").unwrap();
        let now = SystemTime::now();
        let hour = std::time::Duration::from_secs(3600);
        let all = Hosts::All;
        assert!(of_hosts(home.path(), &all, Some(now - hour)).is_empty());
        let listed = of_hosts(home.path(), &all, Some(now + hour));
        assert_eq!(listed.len(), 1);
        assert_eq!(listed[0].name, "gpu1/2026-03-01T10-00-00Z");
        assert_eq!(of_hosts(home.path(), &all, None), listed);
        let named = |name: &str| of_hosts(home.path(), &Hosts::Named(name.to_owned()), None);
        assert_eq!(named("gpu1"), listed);
        assert!(named("gpu2").is_empty());
    }
}
