//! What a job computes with. GPUs that seem to be there and cannot be used are `cuda` with the reason: a job never
//! silently gets a processor instead.

use super::store::Detected;
use chrono::{DateTime, Utc};
use farrun_protocol::gpu::{Device, DeviceFacts, FORMAT, Gpu, GpuTrouble, Health, TroubleKind};
use farrun_protocol::spec::{Gpus, RunSpec};
use std::path::Path;
use std::time::Duration;

/// Version that the cache file carries.
pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Variable that tells a job what to compute with.
pub(crate) const VARIABLE: &str = "DEVICE";

/// The `DEVICE` that a run is given; none when its order sets one. A run with GPUs starts only where they can be used,
/// so it need not be found out here whether they can.
pub(crate) fn for_run(spec: &RunSpec) -> Option<Device> {
    if spec.env.contains_key(VARIABLE) || spec.secret_names.iter().any(|name| name == VARIABLE) {
        return None;
    }
    Some(match spec.gpus {
        Gpus::None => Device::Cpu,
        _ if cfg!(target_os = "macos") => Device::Mps,
        _ => Device::Cuda,
    })
}

/// What a run's `DEVICE` says: the word it was given, or its order's own when that is one of ours.
pub(crate) fn said(spec: &RunSpec) -> Option<Device> {
    let own = spec.env.get(VARIABLE).and_then(|word| {
        let known = [Device::Cuda, Device::Mps, Device::Cpu];
        known.into_iter().find(|device| device.as_str() == word)
    });
    for_run(spec).or(own)
}

/// Judges what a reading found: the GPUs, or the trouble.
pub(super) fn judge(
    root: &Path,
    gpus: &[Gpu],
    trouble: Option<&GpuTrouble>,
    has_program: bool,
) -> (Device, Option<GpuTrouble>) {
    if gpus.iter().any(|gpu| gpu.health == Health::Healthy) {
        return (Device::Cuda, None);
    }
    if let Some(gpu) = gpus.first() {
        let kind = match gpu.health {
            Health::ResetRequired => TroubleKind::ResetRequired,
            _ => TroubleKind::GpuLost,
        };
        let broken = trouble.cloned().unwrap_or_else(|| of_kind(kind, None));
        return (Device::Cuda, Some(broken));
    }
    let seen = seen(root);
    match trouble {
        _ if !has_program => match seen {
            Some(path) => (Device::Cuda, Some(of_kind(TroubleKind::ToolMissing, Some(path)))),
            None if cfg!(all(target_os = "macos", target_arch = "aarch64")) => (Device::Mps, None),
            None => (Device::Cpu, None),
        },
        Some(trouble) if trouble.kind == TroubleKind::NoDevices && seen.is_none() => (Device::Cpu, None),
        Some(trouble) => (Device::Cuda, Some(trouble.clone())),
        None => (Device::Cpu, None),
    }
}

fn of_kind(kind: TroubleKind, detail: Option<String>) -> GpuTrouble {
    GpuTrouble {
        kind,
        detail,
        pid: None,
        for_ms: None,
    }
}

/// What makes a host look as if it had an NVIDIA GPU: a device of the driver, WSL's, or a card on the PCI bus.
fn seen(root: &Path) -> Option<String> {
    let files = ["dev/nvidiactl", "dev/nvidia0", "dev/dxg"];
    let file = files.iter().find(|path| root.join(path).exists());
    if let Some(path) = file {
        return Some(format!("/{path}"));
    }
    let devices = std::fs::read_dir(root.join("sys/bus/pci/devices")).ok()?;
    devices.flatten().take(4096).find_map(|device| {
        let read = |name: &str| std::fs::read_to_string(device.path().join(name)).unwrap_or_default();
        // 0x03…: a display controller; NVIDIA makes bridges and network cards as well.
        (read("vendor").trim() == "0x10de" && read("class").starts_with("0x03"))
            .then(|| format!("PCI device {}", device.file_name().to_string_lossy()))
    })
}

/// The kernel's line about its NVIDIA driver; empty when none is loaded.
pub(super) fn kernel_driver(root: &Path) -> String {
    let text = std::fs::read(root.join("proc/driver/nvidia/version")).unwrap_or_default();
    super::text::lines(&text).into_iter().next().unwrap_or_default()
}

/// PCI addresses of the cards that the driver has taken.
pub(super) fn kernel_cards(root: &Path) -> Vec<String> {
    let folder = std::fs::read_dir(root.join("proc/driver/nvidia/gpus"));
    let mut cards: Vec<String> = folder
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| {
            name.bytes()
                .all(|byte| byte.is_ascii_hexdigit() || b":.".contains(&byte))
        })
        .take(64)
        .collect();
    cards.sort();
    cards
}

/// Which host, boot and driver a finding holds for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Where {
    pub(super) host_id: String,
    pub(super) boot_id: String,
    pub(super) driver: String,
}

impl Where {
    /// Whether a finding holds here and is younger than `keep`.
    pub(super) fn holds(&self, found: &Detected, now: u64, keep: Duration) -> bool {
        let age = now.checked_sub(found.taken).map(Duration::from_millis);
        found.version == VERSION
            && found.host_id == self.host_id
            && found.boot_id == self.boot_id
            && found.driver == self.driver
            && age.is_some_and(|age| age <= keep)
    }

    /// A finding of this moment.
    pub(super) fn found(
        &self,
        device: Device,
        broken: Option<GpuTrouble>,
        taken: u64,
        at: DateTime<Utc>,
    ) -> Detected {
        Detected {
            format: FORMAT,
            version: VERSION.to_owned(),
            host_id: self.host_id.clone(),
            boot_id: self.boot_id.clone(),
            driver: self.driver.clone(),
            taken_at: at,
            taken,
            facts: DeviceFacts {
                device,
                broken,
                detected_at: at,
                boot_id: self.boot_id.clone(),
            },
        }
    }
}

/// Whether two findings say the same, whatever their words and times.
pub(super) fn same(one: &DeviceFacts, other: &DeviceFacts) -> bool {
    let kind = |facts: &DeviceFacts| facts.broken.as_ref().map(|trouble| trouble.kind);
    one.device == other.device && kind(one) == kind(other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::{fields::Fields, rows};

    fn gpus(lines: &str) -> Vec<Gpu> {
        let fields = Fields::from_names(&["index", "uuid", "name", "memory.used"]).unwrap();
        rows::parse(lines.as_bytes(), &fields).gpus
    }

    fn host(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        root
    }

    fn kind(judged: (Device, Option<GpuTrouble>)) -> (Device, Option<TroubleKind>) {
        (judged.0, judged.1.map(|trouble| trouble.kind))
    }

    #[test]
    fn one_healthy_gpu_makes_cuda_and_none_makes_it_broken() {
        let root = host(&[]);
        let mixed = gpus("0, GPU-a1, X, [GPU is lost]\n1, GPU-a2, X, 0\n");
        assert_eq!(kind(judge(root.path(), &mixed, None, true)), (Device::Cuda, None));
        let lost = judge(root.path(), &mixed[..1], None, true);
        assert_eq!(kind(lost), (Device::Cuda, Some(TroubleKind::GpuLost)));
        let reset = gpus("0, GPU-a1, X, [GPU requires reset]\n");
        let judged = judge(root.path(), &reset, None, true);
        assert_eq!(kind(judged), (Device::Cuda, Some(TroubleKind::ResetRequired)));
    }

    #[test]
    fn a_failing_program_never_makes_a_processor() {
        let root = host(&[]);
        for kind_of in [
            TroubleKind::DriverNotLoaded,
            TroubleKind::LibraryMissing,
            TroubleKind::DriverMismatch,
            TroubleKind::Timeout,
            TroubleKind::Stuck,
        ] {
            let trouble = of_kind(kind_of, None);
            let judged = judge(root.path(), &[], Some(&trouble), true);
            assert_eq!(kind(judged), (Device::Cuda, Some(kind_of)));
        }
    }

    #[test]
    fn devices_without_a_program_are_broken_and_neither_is_a_processor() {
        for files in [
            &[("dev/nvidiactl", "")][..],
            &[("dev/dxg", "")],
            &[
                ("sys/bus/pci/devices/0000:07:00.0/vendor", "0x10de\n"),
                ("sys/bus/pci/devices/0000:07:00.0/class", "0x030200\n"),
            ],
        ] {
            let root = host(files);
            let judged = judge(root.path(), &[], None, false);
            assert_eq!(
                kind(judged),
                (Device::Cuda, Some(TroubleKind::ToolMissing)),
                "{files:?}"
            );
            let none = of_kind(TroubleKind::NoDevices, None);
            let judged = judge(root.path(), &[], Some(&none), true);
            assert_eq!(kind(judged), (Device::Cuda, Some(TroubleKind::NoDevices)));
        }
        let bridge = host(&[
            ("sys/bus/pci/devices/0000:07:00.0/vendor", "0x10de\n"),
            ("sys/bus/pci/devices/0000:07:00.0/class", "0x068000\n"),
        ]);
        assert_eq!(kind(judge(bridge.path(), &[], None, false)), (Device::Cpu, None));
        let none = of_kind(TroubleKind::NoDevices, None);
        let judged = judge(bridge.path(), &[], Some(&none), true);
        assert_eq!(kind(judged), (Device::Cpu, None));
    }

    #[test]
    fn a_finding_holds_for_an_hour_of_one_boot_and_one_driver() {
        let here = Where {
            host_id: "h".into(),
            boot_id: "b".into(),
            driver: "d".into(),
        };
        let hour = Duration::from_secs(3600);
        let found = here.found(Device::Cuda, None, 1000, Utc::now());
        assert!(here.holds(&found, 1000 + 3_600_000, hour));
        assert!(!here.holds(&found, 1001 + 3_600_000, hour));
        assert!(!here.holds(&found, 999, hour));
        for (host, boot, driver) in [("x", "b", "d"), ("h", "x", "d"), ("h", "b", "x")] {
            let there = Where {
                host_id: host.into(),
                boot_id: boot.into(),
                driver: driver.into(),
            };
            assert!(!there.holds(&found, 1000, hour));
        }
        let older = Detected {
            version: "0.0.1".into(),
            ..found
        };
        assert!(!here.holds(&older, 1000, hour));
    }

    #[test]
    fn a_run_without_gpus_gets_the_processor() {
        assert_eq!(for_run(&order(Gpus::None)), Some(Device::Cpu));
        for gpus in [Gpus::All, Gpus::Count(1), Gpus::Devices(vec!["0".into()])] {
            assert_eq!(for_run(&order(gpus)), Some(Device::Cuda));
        }
    }

    fn order(gpus: Gpus) -> RunSpec {
        let mut spec: RunSpec = serde_json::from_value(serde_json::json!({
            "format": 1, "run_id": "rs_abcdefgh", "controller_id": "co_abcdefgh", "operation": "run",
            "name": "x", "created_at": "2026-01-02T03:04:05Z", "image": "x",
            "inputs_target": "/i", "outputs_target": "/o",
        }))
        .unwrap();
        spec.gpus = gpus;
        spec
    }

    #[test]
    fn an_orders_own_device_is_left_alone() {
        let mut own = order(Gpus::All);
        own.env.insert(VARIABLE.into(), "cpu".into());
        assert_eq!((for_run(&own), said(&own)), (None, Some(Device::Cpu)));
        own.env.insert(VARIABLE.into(), "tpu:3".into());
        assert_eq!((for_run(&own), said(&own)), (None, None));
        let mut secret = order(Gpus::All);
        secret.secret_names = vec![VARIABLE.into()];
        assert_eq!((for_run(&secret), said(&secret)), (None, None));
        assert_eq!(said(&order(Gpus::All)), Some(Device::Cuda));
    }

    #[test]
    fn the_kernel_names_its_driver_and_cards() {
        let root = host(&[
            (
                "proc/driver/nvidia/version",
                "NVRM version: 1.2.3\nGCC version: 9\n",
            ),
            ("proc/driver/nvidia/gpus/0000:07:00.0/information", ""),
        ]);
        assert_eq!(kernel_driver(root.path()), "NVRM version: 1.2.3");
        assert_eq!(kernel_cards(root.path()), ["0000:07:00.0"]);
        assert_eq!(kernel_driver(Path::new("/nonexistent")), "");
    }
}
