//! Hashing outputs: a large file by its blocks, many small ones side by side.

use super::abreast::abreast;
use super::content::{hash_blocks, hash_whole};
use super::walk::FileFacts;
use crate::record::open_beneath;
use farrun_protocol::manifest::{BLOCK, OutputFile, PACKED_MOST};
use farrun_protocol::{BlockHash, Sha256};
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

/// Bytes of small files that are held until they are in a pack.
const GROUP: u64 = 8 * 1024 * 1024;
/// Most small files that are hashed side by side before they are packed.
const MOST_TOGETHER: usize = 1024;

/// A file below the root, by its path, and what is known of it.
type Facts = (String, FileFacts);

/// A listed file and what of it may go into a pack, or `None` when the file changed while it was read.
pub(super) type Listed = io::Result<Option<(OutputFile, Vec<u8>)>>;

/// The files at the front that are hashed side by side, and the rest.
pub(super) fn next_group(files: &[Facts]) -> (&[Facts], &[Facts]) {
    files.split_at_checked(together(files)).unwrap_or((files, &[]))
}

/// Hashes a group; none for a file that was given up. `report` hears of the bytes.
pub(super) fn hash(root: &Path, group: &[Facts], report: &mut dyn FnMut(u64)) -> Vec<Option<Listed>> {
    match group {
        [first] if first.1.size > BLOCK => vec![Some(large(root, first, report))],
        _ => several(root, group, report),
    }
}

/// How many of the files at the front are hashed side by side: one large file, whose blocks are, or many small ones.
fn together(files: &[Facts]) -> usize {
    let mut kept = 0;
    let small = files.iter().take_while(|(_, facts)| {
        kept += facts.size.min(PACKED_MOST);
        facts.size <= BLOCK && kept <= GROUP
    });
    small.count().clamp(1, MOST_TOGETHER)
}

fn several(root: &Path, files: &[Facts], report: &mut dyn FnMut(u64)) -> Vec<Option<Listed>> {
    let mut hashed: Vec<Option<Listed>> = Vec::new();
    hashed.resize_with(files.len(), || None);
    abreast(
        files.len(),
        |index| files.get(index).map(|listed| small(root, listed)),
        |index, file| {
            report(files.get(index).map_or(0, |(_, facts)| facts.size));
            if let Some(place) = hashed.get_mut(index) {
                *place = file;
            }
        },
    );
    hashed
}

/// A file of at most one block.
fn small(root: &Path, (path, facts): &Facts) -> Listed {
    let mut file = open_beneath(root, path)?;
    let mut content = Vec::new();
    let (sha256, length) = if facts.size <= PACKED_MOST {
        content = small_content(&mut file, facts.size)?;
        (Sha256::of(&content), content.len() as u64)
    } else {
        hash_whole(&mut file, facts.size)?
    };
    let same = length == facts.size && is_same(&file, facts)?;
    let listed = || (output(path, facts, Some(sha256), Vec::new()), content);
    Ok(same.then(listed))
}

/// A file of several blocks.
fn large(root: &Path, (path, facts): &Facts, report: &mut dyn FnMut(u64)) -> Listed {
    let file = open_beneath(root, path)?;
    let blocks = match hash_blocks(&file, facts.size, report) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        blocks => blocks?,
    };
    let same = is_same(&file, facts)?;
    Ok(same.then(|| (output(path, facts, None, blocks), Vec::new())))
}

fn is_same(file: &File, facts: &FileFacts) -> io::Result<bool> {
    Ok(FileFacts::of(&rustix::fs::fstat(file)?) == *facts)
}

fn output(path: &str, facts: &FileFacts, sha256: Option<Sha256>, blocks: Vec<BlockHash>) -> OutputFile {
    OutputFile {
        path: path.to_owned(),
        size: facts.size,
        mode: facts.mode,
        modified_ns: facts.modified_ns,
        sha256,
        blocks,
        packed_at: None,
    }
}

/// A file that should be small; one that grew is cut behind the limit, and its length tells.
fn small_content(file: &mut File, size: u64) -> io::Result<Vec<u8>> {
    let mut content = Vec::with_capacity(usize::try_from(size).map_or(0, |size| size + 1));
    file.take(PACKED_MOST + 1).read_to_end(&mut content)?;
    Ok(content)
}
