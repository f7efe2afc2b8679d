//! Several processes that change one run, and one that is killed while it does.

use super::{path, sql};
use crate::store::support::{Fixture, run};
use crate::store::{Location, Store};
use farrun_protocol::RunId;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const WRITER_DATABASE: &str = "FARRUN_TEST_WRITER_DATABASE";
const WRITER_RUN: &str = "FARRUN_TEST_WRITER_RUN";
const WRITER_CHANGES: &str = "FARRUN_TEST_WRITER_CHANGES";

/// A process that changes one run and says on stdout how often it was told that it succeeded.
#[tokio::test]
#[ignore = "started by other tests as a process of its own"]
async fn writer() {
    let Ok(database) = std::env::var(WRITER_DATABASE) else {
        return;
    };
    let id: RunId = std::env::var(WRITER_RUN).unwrap().parse().unwrap();
    let changes: u32 = std::env::var(WRITER_CHANGES).unwrap().parse().unwrap();
    let store = Store::open(&Location::parse(&database).unwrap(), "laptop")
        .await
        .unwrap();
    for _ in 0..changes {
        let (run, ()) = store
            .change_run(&id, |run| run.exit_code = Some(run.exit_code.unwrap_or(0) + 1))
            .await
            .unwrap();
        println!("acknowledged {}", run.exit_code.unwrap());
    }
    store.close().await.unwrap();
}

fn start_writer(database: &str, id: &RunId, changes: u32) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "store::tests::processes::writer",
            "--include-ignored",
            "--nocapture",
        ])
        .env(WRITER_DATABASE, database)
        .env(WRITER_RUN, id.as_str())
        .env(WRITER_CHANGES, changes.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

#[tokio::test]
async fn processes_lose_none_of_their_changes() {
    for fixture in [Fixture::sqlite(), Fixture::postgres()] {
        let store = fixture.open().await;
        let ordered = run(&store, None);
        store.create_run(&ordered).await.unwrap();
        let database = match &fixture {
            Fixture::Sqlite(_) => path(&fixture).to_str().unwrap().to_owned(),
            Fixture::Postgres(cluster) => cluster.url(),
        };
        let writers: Vec<Child> = (0..8).map(|_| start_writer(&database, &ordered.id, 50)).collect();
        for writer in writers {
            let output = writer.wait_with_output().unwrap();
            assert!(
                output.status.success(),
                "{}",
                String::from_utf8_lossy(&output.stdout)
            );
        }
        assert_eq!(
            store.run(&ordered.id).await.unwrap().unwrap().exit_code,
            Some(400)
        );
        store.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_kill_loses_no_acknowledged_change() {
    let fixture = Fixture::sqlite();
    let path = path(&fixture);
    let store = fixture.open().await;
    let ordered = run(&store, None);
    store.create_run(&ordered).await.unwrap();
    store.close().await.unwrap();
    let mut last = 0;
    for round in 1..=6 {
        let mut writer = start_writer(path.to_str().unwrap(), &ordered.id, 100_000);
        let mut lines = BufReader::new(writer.stdout.take().unwrap()).lines();
        // Killed at another point of its work in every round.
        let deadline = Instant::now() + Duration::from_secs(30);
        let target = last + 7 * round;
        while last < target {
            assert!(Instant::now() < deadline, "the writer makes no progress");
            let line = lines.next().unwrap().unwrap();
            last = acknowledged(&line).unwrap_or(last);
        }
        writer.kill().unwrap();
        writer.wait().unwrap();
        last = lines
            .filter_map(|line| acknowledged(&line.ok()?))
            .last()
            .unwrap_or(last);
        let store = fixture.open().await;
        let kept = store.run(&ordered.id).await.unwrap().unwrap().exit_code.unwrap();
        assert!(
            kept == last || kept == last + 1,
            "{last} was acknowledged, {kept} was kept"
        );
        last = kept;
        store.close().await.unwrap();
        assert_eq!(sql(&path, "PRAGMA integrity_check").await, ["ok"]);
    }
}

fn acknowledged(line: &str) -> Option<i32> {
    line.split_once("acknowledged ")?.1.trim().parse().ok()
}
