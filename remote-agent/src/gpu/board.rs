//! GPUs that share the host's memory, and boards whose GPU `nvidia-smi` does not know.

use farrun_protocol::gpu::{Absence, Gpu, Health, Reading};
use std::path::Path;

/// Where the load of a Jetson's GPU is, by generation of its kernel; in thousandths.
const LOADS: &[&str] = &[
    "sys/devices/gpu.0/load",
    "sys/devices/platform/gpu.0/load",
    "sys/devices/platform/bus@0/17000000.gpu/load",
    "sys/devices/platform/17000000.gpu/load",
    "sys/devices/platform/17000000.ga10b/load",
    "sys/devices/platform/17000000.gv11b/load",
];

/// Shows the host's memory for GPUs that have none of their own: their name is known, and every figure of their
/// memory is missing.
pub(super) fn add_unified_memory(root: &Path, gpus: &mut [Gpu]) {
    let lacks_memory = |gpu: &&mut Gpu| {
        let missing = |reading: &Reading<u64>| {
            matches!(
                reading,
                Reading::Absent {
                    absent: Absence::NotAvailable | Absence::NotSupported
                }
            )
        };
        gpu.health == Health::Healthy
            && missing(&gpu.memory_total)
            && missing(&gpu.memory_used)
            && missing(&gpu.memory_free)
    };
    for gpu in gpus.iter_mut().filter(lacks_memory) {
        let Some((total, available)) = host_memory(root) else {
            return;
        };
        gpu.unified_memory = true;
        gpu.memory_total = Reading::Value(total);
        gpu.memory_free = Reading::Value(available);
        gpu.memory_used = Reading::Value(total.saturating_sub(available));
    }
}

/// All and available memory of the host in MiB.
fn host_memory(root: &Path) -> Option<(u64, u64)> {
    let text = std::fs::read_to_string(root.join("proc/meminfo")).ok()?;
    let find = |name: &str| {
        let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
        Some(rest.split_whitespace().next()?.parse::<u64>().ok()? / 1024)
    };
    Some((find("MemTotal:")?, find("MemAvailable:")?))
}

/// The GPU of a Jetson, from what its kernel tells; `None` on any other machine.
pub(super) fn jetson(root: &Path) -> Option<Gpu> {
    let compatible = std::fs::read(root.join("proc/device-tree/compatible")).ok()?;
    if !String::from_utf8_lossy(&compatible).contains("tegra") {
        return None;
    }
    let name = std::fs::read(root.join("proc/device-tree/model")).unwrap_or_default();
    let name = super::text::clean(&String::from_utf8_lossy(&name));
    let absent = Reading::absent(Absence::NotAvailable);
    let mut gpu = Gpu {
        uuid: "GPU-tegra".to_owned(),
        index: 0,
        name: if name.is_empty() {
            "Tegra".to_owned()
        } else {
            super::text::bounded(&name, 200)
        },
        bus_id: None,
        memory_total: absent,
        memory_reserved: absent,
        memory_used: absent,
        memory_free: absent,
        unified_memory: false,
        utilization: load(root),
        memory_utilization: absent,
        temperature: absent,
        fan: absent,
        power: absent,
        power_limit: absent,
        performance_state: None,
        throttled: None,
        persistence: None,
        compute_mode: None,
        display: None,
        ecc_errors: absent,
        compute_capability: None,
        mig: false,
        mig_devices: Vec::new(),
        health: Health::Healthy,
        history: Vec::new(),
    };
    add_unified_memory(root, std::slice::from_mut(&mut gpu));
    Some(gpu)
}

/// Adds what the kernel tells to a Jetson's GPU of which `nvidia-smi` knows no more than its name.
pub(super) fn add_jetson_load(root: &Path, gpus: &mut [Gpu]) {
    for gpu in gpus.iter_mut().filter(|gpu| gpu.name.contains("(nvgpu)")) {
        if gpu.utilization.value().is_none() {
            gpu.utilization = load(root);
        }
    }
}

fn load(root: &Path) -> Reading<u64> {
    let text = LOADS
        .iter()
        .find_map(|path| std::fs::read_to_string(root.join(path)).ok());
    match text.map(|text| text.trim().parse::<u64>()) {
        None => Reading::absent(Absence::NotAvailable),
        Some(Ok(load)) if load <= 1000 => Reading::Value(load / 10),
        Some(_) => Reading::absent(Absence::Garbled),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::{fields::Fields, rows};

    fn host(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        root
    }

    const MEMORY: (&str, &str) = (
        "proc/meminfo",
        "MemTotal:       2097152 kB\nMemFree: 5 kB\nMemAvailable:   1048576 kB\n",
    );

    fn row(name: &str, memory: &str) -> Gpu {
        let fields = Fields::from_names(&[
            "index",
            "uuid",
            "name",
            "memory.total",
            "memory.used",
            "memory.free",
            "utilization.gpu",
        ])
        .unwrap();
        let line = format!("0, GPU-ee01, {name}, {memory}, {memory}, {memory}, [N/A]\n");
        rows::parse(line.as_bytes(), &fields).gpus.remove(0)
    }

    #[test]
    fn unified_memory_is_the_hosts_and_says_so() {
        let root = host(&[MEMORY]);
        let mut gpus = [row("Test GB10", "[N/A]"), row("Test H100", "1024")];
        add_unified_memory(root.path(), &mut gpus);
        assert!(gpus[0].unified_memory);
        assert_eq!(gpus[0].memory_total, Reading::Value(2048));
        assert_eq!(gpus[0].memory_used, Reading::Value(1024));
        assert!(!gpus[1].unified_memory);
        let mut unknown = [row("Test GB10", "[N/A]")];
        add_unified_memory(Path::new("/nonexistent"), &mut unknown);
        assert_eq!(unknown[0].memory_total, Reading::absent(Absence::NotAvailable));
        let mut lost = [row("Test GB10", "[GPU is lost]")];
        add_unified_memory(root.path(), &mut lost);
        assert!(!lost[0].unified_memory);
    }

    #[test]
    fn a_jetson_is_told_by_its_kernel() {
        let root = host(&[
            MEMORY,
            ("proc/device-tree/compatible", "nvidia,p3737\0nvidia,tegra234\0"),
            ("proc/device-tree/model", "Test Orin\0"),
            ("sys/devices/platform/gpu.0/load", "371\n"),
        ]);
        let gpu = jetson(root.path()).unwrap();
        assert_eq!(
            (gpu.name.as_str(), gpu.utilization),
            ("Test Orin", Reading::Value(37))
        );
        assert!(gpu.unified_memory);
        let mut named = [row("Orin (nvgpu)", "[N/A]")];
        add_jetson_load(root.path(), &mut named);
        assert_eq!(named[0].utilization, Reading::Value(37));
        let other = host(&[("proc/device-tree/compatible", "raspberrypi,5\0")]);
        assert_eq!(jetson(other.path()), None);
        assert_eq!(jetson(Path::new("/nonexistent")), None);
    }
}
