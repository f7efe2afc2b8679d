//! The rest of a host: what accounts share, what stays after a session, and what lies there.

use super::check::{Check, Group};
use super::words::{bytes, unseen};
use farrun_protocol::doctor::{Checkup, LoginFacts, Residence};

const GROUP: Group = Group::Host;
/// Shared memory that a container gets unless it orders more.
const USUAL_SHARED: u64 = 64 << 20;
/// Everybody may make files in it, nobody may remove another's.
const LOCKS_MODE: u32 = 0o1777;

/// Judges the host; `host` is the user's name for it.
pub(super) fn judge(host: &str, checkup: &Checkup) -> Vec<Check> {
    let mut checks = vec![locks(checkup), shared_memory(checkup)];
    checks.extend(caches(checkup));
    checks.push(observer(checkup));
    checks.push(residence(host, checkup.residence));
    checks
}

fn locks(checkup: &Checkup) -> Check {
    const NAME: &str = "locks";
    let folder = match &checkup.locks {
        Ok(folder) => folder,
        Err(why) => {
            return Check::broken(
                GROUP,
                NAME,
                "the folder of the GPU locks cannot be used: no run gets a GPU",
            )
            .seen(unseen(why))
            .remedy("on the host: remove what is in its place, or `sudo install -d -m 1777 PATH`");
        }
    };
    if let Some(problem) = &folder.problem {
        return Check::broken(
            GROUP,
            NAME,
            format!("a lock in `{}` cannot be taken: no run gets a GPU", folder.path),
        )
        .seen(problem)
        .remedy(format!(
            "on the host, while no run has a GPU: `sudo rm -rf {0} && sudo install -d -m 1777 {0}`",
            folder.path
        ));
    }
    if folder.mode != LOCKS_MODE {
        return Check::warning(
            GROUP,
            NAME,
            format!(
                "other accounts cannot use `{}` (mode {:o}), so they do not see which GPUs are taken",
                folder.path, folder.mode
            ),
        )
        .remedy(format!("on the host: `sudo chmod 1777 {}`", folder.path));
    }
    Check::ok(
        GROUP,
        NAME,
        format!("all accounts can take GPU locks in `{}`", folder.path),
    )
}

fn shared_memory(checkup: &Checkup) -> Check {
    const NAME: &str = "shared_memory";
    let inside = checkup
        .container
        .as_ref()
        .ok()
        .and_then(|trial| trial.seen.as_ref())
        .map(|seen| seen.shared_memory);
    let outside = checkup
        .shared_memory
        .as_ref()
        .ok()
        .map(|space| bytes(space.total));
    let outside = outside.map_or_else(String::new, |size| format!("; the host has {size}"));
    match inside {
        Some(size) if size <= USUAL_SHARED => Check::note(
            GROUP,
            NAME,
            format!(
                "a container gets {} of shared memory unless its recipe orders more{outside}",
                bytes(size)
            ),
        )
        .remedy("data loaders with several processes want gigabytes: `shm_size` in the recipe, or `--shm`"),
        Some(size) => Check::ok(
            GROUP,
            NAME,
            format!("a container gets {} of shared memory{outside}", bytes(size)),
        ),
        None => Check::skipped(
            GROUP,
            NAME,
            format!("shared memory of a container was not checked{outside}"),
        ),
    }
}

fn caches(checkup: &Checkup) -> Vec<Check> {
    const NAME: &str = "cache";
    match &checkup.caches {
        Ok(caches) => caches
            .iter()
            .map(|cache| {
                let size = if cache.complete {
                    bytes(cache.bytes)
                } else {
                    format!("more than {}", bytes(cache.bytes))
                };
                let free = cache
                    .space
                    .map_or_else(String::new, |space| format!(", {} free", bytes(space.free)));
                Check::ok(
                    GROUP,
                    NAME,
                    format!("{} models: {size} in `{}`{free}", cache.kind, cache.path),
                )
            })
            .collect(),
        Err(why) => vec![Check::skipped(
            GROUP,
            NAME,
            format!("caches of models: {}", unseen(why)),
        )],
    }
}

fn observer(checkup: &Checkup) -> Check {
    const NAME: &str = "observer";
    let login = match &checkup.login {
        Ok(login) => login,
        Err(why) => return Check::skipped(GROUP, NAME, format!("what ends with a session: {}", unseen(why))),
    };
    let LoginFacts {
        in_session,
        kill_user_processes,
        linger,
        user_manager,
        ..
    } = login;
    let lives = checkup.watch.as_ref().map_or_else(String::new, |watch| {
        format!("; one lives as process {}", watch.pid)
    });
    if *in_session && *kill_user_processes == Some(true) && !(*linger && *user_manager) {
        return Check::warning(
            GROUP,
            NAME,
            "logind ends everything when a session ends: runs go on, but those that wait are started by the next contact only",
        )
        .remedy(format!("on the host: `sudo loginctl enable-linger {}`", checkup.account.name));
    }
    Check::ok(GROUP, NAME, format!("the observer outlives a session{lives}"))
}

fn residence(host: &str, residence: Option<Residence>) -> Check {
    const NAME: &str = "residence";
    match residence {
        Some(Residence::UserUnit) => Check::ok(
            GROUP,
            NAME,
            "after a boot a unit of the account's systemd starts the observer",
        ),
        Some(Residence::Crontab) => Check::ok(
            GROUP,
            NAME,
            "after a boot the account's crontab starts the observer",
        ),
        None => Check::note(
            GROUP,
            NAME,
            "after a boot, runs that wait are started by the next contact only",
        )
        .remedy(format!("`farrun host set {host} --resident`")),
    }
}
