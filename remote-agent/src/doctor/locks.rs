//! The folder of the locks that all accounts of a host share.

use crate::leases::LockFolder;
use farrun_protocol::doctor::{LocksFacts, Looked, Unseen, Why};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// Looks at the folder, which is made when it is missing, and opens one of its files.
pub(crate) fn facts(wanted: Option<&Path>) -> Looked<LocksFacts> {
    let folder = LockFolder::open(wanted).map_err(|error| Unseen::because(Why::Failed, error))?;
    let found = std::fs::metadata(folder.path()).map_err(|error| super::refused(&error))?;
    Ok(LocksFacts {
        path: folder.path().to_string_lossy().into_owned(),
        uid: found.uid(),
        mode: found.mode() & 0o7777,
        problem: folder.try_out().err().map(|error| error.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn the_folder_is_tried_out() {
        let below = tempfile::tempdir().unwrap();
        let path = below.path().join("locks");
        let facts = |path: &Path| super::facts(Some(path));
        let found = facts(&path).unwrap();
        assert_eq!((found.mode, found.problem), (0o1777, None));
        std::fs::write(below.path().join("file"), "").unwrap();
        assert_eq!(facts(&below.path().join("file")).unwrap_err().why, Why::Failed);
        std::fs::remove_file(path.join("allocator.lock")).unwrap();
        std::fs::create_dir(path.join("allocator.lock")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
        let found = facts(&path).unwrap();
        assert!(found.mode == 0o700 && found.problem.is_some(), "{found:?}");
    }
}
