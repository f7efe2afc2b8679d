//! Removing what a host no longer needs.

mod apart;

use super::listing::{Turn, elsewhere};
use super::look;
use super::runs;
use super::session::{Peer, Session};
use super::stop_run::require_owner;
use super::{host, settle};
use crate::record::{RecordError, RunFolder};
use crate::residence;
use farrun_protocol::message::{Collect, Garbage};
use farrun_protocol::record::Phase;
use farrun_protocol::{ErrorCode, Failure, Reply, RunId, layout};
use std::collections::HashSet;
use std::path::Path;
use std::time::{Duration, SystemTime};
use tokio_util::sync::CancellationToken;

/// An upload that nobody continued for this long is given up.
const STALE: Duration = Duration::from_secs(3 * 24 * 3600);
/// An input that no order names may be that of an order which is still sending its others.
const FRESH: Duration = Duration::from_secs(3600);
/// So may an agent that is being put there.
const ARRIVING: Duration = FRESH;

/// How long whoever lists outputs that are gone is waited for.
const LISTED: Duration = Duration::from_secs(10);

pub(crate) async fn collect(session: &Session, collect: Collect) -> Result<Reply, Failure> {
    let peer = session.peer()?;
    let mut items = Vec::new();
    for run_id in &collect.run_ids {
        items.push(run(session, peer, run_id, collect.dry_run).await?);
    }
    let sweep = Sweep {
        dry_run: collect.dry_run,
        only: collect.only.map(HashSet::from_iter),
    };
    if collect.agents {
        items.extend(agents(session, peer, &sweep).await?);
        items.extend(apart::broken_off(&session.context.state, &sweep)?);
    }
    if collect.blobs {
        let gone: HashSet<RunId> = match collect.dry_run {
            true => collect.as_if_gone.into_iter().collect(),
            false => HashSet::new(),
        };
        items.extend(blobs(session, &sweep, &gone)?);
    }
    if let Some(age) = collect.diagnostics {
        let state = &session.context.state;
        items.extend(apart::diagnostics(state, Duration::from_secs(age), &sweep)?);
    }
    if collect.images {
        items.extend(apart::images(&peer.engine, &sweep).await?);
    }
    Ok(Reply::Garbage { items })
}

/// How what belongs to no run is gone through.
struct Sweep {
    /// Whether all of it stays and is only listed.
    dry_run: bool,
    /// The names of what may go; none for all.
    only: Option<HashSet<String>>,
}

impl Sweep {
    /// Whether something of this name is looked at.
    fn covers(&self, name: &str) -> bool {
        self.only.as_ref().is_none_or(|only| only.contains(name))
    }
}

fn garbage(kind: &str, name: impl ToString, bytes: u64, kept: Option<&str>) -> Garbage {
    Garbage {
        kind: kind.to_owned(),
        name: name.to_string(),
        bytes,
        outputs: None,
        diagnostics: None,
        kept: kept.map(str::to_owned),
    }
}

async fn run(session: &Session, peer: &Peer, run_id: &RunId, dry_run: bool) -> Result<Garbage, Failure> {
    let folder = session.folder(run_id);
    let item = |kept: Option<&str>| Garbage {
        outputs: Some(count(&folder.outputs())),
        diagnostics: Some(size(&folder.path().join("diagnostics"))).filter(|bytes| *bytes > 0),
        ..garbage("run", run_id, size(folder.path()), kept)
    };
    match require_owner(peer, &folder) {
        Err(failure) if failure.code == ErrorCode::RunUnknown => return Ok(item(Some("unknown"))),
        Err(failure) if failure.code == ErrorCode::NotOwner => return Ok(item(Some("not_owner"))),
        other => other?,
    }
    let facts = runs::known(session, &folder).await?;
    if facts.phase != Phase::Settled {
        return Ok(item(Some("active")));
    }
    let item = item(None);
    if dry_run {
        return Ok(item);
    }
    // Held until the folder is gone, so that nobody settles or launches what is being removed.
    let _lock = folder.lock().await?;
    if let Some(container) = look::look(&peer.engine, &folder).await?.container {
        if container.facts.is_live() {
            return Ok(Garbage {
                kept: Some("active".to_owned()),
                ..item
            });
        }
        peer.engine.remove(&container.facts.id).await?;
    }
    remove_folder(session, peer, &folder).await?;
    session.forget(run_id);
    Ok(item)
}

async fn remove_folder(session: &Session, peer: &Peer, folder: &RunFolder) -> Result<(), Failure> {
    // What the job's user wrote may be out of the account's reach.
    let first = std::fs::remove_dir_all(folder.outputs());
    if first.is_err_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied)
        && let Some(spec) = folder.spec()?
    {
        settle::make_removable(&peer.engine, &session.context, folder, &spec.image)
            .await
            .map_err(|problem| Failure::new(ErrorCode::Io, problem))?;
    }
    // Whoever lists them finds nothing more, and must not write a list into a folder that is being removed.
    let (nobody, unheard) = (CancellationToken::new(), |_| {});
    let _turn = tokio::time::timeout(LISTED, Turn::wait(folder, &nobody, unheard)).await;
    for list in elsewhere(&session.context.state, folder.run_id(), false) {
        crate::record::remove_if_present(&list)?;
    }
    let removed = std::fs::remove_dir_all(folder.path());
    removed.map_err(|error| RecordError::io(folder.path())(error).into())
}

async fn agents(session: &Session, peer: &Peer, sweep: &Sweep) -> Result<Vec<Garbage>, Failure> {
    let used: HashSet<String> = peer
        .engine
        .labelled(layout::LABEL_RUN)
        .await?
        .into_iter()
        .filter(|container| !container.is_exited())
        .filter_map(|mut container| container.labels.remove(layout::LABEL_AGENT))
        .collect();
    let resident = residence::named_agent(&session.context.state);
    let mut items = Vec::new();
    for sha256 in host::agents(session) {
        if sha256 == session.context.agent_sha256 || !sweep.covers(sha256.as_str()) {
            continue;
        }
        let folder = session.context.state.join(layout::agent_folder(&sha256));
        let needed = used.contains(sha256.as_str()) || resident.as_ref() == Some(&sha256);
        let kept = needed.then_some("used");
        items.push(garbage("agent", &sha256, size(&folder), kept));
        if kept.is_none() && !sweep.dry_run {
            std::fs::remove_dir_all(&folder).map_err(RecordError::io(&folder))?;
        }
    }
    Ok(items)
}

fn blobs(session: &Session, sweep: &Sweep, gone: &HashSet<RunId>) -> Result<Vec<Garbage>, Failure> {
    let mut named = HashSet::new();
    for run_id in runs::all(session)
        .into_iter()
        .filter(|run_id| !gone.contains(run_id))
    {
        // An order that cannot be read may name anything, so nothing goes while there is one.
        let spec = session.folder(&run_id).spec()?;
        named.extend(
            spec.into_iter()
                .flat_map(|spec| spec.inputs)
                .map(|input| input.content.to_string()),
        );
    }
    let folder = session.context.state.join("blobs");
    let mut items = files(&folder, "blob", sweep, |name, age| {
        (!named.contains(name)).then_some(if age > FRESH { Fate::Goes } else { Fate::Fresh })
    })?;
    items.extend(files(&folder.join("incoming"), "incoming", sweep, |_, age| {
        Some(if age > STALE { Fate::Goes } else { Fate::Fresh })
    })?);
    Ok(items)
}

/// What becomes of a file that nothing needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Goes,
    /// It stays for now.
    Fresh,
}

/// Regular files of a folder that `fate` lists.
fn files(
    folder: &Path,
    kind: &str,
    sweep: &Sweep,
    fate: impl Fn(&str, Duration) -> Option<Fate>,
) -> Result<Vec<Garbage>, RecordError> {
    let mut items = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Ok(file) = entry.metadata() else { continue };
        let age = file
            .modified()
            .ok()
            .and_then(|modified| SystemTime::now().duration_since(modified).ok())
            .unwrap_or_default();
        let is_due = file.is_file() && sweep.covers(&name);
        let Some(fate) = fate(&name, age).filter(|_| is_due) else {
            continue;
        };
        items.push(garbage(
            kind,
            name,
            file.len(),
            (fate == Fate::Fresh).then_some("fresh"),
        ));
        if !sweep.dry_run && fate == Fate::Goes {
            crate::record::remove_if_present(&entry.path())?;
        }
    }
    Ok(items)
}

/// Regular files below a folder, links not followed.
fn count(folder: &Path) -> u64 {
    let mut files = 0_u64;
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => files = files.saturating_add(count(&entry.path())),
            Ok(kind) if kind.is_file() => files = files.saturating_add(1),
            Ok(_) | Err(_) => {}
        }
    }
    files
}

/// Bytes of everything below a folder, links not followed.
fn size(folder: &Path) -> u64 {
    let mut total = 0_u64;
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if let Ok(found) = entry.metadata() {
            let inner = if found.is_dir() {
                size(&entry.path())
            } else {
                found.len()
            };
            total = total.saturating_add(inner);
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_stays_is_listed_and_left() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["goes", "stays", "named"] {
            std::fs::write(folder.path().join(name), name).unwrap();
        }
        let fate = |name: &str, _| match name {
            "goes" => Some(Fate::Goes),
            "stays" => Some(Fate::Fresh),
            _ => None,
        };
        for dry_run in [true, false] {
            let sweep = Sweep { dry_run, only: None };
            let mut items = files(folder.path(), "blob", &sweep, fate).unwrap();
            items.sort_by(|one, other| one.name.cmp(&other.name));
            assert_eq!(items.len(), 2);
            assert_eq!((items[0].name.as_str(), &items[0].kept), ("goes", &None));
            assert_eq!(
                (items[1].name.as_str(), items[1].kept.as_deref()),
                ("stays", Some("fresh"))
            );
            assert_eq!(folder.path().join("goes").exists(), dry_run);
        }
        assert!(folder.path().join("stays").exists() && folder.path().join("named").exists());
    }

    #[test]
    fn what_was_not_listed_is_left() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["listed", "came since"] {
            std::fs::write(folder.path().join(name), name).unwrap();
        }
        let sweep = Sweep {
            dry_run: false,
            only: Some(HashSet::from(["listed".to_owned()])),
        };
        let items = files(folder.path(), "blob", &sweep, |_, _| Some(Fate::Goes)).unwrap();
        let names: Vec<&str> = items.iter().map(|item| item.name.as_str()).collect();
        assert_eq!(names, ["listed"]);
        assert!(folder.path().join("came since").exists());
    }
}
