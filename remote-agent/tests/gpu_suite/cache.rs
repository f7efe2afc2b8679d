//! The cache in one process: what is read when, and what is said when it cannot be.

use super::{NvidiaSmi, host, patient};
use crate::support::PATIENCE;
use farrun_agent::gpu::{Gpus, Program};
use farrun_protocol::gpu::{Device, Freshness, GpuReport, Health, Holder, TroubleKind};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

/// Far more than any test takes: what is there will do.
const ANY_AGE: Option<Duration> = Some(Duration::from_secs(25));
const NOW: Option<Duration> = Some(Duration::ZERO);

fn kind(report: &GpuReport) -> Option<TroubleKind> {
    report.trouble.as_ref().map(|trouble| trouble.kind)
}

/// Waits until what is there is too old for one who wants it new.
async fn grow_old() {
    tokio::time::sleep(Duration::from_millis(260)).await;
}

/// Asks for new figures until the answer is as wanted.
async fn until(gpus: &Gpus, what: &str, wanted: impl Fn(&GpuReport) -> bool) -> GpuReport {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let report = gpus.report(NOW, false).await;
        if wanted(&report) {
            return report;
        }
        assert!(Instant::now() < deadline, "{what}: {report:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn what_was_read_serves_all_who_ask_within_its_time() {
    let (state, fake) = (tempfile::tempdir().unwrap(), NvidiaSmi::with_gpus(2));
    fake.processes(&[
        (1, std::process::id(), "cache", 512),
        (1, 4_194_303, "[Not Found]", 9),
    ]);
    let gpus = patient(state.path(), &fake);
    let first = gpus.report(None, false).await;
    assert_eq!(first.state, Freshness::Fresh, "{first:?}");
    assert_eq!((first.gpus.len(), first.gpus[0].health), (2, Health::Healthy));
    assert_eq!(first.driver.as_ref().unwrap().cuda.as_deref(), Some("12.5"));
    assert_eq!((first.device.device, &first.device.broken), (Device::Cuda, &None));
    assert!(matches!(
        first.processes[0].holder,
        Holder::Process { .. } | Holder::Container { .. }
    ));
    assert_eq!(first.processes[1].holder, Holder::Dead);
    let again = gpus.report(ANY_AGE, false).await;
    assert_eq!(
        (again.state, again.sampled_at),
        (Freshness::Cached, first.sampled_at)
    );
    // Another process of the host.
    let other = patient(state.path(), &fake);
    assert_eq!(other.report(ANY_AGE, false).await.sampled_at, first.sampled_at);
    assert_eq!(fake.queries(), 1);
    grow_old().await;
    let newer = other.report(NOW, false).await;
    assert!(newer.sampled_at > first.sampled_at);
    // On a busy machine so much time lies between the two that samples are missing in between.
    assert_eq!(newer.gpus[0].history.iter().flatten().count(), 2, "{newer:?}");
    assert_eq!(
        newer.device.detected_at, first.device.detected_at,
        "kept for an hour"
    );
    let table = |arguments: &str| arguments.is_empty();
    assert_eq!(
        fake.calls().iter().filter(|(_, call)| table(call)).count(),
        1,
        "once per boot"
    );
    grow_old().await;
    let anew = other.report(None, true).await;
    assert!(anew.device.detected_at > first.device.detected_at);
}

#[tokio::test]
async fn unknown_fields_are_remembered_across_processes() {
    let (state, fake) = (tempfile::tempdir().unwrap(), NvidiaSmi::with_gpus(1));
    fake.drop_fields(&["gpu_recovery_action", "compute_cap"]);
    let report = patient(state.path(), &fake).report(None, false).await;
    assert_eq!((report.gpus.len(), fake.queries()), (1, 3));
    grow_old().await;
    patient(state.path(), &fake).report(NOW, false).await;
    assert_eq!(fake.queries(), 4);
}

#[tokio::test]
async fn a_gpu_that_vanishes_is_shown_as_unreadable() {
    let (state, fake) = (tempfile::tempdir().unwrap(), NvidiaSmi::with_gpus(2));
    fake.lose_from(2, 1);
    let gpus = patient(state.path(), &fake);
    assert_eq!(gpus.report(None, false).await.gpus[1].health, Health::Healthy);
    grow_old().await;
    let after = gpus.report(NOW, false).await;
    assert_eq!(
        (after.gpus[0].health, after.gpus[1].health),
        (Health::Healthy, Health::Unreadable)
    );
    assert_eq!(after.gpus[1].history, [Some(0), None]);
}

#[tokio::test]
async fn a_hanging_driver_leaves_old_figures_with_their_age() {
    let (state, fake) = (tempfile::tempdir().unwrap(), NvidiaSmi::with_gpus(1));
    let mut settings = host(state.path(), &fake);
    let first = patient(state.path(), &fake).report(None, false).await;
    fake.hang(true);
    fake.ignore_term(true);
    settings.answer_within = Duration::from_millis(100);
    let gpus = Gpus::new(settings);
    let late = until(&gpus, "it is ended", |report| {
        kind(report) == Some(TroubleKind::Timeout)
    })
    .await;
    assert_eq!(late.sampled_at, first.sampled_at);
    assert_eq!(late.gpus[0].history, [Some(0), None]);
    assert_eq!(fake.alive(), Vec::<u32>::new());
    let tries = fake.queries();
    // The driver is left alone for a while.
    for _ in 0..20 {
        gpus.report(NOW, false).await;
    }
    assert_eq!(fake.queries(), tries);
    fake.hang(false);
    let back = until(&gpus, "it answers again", |report| report.trouble.is_none()).await;
    assert!(back.sampled_at > first.sampled_at);
    assert!(gpus.sample_for_choice(PATIENCE).await.is_ok());
}

#[tokio::test]
async fn a_choice_waits_for_a_slow_driver_and_is_refused_by_a_broken_one() {
    let (state, fake) = (tempfile::tempdir().unwrap(), NvidiaSmi::with_gpus(1));
    fake.take_seconds(0.3);
    let mut settings = host(state.path(), &fake);
    settings.answer_within = Duration::from_millis(50);
    settings.child.run = PATIENCE;
    let gpus = Gpus::new(settings.clone());
    let at_once = gpus.report(None, false).await;
    assert_eq!(at_once.state, Freshness::Unavailable);
    assert_eq!((at_once.device.device, at_once.gpus.len()), (Device::Cuda, 0));
    assert!(
        at_once.device.broken.is_some() && at_once.refreshing_ms.is_some(),
        "{at_once:?}"
    );
    let chosen_by = gpus.sample_for_choice(PATIENCE).await.unwrap();
    assert_eq!(chosen_by.gpus.len(), 1);
    let elsewhere = tempfile::tempdir().unwrap();
    fake.take_seconds(0.0);
    fake.fail(9, "couldn't communicate with the NVIDIA driver");
    settings.state = elsewhere.path().to_owned();
    let broken = Gpus::new(settings);
    let trouble = broken.sample_for_choice(PATIENCE).await.unwrap_err();
    assert_eq!(trouble.kind, TroubleKind::DriverNotLoaded);
    let report = broken.report(ANY_AGE, false).await;
    assert_eq!(report.device.broken.unwrap().kind, TroubleKind::DriverNotLoaded);
}

#[tokio::test]
async fn a_flood_is_ended() {
    let (state, fake) = (tempfile::tempdir().unwrap(), NvidiaSmi::with_gpus(1));
    fake.flood(true);
    let report = patient(state.path(), &fake).report(None, false).await;
    assert_eq!(
        (report.state, kind(&report)),
        (Freshness::Unavailable, Some(TroubleKind::Garbled))
    );
    fake.flood(false);
    fake.print(b"\0\xff\x1b[1m,,,\n0, GPU-aa");
    let elsewhere = tempfile::tempdir().unwrap();
    let report = patient(elsewhere.path(), &fake).report(None, false).await;
    assert_eq!(kind(&report), Some(TroubleKind::Garbled));
}

#[tokio::test]
async fn a_host_without_the_program_has_nothing_wrong() {
    let (state, root) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut settings = host(state.path(), &NvidiaSmi::new());
    settings.program = Program::Absent;
    settings.root = root.path().to_owned();
    settings.answer_within = PATIENCE;
    let report = Gpus::new(settings).report(None, false).await;
    assert_eq!(kind(&report), Some(TroubleKind::NoGpu));
    assert_eq!((report.device.device, report.device.broken), (Device::Cpu, None));
}

#[tokio::test]
async fn a_child_that_cannot_be_ended_is_named_and_none_is_added() {
    let (state, fake) = (tempfile::tempdir().unwrap(), NvidiaSmi::with_gpus(1));
    // Not the leader of a group, so no signal of ours reaches it.
    let mut stuck = std::process::Command::new("sleep").arg("600").spawn().unwrap();
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", stuck.id())).unwrap();
    let start: u64 = stat
        .rsplit_once(')')
        .unwrap()
        .1
        .split_whitespace()
        .nth(19)
        .unwrap()
        .parse()
        .unwrap();
    let record = serde_json::json!({
        "format": 1, "pid": stuck.id(), "start": start, "since": 5,
        "boot_id": std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap().trim(),
    });
    std::fs::create_dir(state.path().join("gpu")).unwrap();
    std::fs::write(state.path().join("gpu/child.json"), record.to_string()).unwrap();
    let mut settings = host(state.path(), &fake);
    settings.child.kill = Duration::ZERO;
    settings.answer_within = PATIENCE;
    let gpus = [Gpus::new(settings.clone()), Gpus::new(settings)];
    for gpus in gpus.iter().cycle().take(10) {
        let trouble = gpus.report(NOW, false).await.trouble.unwrap();
        assert_eq!(
            (trouble.kind, trouble.pid),
            (TroubleKind::Stuck, Some(stuck.id()))
        );
        assert!(trouble.for_ms.unwrap() > 1000);
    }
    assert_eq!(fake.calls(), []);
    stuck.kill().unwrap();
    stuck.wait().unwrap();
    until(&gpus[0], "it is gone", |report| report.trouble.is_none()).await;
}

#[tokio::test]
async fn a_cache_that_cannot_be_written_hides_nothing() {
    let (state, fake) = (tempfile::tempdir().unwrap(), NvidiaSmi::with_gpus(1));
    std::fs::write(state.path().join("gpu"), "in the way").unwrap();
    let gpus = patient(state.path(), &fake);
    let report = gpus.report(None, false).await;
    assert_eq!(
        (report.gpus.len(), kind(&report)),
        (1, Some(TroubleKind::CacheUnwritable))
    );
    assert_eq!(report.device.broken, None);
    gpus.report(ANY_AGE, false).await;
    assert_eq!(fake.queries(), 1);
}

#[tokio::test]
async fn damaged_and_newer_files_are_no_obstacle() {
    let (state, fake) = (tempfile::tempdir().unwrap(), NvidiaSmi::with_gpus(1));
    let folder = state.path().join("gpu");
    let names = ["sample.json", "facts.json", "device.json", "child.json"];
    std::fs::create_dir(&folder).unwrap();
    for text in [
        &b""[..],
        b"{\"format\":1}",
        b"\xff\xfe",
        b"[[[[",
        b"{\"format\":1,\"boot_id\":7}",
    ] {
        for name in names {
            std::fs::write(folder.join(name), text).unwrap();
        }
        let report = patient(state.path(), &fake).report(None, false).await;
        assert_eq!(
            (report.state, report.trouble),
            (Freshness::Fresh, None),
            "{text:?}"
        );
    }
    let newer = br#"{"format":99,"all":"new"}"#;
    for name in names {
        std::fs::write(folder.join(name), newer).unwrap();
    }
    let report = patient(state.path(), &fake).report(None, false).await;
    assert_eq!(
        (report.gpus.len(), kind(&report)),
        (1, Some(TroubleKind::CacheUnwritable))
    );
    for name in &names[..3] {
        assert_eq!(std::fs::read(folder.join(name)).unwrap(), newer, "{name}");
    }
}

#[tokio::test]
async fn the_age_is_not_told_by_a_clock_that_can_be_set() {
    let (state, fake) = (tempfile::tempdir().unwrap(), NvidiaSmi::with_gpus(1));
    patient(state.path(), &fake).report(None, false).await;
    let change = |change: &dyn Fn(&mut serde_json::Value)| {
        let path = state.path().join("gpu/sample.json");
        let mut stored = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        change(&mut stored);
        std::fs::write(&path, stored.to_string()).unwrap();
    };
    change(&|stored| stored["sample"]["at"] = "2099-01-01T00:00:00Z".into());
    let report = patient(state.path(), &fake).report(ANY_AGE, false).await;
    assert_eq!((report.state, fake.queries()), (Freshness::Cached, 1));
    assert!(report.age_ms.unwrap() < 60_000);
    // Another boot, and a moment that has not come.
    change(&|stored| stored["boot_id"] = "another".into());
    let report = patient(state.path(), &fake).report(ANY_AGE, false).await;
    assert_eq!((report.state, fake.queries()), (Freshness::Fresh, 2));
    change(&|stored| stored["attempt"]["ended"] = u64::MAX.into());
    let report = patient(state.path(), &fake).report(ANY_AGE, false).await;
    assert_eq!((report.state, fake.queries()), (Freshness::Fresh, 3));
}

#[tokio::test]
async fn the_program_may_open_few_files_and_sees_no_variables() {
    let (state, fake) = (tempfile::tempdir().unwrap(), NvidiaSmi::with_gpus(1));
    let program = state.path().join("smi");
    let said = state.path().join("said");
    let script = format!(
        "#!/bin/sh\n(ulimit -n; env | grep -c '^HOME=\\|^CARGO'; readlink /proc/self/fd/0) > {}\nexit 9\n",
        said.display()
    );
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut settings = host(state.path(), &fake);
    settings.program = Program::At(program);
    settings.answer_within = PATIENCE;
    settings.child.run = PATIENCE;
    let report = Gpus::new(settings).report(None, false).await;
    assert_eq!(kind(&report), Some(TroubleKind::DriverNotLoaded));
    let said = std::fs::read_to_string(said).unwrap();
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines[0].parse::<u64>().unwrap() <= 1024, "{said}");
    assert_eq!(&lines[1..], ["0", "/dev/null"]);
}

#[tokio::test]
async fn a_program_that_is_not_there_is_told() {
    let (state, fake) = (tempfile::tempdir().unwrap(), NvidiaSmi::new());
    let mut settings = host(state.path(), &fake);
    settings.program = Program::At(Path::new("/nonexistent/nvidia-smi").to_owned());
    settings.answer_within = PATIENCE;
    let report = Gpus::new(settings).report(None, false).await;
    assert_eq!(kind(&report), Some(TroubleKind::ToolMissing));
}
