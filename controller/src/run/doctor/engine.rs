//! The container engine, and whether it starts our program in a container.

use super::check::{Check, Group};
use super::words::{GIB, bytes, is_older, unseen};
use farrun_protocol::doctor::{Checkup, EngineCheckup, Trial, Why};
use farrun_protocol::{ErrorCode, Failure};

const GROUP: Group = Group::Engine;
/// The oldest engine that was tried.
const OLDEST: &[u64] = &[20, 10];
/// Slower answers are felt.
const SLOW: u64 = 2000;

/// Judges the engine; `host` is the user's name for the host.
pub(super) fn judge(host: &str, checkup: &Checkup) -> Vec<Check> {
    let engine = match &checkup.engine {
        Ok(engine) => engine,
        Err(failure) => return vec![missing(host, checkup, failure)],
    };
    let mut checks = vec![answers(engine), runc(engine)];
    checks.push(live_restore(engine));
    checks.push(Check::ok(
        GROUP,
        "cgroups",
        format!(
            "cgroup version {}, driver {}",
            engine.cgroup_version, engine.cgroup_driver
        ),
    ));
    checks.extend(confinement(engine));
    checks.push(space(engine));
    checks.push(container(host, checkup, engine));
    for warning in &engine.warnings {
        checks.push(Check::note(GROUP, "warning", "the engine warns of itself").seen(warning));
    }
    checks
}

fn missing(host: &str, checkup: &Checkup, failure: &Failure) -> Check {
    const NAME: &str = "engine";
    let account = &checkup.account;
    let detail = failure.detail.clone().unwrap_or_default();
    match failure.code {
        ErrorCode::DockerDenied => {
            let check = Check::broken(GROUP, NAME, format!("`{}` may not use the engine", account.name)).seen(detail);
            if account.listed_in_docker_group && !account.in_docker_group {
                check.remedy("the account is in the group `docker` since after this login: end its SSH sessions and log in anew")
            } else if account.sudo == Some(true) {
                check.remedy(format!("`farrun host set {host} --docker-sudo`"))
            } else {
                check.remedy(format!("on the host: `sudo usermod -aG docker {}`", account.name))
            }
        }
        ErrorCode::DockerUnreachable => Check::broken(GROUP, NAME, "no container engine answers")
            .seen(detail)
            .remedy(format!(
                "on the host: `sudo systemctl start docker`; or name another with `farrun host set {host} --docker-host URL`"
            )),
        ErrorCode::DockerTimeout => Check::broken(GROUP, NAME, "the engine does not answer in time")
            .seen(detail)
            .remedy("on the host: `sudo journalctl -u docker -n 50`; a restart ends runs unless live-restore is on"),
        _ => Check::broken(GROUP, NAME, "the engine refuses to tell about itself").seen(detail),
    }
}

fn answers(engine: &EngineCheckup) -> Check {
    const NAME: &str = "engine";
    let text = format!(
        "Docker {} (API {}) answers at {}",
        engine.version, engine.api, engine.address
    );
    if is_older(&engine.version, OLDEST) {
        return Check::warning(GROUP, NAME, format!("{text}; nothing older than 20.10 was tried"))
            .remedy("update Docker on the host");
    }
    if engine.took_ms > SLOW {
        return Check::warning(
            GROUP,
            NAME,
            format!("{text}, but only after {} ms", engine.took_ms),
        )
        .remedy("on the host: look for a disk that is full or slow with `df -h` and `iostat -x 1 3`");
    }
    Check::ok(GROUP, NAME, text)
}

/// CVE-2025-31133, CVE-2025-52565 and CVE-2025-52881 let a container out.
fn runc(engine: &EngineCheckup) -> Check {
    const NAME: &str = "runc";
    let Some(version) = &engine.runc else {
        return Check::skipped(GROUP, NAME, "the engine does not tell the version of runc");
    };
    let repaired =
        !is_older(version, &[1, 3, 3]) || (!is_older(version, &[1, 2, 8]) && is_older(version, &[1, 3]));
    if repaired {
        return Check::ok(GROUP, NAME, format!("runc {version}"));
    }
    let text = format!("runc {version} lets containers out (CVE-2025-31133, CVE-2025-52565, CVE-2025-52881)");
    // A distribution repairs old versions and says so behind the number.
    if version.contains(['+', '~']) {
        return Check::note(
            GROUP,
            NAME,
            format!("{text}, unless its distribution has repaired it"),
        )
        .remedy("on the host: see that security updates are installed");
    }
    Check::warning(GROUP, NAME, text).remedy("on the host: update runc (containerd.io) to 1.3.3 or 1.2.8")
}

fn live_restore(engine: &EngineCheckup) -> Check {
    const NAME: &str = "live_restore";
    if engine.live_restore {
        return Check::ok(GROUP, NAME, "containers outlive a restart of the engine");
    }
    Check::warning(GROUP, NAME, "a restart of the engine, as in an update, ends every run").remedy(
        "on the host: add `\"live-restore\": true` to /etc/docker/daemon.json, then `sudo systemctl reload docker`",
    )
}

fn confinement(engine: &EngineCheckup) -> Vec<Check> {
    let mut checks = Vec::new();
    if engine.rootless {
        checks.push(Check::note(GROUP, "rootless", "the engine runs without root; it ends with the account's last session unless the account lingers")
            .remedy("on the host: `loginctl enable-linger`"));
    }
    if engine.userns {
        checks.push(Check::note(
            GROUP,
            "userns_remap",
            "root in containers is another user outside (userns-remap)",
        ));
    }
    if engine.selinux {
        checks.push(Check::note(GROUP, "selinux", "SELinux confines containers"));
    }
    checks
}

fn space(engine: &EngineCheckup) -> Check {
    const NAME: &str = "images";
    let place = format!("images lie in `{}` ({})", engine.root, engine.storage);
    if engine.storage == "vfs" {
        return Check::warning(
            GROUP,
            NAME,
            format!("{place}: every container copies its whole image"),
        )
        .remedy("on the host: use the storage driver overlay2");
    }
    let Some(space) = &engine.space else {
        return Check::skipped(
            GROUP,
            NAME,
            format!("{place}; the account cannot see how much room is there"),
        );
    };
    let text = format!("{place}, with {} free", bytes(space.free));
    let remedy =
        "on the host: `docker system df`, then `docker image prune -a` for images that no container uses";
    if space.free < GIB {
        Check::broken(GROUP, NAME, text).remedy(remedy)
    } else if space.free < 20 * GIB {
        Check::warning(GROUP, NAME, text).remedy(remedy)
    } else {
        Check::ok(GROUP, NAME, text)
    }
}

fn container(host: &str, checkup: &Checkup, engine: &EngineCheckup) -> Check {
    const NAME: &str = "container";
    match &checkup.container {
        Ok(Trial {
            seen: Some(_),
            image,
            took_ms,
            ..
        }) => Check::ok(
            GROUP,
            NAME,
            format!("a container of `{image}` ran farrun's program and was removed within {took_ms} ms"),
        ),
        Ok(trial) => {
            let check = Check::broken(
                GROUP,
                NAME,
                format!(
                    "farrun's program does not run in a container of `{}`",
                    trial.image
                ),
            )
            .seen(trial.problem.clone().unwrap_or_default());
            let elsewhere = format!(
                "let the state folder lie where containers can read it: `farrun host set {host} --state PATH`"
            );
            if engine.selinux {
                check.remedy(format!(
                    "{elsewhere}; with SELinux: `chcon -R -t container_file_t PATH` on the host"
                ))
            } else if engine.userns || engine.rootless {
                check.remedy(format!(
                    "{elsewhere}, with every folder above it open to others (`chmod o+x`)"
                ))
            } else {
                check.remedy(elsewhere)
            }
        }
        Err(why) if why.why == Why::Needs => Check::skipped(
            GROUP,
            NAME,
            format!(
                "not checked: {}; nothing is fetched for it",
                why.detail.as_deref().unwrap_or("no image")
            ),
        ),
        Err(why) => Check::broken(GROUP, NAME, "a container did not start and end").seen(unseen(why)),
    }
}
