//! GPUs, their driver, and how containers get them.

use super::check::{Check, Group, Verdict};
use super::words::{is_older, unseen};
use crate::run::gpu_words;
use farrun_protocol::doctor::{
    Checkup, DriverCheckup, EngineCheckup, KernelLog, Seen, ToolkitFacts, Trial, Why, Xid,
};
use farrun_protocol::gpu::{Gpu, GpuReport, Health};

const GROUP: Group = Group::Gpu;
/// Above this a reading of GPUs is slow.
const SLOW: u64 = 2000;
/// Errors after which a GPU has to be reset or looked at.
const OF_HARDWARE: &[u32] = &[48, 62, 64, 74, 79, 95, 119, 120, 140, 143, 158];
/// Errors that tell only that something else went wrong before, or nothing bad.
const OF_NO_WEIGHT: &[u32] = &[43, 45, 63, 92, 93];
/// A container can break out of older toolkits: CVE-2024-0132 and CVE-2024-0133, CVE-2025-23266.
const TOOLKIT: &[(&[u64], &str)] = &[
    (&[1, 16, 2], "CVE-2024-0132, CVE-2024-0133, CVE-2025-23266"),
    (&[1, 17, 8], "CVE-2025-23266"),
];

/// Judges the GPUs.
pub(super) fn judge(checkup: &Checkup) -> Vec<Check> {
    let none = matches!(&checkup.driver, Err(why) if why.why == Why::Absent) && checkup.gpus.is_err();
    if none {
        return vec![Check::note(
            GROUP,
            "cards",
            "no NVIDIA GPU is on the host; runs without one work",
        )];
    }
    let mut checks = Vec::new();
    match &checkup.driver {
        Ok(driver) => checks.extend(cards(driver)),
        Err(why) if why.why == Why::Absent => {}
        Err(why) => checks.push(Check::skipped(GROUP, "driver", unseen(why))),
    }
    match &checkup.gpus {
        Ok(report) => checks.extend(readings(checkup, report)),
        Err(why) => checks.push(Check::skipped(GROUP, "nvidia_smi", unseen(why))),
    }
    checks.extend(kernel_log(checkup));
    let engine = checkup.engine.as_ref().ok();
    checks.push(toolkit(checkup, engine));
    checks.extend(daemon_reload(checkup, engine));
    checks.push(in_container(checkup));
    checks
}

fn cards(driver: &DriverCheckup) -> Vec<Check> {
    const NAME: &str = "driver";
    let mut checks = Vec::new();
    let foreign = driver.cards.iter().find_map(|card| {
        card.driver
            .as_deref()
            .filter(|name| *name != "nvidia")
            .map(|name| (card, name))
    });
    match (&driver.module, &driver.installed) {
        (Some(module), Some(installed)) if module != installed => checks.push(
            Check::broken(
                GROUP,
                NAME,
                format!(
                    "the driver was updated without a restart: {module} is loaded, {installed} is installed"
                ),
            )
            .remedy("on the host: `sudo reboot`"),
        ),
        (Some(module), _) => checks.push(Check::ok(GROUP, NAME, format!("driver {module} is loaded"))),
        (None, _) => {
            let check = match foreign {
                Some((card, name)) => Check::broken(
                    GROUP,
                    NAME,
                    format!("`{name}` has the GPU at {}, not NVIDIA's driver", card.bus_id),
                ),
                None => Check::broken(GROUP, NAME, "NVIDIA's driver is not loaded"),
            };
            checks.push(if driver.installed.is_some() {
                check.remedy("on the host: `sudo modprobe nvidia`, and see `sudo dmesg | grep -i nvrm` when that fails")
            } else {
                check.remedy("on the host: install NVIDIA's driver (on Ubuntu `sudo ubuntu-drivers install`) and restart it")
            });
        }
    }
    if driver.reboot_required {
        checks.push(
            Check::note(
                GROUP,
                "restart",
                "the system wants to be restarted after an update",
            )
            .remedy("restart it while no run is active: `sudo reboot`"),
        );
    }
    for card in &driver.cards {
        if let Some((now, most)) = card.lanes.filter(|(now, most)| now < most) {
            checks.push(
                Check::note(
                    GROUP,
                    "pcie",
                    format!("the GPU at {} uses {now} of its {most} PCIe lanes", card.bus_id),
                )
                .remedy("where loading models is slow: see that it sits in a slot with all lanes"),
            );
        }
    }
    checks
}

fn readings(checkup: &Checkup, report: &GpuReport) -> Vec<Check> {
    const NAME: &str = "nvidia_smi";
    let mut checks = Vec::new();
    if let Some(trouble) = &report.trouble {
        let (words, hint) = gpu_words::trouble(trouble.kind);
        let check = Check::broken(GROUP, NAME, words).seen(trouble.detail.clone().unwrap_or_default());
        checks.push(match hint {
            Some(hint) => check.remedy(hint),
            None => check,
        });
    }
    let took = report.took_ms.unwrap_or_default();
    let off = report.gpus.iter().any(|gpu| gpu.persistence == Some(false));
    let daemon = checkup
        .driver
        .as_ref()
        .is_ok_and(|driver| driver.persistence_daemon);
    let persistence =
        "on the host: `sudo systemctl enable --now nvidia-persistenced`, or `sudo nvidia-smi -pm 1`";
    if took > SLOW {
        let check = Check::warning(GROUP, "persistence", format!("nvidia-smi takes {took} ms"));
        checks.push(if off { check.remedy(persistence) } else { check });
    } else if off && !daemon {
        checks.push(
            Check::note(
                GROUP,
                "persistence",
                "the driver is unloaded whenever no program uses it, so that readings and starts take longer",
            )
            .remedy(persistence),
        );
    } else if !report.gpus.is_empty() {
        checks.push(Check::ok(GROUP, NAME, format!("nvidia-smi answers in {took} ms")));
    }
    checks.extend(report.gpus.iter().map(one));
    checks
}

fn one(gpu: &Gpu) -> Check {
    const NAME: &str = "gpu";
    let who = format!("GPU {} ({})", gpu.index, gpu.name);
    if gpu.health != Health::Healthy {
        let (words, kind) = gpu_words::health(gpu.health);
        let check = Check::broken(GROUP, NAME, format!("{who}: {words}"))
            .seen(gpu.bus_id.clone().unwrap_or_default());
        return match kind.and_then(|kind| gpu_words::trouble(kind).1) {
            Some(hint) => check.remedy(hint),
            None => check,
        };
    }
    if gpu.compute_mode.as_deref() == Some("Prohibited") {
        return Check::broken(GROUP, NAME, format!("{who} lets no program compute")).remedy(format!(
            "on the host: `sudo nvidia-smi -i {} -c DEFAULT`",
            gpu.index
        ));
    }
    if let Some(errors) = gpu.ecc_errors.value().filter(|errors| *errors > 0) {
        return Check::warning(
            GROUP,
            NAME,
            format!("{who}: {errors} memory errors that could not be corrected since the driver was loaded"),
        )
        .remedy(format!(
            "when no run uses it: `sudo nvidia-smi -i {} -r`; if they come back, it needs repair",
            gpu.index
        ));
    }
    if let Some(reason) = &gpu.throttled {
        return Check::note(GROUP, NAME, format!("{who} is held down")).seen(reason);
    }
    Check::ok(GROUP, NAME, who)
}

fn kernel_log(checkup: &Checkup) -> Vec<Check> {
    const NAME: &str = "kernel_log";
    let log = match &checkup.kernel_log {
        Ok(log) => log,
        Err(why) => {
            return vec![
                Check::skipped(
                    GROUP,
                    NAME,
                    format!("errors of GPUs in the kernel's log: {}", unseen(why)),
                )
                .remedy(format!(
                    "on the host: `sudo usermod -aG adm,systemd-journal {}`",
                    checkup.account.name
                )),
            ];
        }
    };
    let KernelLog { xids, lost } = log;
    let mut checks: Vec<Check> = xids.iter().map(xid).collect();
    if xids.is_empty() && lost.is_empty() {
        checks.push(Check::ok(GROUP, NAME, "the kernel's log holds no error of a GPU"));
    }
    if let Some(line) = lost.last().filter(|_| !xids.iter().any(|xid| xid.code == 79)) {
        checks.push(
            Check::warning(GROUP, "xid", "a GPU has fallen off the bus since the boot")
                .seen(line)
                .remedy("on the host: `sudo reboot`; if it comes back, see its power and its slot"),
        );
    }
    checks
}

fn xid(xid: &Xid) -> Check {
    let Xid {
        bus_id,
        code,
        count,
        age,
        line,
    } = xid;
    let text = format!(
        "Xid {code} of the GPU at {bus_id}, {count} times since the boot, {} ago",
        gpu_words::short(age.saturating_mul(1000))
    );
    let (verdict, remedy) = if OF_HARDWARE.contains(code) {
        (
            Verdict::Warning,
            Some(
                "a fault of the GPU, its memory or its slot: on the host `sudo nvidia-smi -r` or a restart; if it comes back, it needs repair",
            ),
        )
    } else if OF_NO_WEIGHT.contains(code) {
        (Verdict::Note, None)
    } else {
        (Verdict::Note, Some("mostly a fault of the program that ran"))
    };
    let check = match verdict {
        Verdict::Warning => Check::warning(GROUP, "xid", text),
        _ => Check::note(GROUP, "xid", text),
    }
    .seen(line);
    match remedy {
        Some(remedy) => check.remedy(remedy),
        None => check,
    }
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
