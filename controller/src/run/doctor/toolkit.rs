//! How containers get GPUs: NVIDIA's toolkit, and what a trial of it showed.

use super::check::{Check, Group};
use super::words::{is_older, unseen};
use farrun_protocol::doctor::{Checkup, EngineCheckup, Seen, ToolkitFacts, Trial, Why};

const GROUP: Group = Group::Gpu;
/// A container can break out of older toolkits: CVE-2024-0132 and CVE-2024-0133, CVE-2025-23266.
const TOOLKIT: &[(&[u64], &str)] = &[
    (&[1, 16, 2], "CVE-2024-0132, CVE-2024-0133, CVE-2025-23266"),
    (&[1, 17, 8], "CVE-2025-23266"),
];

/// Judges them.
pub(super) fn judge(checkup: &Checkup) -> Vec<Check> {
    let engine = checkup.engine.as_ref().ok();
    let mut checks = vec![toolkit(checkup, engine)];
    checks.extend(daemon_reload(checkup, engine));
    checks.push(in_container(checkup));
    checks
}

const INSTALL: &str = "on the host: install `nvidia-container-toolkit`, then `sudo nvidia-ctk runtime configure --runtime=docker && sudo systemctl restart docker`";

fn toolkit(checkup: &Checkup, engine: Option<&EngineCheckup>) -> Check {
    const NAME: &str = "toolkit";
    let facts = match &checkup.toolkit {
        Ok(facts) => facts,
        Err(why) if why.why == Why::Absent => {
            let described = engine.is_some_and(|engine| engine.cdi_devices > 0);
            let seen = checkup
                .gpu_container
                .as_ref()
                .ok()
                .and_then(|trial| trial.seen.as_ref());
            let given = seen.is_some_and(|seen| !seen.device_files.is_empty());
            return if described {
                Check::ok(GROUP, NAME, "the engine knows GPUs by CDI")
            } else if given {
                Check::note(
                    GROUP,
                    NAME,
                    "NVIDIA's container toolkit lies where it was not looked for: containers get GPUs all the same",
                )
            } else {
                Check::broken(
                    GROUP,
                    NAME,
                    "NVIDIA's container toolkit is not installed: containers get no GPU",
                )
                .remedy(INSTALL)
            };
        }
        Err(why) => return Check::skipped(GROUP, NAME, unseen(why)),
    };
    let ToolkitFacts {
        version, no_cgroups, ..
    } = facts;
    let rootless = engine.is_some_and(|engine| engine.rootless);
    if rootless && !no_cgroups {
        return Check::warning(
            GROUP,
            NAME,
            "the engine runs without root, for which the toolkit is not set up",
        )
        .remedy("on the host: `sudo nvidia-ctk config --set nvidia-container-cli.no-cgroups --in-place`");
    }
    if *no_cgroups && engine.is_some() && !rootless {
        return Check::warning(GROUP, NAME, "the toolkit is set up for an engine without root (`no-cgroups = true`): jobs may be refused their GPUs")
            .remedy("on the host: `sudo nvidia-ctk config --set nvidia-container-cli.no-cgroups=false --in-place`");
    }
    let Some(version) = version else {
        return Check::note(
            GROUP,
            NAME,
            "the toolkit is installed and does not tell its version",
        )
        .seen(facts.programs.join(", "));
    };
    match TOOLKIT.iter().find(|(floor, _)| is_older(version, floor)) {
        Some((_, holes)) => Check::warning(
            GROUP,
            NAME,
            format!("toolkit {version} lets containers out ({holes})"),
        )
        .remedy("on the host: update `nvidia-container-toolkit` to 1.17.8 or newer"),
        None => Check::ok(GROUP, NAME, format!("toolkit {version}")),
    }
}

/// A reload of systemd takes the devices from containers that were given them behind its back.
fn daemon_reload(checkup: &Checkup, engine: Option<&EngineCheckup>) -> Option<Check> {
    let engine = engine?;
    let driver = checkup.driver.as_ref().ok()?;
    let exposed = engine.cgroup_driver == "systemd" && engine.cdi_devices == 0 && !driver.unlinked.is_empty();
    exposed.then(|| {
        Check::warning(GROUP, "daemon_reload", "`systemctl daemon-reload` takes the GPUs from running containers (`Failed to initialize NVML: Unknown Error`)")
            .seen(format!("no link in /dev/char for {}", driver.unlinked.join(", ")))
            .remedy("on the host: `sudo nvidia-ctk system create-dev-char-symlinks --create-all`, at each boot; or let Docker use CDI")
    })
}

fn in_container(checkup: &Checkup) -> Check {
    const NAME: &str = "gpu_container";
    match &checkup.gpu_container {
        Ok(Trial {
            seen: Some(seen),
            image,
            ..
        }) => inside(seen, image),
        Ok(trial) => {
            let problem = trial.problem.clone().unwrap_or_default();
            let check =
                Check::broken(GROUP, NAME, "a container with a GPU does not start").seen(problem.clone());
            if problem.contains("could not select device driver") || problem.contains("nknown runtime") {
                check.remedy(INSTALL)
            } else if problem.contains("driver not loaded") || problem.contains("libnvidia-ml") {
                check.remedy("on the host: load or install NVIDIA's driver, see above")
            } else {
                check.remedy("on the host: `sudo journalctl -u docker -n 50`, and `nvidia-container-cli -k -d /dev/stderr info`")
            }
        }
        Err(why) if why.why == Why::Needs => Check::skipped(
            GROUP,
            NAME,
            format!(
                "whether a container gets a GPU was not checked: {}",
                why.detail.as_deref().unwrap_or("no image")
            ),
        ),
        Err(why) => Check::skipped(
            GROUP,
            NAME,
            format!("whether a container gets a GPU: {}", unseen(why)),
        ),
    }
}

fn inside(seen: &Seen, image: &str) -> Check {
    const NAME: &str = "gpu_container";
    // It ends with 0 as well where it finds none.
    if seen.smi_code == Some(0) && seen.smi_said.contains("UUID:") {
        return Check::ok(
            GROUP,
            NAME,
            format!("a container of `{image}` was given a GPU and saw it"),
        );
    }
    if seen.smi_said.contains("Failed to initialize NVML") {
        return Check::broken(GROUP, NAME, "a container is given a GPU and may not use it")
            .seen(&seen.smi_said)
            .remedy("on the host: `sudo nvidia-ctk system create-dev-char-symlinks --create-all`, or let Docker use CDI");
    }
    if seen.device_files.is_empty() {
        return Check::broken(GROUP, NAME, "a container that orders a GPU starts without one")
            .seen(&seen.smi_said)
            .remedy(INSTALL);
    }
    match seen.smi_code {
        Some(code) => Check::broken(
            GROUP,
            NAME,
            match code {
                0 => "a container has the GPU's devices, but nvidia-smi finds no GPU in it".to_owned(),
                _ => format!("a container has the GPU's devices, but nvidia-smi ends with {code} in it"),
            },
        )
        .seen(&seen.smi_said)
        .remedy("on the host: see that driver and toolkit are of one age, and restart Docker"),
        // The image's C library can be another one than the program's.
        None => Check::note(
            GROUP,
            NAME,
            format!("a container of `{image}` has the GPU's devices; nvidia-smi could not be asked in it"),
        )
        .seen(seen.device_files.join(", ")),
    }
}
