//! The account and its groups.

use super::program::{self, Said};
use crate::gpu::ChildLimits;
use farrun_protocol::doctor::AccountFacts;
use std::path::Path;
use std::time::Duration;

/// How long `sudo` may take: it may ask a directory server.
const SUDO: ChildLimits = ChildLimits {
    run: Duration::from_secs(3),
    terminate: Duration::from_millis(500),
    kill: Duration::from_millis(500),
};

/// Looks at the account; whether it may use `sudo` only with `ask_sudo`, for that is written into the host's log.
pub(crate) fn facts(launcher: &Path, ask_sudo: bool) -> AccountFacts {
    let name = crate::leases::account();
    let groups = std::fs::read_to_string("/etc/group").unwrap_or_default();
    let docker = docker_group(&groups);
    let own: Vec<u32> = rustix::process::getgroups()
        .unwrap_or_default()
        .into_iter()
        .chain([rustix::process::getegid()])
        .map(|gid| gid.as_raw())
        .collect();
    AccountFacts {
        uid: rustix::process::geteuid().as_raw(),
        in_docker_group: docker.as_ref().is_some_and(|(gid, _)| own.contains(gid)),
        listed_in_docker_group: docker.is_some_and(|(_, members)| members.contains(&name)),
        sudo: ask_sudo.then(|| sudo(launcher)),
        name,
    }
}

fn docker_group(groups: &str) -> Option<(u32, Vec<String>)> {
    groups.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let ["docker", _, gid, members] = fields.as_slice() else {
            return None;
        };
        Some((gid.parse().ok()?, members.split(',').map(str::to_owned).collect()))
    })
}

fn sudo(launcher: &Path) -> bool {
    matches!(
        program::run(launcher, "sudo", &["-n", "true"], SUDO),
        Ok(Said { code: 0, .. })
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_of_the_engine_is_found() {
        let groups = "root:x:0:\ndockers:x:5:\ndocker:x:999:ada,bob\n";
        let (gid, members) = docker_group(groups).unwrap();
        assert_eq!((gid, members), (999, vec!["ada".to_owned(), "bob".to_owned()]));
        assert_eq!(docker_group("docker:x:nine:"), None);
    }

    #[test]
    fn sudo_is_not_asked_unless_told() {
        assert_eq!(facts(Path::new("/nowhere"), false).sudo, None);
        assert_eq!(facts(Path::new("/nowhere"), true).sudo, Some(false));
    }
}
