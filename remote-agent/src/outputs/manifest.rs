//! Listing a run's outputs with hashes.

use super::hashing::{hash, next_group};
use super::pack::Pack;
use super::walk::{EntryKind, FileFacts, walk};
use crate::record::{RecordError, read_json_within};
use farrun_protocol::RunId;
use farrun_protocol::manifest::{
    FORMAT, MAX_FILES, MAX_SIZE, MAX_SKIPPED, Manifest, PACKED_MOST, SkipReason, Skipped, listed_size,
};
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// Bytes of a manifest that are kept for what was skipped, and for what is neither that nor a file.
const SKIPPED_SIZE: u64 = 4 * 1024 * 1024;
const FRAME_SIZE: u64 = 1024;

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
    report: impl FnMut(Hashing),
) -> Result<Manifest, RecordError> {
    build_somewhere(root, run_id, target, &|_| Vec::new(), pack, report).map(|(manifest, _)| manifest)
}

/// As [`build`], and where `target` cannot be written the manifest lies at the first place of `elsewhere` that takes it: a job
/// that filled the disk must not keep its outputs from being brought home. The answer says where it is. `elsewhere` is
/// asked for places that exist, or with `true` to make them.
///
/// # Errors
/// As [`build`].
pub fn build_somewhere(
    root: &Path,
    run_id: &RunId,
    target: &Path,
    elsewhere: &dyn Fn(bool) -> Vec<PathBuf>,
    pack: &Path,
    mut report: impl FnMut(Hashing),
) -> Result<(Manifest, PathBuf), RecordError> {
    let mut found = list(root, MAX_SIZE)?;
    for place in std::iter::once(target.to_owned()).chain(elsewhere(false)) {
        if let Some(known) = still_valid(&place, pack, &found) {
            return Ok((known, place));
        }
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
    let mut rest = listed.as_slice();
    while !rest.is_empty() {
        let (group, later) = next_group(rest);
        rest = later;
        let hashed = hash(root, group, &mut |count| {
            progress.bytes_done += count;
            report(progress);
        });
        for ((path, _), hashed) in group.iter().zip(hashed) {
            match hashed {
                Some(Ok(Some((mut file, content)))) => {
                    file.packed_at = packing.add(&content);
                    files.push(file);
                }
                Some(Ok(None)) => found.skip(path, SkipReason::Changed),
                Some(Err(_)) | None => found.skip(path, SkipReason::Unreadable),
            }
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
    place(manifest, target, elsewhere, pack)
}

/// Writes a manifest to the first place that takes it. A pack is a convenience and makes room.
fn place(
    mut manifest: Manifest,
    target: &Path,
    elsewhere: &dyn Fn(bool) -> Vec<PathBuf>,
    pack: &Path,
) -> Result<(Manifest, PathBuf), RecordError> {
    let Err(mut error) = write(target, &manifest) else {
        for older in elsewhere(false) {
            let _ = std::fs::remove_file(older);
        }
        return Ok((manifest, target.to_owned()));
    };
    if manifest.files.iter().any(|file| file.packed_at.is_some()) {
        manifest.files.iter_mut().for_each(|file| file.packed_at = None);
        let _ = std::fs::remove_file(pack);
        match write(target, &manifest) {
            Ok(()) => return Ok((manifest, target.to_owned())),
            Err(again) => error = again,
        }
    }
    for other in elsewhere(true) {
        if write(&other, &manifest).is_ok() {
            return Ok((manifest, other));
        }
    }
    Err(RecordError::io(target)(error))
}

#[derive(Debug)]
struct Found {
    files: Vec<(String, FileFacts)>,
    skipped: Vec<Skipped>,
    /// Bytes that a manifest has left for files, and for what was skipped.
    room: u64,
    room_skipped: u64,
}

impl Found {
    /// Lists a file, unless there is no more room for it.
    fn list(&mut self, path: String, facts: FileFacts) {
        match self.room.checked_sub(listed_size(&path, facts.size)) {
            Some(room) if self.files.len() < MAX_FILES => {
                self.room = room;
                self.files.push((path, facts));
            }
            _ => self.skip(&path, SkipReason::TooMany),
        }
    }

    fn skip(&mut self, path: &str, reason: SkipReason) {
        let room = self.room_skipped.checked_sub(listed_size(path, 0));
        if let Some(room) = room
            && self.skipped.len() < MAX_SKIPPED
        {
            self.room_skipped = room;
            self.skipped.push(Skipped {
                path: path.to_owned(),
                reason,
            });
        }
    }
}

fn list(root: &Path, size: u64) -> Result<Found, RecordError> {
    let mut found = Found {
        files: Vec::new(),
        skipped: Vec::new(),
        room: size.saturating_sub(FRAME_SIZE + SKIPPED_SIZE),
        room_skipped: SKIPPED_SIZE,
    };
    walk(root, &mut |entry| match entry.kind {
        EntryKind::File(facts) => found.list(entry.path, facts),
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
    let changed = |(_, facts): &(String, FileFacts)| facts.changed_ns >= written_ns;
    if found.files.iter().any(changed) {
        return None;
    }
    let known: Manifest = read_json_within(target, FORMAT, MAX_SIZE).ok()??;
    let same = known.format == FORMAT
        && known.files.len() == found.files.len()
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

/// Streams the file out: as one text in memory it could be larger than everything else the agent holds. It is not
/// synced: one that a power loss has damaged is not read and made again.
fn write(target: &Path, manifest: &Manifest) -> io::Result<()> {
    let temporary = target.with_extension(format!("{}", uuid::Uuid::new_v4().simple()));
    let written = File::create_new(&temporary).and_then(|file| {
        let mut file = io::BufWriter::new(file);
        serde_json::to_writer(&mut file, manifest)?;
        file.flush()?;
        std::fs::rename(&temporary, target)
    });
    if written.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    written
}

#[cfg(test)]
mod tests;
