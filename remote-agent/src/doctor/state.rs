//! The state folder: what it lies on, and whether others could put something else in its place.

use super::{mounts, refused, space};
use crate::record::sync_folder;
use farrun_protocol::doctor::{Looked, MOST, OpenFolder, StateFacts};
use rustix::process::{getegid, geteuid};
use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Instant;

/// Bits that let others than the owner change a folder.
const OPEN: u32 = 0o022;
/// Only owners may remove what lies in it.
const STICKY: u32 = 0o1000;

/// Looks at a state folder.
pub(crate) fn facts(state: &Path) -> Looked<StateFacts> {
    let path = state.canonicalize().map_err(|error| refused(&error))?;
    let found = std::fs::metadata(&path).map_err(|error| refused(&error))?;
    let mountinfo = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mount = mounts::holding(&mountinfo, &path).unwrap_or_default();
    Ok(StateFacts {
        file_system: mount.file_system,
        noexec: mount.noexec,
        read_only: mount.read_only,
        space: space::of(&path).map_err(|error| refused(&error))?,
        mode: found.mode() & 0o7777,
        written: write(&path).map_err(|error| error.to_string()),
        open_parents: open_folders(&path, geteuid().as_raw(), own_group()),
        path: path.to_string_lossy().into_owned(),
    })
}

/// Writes, syncs and removes a small file; answers with the milliseconds that took.
fn write(folder: &Path) -> io::Result<u64> {
    let begun = Instant::now();
    let path = folder.join(format!(".doctor-{}", uuid::Uuid::new_v4().simple()));
    let written = File::create_new(&path).and_then(|mut file| {
        file.write_all(&[0; 4096])?;
        file.sync_all()
    });
    let removed = std::fs::remove_file(&path);
    written?;
    removed?;
    sync_folder(folder).map_err(io::Error::other)?;
    Ok(u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX))
}

/// The account's own group, when nobody else is in it: many systems give each account one and let it write.
fn own_group() -> Option<u32> {
    let gid = getegid().as_raw();
    let groups = std::fs::read_to_string("/etc/group").unwrap_or_default();
    is_private(&groups, gid, &crate::leases::account()).then_some(gid)
}

fn is_private(groups: &str, gid: u32, account: &str) -> bool {
    groups.lines().any(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, number, members] = fields.as_slice() else {
            return false;
        };
        let alone = members
            .split(',')
            .all(|member| member.is_empty() || member == account);
        *name == account && number.parse() == Ok(gid) && alone
    })
}

fn open_folders(path: &Path, uid: u32, own_group: Option<u32>) -> Vec<OpenFolder> {
    let mut open = Vec::new();
    for folder in path.ancestors().take(MOST) {
        let Ok(found) = std::fs::metadata(folder) else {
            continue;
        };
        let foreign = found.uid() != 0 && found.uid() != uid;
        let mut bits = found.mode() & OPEN;
        if own_group == Some(found.gid()) {
            bits &= 0o002;
        }
        if found.mode() & STICKY != 0 {
            bits = 0;
        }
        if foreign || bits != 0 {
            open.push(OpenFolder {
                path: folder.to_string_lossy().into_owned(),
                mode: found.mode() & 0o7777,
                uid: found.uid(),
                foreign,
            });
        }
    }
    open
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn folder(path: &Path, mode: u32) {
        std::fs::create_dir_all(path).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_usual_folder_is_fine_and_nothing_stays_in_it() {
        let below = tempfile::tempdir().unwrap();
        let state = below.path().join("state");
        folder(&state, 0o700);
        let facts = facts(&state).unwrap();
        assert!(facts.written.is_ok() && facts.space.total > 0, "{facts:?}");
        assert_eq!((facts.mode, facts.open_parents), (0o700, vec![]));
        assert!(!facts.file_system.is_empty() && !facts.noexec);
        assert_eq!(std::fs::read_dir(&state).unwrap().count(), 0);
    }

    #[test]
    fn folders_that_others_can_change_are_named() {
        let below = tempfile::tempdir().unwrap();
        let root = below.path().canonicalize().unwrap();
        let (team, state, sticky) = (root.join("team"), root.join("team/state"), root.join("sticky"));
        folder(&team, 0o775);
        folder(&state, 0o700);
        folder(&sticky, 0o1777);
        let uid = geteuid().as_raw();
        let open = open_folders(&state, uid, None);
        assert_eq!(open.len(), 1, "{open:?}");
        assert_eq!(
            (open[0].path.as_str(), open[0].mode),
            (team.to_str().unwrap(), 0o775)
        );
        let gid = std::fs::metadata(&team).unwrap().gid();
        assert!(open_folders(&state, uid, Some(gid)).is_empty());
        assert!(open_folders(&sticky, uid, None).is_empty());
        assert!(
            open_folders(&state, uid + 1, None)
                .iter()
                .any(|folder| folder.foreign)
                || uid == 0
        );
    }

    #[test]
    fn a_group_of_ones_own_is_private_while_one_is_alone_in_it() {
        let groups = "root:x:0:\nada:x:1000:\nteam:x:1001:ada,bob\nbob:x:1002:ada\n";
        assert!(is_private(groups, 1000, "ada"));
        assert!(!is_private(groups, 1001, "ada"));
        assert!(!is_private(groups, 1002, "bob"));
    }
}
