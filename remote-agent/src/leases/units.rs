//! What can be given: whole GPUs, or the instances of those that are divided.

use farrun_protocol::gpu::{Gpu, GpuReport, Health, MigDevice};
use farrun_protocol::lease::LeasedGpu;

/// A GPU or an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unit {
    pub(super) uuid: String,
    pub(super) index: u32,
    pub(super) name: String,
    /// The GPU it is an instance of.
    pub(super) parent: Option<String>,
    /// Whether it has instances, which are given instead.
    pub(super) divided: bool,
    pub(super) memory_total: Option<u64>,
    pub(super) memory_free: Option<u64>,
    /// MiB in use beyond what the driver keeps for itself; unknown where memory is the host's own.
    pub(super) memory_used: Option<u64>,
    pub(super) display: bool,
    pub(super) health: Health,
    pub(super) compute_mode: Option<String>,
}

impl Unit {
    /// As it stands in a lease.
    pub(super) fn leased(&self) -> LeasedGpu {
        LeasedGpu {
            uuid: self.uuid.clone(),
            index: self.index,
            name: self.name.clone(),
            memory_total: self.memory_total,
        }
    }

    /// What comes first when several would do: the smallest, then those without a display, then by number.
    pub(super) fn rank(&self) -> (u64, bool, u32, &str) {
        (
            self.memory_total.unwrap_or(u64::MAX),
            self.display,
            self.index,
            &self.uuid,
        )
    }

    fn of_gpu(gpu: &Gpu) -> Self {
        let used = gpu.memory_used.value().filter(|_| !gpu.unified_memory);
        Self {
            uuid: gpu.uuid.clone(),
            index: gpu.index,
            name: gpu.name.clone(),
            parent: None,
            divided: gpu.mig,
            memory_total: gpu.memory_total.value(),
            memory_free: gpu.memory_free.value(),
            memory_used: used.map(|used| used.saturating_sub(gpu.memory_reserved.value().unwrap_or(0))),
            display: gpu.display.unwrap_or_default(),
            health: gpu.health,
            compute_mode: gpu.compute_mode.clone(),
        }
    }

    fn of_instance(gpu: &Gpu, instance: &MigDevice) -> Self {
        let (total, used) = (instance.memory_total.value(), instance.memory_used.value());
        Self {
            uuid: instance.uuid.clone(),
            name: format!("{} MIG {}", gpu.name, instance.profile),
            parent: Some(gpu.uuid.clone()),
            divided: false,
            memory_total: total,
            memory_free: total.zip(used).map(|(total, used)| total.saturating_sub(used)),
            memory_used: used,
            ..Self::of_gpu(gpu)
        }
    }
}

/// Every GPU of a report, each with its instances behind it.
pub(super) fn units(report: &GpuReport) -> Vec<Unit> {
    let mut units = Vec::new();
    for gpu in &report.gpus {
        units.push(Unit::of_gpu(gpu));
        if gpu.mig {
            let instances = gpu.mig_devices.iter();
            units.extend(instances.map(|instance| Unit::of_instance(gpu, instance)));
        }
    }
    units
}
