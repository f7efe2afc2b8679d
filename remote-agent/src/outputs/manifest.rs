//! Listing a run's outputs with hashes.

use super::content::{Hashed, hash_large, hash_small};
use super::pack::Pack;
use super::walk::{EntryKind, FileFacts, walk};
use crate::record::{RecordError, open_beneath, read_json, sync_folder};
use farrun_protocol::manifest::{
    BLOCK, FORMAT, MAX_FILES, Manifest, OutputFile, PACKED_MOST, SkipReason, Skipped,
};
use farrun_protocol::{RunId, Sha256};
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::Path;

/// Most things a manifest says were skipped; a job can make any number of links.
const MAX_SKIPPED: usize = 10_000;

/// How far hashing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hashing {
    /// Bytes hashed.
    pub bytes_done: u64,
    /// Bytes in all.
    pub bytes: u64,
}

/// Writes the manifest of `root` to `target` and a pack of the small files to `pack`, or keeps what is there when no file changed
/// since.
///
/// # Errors
/// The folder cannot be read or the manifest cannot be written.
pub fn build(
    root: &Path,
    run_id: &RunId,
    target: &Path,
    pack: &Path,
    mut report: impl FnMut(Hashing),
) -> Result<Manifest, RecordError> {
    let mut found = list(root)?;
    if let Some(known) = still_valid(target, pack, &found) {
        return Ok(known);
    }
    let mut progress = Hashing {
        bytes_done: 0,
        bytes: found.files.iter().map(|(_, facts)| facts.size).sum(),
    };
    report(progress);
    let listed = std::mem::take(&mut found.files);
    let mut files = Vec::with_capacity(listed.len());
    let small = listed
        .iter()
        .filter(|(_, facts)| facts.size <= PACKED_MOST)
        .count();
    let mut packing = Pack::begin(pack, small);
    for (path, facts) in &listed {
        match hash(root, path, facts, &mut packing, &mut |count| {
            progress.bytes_done += count;
            report(progress);
        }) {
            Ok(Some(file)) => files.push(file),
            Ok(None) => found.skip(path, SkipReason::Changed),
            Err(_) => found.skip(path, SkipReason::Unreadable),
        }
    }
    if !packing.finish() {
        files.iter_mut().for_each(|file| file.packed_at = None);
    }
    found.skipped.sort_by(|one, other| one.path.cmp(&other.path));
    let manifest = Manifest {
        format: FORMAT,
        run_id: run_id.clone(),
        files,
        skipped: found.skipped,
    };
    write(target, &manifest).map_err(RecordError::io(target))?;
    if let Some(folder) = target.parent() {
        sync_folder(folder)?;
    }
    Ok(manifest)
}

#[derive(Debug, Default)]
struct Found {
    files: Vec<(String, FileFacts)>,
    skipped: Vec<Skipped>,
}

impl Found {
    fn skip(&mut self, path: &str, reason: SkipReason) {
        if self.skipped.len() < MAX_SKIPPED {
            self.skipped.push(Skipped {
                path: path.to_owned(),
                reason,
            });
        }
    }
}

fn list(root: &Path) -> Result<Found, RecordError> {
    let mut found = Found::default();
    walk(root, &mut |entry| match entry.kind {
        EntryKind::File(_) if found.files.len() >= MAX_FILES => found.skip(&entry.path, SkipReason::TooMany),
        EntryKind::File(facts) => found.files.push((entry.path, facts)),
        EntryKind::Unreadable => found.skip(&entry.path, SkipReason::Unreadable),
        EntryKind::Symlink => found.skip(&entry.path, SkipReason::Symlink),
        EntryKind::Special => found.skip(&entry.path, SkipReason::Special),
        EntryKind::Name => found.skip(&entry.path, SkipReason::Name),
    })
    .map_err(RecordError::io(root))?;
    found.files.sort_by(|one, other| one.0.cmp(&other.0));
    Ok(found)
}

/// The manifest on disk, when it lists exactly these files and is younger than any change to one of them: content,
/// permissions or name, each moves a file's change time.
fn still_valid(target: &Path, pack: &Path, found: &Found) -> Option<Manifest> {
    use std::os::unix::fs::MetadataExt as _;
    let written = std::fs::metadata(target).ok()?;
    let written_ns = written
        .ctime()
        .checked_mul(1_000_000_000)?
        .checked_add(written.ctime_nsec())?;
    if written.len() > farrun_protocol::manifest::MAX_SIZE
        || found
            .files
            .iter()
            .any(|(_, facts)| facts.changed_ns >= written_ns)
    {
        return None;
    }
    let known: Manifest = read_json(target, FORMAT).ok()??;
    let same = known.files.len() == found.files.len()
        && known.files.iter().zip(&found.files).all(|(file, (path, facts))| {
            file.path == *path && file.size == facts.size && file.modified_ns == facts.modified_ns
        });
    let packed = known
        .files
        .iter()
        .filter_map(|file| Some(file.packed_at?.saturating_add(file.size)))
        .max();
    let pack_is_there =
        packed.is_none_or(|length| std::fs::metadata(pack).is_ok_and(|found| found.len() == length));
    (same && pack_is_there).then_some(known)
}

/// `None` when the file changed while it was read.
fn hash(
    root: &Path,
    path: &str,
    facts: &FileFacts,
    pack: &mut Pack,
    report: &mut dyn FnMut(u64),
) -> io::Result<Option<OutputFile>> {
    let mut file = open_beneath(root, path)?;
    let mut content = Vec::new();
    let hashed = if facts.size <= PACKED_MOST {
        content = small_content(&mut file)?;
        report(content.len() as u64);
        Hashed {
            length: content.len() as u64,
            sha256: Sha256::of(&content),
            blocks: Vec::new(),
        }
    } else if facts.size <= BLOCK {
        hash_small(&mut file, facts.size, report)?
    } else {
        hash_large(&mut file, facts.size, report)?
    };
    let after = FileFacts::of(&rustix::fs::fstat(&file)?);
    if hashed.length != facts.size || after != *facts {
        return Ok(None);
    }
    Ok(Some(OutputFile {
        path: path.to_owned(),
        size: facts.size,
        mode: facts.mode,
        modified_ns: facts.modified_ns,
        sha256: hashed.sha256,
        blocks: hashed.blocks,
        packed_at: pack.add(&content),
    }))
}

/// A file that should be small; one that grew is cut behind the limit, and its length tells.
fn small_content(file: &mut File) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    file.take(PACKED_MOST + 1).read_to_end(&mut content)?;
    Ok(content)
}

/// Streams the file out: as one text in memory it could be larger than everything else the agent holds.
fn write(target: &Path, manifest: &Manifest) -> io::Result<()> {
    let temporary = target.with_extension(format!("{}", uuid::Uuid::new_v4().simple()));
    let written = File::create_new(&temporary).and_then(|file| {
        let mut file = io::BufWriter::new(file);
        serde_json::to_writer(&mut file, manifest)?;
        file.flush()?;
        file.get_ref().sync_all()?;
        std::fs::rename(&temporary, target)
    });
    if written.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run_id() -> RunId {
        "rs_abcdefgh".parse().unwrap()
    }

    #[test]
    fn files_are_listed_sorted_with_blocks_and_the_rest_with_reasons() {
        let folder = tempfile::tempdir().unwrap();
        let (root, target) = (folder.path().join("outputs"), folder.path().join("manifest.json"));
        std::fs::create_dir_all(root.join("b/c")).unwrap();
        let big = vec![7; BLOCK as usize + 1];
        std::fs::write(root.join("b/c/big"), &big).unwrap();
        std::fs::write(root.join("a"), b"").unwrap();
        std::fs::write(root.join("back\\slash"), b"x").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", root.join("link")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, root.join("pipe"), rustix::fs::Mode::RUSR).unwrap();
        let manifest = build(
            &root,
            &run_id(),
            &target,
            &folder.path().join("outputs.pack"),
            |_| {},
        )
        .unwrap();
        let paths: Vec<_> = manifest.files.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(paths, ["a", "b/c/big"]);
        let listed = &manifest.files[1];
        assert_eq!(listed.sha256, Sha256::of(&big));
        assert_eq!(
            listed.blocks,
            [Sha256::of(&big[..BLOCK as usize]), Sha256::of(&[7])]
        );
        let reasons: Vec<_> = manifest.skipped.iter().map(|skipped| skipped.reason).collect();
        assert_eq!(
            reasons,
            [SkipReason::Name, SkipReason::Symlink, SkipReason::Special]
        );
        let on_disk: Manifest = read_json(&target, FORMAT).unwrap().unwrap();
        assert_eq!(on_disk, manifest);
    }

    #[test]
    fn a_manifest_is_reused_until_a_file_changes() {
        let folder = tempfile::tempdir().unwrap();
        let (root, target) = (folder.path().join("outputs"), folder.path().join("manifest.json"));
        std::fs::create_dir(&root).unwrap();
        std::fs::write(root.join("a"), b"one").unwrap();
        let hashed = |expected: bool| {
            let mut reports = 0;
            build(
                &root,
                &run_id(),
                &target,
                &folder.path().join("outputs.pack"),
                |_| reports += 1,
            )
            .unwrap();
            assert_eq!(reports > 0, expected);
        };
        hashed(true);
        // File times move in ticks of some milliseconds; a change within one tick is hashed again, never missed.
        let changed = |path: &Path| std::fs::metadata(path).unwrap().modified().unwrap();
        while changed(&target) <= changed(&root.join("a")) {
            std::fs::remove_file(&target).unwrap();
            hashed(true);
        }
        hashed(false);
        std::fs::write(root.join("a"), b"two").unwrap();
        hashed(true);
    }

    #[test]
    fn small_files_are_packed_and_a_lost_pack_is_made_again() {
        let folder = tempfile::tempdir().unwrap();
        let (root, target) = (folder.path().join("outputs"), folder.path().join("manifest.json"));
        let pack = folder.path().join("outputs.pack");
        std::fs::create_dir(&root).unwrap();
        for index in 0..20 {
            std::fs::write(root.join(format!("file{index:02}")), format!("content {index}")).unwrap();
        }
        let large = vec![1; usize::try_from(PACKED_MOST).unwrap() + 1];
        std::fs::write(root.join("large"), &large).unwrap();
        let manifest = build(&root, &run_id(), &target, &pack, |_| {}).unwrap();
        let packed = std::fs::read(&pack).unwrap();
        for file in &manifest.files {
            let Some(at) = file.packed_at else {
                assert_eq!(file.path, "large");
                assert_eq!(file.sha256, Sha256::of(&large));
                continue;
            };
            let content = &packed[usize::try_from(at).unwrap()..][..usize::try_from(file.size).unwrap()];
            assert_eq!(Sha256::of(content), file.sha256);
        }
        std::fs::remove_file(&pack).unwrap();
        assert_eq!(build(&root, &run_id(), &target, &pack, |_| {}).unwrap(), manifest);
        assert_eq!(std::fs::read(&pack).unwrap(), packed);
    }
}
