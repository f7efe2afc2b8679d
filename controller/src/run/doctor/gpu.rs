//! GPUs and their driver.

use super::check::{Check, Group, Verdict};
use super::toolkit;
use super::words::unseen;
use crate::run::gpu_words;
use farrun_protocol::doctor::{Checkup, DriverCheckup, KernelLog, Why, Xid};
use farrun_protocol::gpu::{Gpu, GpuReport, Health};

const GROUP: Group = Group::Gpu;
/// Above this a reading of GPUs is slow.
const SLOW: u64 = 2000;
/// Errors after which a GPU has to be reset or looked at.
const OF_HARDWARE: &[u32] = &[48, 62, 64, 74, 79, 95, 119, 120, 140, 143, 158];
/// Errors that tell only that something else went wrong before, or nothing bad.
const OF_NO_WEIGHT: &[u32] = &[43, 45, 63, 92, 93];
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
    checks.extend(toolkit::judge(checkup));
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
