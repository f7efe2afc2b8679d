use super::*;
use crate::ui::Ui;
use serde_json::json;

/// A host with a busy, a free, a lost and a divided GPU.
pub(crate) fn report() -> GpuReport {
    let gpu = |index: u32, uuid: &str| {
        json!({
            "uuid": uuid, "index": index, "name": "NVIDIA H100 80GB HBM3",
            "memory_total": 81559, "memory_reserved": 500, "memory_used": 501, "memory_free": 81058,
            "utilization": 0, "memory_utilization": 0, "temperature": 31, "fan": { "absent": "not_available" },
            "power": 71230, "power_limit": 700_000, "persistence": false, "ecc_errors": 0, "health": "healthy",
        })
    };
    let mut busy = gpu(0, "GPU-aaaa");
    busy["memory_used"] = json!(63000);
    busy["utilization"] = json!(98);
    busy["temperature"] = json!(86);
    busy["power"] = json!(640_400);
    busy["history"] = json!([10, null, 60, 98, 98]);
    let mut lost = gpu(2, "GPU-cccc");
    for field in [
        "memory_used",
        "memory_free",
        "utilization",
        "temperature",
        "power",
        "ecc_errors",
    ] {
        lost[field] = json!({ "absent": "gpu_lost" });
    }
    lost["health"] = json!("lost");
    let mut divided = gpu(3, "GPU-dddd");
    divided["mig"] = json!(true);
    divided["utilization"] = json!({ "absent": "not_available" });
    divided["mig_devices"] = json!([
        { "uuid": "MIG-1", "profile": "1g.10gb", "memory_total": 9728, "memory_used": 12 },
        { "uuid": "MIG-2", "profile": "1g.10gb", "memory_total": 9728, "memory_used": 4000 },
    ]);
    serde_json::from_value(json!({
        "state": "cached", "sampled_at": "2026-03-01T10:00:00Z", "age_ms": 1200, "took_ms": 3100,
        "device": { "device": "cuda", "detected_at": "2026-03-01T09:00:00Z", "boot_id": "b" },
        "driver": { "version": "570.86.15", "cuda": "12.8" },
        "gpus": [busy, gpu(1, "GPU-bbbb"), lost, divided],
        "processes": [
            { "gpu_uuid": "GPU-aaaa", "pid": 4412, "memory": 41000, "holder": { "kind": "run", "run_id": "rs_aaaaaaaa" } },
            { "gpu_uuid": "GPU-aaaa", "pid": 4413, "memory": { "absent": "not_available" },
              "holder": { "kind": "process", "user": "alice", "command": "python" } },
        ],
        "leases": [
            { "gpu_uuid": "GPU-aaaa", "run_id": "rs_aaaaaaaa" },
            { "gpu_uuid": "MIG-2", "user": "bob" },
        ],
    }))
    .unwrap()
}

fn drawn(table: &Table, width: usize) -> String {
    let options = crate::ui::UiOptions {
        width: Some(width),
        ..Default::default()
    };
    let (ui, out, _) = Ui::captured_tty(options);
    ui.table(table);
    out.text()
}

#[test]
fn gpus_fit_eighty_columns() {
    let table = drawn(&gpus(&report(), 0), 80);
    assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
    insta::assert_snapshot!(table);
}

#[test]
fn gpus_and_processes_are_told_in_full_where_there_is_room() {
    let report = report();
    let told = format!(
        "{}\n{}",
        drawn(&gpus(&report, 0), 200),
        drawn(&processes(&report), 200)
    );
    insta::assert_snapshot!(told);
}

#[test]
fn every_dash_has_a_reason() {
    insta::assert_snapshot!(dashes(&report()).join("\n"));
}

#[test]
fn memory_of_the_host_is_labelled_and_what_slows_a_gpu_is_told() {
    let mut report = report();
    report.gpus.truncate(2);
    assert_eq!(remarks(&report), [""; 0]);
    report.gpus[0].unified_memory = true;
    report.gpus[0].throttled = Some("sw_power_cap".to_owned());
    report.gpus[1].throttled = Some("sw_power_cap".to_owned());
    report.gpus[1].ecc_errors = Reading::Value(3);
    assert_eq!(
        remarks(&report),
        [
            "clocks of GPU 0, 1 are held down: sw_power_cap",
            "GPU 1: 3 memory errors that could not be corrected since the driver was loaded",
        ]
    );
    let table = drawn(&gpus(&report, 0), 120);
    assert!(table.contains("61.5/79.6 GiB unified"), "{table}");
    assert_eq!(table.matches("unified").count(), 1, "{table}");
}

#[test]
fn a_report_says_how_old_it_is() {
    let mut report = report();
    assert_eq!(
        headline(&report, 0),
        "4 × H100 80GB HBM3, driver 570.86.15, CUDA 12.8, 1 s old"
    );
    // What was fresh when it came is stale now.
    assert_eq!(age(&report, 120_000), "STALE 2 min");
    report.state = Freshness::Stale;
    report.refreshing_ms = Some(12_300);
    assert_eq!(
        headline(&report, 0),
        "4 × H100 80GB HBM3, driver 570.86.15, CUDA 12.8, STALE 1 s, refresh running 12 s"
    );
    report.state = Freshness::Unavailable;
    assert_eq!(age(&report, 0), "no figures");
}

#[test]
fn a_row_of_stale_figures_says_so() {
    let mut report = report();
    report.gpus.retain(|gpu| gpu.index != 2);
    let ends = |report: &GpuReport, later| -> Vec<String> {
        let table = drawn(&gpus(report, later), 200);
        let rows = table.lines().skip(1);
        rows.map(|row| row.rsplit("  ").next().unwrap().to_owned())
            .collect()
    };
    let fresh = ends(&report, 0);
    assert!(!fresh.join(" ").contains("STALE"), "{fresh:?}");
    assert_eq!(fresh[1], "free");
    // Fresh when they came, and not looked at since; or stale from the host on.
    let aged = ends(&report, 120_000);
    assert_eq!(
        (aged[1].as_str(), aged[3].as_str()),
        ("was free; STALE 2 min", "was free; STALE 2 min")
    );
    assert!(
        aged[0].starts_with("rs_aaaaaaaa") && aged[0].ends_with("; STALE 2 min"),
        "{aged:?}"
    );
    assert!(aged[4].ends_with("; STALE 2 min"), "{aged:?}");
    report.state = Freshness::Stale;
    assert_eq!(ends(&report, 0)[1], "was free; STALE 1 s");
    report.state = Freshness::Unavailable;
    assert_eq!(ends(&report, 120_000)[1], "-");
}

#[test]
fn a_host_without_gpus_is_told_in_one_word() {
    let mut report = report();
    report.gpus.clear();
    report.state = Freshness::Unavailable;
    report.trouble = serde_json::from_value(json!({ "kind": "no_gpu" })).unwrap();
    assert_eq!(headline(&report, 0), "none");
    assert!(troubles(&report).is_empty());
}

#[test]
fn trouble_comes_with_its_remedy_and_once() {
    let mut report = report();
    report.trouble = serde_json::from_value(json!({ "kind": "driver_mismatch" })).unwrap();
    report.device.broken = report.trouble.clone();
    let told = troubles(&report);
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told.iter().all(|(_, remedy)| remedy.is_some()));
}

#[test]
fn slow_reading_without_persistence_has_a_hint() {
    let mut report = report();
    assert!(hint("gpu1", &report).unwrap().contains("nvidia-smi -pm 1"));
    report.took_ms = Some(1900);
    assert_eq!(hint("gpu1", &report), None);
    report.took_ms = Some(3000);
    for gpu in &mut report.gpus {
        gpu.persistence = Some(true);
    }
    assert_eq!(hint("gpu1", &report), None);
}

#[test]
fn processes_of_a_run_that_holds_nothing_any_more_are_told_with_their_number() {
    let mut report = report();
    report.leases.clear();
    let table = drawn(&gpus(&report, 0), 200);
    let first = table.lines().nth(1).unwrap();
    assert!(
        first.contains("rs_aaaaaaaa without a lease (pid 4412)"),
        "{first}"
    );
}

#[test]
fn memory_that_nobody_accounts_for_is_told() {
    let mut report = report();
    report.processes.clear();
    report.leases.clear();
    let table = drawn(&gpus(&report, 0), 200);
    let first = table.lines().nth(1).unwrap();
    assert!(first.contains("memory in use, no process seen"), "{first}");
    // 1024 MiB and less is what a desktop holds.
    assert!(table.lines().nth(2).unwrap().ends_with("free"), "{table}");
}
