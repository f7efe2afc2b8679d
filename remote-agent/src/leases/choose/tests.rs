use super::*;
use crate::leases::fixtures::{gpu, held, instance, process, report, run};
use farrun_protocol::gpu::{Health, Holder, Reading};
use proptest::prelude::*;

fn wish(gpus: Gpus) -> Wish {
    Wish {
        run_id: Some(run("rs_mine0000")),
        gpus,
        placement: Placement::default(),
    }
}

fn words(words: &[&str]) -> Gpus {
    Gpus::Devices(words.iter().map(|word| (*word).to_owned()).collect())
}

fn chosen(report: &GpuReport, held: &[HeldLease], wish: &Wish) -> Result<Vec<String>, Refused> {
    let given = choose(report, held, &[], wish)?;
    Ok(given.into_iter().map(|gpu| gpu.uuid).collect())
}

fn obstacles(refused: Result<Vec<String>, Refused>) -> Vec<Vec<Obstacle>> {
    match refused {
        Err(Refused::NotFree(gpus) | Refused::NoSuch { gpus, .. }) => {
            gpus.into_iter().map(|gpu| gpu.obstacles).collect()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_smallest_that_suffices_comes_first_and_a_display_last() {
    let mut gpus = vec![gpu(0, 80_000), gpu(1, 24_000), gpu(2, 24_000), gpu(3, 24_000)];
    gpus[1].display = Some(true);
    let report = report(gpus);
    let one = |wish: &Wish| chosen(&report, &[], wish).unwrap();
    assert_eq!(one(&wish(Gpus::Count(1))), ["GPU-2"]);
    assert_eq!(one(&wish(Gpus::Count(3))), ["GPU-1", "GPU-2", "GPU-3"]);
    let mut large = wish(Gpus::Count(1));
    large.placement.min_free = Some(40_000);
    assert_eq!(one(&large), ["GPU-0"]);
    assert_eq!(one(&wish(Gpus::All)).len(), 4);
    assert_eq!(one(&wish(Gpus::None)), [""; 0]);
}

#[test]
fn a_word_means_the_most_exact_thing_it_can() {
    let mut gpus = vec![gpu(0, 24_000), gpu(1, 24_000), gpu(2, 80_000)];
    gpus[0].name = "NVIDIA GeForce RTX 4090".into();
    gpus[1].name = "NVIDIA GeForce RTX 4090".into();
    gpus[1].uuid = "GPU-deadbeef-1".into();
    gpus[2].name = "NVIDIA H100".into();
    let report = report(gpus);
    for (named, expected) in [
        (&["GPU-0"][..], &["GPU-0"][..]),
        (&["1"], &["GPU-deadbeef-1"]),
        (&["GPU-dead"], &["GPU-deadbeef-1"]),
        (&["DEADBEEF"], &["GPU-deadbeef-1"]),
        (&["h100"], &["GPU-2"]),
        (&["4090"], &["GPU-0"]),
        (&["4090", "0"], &["GPU-0", "GPU-deadbeef-1"]),
        (&["4090", "rtx"], &["GPU-0", "GPU-deadbeef-1"]),
    ] {
        assert_eq!(
            chosen(&report, &[], &wish(words(named))).unwrap(),
            expected,
            "{named:?}"
        );
    }
    for (named, why) in [
        (&["A100"][..], "no GPU is named by `A100`"),
        (&["0", "0"], "too few fit"),
        (&["h100", "h100"], "too few fit"),
        (&["0", "1", "2", "0"], "4 are wanted and 3 are there"),
    ] {
        match chosen(&report, &[], &wish(words(named))) {
            Err(Refused::NoSuch { why: said, gpus }) => assert_eq!((said.as_str(), gpus.len()), (why, 3)),
            other => panic!("{named:?}: {other:?}"),
        }
    }
}

#[test]
fn everything_that_speaks_against_a_gpu_is_told() {
    let mut gpus: Vec<_> = (0..6).map(|index| gpu(index, 24_000)).collect();
    gpus[1].memory_used = Reading::Value(2000);
    gpus[1].memory_reserved = Reading::Value(500);
    gpus[1].memory_free = Reading::Value(20_000);
    gpus[2].health = Health::Lost;
    gpus[2].compute_mode = Some("Prohibited".into());
    let mut report = report(gpus);
    let other = || Holder::Process {
        user: "alice".into(),
        command: "python".into(),
    };
    report.processes = vec![
        process("GPU-3", 4711, other()),
        process(
            "GPU-4",
            1,
            Holder::Run {
                run_id: run("rs_gone0000"),
            },
        ),
        process("GPU-4", 2, Holder::Dead),
    ];
    let mut order = wish(Gpus::All);
    order.placement.min_free = Some(21_000);
    let held = [held("GPU-0", "rs_other000", false)];
    let found = obstacles(chosen(&report, &held, &order));
    let expected = serde_json::json!([
        [{"kind": "leased", "run_id": "rs_other000", "user": "ada", "since": null}],
        [{"kind": "memory_in_use", "used": 1500}, {"kind": "too_small", "free": 20_000, "wanted": 21_000}],
        [{"kind": "unhealthy", "health": "lost"}, {"kind": "prohibited"}],
        [{"kind": "process", "pid": 4711, "user": "alice", "command": "python", "container": null, "memory": 100}],
        [{"kind": "draining", "run_id": "rs_gone0000"}, {"kind": "draining", "run_id": null}],
        [],
    ]);
    assert_eq!(serde_json::to_value(&found).unwrap(), expected);
    assert_eq!(chosen(&report, &held, &wish(Gpus::Count(1))).unwrap(), ["GPU-5"]);
    // A desktop's memory is no obstacle, and neither is what the run itself holds.
    report.gpus[1].memory_used = Reading::Value(1500);
    assert_eq!(chosen(&report, &held, &wish(words(&["1"]))).unwrap(), ["GPU-1"]);
    let mine = [self::held("GPU-0", "rs_mine0000", false)];
    assert_eq!(chosen(&report, &mine, &wish(words(&["0"]))).unwrap(), ["GPU-0"]);
}

#[test]
fn sharing_needs_both_sides() {
    let mut report = report(vec![gpu(0, 24_000)]);
    report.gpus[0].memory_used = Reading::Value(9000);
    report.processes = vec![process(
        "GPU-0",
        1,
        Holder::Run {
            run_id: run("rs_other000"),
        },
    )];
    let mut sharing = wish(Gpus::Count(1));
    sharing.placement.share = true;
    let (shared, alone) = (
        [held("GPU-0", "rs_other000", true)],
        [held("GPU-0", "rs_other000", false)],
    );
    assert_eq!(chosen(&report, &shared, &sharing).unwrap(), ["GPU-0"]);
    assert!(chosen(&report, &alone, &sharing).is_err());
    assert!(chosen(&report, &shared, &wish(Gpus::Count(1))).is_err());
    report.gpus[0].compute_mode = Some("Exclusive_Process".into());
    assert!(chosen(&report, &shared, &sharing).is_err());
}

#[test]
fn of_a_divided_gpu_one_instance_is_given() {
    let mut divided = gpu(0, 80_000);
    divided.mig = true;
    divided.mig_devices = vec![instance("MIG-a", 10_000), instance("MIG-b", 20_000)];
    let report = report(vec![divided, gpu(1, 80_000)]);
    assert_eq!(chosen(&report, &[], &wish(Gpus::Count(1))).unwrap(), ["MIG-a"]);
    assert_eq!(chosen(&report, &[], &wish(words(&["2g"]))).unwrap(), ["MIG-b"]);
    let held = [held("MIG-a", "rs_other000", false)];
    assert_eq!(chosen(&report, &held, &wish(Gpus::Count(1))).unwrap(), ["MIG-b"]);
    for several in [Gpus::Count(2), Gpus::All, words(&["MIG-a", "MIG-b"])] {
        match chosen(&report, &[], &wish(several)) {
            Err(Refused::NoSuch { why, .. }) => assert!(why.contains("one instance"), "{why}"),
            other => panic!("{other:?}"),
        }
    }
    let found = obstacles(chosen(&report, &[], &wish(words(&["0"]))));
    assert_eq!(found[0], [Obstacle::Divided]);
    assert_eq!(found[3], [Obstacle::NotNamed]);
}

#[test]
fn free_gpus_are_counted_one_at_a_time() {
    let mut divided = gpu(0, 80_000);
    divided.mig = true;
    divided.mig_devices = vec![instance("MIG-a", 10_000), instance("MIG-b", 20_000)];
    let report = report(vec![divided, gpu(1, 80_000), gpu(2, 24_000)]);
    let busy = [
        held("MIG-a", "rs_other000", false),
        held("GPU-1", "rs_other000", false),
    ];
    let free = |wish: &Wish| count_free(&report, &busy, &[], wish);
    assert_eq!(free(&wish(Gpus::Count(2))), (2, 4));
    assert_eq!(free(&wish(words(&["MIG-b", "1"]))), (1, 4));
    let mut large = wish(Gpus::Count(1));
    large.placement.min_free = Some(21_000);
    assert_eq!(free(&large), (1, 4));
}

#[test]
fn what_this_host_can_never_do_is_told_apart() {
    let report = report(vec![gpu(0, 24_000), gpu(1, 24_000)]);
    let busy = [
        held("GPU-0", "rs_other000", false),
        held("GPU-1", "rs_other000", false),
    ];
    let mut large = wish(Gpus::Count(1));
    large.placement.min_free = Some(30_000);
    for never in [&wish(Gpus::Count(3)), &large] {
        assert!(matches!(
            chosen(&report, &busy, never),
            Err(Refused::NoSuch { .. })
        ));
    }
    assert!(matches!(
        chosen(&report, &busy, &wish(Gpus::Count(2))),
        Err(Refused::NotFree(_))
    ));
}

#[test]
fn without_figures_that_can_be_trusted_nothing_is_given() {
    let mut old = report(vec![gpu(0, 24_000)]);
    old.age_ms = Some(30_001);
    assert_eq!(
        chosen(&old, &[], &wish(Gpus::Count(1))),
        Err(Refused::Stale { age_ms: Some(30_001) })
    );
    let mut broken = report(vec![]);
    let trouble = GpuTrouble {
        kind: TroubleKind::DriverMismatch,
        detail: Some("Driver/library version mismatch".into()),
        pid: None,
        for_ms: None,
    };
    broken.trouble = Some(trouble.clone());
    assert_eq!(
        chosen(&broken, &[], &wish(Gpus::All)),
        Err(Refused::NoGpu(trouble.clone()))
    );
    let failure = Failure::from(Refused::NoGpu(trouble));
    assert_eq!(
        (failure.code, failure.detail.as_deref()),
        (
            ErrorCode::NoGpu,
            Some("driver_mismatch: Driver/library version mismatch")
        )
    );
}

#[test]
fn who_is_first_in_line_keeps_what_it_could_use() {
    let mut gpus = vec![gpu(0, 24_000), gpu(1, 24_000), gpu(2, 80_000)];
    gpus[2].name = "NVIDIA H100".into();
    let report = report(gpus);
    let mut two = wish(words(&["NVIDIA Test", "NVIDIA Test"]));
    two.run_id = Some(run("rs_first000"));
    let kept = usable(&report, &two);
    assert_eq!(kept, ["GPU-0", "GPU-1"]);
    let reserved: Vec<Reserved> = kept
        .into_iter()
        .map(|uuid| Reserved {
            uuid,
            run_id: two.run_id.clone(),
        })
        .collect();
    // It passes with what the first cannot use, and not with what it waits for.
    let given = choose(&report, &[], &reserved, &wish(Gpus::Count(1))).unwrap();
    assert_eq!(given[0].uuid, "GPU-2");
    assert!(choose(&report, &[], &reserved, &wish(words(&["0"]))).is_err());
    assert_eq!(usable(&report, &wish(Gpus::Count(4))), [""; 0]);
}

proptest! {
    /// Whatever the host looks like: all or nothing, nothing twice, nothing that anything speaks against.
    #[test]
    fn what_is_given_is_what_was_wanted_and_free(
        memory in proptest::collection::vec((1u64..4, 0u64..3, any::<bool>(), 0u8..4), 1..8),
        count in 1u32..5,
        min_free in proptest::option::of(1u64..40_000),
        share in any::<bool>(),
    ) {
        let mut gpus = Vec::new();
        let mut leases = Vec::new();
        for (index, (size, used, healthy, lease)) in memory.iter().enumerate() {
            let mut gpu = gpu(u32::try_from(index).unwrap(), size * 10_000);
            gpu.memory_used = Reading::Value(used * 1000);
            gpu.memory_free = Reading::Value(size * 10_000 - used * 1000);
            if !healthy {
                gpu.health = Health::ResetRequired;
            }
            if *lease > 1 {
                leases.push(held(&gpu.uuid, "rs_other000", *lease == 3));
            }
            gpus.push(gpu);
        }
        let report = report(gpus);
        let wish = Wish {
            placement: Placement { min_free, share, ..Placement::default() },
            ..wish(Gpus::Count(count))
        };
        let free = |gpu: &farrun_protocol::gpu::Gpu| {
            let lease = leases.iter().find(|lease| lease.gpu_uuid == gpu.uuid);
            let joined = share && lease.is_some_and(|lease| lease.shared);
            gpu.health == Health::Healthy
                && (lease.is_none() || joined)
                && (joined || gpu.memory_used.value().unwrap() <= 1024)
                && gpu.memory_free.value().unwrap() >= min_free.unwrap_or(0)
        };
        let there: Vec<&str> = report.gpus.iter().filter(|gpu| free(gpu)).map(|gpu| gpu.uuid.as_str()).collect();
        match chosen(&report, &leases, &wish) {
            Ok(given) => {
                prop_assert_eq!(given.len(), count as usize);
                prop_assert!(given.windows(2).all(|pair| pair[0] < pair[1]));
                prop_assert!(given.iter().all(|uuid| there.contains(&uuid.as_str())));
            }
            Err(_) => prop_assert!(there.len() < count as usize, "{there:?}"),
        }
    }
}
