//! Brings a folder of evidence here: under limits, verified, and whole or not at all under its final name.
//!
//! It arrives in `.new-NAME` beside its place, where a cut transfer goes on the next time, and takes that place in one
//! step. What lay there before goes.

use super::bulk::further;
use super::upload::watch;
use super::{RunError, manifest_of};
use crate::controller::{Controller, Event};
use crate::model::Host;
use crate::ssh::transfer::{Progress, Sftp, Transfer, Wanted};
use farrun_protocol::RunId;
use farrun_protocol::diagnostics::{BUNDLE, Bundle, FORMAT, MAX_BUNDLE, Outcome};
use farrun_protocol::manifest::Manifest;
use farrun_protocol::message::ManifestReply;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use std::fs::File;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Most files of one bundle.
const MOST_FILES: usize = 100;
/// Largest manifest of one, in bytes.
const MOST_MANIFEST: u64 = 256 * 1024;
/// Most bytes of its description and summary, which come on top of what is collected.
const MOST_WORDS: u64 = 1024 * 1024;

/// Whether this very bundle lies in `folder`, with every file it says it has.
pub(super) fn is_here(folder: &Path, bundle: &Bundle) -> bool {
    if read(folder).as_ref() != Some(bundle) {
        return false;
    }
    bundle.items.iter().all(|item| {
        let file = folder.join(&item.file).symlink_metadata();
        matches!(item.outcome, Outcome::Missing { .. }) || file.is_ok_and(|file| file.is_file())
    })
}

/// The description of the bundle in `folder`, when there is a whole one that this version understands.
pub fn read(folder: &Path) -> Option<Bundle> {
    let path = folder.join(BUNDLE);
    let facts = path.symlink_metadata().ok()?;
    if !facts.is_file() || facts.len() > MOST_WORDS {
        return None;
    }
    let bundle: Bundle = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
    (bundle.format <= FORMAT).then_some(bundle)
}

/// Fetches what `reply` announces and puts it in the place of `folder`.
pub(super) async fn fetch(
    controller: &Controller,
    host: &Host,
    sftp: Sftp,
    run: Option<&RunId>,
    reply: &ManifestReply,
    folder: &Path,
) -> Result<(), RunError> {
    let manifest = manifest_of::read(&sftp, &host.name, run, reply, MOST_MANIFEST)
        .await?
        .manifest;
    check(&manifest, reply).map_err(|what| RunError::Hostile {
        host: host.name.clone(),
        what,
    })?;
    let arriving = arriving(folder);
    make_private(&arriving).map_err(at(&arriving))?;
    let pack = reply
        .pack
        .as_deref()
        .filter(|path| path.starts_with('/'))
        .map(Arc::from);
    let names = manifest.files.iter().map(|file| file.path.clone()).collect();
    let outputs = Arc::from(reply.outputs.as_str());
    // What was collected is nobody's but this user's, whatever the host says.
    let mut wanted = Wanted::of_manifest(manifest.files, &outputs, pack.as_ref());
    wanted.iter_mut().for_each(|file| file.mode = 0o600);
    let progress = Progress::new();
    let transfer = Transfer::growing(sftp, further(controller, host));
    let work = async {
        let options = Default::default();
        Ok(transfer.download(&wanted, &arriving, &progress, &options).await?)
    };
    let tick = || {
        controller.tell(&Event::FetchingEvidence {
            host: &host.name,
            done: progress.bytes_done(),
            total: reply.bytes,
        })
    };
    watch(controller, work, tick).await?;
    controller.tell(&Event::StepDone);
    put(arriving, folder, names).await
}

/// Keeps the description of a bundle of which the host could write nothing: it says why.
pub(super) async fn keep_words(bundle: &Bundle, folder: &Path) -> Result<(), RunError> {
    let arriving = arriving(folder);
    let json = serde_json::to_vec(bundle).map_err(|error| at(folder)(error.into()))?;
    make_private(&arriving)
        .and_then(|()| write_private(&arriving.join(BUNDLE), &json))
        .map_err(at(&arriving))?;
    put(arriving, folder, vec![BUNDLE.to_owned()]).await
}

fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = File::options();
    let options = options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

async fn put(arriving: PathBuf, folder: &Path, names: Vec<String>) -> Result<(), RunError> {
    let to = folder.to_owned();
    let placed = tokio::task::spawn_blocking(move || place(&arriving, &to, &names));
    match placed.await {
        Ok(placed) => placed.map_err(at(folder)),
        Err(error) => Err(at(folder)(error.into())),
    }
}

fn at(path: &Path) -> impl Fn(io::Error) -> RunError + '_ {
    move |source| RunError::Local {
        path: path.to_owned(),
        source,
    }
}

/// Says what is wrong with what a host wants to send as evidence.
fn check(manifest: &Manifest, reply: &ManifestReply) -> Result<(), String> {
    if reply.bytes > MAX_BUNDLE + MOST_WORDS {
        return Err(format!("evidence of {} bytes", reply.bytes));
    }
    if manifest.files.len() > MOST_FILES {
        return Err(format!("evidence in {} files", manifest.files.len()));
    }
    if let Some(nested) = manifest.files.iter().find(|file| file.path.contains('/')) {
        return Err(format!("evidence in folders: {:?}", nested.path));
    }
    if let Some(hidden) = manifest.files.iter().find(|file| file.path.starts_with('.')) {
        return Err(format!("hidden evidence: {:?}", hidden.path));
    }
    if !manifest.files.iter().any(|file| file.path == BUNDLE) {
        return Err("evidence without its description".to_owned());
    }
    Ok(())
}

/// Where the evidence for `folder` arrives.
pub(super) fn arriving(folder: &Path) -> PathBuf {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    folder.with_file_name(format!(".new-{name}"))
}

pub(super) fn make_private(folder: &Path) -> io::Result<()> {
    if let Some(above) = folder.parent() {
        std::fs::create_dir_all(above)?;
    }
    match std::fs::DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

/// Gives what has arrived its final name. Files that an earlier attempt brought and that are not meant any more go
/// first.
fn place(from: &Path, to: &Path, names: &[String]) -> io::Result<()> {
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let known = entry
            .file_name()
            .to_str()
            .is_some_and(|name| names.iter().any(|known| known == name));
        match entry.file_type()?.is_dir() {
            _ if known => {}
            true => std::fs::remove_dir_all(entry.path())?,
            false => std::fs::remove_file(entry.path())?,
        }
    }
    File::open(from)?.sync_all()?;
    if to.symlink_metadata().is_ok() {
        swap(from, to)?;
        std::fs::remove_dir_all(from)?;
    } else {
        std::fs::rename(from, to)?;
    }
    match to.parent() {
        Some(above) => File::open(above)?.sync_all(),
        None => Ok(()),
    }
}

/// Two folders change names, at once where the file system can do that.
fn swap(one: &Path, other: &Path) -> io::Result<()> {
    if renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).is_ok() {
        return Ok(());
    }
    let aside = one.with_extension("old");
    std::fs::rename(other, &aside)?;
    std::fs::rename(one, other)?;
    std::fs::rename(&aside, one)
}

#[cfg(test)]
mod tests {
    use super::*;
    use farrun_protocol::Sha256;
    use farrun_protocol::manifest::{self, OutputFile};

    fn manifest(names: &[&str], size: u64) -> (Manifest, ManifestReply) {
        let file = |path: &&str| OutputFile {
            path: (*path).to_owned(),
            size,
            mode: 0o777,
            modified_ns: 0,
            sha256: Some(Sha256::of(b"")),
            blocks: Vec::new(),
            packed_at: None,
        };
        let manifest = Manifest {
            format: manifest::FORMAT,
            run_id: "rs_abcdefgh".parse().unwrap(),
            files: names.iter().map(file).collect(),
            skipped: Vec::new(),
        };
        let reply = ManifestReply {
            path: "/m".to_owned(),
            size: 0,
            sha256: Sha256::of(b""),
            outputs: "/o".to_owned(),
            pack: None,
            files: names.len() as u64,
            bytes: size * names.len() as u64,
        };
        (manifest, reply)
    }

    #[test]
    fn a_host_sends_no_more_than_a_bundle() {
        let fits = |names: &[&str], size| {
            let (manifest, reply) = manifest(names, size);
            check(&manifest, &reply).is_ok()
        };
        assert!(fits(&[BUNDLE, "log.tail"], 1024));
        assert!(!fits(&[BUNDLE, "log.tail"], MAX_BUNDLE));
        assert!(!fits(&["log.tail"], 1));
        assert!(!fits(&[BUNDLE, "a/b"], 1));
        assert!(!fits(&[BUNDLE, ".farrun-part"], 1));
        let names: Vec<String> = (0..MOST_FILES).map(|number| number.to_string()).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).chain([BUNDLE]).collect();
        assert!(!fits(&names, 1));
    }

    #[test]
    fn a_new_bundle_takes_the_place_of_the_old_one_and_nothing_stale_stays() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("rs_abcdefgh");
        let from = arriving(&folder);
        let bring = |files: &[&str]| {
            make_private(&from).unwrap();
            for file in files {
                std::fs::write(from.join(file), file).unwrap();
            }
        };
        let listed = |folder: &Path| {
            let entries = std::fs::read_dir(folder).unwrap();
            let mut names: Vec<String> = entries
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        };
        bring(&["bundle.json", "log.tail"]);
        std::fs::create_dir(from.join(".farrun-part")).unwrap();
        place(&from, &folder, &["bundle.json".to_owned(), "log.tail".to_owned()]).unwrap();
        assert_eq!(listed(&folder), ["bundle.json", "log.tail"]);
        bring(&["bundle.json", "kernel.log", "of-an-earlier-attempt"]);
        place(
            &from,
            &folder,
            &["bundle.json".to_owned(), "kernel.log".to_owned()],
        )
        .unwrap();
        assert_eq!(listed(&folder), ["bundle.json", "kernel.log"]);
        assert_eq!(listed(home.path()), ["rs_abcdefgh"]);
    }

    #[test]
    fn a_bundle_is_here_only_when_it_is_the_same_and_whole() {
        let folder = tempfile::tempdir().unwrap();
        let bundle: Bundle = serde_json::from_value(serde_json::json!({
            "format": 1, "run_id": "rs_abcdefgh", "host_id": "ho_0123456789abcdef", "host_name": "gpu1",
            "agent_version": "0.1.0", "boot_id": "b", "trigger": "failure", "began_at": "2026-03-01T10:00:00Z",
            "ended_at": "2026-03-01T10:00:02Z", "items": [
                { "file": "log.tail", "outcome": { "outcome": "collected" }, "bytes": 3, "took_ms": 1 },
                { "file": "kernel.log", "outcome": { "outcome": "missing", "why": "not permitted" }, "bytes": 0, "took_ms": 1 },
            ],
        }))
        .unwrap();
        assert!(!is_here(folder.path(), &bundle));
        std::fs::write(folder.path().join(BUNDLE), serde_json::to_vec(&bundle).unwrap()).unwrap();
        assert!(!is_here(folder.path(), &bundle), "its log is missing");
        std::fs::write(folder.path().join("log.tail"), "end").unwrap();
        assert!(is_here(folder.path(), &bundle));
        let newer = Bundle {
            ended_at: chrono::Utc::now(),
            ..bundle
        };
        assert!(!is_here(folder.path(), &newer));
    }
}
