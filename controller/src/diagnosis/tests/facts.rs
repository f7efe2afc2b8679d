//! Causes that follow from facts: memory, GPUs' errors, disks, ends that say themselves why.

use super::{CONTAINER, Folder, certain, codes, settled};
use crate::diagnosis::{Certainty, Facts, read, short};
use serde_json::{Value, json};

fn gpus(health: &str, processes: &Value) -> Value {
    let gpu = |uuid: &str, index: u32, bus: &str, health: &str| {
        json!({
            "uuid": uuid, "index": index, "name": "NVIDIA H100", "bus_id": bus, "memory_total": 81559, "memory_reserved": 500,
            "memory_used": 40000, "memory_free": 41000, "utilization": 5, "memory_utilization": 1, "temperature": 40,
            "fan": { "absent": "not_available" }, "power": 70000, "power_limit": 700_000, "ecc_errors": 0, "health": health,
            "compute_capability": "9.0",
        })
    };
    json!({
        "state": "fresh", "device": { "device": "cuda", "detected_at": "2026-03-01T10:00:00Z", "boot_id": "b" },
        "driver": { "version": "550.54.15", "cuda": "12.4" },
        "gpus": [gpu("GPU-aaaa", 0, "00000000:0B:00.0", health), gpu("GPU-bbbb", 1, "00000000:0C:00.0", "healthy")],
        "processes": processes,
        "leases": [{ "gpu_uuid": "GPU-aaaa", "run_id": "rs_abcdefgh" }, { "gpu_uuid": "GPU-bbbb", "run_id": "rs_otherrun" }],
    })
}

fn ended(folder: Folder, reason: &str, code: Option<i32>, signal: Option<i32>, oom_kills: u64) -> Folder {
    let mut folder = folder;
    folder.run.reason = farrun_protocol::verdict::Reason::from_code(reason);
    (folder.run.exit_code, folder.run.signal) = (code, signal);
    let exit = json!({
        "format": 1, "code": code, "signal": signal, "ended_at": "2026-03-01T10:10:00Z", "written": 0, "dropped": 0, "tail": 0,
        "log": { "length": 0, "sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" },
        "oom_kills": oom_kills,
    });
    let verdict = json!({ "result": "failed", "reason": reason, "exit_code": code, "signal": signal });
    folder.json("settled.json", &settled(&verdict, Some(&exit)))
}

fn oom_line(constraint: &str) -> String {
    format!(
        "2026-03-01T10:09:59Z oom-kill:constraint={constraint},nodemask=(null),cpuset={CONTAINER},mems_allowed=0,\
         oom_memcg=/docker/{CONTAINER},task_memcg=/docker/{CONTAINER},task=python,pid=4711,uid=0\n"
    )
}

#[test]
fn full_gpu_memory_names_figures_and_who_holds_the_rest() {
    let processes = json!([
        { "gpu_uuid": "GPU-aaaa", "pid": 4711, "memory": 32000, "holder": { "kind": "process", "user": "alice", "command": "python" } },
        { "gpu_uuid": "GPU-aaaa", "pid": 4712, "memory": 9000, "holder": { "kind": "run", "run_id": "rs_abcdefgh" } },
        { "gpu_uuid": "GPU-bbbb", "pid": 4713, "memory": 9000, "holder": { "kind": "process", "user": "bob", "command": "x" } },
    ]);
    let folder = Folder::new().json("gpus.json", &gpus("healthy", &processes)).log(
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.15 GiB of \
         which 1.25 GiB is free. Including non-PyTorch memory, this process has 46.00 GiB memory in use. Of the allocated \
         memory 30.00 GiB is allocated by PyTorch, and 15.00 GiB is reserved by PyTorch but unallocated.\n",
    );
    let diagnosis = folder.read();
    let cause = certain(&diagnosis);
    assert_eq!(
        cause.sentence,
        "the GPU's memory was full: the job asked for 2.00 GiB more; GPU 0 has 79.15 GiB, 1.25 GiB of it free; 46.00 GiB were the \
         job's own; 15.0 GiB were reserved and not used, so the memory was fragmented; others on it: python of alice (pid 4711) \
         with 31.2 GiB"
    );
    let commands: Vec<&str> = cause
        .remedies
        .iter()
        .filter_map(|remedy| remedy.command.as_deref())
        .collect();
    assert_eq!(
        commands,
        [
            "farrun rerun rs_abcdefgh --wait --min-free 71g",
            "farrun rerun rs_abcdefgh --env PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True",
            "farrun rerun rs_abcdefgh --set batch_size=2",
            "farrun rerun rs_abcdefgh --host any --min-free 81g",
            "farrun rerun rs_abcdefgh --gpus 2",
            "farrun gpu --run rs_abcdefgh",
        ]
    );
    assert_eq!(
        short(&diagnosis),
        Some(("gpu_out_of_memory", cause.sentence.clone()))
    );
    assert_eq!(diagnosis.context.gpus.len(), 1);
    assert_eq!(diagnosis.context.gpus[0].others.len(), 1);
}

#[test]
fn a_kill_for_memory_is_told_apart_from_other_kills() {
    let limit = |mut folder: Folder| {
        folder.run.spec.memory_limit = Some(32 << 30);
        folder
            .with("cgroup.txt", "memory.max 34359738368\nmemory.peak 34359730000\n")
            .with(
                "system.txt",
                "== /proc/meminfo ==\nMemTotal: 131072000 kB\nMemAvailable: 1024 kB\n",
            )
    };
    let of = |folder: Folder| folder.read();
    let by_limit = of(ended(limit(Folder::new()), "out_of_memory", None, Some(9), 1));
    assert_eq!(codes(&by_limit), ["memory_limit"]);
    let cause = certain(&by_limit);
    assert!(
        cause
            .sentence
            .contains("of 32.0 GiB (its greatest use was 32.0 GiB)"),
        "{}",
        cause.sentence
    );
    assert_eq!(
        cause.remedies[0].command.as_deref(),
        Some("farrun rerun rs_abcdefgh --memory 64g")
    );
    // The kernel's word is better than the limit's existence.
    let by_host = of(ended(limit(Folder::new()), "out_of_memory", Some(137), None, 1)
        .with("kernel.log", oom_line("CONSTRAINT_NONE")));
    assert_eq!(codes(&by_host), ["host_out_of_memory"]);
    let by_cgroup = of(ended(Folder::new(), "out_of_memory", Some(137), None, 0)
        .with("kernel.log", oom_line("CONSTRAINT_MEMCG")));
    assert_eq!(codes(&by_cgroup), ["memory_limit"]);
    // Somebody else's kill, and kills outside the run's time.
    let other = oom_line("CONSTRAINT_MEMCG").replace(CONTAINER, &CONTAINER.replace("c0ffee", "badbad"));
    let killed = of(ended(Folder::new(), "killed_by_other", None, Some(9), 0).with("kernel.log", other));
    assert_eq!(codes(&killed), ["killed_by_other"]);
    let before = oom_line("CONSTRAINT_MEMCG").replace("10:09", "08:00");
    assert_eq!(
        codes(&of(
            ended(Folder::new(), "exit_code", Some(137), None, 0).with("kernel.log", before)
        )),
        ["killed_inside"]
    );
}

#[test]
fn a_child_that_was_killed_is_a_warning() {
    let child = ended(
        Folder::new().log("ValueError: x\n"),
        "out_of_memory",
        Some(1),
        None,
        1,
    )
    .read();
    assert_eq!(child.cause, None);
    assert_eq!(codes(&child), ["child_out_of_memory"]);
    let beside = ended(
        Folder::new().log("ModuleNotFoundError: No module named 'x'\n"),
        "out_of_memory",
        Some(1),
        None,
        1,
    );
    assert_eq!(codes(&beside.read()), ["module_missing", "child_out_of_memory"]);
    let worker = ended(
        Folder::new().log("RuntimeError: DataLoader worker (pid 42) is killed by signal: Killed. \n"),
        "out_of_memory",
        Some(1),
        None,
        1,
    );
    assert_eq!(codes(&worker.read()), ["worker_out_of_memory"]);
}

#[test]
fn only_xids_of_the_runs_gpus_in_its_time_count() {
    let with = |kernel: &str| {
        Folder::new()
            .json("gpus.json", &gpus("healthy", &json!([])))
            .with("kernel.log", kernel)
            .log("RuntimeError: CUDA error: unspecified launch failure\n")
    };
    let own = "2026-03-01T10:05:00Z NVRM: Xid (PCI:0000:0b:00): 79, pid=4711, GPU has fallen off the bus.\n";
    let diagnosis = with(own).read();
    assert_eq!(codes(&diagnosis), ["gpu_lost", "gpu_program_fault"]);
    assert_eq!(
        certain(&diagnosis).sentence,
        "the run's GPU 0 (NVIDIA H100) has fallen off the bus: hardware, power or PCIe, not the job"
    );
    assert!(diagnosis.moments.iter().any(|moment| moment.what.contains("Xid")));
    let without_xid = "2026-03-01T10:05:00Z NVRM: GPU 0000:0b:00.0: GPU has fallen off the bus.\n";
    assert_eq!(codes(&with(without_xid).read())[0], "gpu_lost");
    for other in [
        own.replace("0b:00", "0c:00"),
        own.replace("0b:00", "0f:00"),
        own.replace("10:05", "09:05"),
        own.replace("10:05", "10:55"),
        own.replace("2026-03-01T10:05:00Z ", ""),
    ] {
        assert_eq!(codes(&with(&other).read()), ["gpu_program_fault"], "{other}");
    }
    let lost = Folder::new()
        .json("gpus.json", &gpus("lost", &json!([])))
        .log("x\n")
        .read();
    assert_eq!(codes(&lost), ["gpu_lost"]);
}

#[test]
fn xids_have_their_classes() {
    for (xid, code, certain) in [
        (48, "gpu_needs_reset", true),
        (74, "gpu_needs_reset", true),
        (119, "gpu_needs_reset", true),
        (31, "gpu_program_fault", true),
        (94, "gpu_memory_contained", true),
        (43, "gpu_follow_up", false),
        (63, "gpu_information", false),
        (999, "gpu_error", false),
    ] {
        let line = format!(
            "2026-03-01T10:05:00Z NVRM: Xid (PCI:0000:0b:00): {xid}, pid='<unknown>', name=<unknown>\n"
        );
        let folder = Folder::new()
            .json("gpus.json", &gpus("healthy", &json!([])))
            .with("kernel.log", line);
        let diagnosis = folder.read();
        assert_eq!(codes(&diagnosis), [code]);
        assert_eq!(diagnosis.cause.is_some(), certain, "{xid}");
    }
}

#[test]
fn a_lost_gpu_that_is_no_longer_listed_is_known_by_the_driver() {
    let mut report = gpus("healthy", &json!([]));
    report["gpus"].as_array_mut().unwrap().remove(0);
    let folder = Folder::new()
        .json("gpus.json", &report)
        .with("driver.txt", "== /proc/driver/nvidia/gpus/0000:0b:00.0/information ==\nModel: NVIDIA H100\nGPU UUID: \t GPU-aaaa\nBus Location: \t 0000:0b:00.0\n")
        .with("kernel.log", "2026-03-01T10:05:00Z NVRM: Xid (PCI:0000:0b:00): 79, GPU has fallen off the bus.\n");
    assert_eq!(codes(&folder.read()), ["gpu_lost"]);
}

#[test]
fn trouble_of_the_host_is_certain_when_the_engine_could_not_hand_out_gpus() {
    let mut report = gpus("healthy", &json!([]));
    report["trouble"] = json!({ "kind": "driver_mismatch" });
    let folder = Folder::new()
        .said("gpu_unavailable", "words of another engine")
        .json("gpus.json", &report);
    let diagnosis = folder.read();
    assert_eq!(
        (codes(&diagnosis), certain(&diagnosis).code),
        (vec!["gpu_driver_mismatch"], "gpu_driver_mismatch")
    );
    let beside = Folder::new()
        .json("gpus.json", &report)
        .log("ModuleNotFoundError: No module named 'x'\n")
        .read();
    assert_eq!(codes(&beside), ["module_missing", "gpu_driver_mismatch"]);
}

#[test]
fn ends_that_say_themselves_why_come_first() {
    let log = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.\n";
    for (reason, code) in [
        ("stopped", "stopped"),
        ("host_reboot", "host_reboot"),
        ("engine_restart", "engine_restart"),
        ("container_removed", "container_removed"),
        ("host_lost", "host_lost"),
        ("outputs_lost", "outputs_lost"),
    ] {
        let diagnosis = ended(Folder::new().log(log), reason, None, None, 0).read();
        assert_eq!(codes(&diagnosis), [code, "gpu_out_of_memory"], "{reason}");
    }
    // A hang after an error is explained by the error.
    let hung = ended(Folder::new().log(log), "time_limit", Some(143), None, 0).read();
    assert_eq!(codes(&hung), ["gpu_out_of_memory", "time_limit"]);
    for (reason, code) in [
        ("wait_expired", "wait_expired"),
        ("gpu_refused", "gpu_refused"),
        ("gpu_taken", "gpu_taken"),
        ("secrets_missing", "secrets_missing"),
        ("not_launched", "not_launched"),
        ("interrupted", "interrupted"),
        ("output_missing", "output_missing"),
        ("record_damaged", "record_damaged"),
        ("time_limit", "time_limit"),
        ("killed_by_other", "killed_by_other"),
        ("engine_silent", "engine_silent"),
    ] {
        let diagnosis = ended(Folder::new(), reason, None, None, 0).read();
        assert_eq!(codes(&diagnosis), [code]);
        assert!(!certain(&diagnosis).sentence.contains(['{', '[']), "{reason}");
    }
}

#[test]
fn signals_are_named_when_nothing_better_is_known() {
    for (code, name, sure) in [
        (139, "segmentation_fault", Certainty::Certain),
        (134, "aborted", Certainty::Certain),
        (132, "illegal_instruction", Certainty::Certain),
        (135, "shm_full", Certainty::Likely),
        (143, "terminated_inside", Certainty::Likely),
        (130, "interrupted_inside", Certainty::Likely),
        (137, "killed_inside", Certainty::Likely),
    ] {
        for (exit, signal) in [(Some(code), None), (None, Some(code - 128))] {
            let diagnosis = ended(Folder::new(), "exit_code", exit, signal, 0).read();
            assert_eq!(codes(&diagnosis), [name], "{code}");
            assert_eq!(diagnosis.cause.map(|cause| cause.certainty), Some(sure));
        }
    }
    let shell = ended(
        Folder::new().log("/bin/sh: 1: ffmpgg: not found\n"),
        "exit_code",
        Some(127),
        None,
        0,
    )
    .read();
    assert_eq!(certain(&shell).sentence, "the image has no program `ffmpgg`");
    let shell = ended(
        Folder::new().log("sh: /app/x: Permission denied\n"),
        "exit_code",
        Some(126),
        None,
        0,
    )
    .read();
    assert_eq!(certain(&shell).code, "command_not_executable");
}

#[test]
fn disks_and_shared_memory_have_figures() {
    let disk = |path: &str, free: u64, inodes_free: u64| json!({ "role": "engine", "path": path, "total": 500u64 << 30, "free": free, "inodes": 1000, "inodes_free": inodes_free });
    let log = "OSError: [Errno 28] No space left on device: '/farrun/outputs/x.png'\n";
    let full = Folder::new()
        .log(log)
        .json("disks.json", &json!([disk("/", 0, 5), disk("/data", 1 << 40, 5)]));
    let diagnosis = full.read();
    assert_eq!(
        certain(&diagnosis).sentence,
        "a disk of `gpu1` was full: / has 0 B of 500.0 GiB left; it was about /farrun/outputs/x.png"
    );
    let inodes = Folder::new()
        .log(log)
        .json("disks.json", &json!([disk("/", 1 << 36, 0)]));
    assert_eq!(codes(&inodes.read()), ["inodes_full"]);
    let mut short = Folder::new().log("head: standard output: I/O error\n");
    assert_eq!(codes(&short.read()), ["disk_full"]);
    short.run.spec.command = vec![
        "sh".to_owned(),
        "-c".to_owned(),
        "head -c 5000000 /dev/zero > /dev/shm/f".to_owned(),
    ];
    assert_eq!(codes(&short.read()), ["shm_full"]);
    let shm = Folder::new()
        .json(
            "container.json",
            &json!({ "HostConfig": { "ShmSize": 67_108_864 }, "State": { "Error": "", "OOMKilled": false } }),
        )
        .log("RuntimeError: DataLoader worker (pid 277) is killed by signal: Bus error.\n")
        .read();
    let cause = certain(&shm);
    assert_eq!(
        cause.sentence,
        "/dev/shm of the container was too small: it has 64.0 MiB"
    );
    assert_eq!(
        cause.remedies[0].command.as_deref(),
        Some("farrun rerun rs_abcdefgh --shm 8g")
    );
}

#[test]
fn the_mirror_is_read_and_what_is_missing_is_named() {
    let folder = Folder::new().json(
        "bundle.json",
        &json!({
            "format": 1, "run_id": "rs_abcdefgh", "host_id": "ho_abcdefghijkl", "host_name": "box", "agent_version": "0.1.0",
            "boot_id": "b", "trigger": "failure", "began_at": "2026-03-01T10:10:01Z", "ended_at": "2026-03-01T10:10:05Z",
            "items": [
                { "file": "kernel.log", "outcome": { "outcome": "missing", "why": "the account may not read it" }, "bytes": 0, "took_ms": 1 },
                { "file": "caches.txt", "outcome": { "outcome": "partial", "why": "it took too long" }, "bytes": 9, "took_ms": 1 },
            ],
        }),
    );
    let mirror = folder.dir.path().join("mirror.log");
    std::fs::write(&mirror, "line\nModuleNotFoundError: No module named 'einops'\n").unwrap();
    let mut facts = Facts::of(&folder.run);
    facts.log = Some(&mirror);
    let diagnosis = read(Some(folder.dir.path()), &facts).unwrap();
    assert_eq!(certain(&diagnosis).evidence[0].offset, Some(5));
    let why = |file: &str| {
        diagnosis
            .missing
            .iter()
            .find(|missing| missing.file == file)
            .unwrap()
    };
    assert_eq!(why("kernel.log").why, "the account may not read it");
    assert!(why("caches.txt").partial && why("gpus.json").why == "it is not there");
    assert_eq!(diagnosis.context.machine.as_deref(), Some("box"));
}
