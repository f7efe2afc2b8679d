//! The hashes of large outputs as a whole: one sequence of bytes that one processor has to go through, so they are
//! taken only when something needs them.

use super::abreast::abreast;
use super::content::hash_whole;
use super::walk::FileFacts;
use crate::record::open_beneath;
use farrun_protocol::Sha256;
use farrun_protocol::manifest::{Manifest, OutputFile};
use std::fs::File;
use std::io;
use std::path::Path;

/// Most digests of one answer, so that it fits a frame.
const MOST: usize = 4096;

/// The digests of at most `most` large files of `manifest`, from the `from`-th on; `None` when one of them is no longer what the
/// manifest says. `may_go_on` is asked often.
///
/// # Errors
/// A file cannot be read, or it was told to stop.
pub fn digests(
    root: &Path,
    manifest: &Manifest,
    (from, most): (usize, usize),
    may_go_on: impl Fn() -> bool + Sync,
) -> io::Result<Option<Vec<Sha256>>> {
    let large: Vec<&OutputFile> = manifest.large().skip(from).take(most.min(MOST)).collect();
    let mut found = vec![None; large.len()];
    let mut failed = None;
    abreast(
        large.len(),
        |index| large.get(index).map(|file| digest(root, file, &may_go_on)),
        |index, digest| match (digest, found.get_mut(index)) {
            (Some(Ok(digest)), Some(place)) => *place = digest,
            (Some(Err(error)), _) => failed = Some(error),
            _ => {}
        },
    );
    match failed {
        Some(error) => Err(error),
        None => Ok(found.into_iter().collect()),
    }
}

fn digest(root: &Path, listed: &OutputFile, may_go_on: &dyn Fn() -> bool) -> io::Result<Option<Sha256>> {
    let mut file = open_beneath(root, &listed.path)?;
    let before = facts(&file)?;
    let (digest, length) = hash_whole(&mut file, listed.size, may_go_on)?;
    let same = length == listed.size && before.modified_ns == listed.modified_ns && facts(&file)? == before;
    Ok(same.then_some(digest))
}

fn facts(file: &File) -> io::Result<FileFacts> {
    Ok(FileFacts::of(&rustix::fs::fstat(file)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outputs::build;
    use farrun_protocol::manifest::BLOCK;

    #[test]
    fn only_large_files_have_one_and_a_change_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("outputs");
        std::fs::create_dir(&root).unwrap();
        let content: Vec<u8> = (0..=BLOCK).map(|index| index as u8).collect();
        std::fs::write(root.join("large"), &content).unwrap();
        std::fs::write(root.join("larger"), [content.as_slice(), b"x"].concat()).unwrap();
        std::fs::write(root.join("small"), b"x").unwrap();
        let run_id = "rs_abcdefgh".parse().unwrap();
        let (target, pack) = (folder.path().join("manifest.json"), folder.path().join("pack"));
        let manifest = build(&root, &run_id, &target, &pack, |_| {}).unwrap();
        let all = digests(&root, &manifest, (0, 9), || true).unwrap().unwrap();
        assert_eq!(
            all,
            [
                Sha256::of(&content),
                Sha256::of(&[content.as_slice(), b"x"].concat())
            ]
        );
        let rest = digests(&root, &manifest, (1, 9), || true).unwrap().unwrap();
        assert_eq!(rest, all[1..]);
        let first = digests(&root, &manifest, (0, 1), || true).unwrap().unwrap();
        assert_eq!(first, all[..1]);
        assert!(
            digests(&root, &manifest, (2, 9), || true)
                .unwrap()
                .unwrap()
                .is_empty()
        );
        assert!(digests(&root, &manifest, (0, 9), || false).is_err());
        std::fs::write(root.join("large"), &content[1..]).unwrap();
        assert_eq!(digests(&root, &manifest, (0, 9), || true).unwrap(), None);
    }
}
