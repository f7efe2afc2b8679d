//! Hosts that tests are about.

use farrun_protocol::RunId;
use farrun_protocol::gpu::{
    Absence, Device, DeviceFacts, Freshness, Gpu, GpuProcess, GpuReport, Health, HeldLease, Holder,
    MigDevice, Reading,
};

pub(crate) fn run(text: &str) -> RunId {
    text.parse().unwrap()
}

pub(crate) fn gpu(index: u32, memory: u64) -> Gpu {
    let none = Reading::absent(Absence::NotAvailable);
    Gpu {
        uuid: format!("GPU-{index}"),
        index,
        name: "NVIDIA Test".into(),
        bus_id: None,
        memory_total: Reading::Value(memory),
        memory_reserved: Reading::Value(0),
        memory_used: Reading::Value(0),
        memory_free: Reading::Value(memory - 2000),
        unified_memory: false,
        utilization: none,
        memory_utilization: none,
        temperature: none,
        fan: none,
        power: none,
        power_limit: none,
        performance_state: None,
        throttled: None,
        persistence: None,
        compute_mode: Some("Default".into()),
        display: Some(false),
        ecc_errors: none,
        compute_capability: None,
        mig: false,
        mig_devices: Vec::new(),
        health: Health::Healthy,
        history: Vec::new(),
    }
}

pub(crate) fn instance(uuid: &str, memory: u64) -> MigDevice {
    MigDevice {
        uuid: uuid.to_owned(),
        profile: format!("{}g.{}gb", memory / 10_000, memory / 1000),
        memory_total: Reading::Value(memory),
        memory_used: Reading::Value(0),
    }
}

pub(crate) fn report(gpus: Vec<Gpu>) -> GpuReport {
    GpuReport {
        state: Freshness::Fresh,
        sampled_at: Some(chrono::Utc::now()),
        age_ms: Some(0),
        took_ms: None,
        refreshing_ms: None,
        trouble: None,
        device: DeviceFacts {
            device: Device::Cuda,
            broken: None,
            detected_at: chrono::Utc::now(),
            boot_id: String::new(),
        },
        driver: None,
        gpus,
        processes: Vec::new(),
        leases: Vec::new(),
    }
}

pub(crate) fn process(gpu: &str, pid: u32, holder: Holder) -> GpuProcess {
    GpuProcess {
        gpu_uuid: gpu.to_owned(),
        pid,
        memory: Reading::Value(100),
        holder,
    }
}

pub(crate) fn held(gpu: &str, run_id: &str, shared: bool) -> HeldLease {
    HeldLease {
        gpu_uuid: gpu.to_owned(),
        run_id: Some(run(run_id)),
        user: Some("ada".into()),
        since: None,
        shared,
        draining: false,
    }
}
