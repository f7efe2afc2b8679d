//! The account, and the folder it keeps runs in.

use super::check::{Check, Group};
use super::words::{GIB, bytes, unseen};
use farrun_protocol::doctor::{Checkup, SpaceFacts, StateFacts};

const GROUP: Group = Group::Account;
/// File systems that lie on another machine.
const REMOTE: &[&str] = &[
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "fuse.sshfs",
    "lustre",
    "beegfs",
    "gpfs",
    "ceph",
    "fuse.glusterfs",
    "afs",
    "9p",
];
/// A small file that takes longer to be written makes every step of a run slow.
const SLOW: u64 = 1000;

/// Judges the account and its folder; `host` is the user's name for the host.
pub(super) fn judge(host: &str, checkup: &Checkup) -> Vec<Check> {
    let account = &checkup.account;
    let mut checks = vec![Check::ok(
        GROUP,
        "account",
        format!("the account is `{}` (uid {})", account.name, account.uid),
    )];
    match &checkup.state {
        Ok(state) => {
            checks.push(file_system(host, state, container_reads(checkup)));
            checks.push(writable(host, state));
            checks.push(space(host, &state.space));
            checks.push(inodes(host, &state.space));
            checks.push(permissions(state));
        }
        Err(why) => checks.push(
            Check::broken(GROUP, "state_folder", "the state folder could not be looked at")
                .seen(unseen(why))
                .remedy(format!("move it with `farrun host set {host} --state PATH`")),
        ),
    }
    checks
}

/// Whether a container has read the agent from the state folder.
fn container_reads(checkup: &Checkup) -> bool {
    checkup.container.as_ref().is_ok_and(|trial| trial.seen.is_some())
}

fn file_system(host: &str, state: &StateFacts, container_reads: bool) -> Check {
    const NAME: &str = "file_system";
    let place = format!("`{}` lies on {}", state.path, state.file_system);
    let elsewhere = format!("move it with `farrun host set {host} --state PATH`, onto a disk of the host");
    if state.noexec {
        return Check::broken(
            GROUP,
            NAME,
            format!("{place}, mounted noexec: no agent starts there"),
        )
        .remedy(elsewhere);
    }
    if state.read_only {
        return Check::broken(GROUP, NAME, format!("{place}, mounted read-only")).remedy(elsewhere);
    }
    if REMOTE.contains(&state.file_system.as_str()) {
        return if container_reads {
            Check::note(
                GROUP,
                NAME,
                format!("{place}, over the network; containers can read it"),
            )
        } else {
            Check::warning(
                GROUP,
                NAME,
                format!("{place}, over the network; where root is squashed, containers cannot read it"),
            )
            .remedy(elsewhere)
        };
    }
    if state.file_system == "tmpfs" {
        return Check::warning(GROUP, NAME, format!("{place}, which is empty after a boot"))
            .remedy(elsewhere);
    }
    Check::ok(GROUP, NAME, place)
}

fn writable(host: &str, state: &StateFacts) -> Check {
    const NAME: &str = "writing";
    match &state.written {
        Ok(took) if *took > SLOW => Check::warning(
            GROUP,
            NAME,
            format!("a small file takes {took} ms to reach the disk; every step of a run waits for some"),
        ),
        Ok(took) => Check::ok(GROUP, NAME, format!("a small file reaches the disk in {took} ms")),
        Err(problem) => Check::broken(GROUP, NAME, "no file can be written to the state folder")
            .seen(problem)
            .remedy(format!(
                "make room with `farrun gc --host {host}`, or move it with `farrun host set {host} --state PATH`"
            )),
    }
}

fn space(host: &str, space: &SpaceFacts) -> Check {
    const NAME: &str = "space";
    let text = format!("{} of {} are free", bytes(space.free), bytes(space.total));
    let remedy = format!("see what can go with `farrun gc --host {host} --dry-run`");
    if space.free < GIB / 4 {
        Check::broken(GROUP, NAME, text).remedy(remedy)
    } else if space.free < 10 * GIB {
        Check::warning(GROUP, NAME, text).remedy(remedy)
    } else {
        Check::ok(GROUP, NAME, text)
    }
}

fn inodes(host: &str, space: &SpaceFacts) -> Check {
    const NAME: &str = "inodes";
    if space.inodes == 0 {
        return Check::ok(GROUP, NAME, "inodes are made as needed");
    }
    let text = format!("{} of {} inodes are free", space.inodes_free, space.inodes);
    let remedy = format!("see what can go with `farrun gc --host {host} --dry-run`");
    if space.inodes_free < 100 {
        Check::broken(GROUP, NAME, text).remedy(remedy)
    } else if space.inodes_free < 10_000 {
        Check::warning(GROUP, NAME, text).remedy(remedy)
    } else {
        Check::ok(GROUP, NAME, text)
    }
}

fn permissions(state: &StateFacts) -> Check {
    const NAME: &str = "permissions";
    if state.mode & 0o022 != 0 {
        return Check::warning(
            GROUP,
            NAME,
            format!("others can change the state folder (mode {:o})", state.mode),
        )
        .remedy(format!("on the host: `chmod 700 {}`", state.path));
    }
    if let Some(folder) = state.open_parents.iter().find(|folder| folder.foreign) {
        return Check::warning(
            GROUP,
            NAME,
            format!(
                "`{}` above the state folder belongs to another account (uid {})",
                folder.path, folder.uid
            ),
        )
        .remedy("its owner could put another agent there: move the state folder below one of your own");
    }
    if let Some(folder) = state.open_parents.first() {
        return Check::warning(
            GROUP,
            NAME,
            format!(
                "others can change `{}` above the state folder (mode {:o}), and so what runs as you",
                folder.path, folder.mode
            ),
        )
        .remedy(format!("on the host: `chmod go-w {}`", folder.path));
    }
    Check::ok(
        GROUP,
        NAME,
        "only the account and root can change the state folder",
    )
}
