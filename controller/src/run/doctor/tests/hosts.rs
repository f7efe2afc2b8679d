//! Hosts that no test machine is: well ones, and what is changed of them.

use farrun_protocol::doctor::{
    AccountFacts, Card, Checkup, DriverCheckup, EngineCheckup, KernelLog, LocksFacts, LoginFacts, Residence,
    Seen, SpaceFacts, StateFacts, ToolkitFacts, Trial, Unseen, Why,
};
use farrun_protocol::gpu::GpuReport;
use serde_json::json;

pub(super) const ROOM: SpaceFacts = SpaceFacts {
    total: 100 << 30,
    free: 50 << 30,
    inodes: 1_000_000,
    inodes_free: 500_000,
};

pub(super) fn absent<T>() -> Result<T, Unseen> {
    Err(Unseen::new(Why::Absent))
}

pub(super) fn seen() -> Seen {
    Seen {
        shared_memory: 1 << 30,
        ..Seen::default()
    }
}

pub(super) fn trial(seen: Seen) -> Result<Trial, Unseen> {
    Ok(Trial {
        image: "busybox".into(),
        took_ms: 400,
        seen: Some(seen),
        problem: None,
    })
}

/// A host without a GPU on which nothing is wrong.
pub(super) fn healthy() -> Checkup {
    Checkup {
        account: AccountFacts {
            name: "ada".into(),
            uid: 1000,
            in_docker_group: true,
            listed_in_docker_group: true,
            sudo: None,
        },
        state: Ok(StateFacts {
            path: "/home/ada/.local/share/farrun".into(),
            file_system: "ext4".into(),
            noexec: false,
            read_only: false,
            space: ROOM,
            mode: 0o700,
            written: Ok(3),
            open_parents: Vec::new(),
        }),
        engine: Ok(EngineCheckup {
            version: "29.1.0".into(),
            api: "1.52".into(),
            runc: Some("1.3.3".into()),
            cgroup_driver: "systemd".into(),
            cgroup_version: "2".into(),
            live_restore: true,
            storage: "overlay2".into(),
            root: "/var/lib/docker".into(),
            space: Some(ROOM),
            ..EngineCheckup::default()
        }),
        driver: absent(),
        toolkit: absent(),
        gpus: absent(),
        container: trial(seen()),
        gpu_container: absent(),
        kernel_log: Ok(KernelLog::default()),
        locks: Ok(LocksFacts {
            path: "/run/lock/farrun".into(),
            uid: 0,
            mode: 0o1777,
            problem: None,
        }),
        shared_memory: Ok(ROOM),
        caches: Ok(Vec::new()),
        login: Ok(LoginFacts::default()),
        watch: None,
        residence: Some(Residence::UserUnit),
    }
}

pub(super) fn report(gpu: serde_json::Value) -> GpuReport {
    let absent = json!({"absent": "not_available"});
    let mut usual = json!({
        "uuid": "GPU-0", "index": 0, "name": "Test", "memory_total": 1000, "memory_reserved": 0,
        "memory_used": 0, "memory_free": 1000, "utilization": 0, "memory_utilization": absent,
        "temperature": 40, "fan": absent, "power": absent, "power_limit": absent, "ecc_errors": 0,
        "health": "healthy", "persistence": true,
    });
    for (name, value) in gpu.as_object().unwrap() {
        usual[name] = value.clone();
    }
    serde_json::from_value(json!({
        "state": "fresh", "age_ms": 0, "took_ms": 60, "gpus": [usual],
        "device": {"device": "cuda", "detected_at": "2026-01-01T00:00:00Z", "boot_id": ""},
    }))
    .unwrap()
}

/// A host with a GPU on which nothing is wrong.
pub(super) fn with_gpu() -> Checkup {
    Checkup {
        driver: Ok(DriverCheckup {
            cards: vec![Card {
                bus_id: "0000:01:00.0".into(),
                driver: Some("nvidia".into()),
                lanes: Some((16, 16)),
            }],
            module: Some("550.90.07".into()),
            installed: Some("550.90.07".into()),
            device_files: vec!["/dev/nvidia0".into()],
            ..DriverCheckup::default()
        }),
        toolkit: Ok(ToolkitFacts {
            version: Some("1.17.8".into()),
            programs: vec!["nvidia-ctk".into()],
            ..ToolkitFacts::default()
        }),
        gpus: Ok(report(json!({}))),
        gpu_container: trial(Seen {
            device_files: vec!["nvidia0".into()],
            smi_code: Some(0),
            smi_said: "GPU 0: Test H9 80GB (UUID: GPU-aa01)\n".into(),
            ..seen()
        }),
        ..healthy()
    }
}

pub(super) fn state(change: impl FnOnce(&mut StateFacts)) -> Checkup {
    let mut checkup = healthy();
    change(checkup.state.as_mut().unwrap());
    checkup
}

pub(super) fn engine(change: impl FnOnce(&mut EngineCheckup)) -> Checkup {
    let mut checkup = with_gpu();
    change(checkup.engine.as_mut().unwrap());
    checkup
}

pub(super) fn driver(change: impl FnOnce(&mut DriverCheckup)) -> Checkup {
    let mut checkup = with_gpu();
    change(checkup.driver.as_mut().unwrap());
    checkup
}
