//! Many clients of two accounts want the same GPUs at once. The holders are real `init` processes and some are killed.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on must stop"
)]

use farrun_agent::leases::{
    Allocator, Held, Holder, LockFolder, Refused, Wish, choose, held, look, write_holder,
};
use farrun_protocol::RunId;
use farrun_protocol::gpu::GpuReport;
use farrun_protocol::lease::{LeasedGpu, Placement};
use farrun_protocol::record::EXIT_SIZE;
use farrun_protocol::spec::Gpus;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const GPUS: u32 = 4;
const CLIENTS: usize = 50;
const REQUESTS: usize = 5;
/// For everything together, on a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(300);

fn report() -> GpuReport {
    let gpus: Vec<serde_json::Value> = (0..GPUS)
        .map(|index| {
            let absent = serde_json::json!({"absent": "not_available"});
            serde_json::json!({
                "uuid": format!("GPU-{index}"), "index": index, "name": "Test", "memory_total": 1000,
                "memory_reserved": 0, "memory_used": 0, "memory_free": 1000, "utilization": absent,
                "memory_utilization": absent, "temperature": absent, "fan": absent, "power": absent,
                "power_limit": absent, "ecc_errors": absent, "health": "healthy",
            })
        })
        .collect();
    serde_json::from_value(serde_json::json!({
        "state": "fresh", "age_ms": 0, "gpus": gpus,
        "device": {"device": "cuda", "detected_at": "2026-01-01T00:00:00Z", "boot_id": ""},
    }))
    .unwrap()
}

/// Who has what, as the clients know it: entered once it is held, struck out before it is let go.
#[derive(Debug, Default)]
struct Ledger {
    holders: HashMap<String, (usize, bool)>,
    given: usize,
    refused: usize,
}

impl Ledger {
    fn enter(&mut self, gpus: &[LeasedGpu], shared: bool) {
        self.given += 1;
        for gpu in gpus {
            let (count, all_share) = self.holders.entry(gpu.uuid.clone()).or_insert((0, true));
            *count += 1;
            *all_share &= shared;
            assert!(*count == 1 || *all_share, "{} has two holders", gpu.uuid);
        }
    }

    fn strike(&mut self, gpus: &[LeasedGpu]) {
        for gpu in gpus {
            let (count, _) = self.holders.get_mut(&gpu.uuid).unwrap();
            *count -= 1;
            if *count == 0 {
                self.holders.remove(&gpu.uuid);
            }
        }
    }
}

struct World {
    report: GpuReport,
    locks: LockFolder,
    below: PathBuf,
    ledger: Mutex<Ledger>,
}

fn record(below: &Path, run_id: &RunId) -> PathBuf {
    let path = below.join(run_id.as_str());
    std::fs::create_dir_all(&path).unwrap();
    for name in ["run.log", "run.tail", "started", "generation"] {
        std::fs::write(path.join(name), "").unwrap();
    }
    std::fs::write(path.join("exit.json"), [0; EXIT_SIZE]).unwrap();
    path
}

fn start(world: &World, record: &Path, gpus: &[LeasedGpu], shared: bool) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_farrun-agent"));
    command.args(["init", "--record"]).arg(record);
    for gpu in gpus {
        let name = farrun_agent::leases::file_name(&gpu.uuid).unwrap();
        command
            .arg(if shared { "--shared-lock" } else { "--lock" })
            .arg(world.locks.path().join(name));
    }
    command.args(["--", "sleep", "0.1"]);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// One request: tried until it is served, as somebody who waits does.
async fn request(world: &World, state: &Path, wish: &Wish, kill: bool) {
    let run_id = wish.run_id.clone().unwrap();
    let shared = wish.placement.share;
    let holder = Holder {
        run_id: Some(run_id.clone()),
        user: Some("ada".into()),
        pid: None,
        since: None,
        shared,
    };
    let deadline = Instant::now() + PATIENCE;
    loop {
        assert!(Instant::now() < deadline, "{wish:?} was never served");
        let mutex = Allocator::take(&world.locks, &holder, PATIENCE).await.unwrap();
        let leases = held(&world.report, &world.locks, &[], state).unwrap();
        let given = match choose(&world.report, &leases, &[], wish) {
            Ok(given) => given,
            Err(Refused::NotFree(gpus)) => {
                assert_eq!(gpus.len(), GPUS as usize);
                world.ledger.lock().unwrap().refused += 1;
                drop(mutex);
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            }
            Err(other) => panic!("{other:?}"),
        };
        assert!(matches!(wish.gpus, Gpus::Count(count) if given.len() == count as usize));
        for gpu in &given {
            write_holder(&world.locks, &gpu.uuid, &holder).unwrap();
        }
        let record = record(&world.below, &run_id);
        let mut init = start(world, &record, &given, shared);
        while std::fs::metadata(record.join("started")).unwrap().len() == 0 {
            assert_eq!(
                init.try_wait().unwrap(),
                None,
                "{:?}",
                std::fs::read_to_string(record.join("exit.json"))
            );
            assert!(Instant::now() < deadline);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        for gpu in &given {
            assert_ne!(look(&world.locks, &gpu.uuid).unwrap(), Held::Free);
        }
        world.ledger.lock().unwrap().enter(&given, shared);
        drop(mutex);
        tokio::time::sleep(Duration::from_millis(15)).await;
        world.ledger.lock().unwrap().strike(&given);
        if kill {
            init.kill().unwrap();
        }
        tokio::task::spawn_blocking(move || init.wait().unwrap())
            .await
            .unwrap();
        return;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_gpu_has_two_holders_and_everybody_is_served() {
    let below = tempfile::tempdir().unwrap();
    let world = Arc::new(World {
        report: report(),
        locks: LockFolder::open(Some(&below.path().join("locks"))).unwrap(),
        below: below.path().to_owned(),
        ledger: Mutex::default(),
    });
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let world = Arc::clone(&world);
            tokio::spawn(async move {
                let state = world.below.join(if client % 2 == 0 { "one" } else { "other" });
                for number in 0..REQUESTS {
                    let turn = client * 7 + number * 3;
                    let wish = Wish {
                        run_id: Some(RunId::random()),
                        gpus: Gpus::Count([1, 1, 2, 1, 3][turn % 5]),
                        placement: Placement {
                            share: turn % 4 == 0,
                            ..Placement::default()
                        },
                    };
                    request(&world, &state, &wish, turn % 3 == 0).await;
                }
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
    let ledger = world.ledger.lock().unwrap();
    assert_eq!(ledger.given, CLIENTS * REQUESTS);
    assert!(ledger.holders.is_empty());
    assert!(ledger.refused > 0, "nobody ever met a GPU that was taken");
    for index in 0..GPUS {
        assert_eq!(look(&world.locks, &format!("GPU-{index}")).unwrap(), Held::Free);
    }
}
