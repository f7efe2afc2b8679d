//! Real `serve` processes that share one state folder.

use super::{AGENT, NvidiaSmi};
use crate::support::talk::Talk;
use crate::support::{CONTROLLER, PATIENCE};
use farrun_protocol::frame::{Frame, Kind};
use farrun_protocol::gpu::{Freshness, GpuReport, TroubleKind};
use farrun_protocol::{Reply, Request};
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::process::Command;

async fn talk(state: &Path, fake: &NvidiaSmi) -> Talk {
    talk_as(CONTROLLER, state, &state.join("locks"), fake).await
}

/// A conversation of this controller; other tests take turns of their own.
async fn talk_as(controller: &str, state: &Path, locks: &Path, fake: &NvidiaSmi) -> Talk {
    let mut command = Command::new(AGENT);
    command
        .env("FARRUN_STATE", state)
        .env("FARRUN_LOCKS", locks)
        .envs([fake.variable()]);
    let mut talk = Talk::silent(&mut command).await;
    talk.peer.hello_as(controller, "unix:///nonexistent/engine").await;
    talk
}

fn wish(max_age: u64) -> Request {
    Request::Gpus {
        max_age: Some(max_age),
        detect: false,
    }
}

impl Talk {
    async fn gpus(&mut self, max_age: u64) -> GpuReport {
        match self.peer.ask(wish(max_age)).await.unwrap() {
            Reply::Gpus(report) => *report,
            other => panic!("{other:?}"),
        }
    }

    /// How long a sign of life takes.
    async fn ping(&mut self) -> Duration {
        let begun = Instant::now();
        self.peer.send(Frame::empty(Kind::Ping, 0)).await;
        while self.peer.next().await.unwrap().kind != Kind::Pong {}
        begun.elapsed()
    }

    /// Asks for what is there until the answer is as wanted.
    async fn until(&mut self, what: &str, wanted: impl Fn(&GpuReport) -> bool) -> GpuReport {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let report = self.gpus(20_000).await;
            if wanted(&report) {
                return report;
            }
            assert!(Instant::now() < deadline, "{what}: {report:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_who_ask_at_once_start_one_child() {
    let (state, fake) = (tempfile::tempdir().unwrap(), NvidiaSmi::with_gpus(8));
    fake.take_seconds(0.1);
    let mut talks = Vec::new();
    for _ in 0..10 {
        talks.push(talk(state.path(), &fake).await);
    }
    let mut asked = Vec::new();
    for talk in &mut talks {
        for _ in 0..5 {
            asked.push(talk.peer.post(&wish(20_000)).await);
        }
    }
    let mut answered = 0;
    for (talk, ids) in talks.iter_mut().zip(asked.chunks(5)) {
        let mut missing = ids.to_vec();
        while !missing.is_empty() {
            let frame = talk.peer.next().await.unwrap();
            assert_eq!(frame.kind, Kind::Reply);
            missing.retain(|id| *id != frame.id);
            answered += 1;
        }
    }
    assert_eq!(answered, 50);
    for talk in &mut talks {
        talk.until("all see the figures", |report| report.gpus.len() == 8)
            .await;
    }
    assert_eq!(fake.queries(), 1, "{:?}", fake.calls());
}

/// The usual age up to which figures will do.
const TIME_TO_LIVE: Duration = Duration::from_secs(2);

/// Has all of them ask again and again for some times to live; answers how often in turn.
async fn keep_asking(talks: &mut [Talk], until: Duration) -> usize {
    let usual = Request::Gpus {
        max_age: None,
        detect: false,
    };
    let begun = Instant::now();
    let mut rounds = 0;
    while begun.elapsed() < until {
        let mut asked = Vec::new();
        for talk in talks.iter_mut() {
            asked.push(talk.peer.post(&usual).await);
        }
        for (talk, id) in talks.iter_mut().zip(asked) {
            let frame = talk.peer.next().await.unwrap();
            assert_eq!((frame.kind, frame.id), (Kind::Reply, id));
        }
        rounds += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    rounds
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_controllers_that_keep_asking_start_one_child_per_time_to_live() {
    const CLIENTS: usize = 50;
    let (state, fake) = (tempfile::tempdir().unwrap(), NvidiaSmi::with_gpus(8));
    let locks = state.path().join("locks");
    let mut talks = Vec::new();
    for number in 0..CLIENTS {
        let controller = format!("co_number{number:04}");
        talks.push(talk_as(&controller, state.path(), &locks, &fake).await);
    }
    let begun = Instant::now();
    let rounds = keep_asking(&mut talks, 3 * TIME_TO_LIVE + TIME_TO_LIVE / 2).await;
    for talk in &mut talks {
        let report = talk.gpus(20_000).await;
        assert_eq!(report.gpus.len(), 8, "{report:?}");
    }
    // Age counts from the end of a reading, so there is at most one beginning in each time to live.
    let most = begun.elapsed().as_millis() / TIME_TO_LIVE.as_millis() + 1;
    let queries = fake.queries();
    assert!(
        (2..=most).contains(&(queries as u128)),
        "{queries} of at most {most} in {rounds} rounds: {:?}",
        fake.calls()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_of_several_accounts_start_one_child_per_account_and_time_to_live() {
    const ACCOUNTS: [&str; 3] = ["ada", "bob", "eve"];
    let (below, fake) = (tempfile::tempdir().unwrap(), NvidiaSmi::with_gpus(2));
    let mut talks = Vec::new();
    for number in 0..30 {
        let state = below.path().join(ACCOUNTS[number % ACCOUNTS.len()]);
        let locks = below.path().join("locks");
        talks.push(talk_as(CONTROLLER, &state, &locks, &fake).await);
    }
    let begun = Instant::now();
    let rounds = keep_asking(&mut talks, 2 * TIME_TO_LIVE + TIME_TO_LIVE / 2).await;
    for talk in &mut talks {
        talk.until("all see the figures", |report| report.gpus.len() == 2)
            .await;
    }
    let spans = begun.elapsed().as_millis() / TIME_TO_LIVE.as_millis() + 1;
    let (queries, most) = (fake.queries() as u128, spans * ACCOUNTS.len() as u128);
    assert!(
        (2 * ACCOUNTS.len() as u128..=most).contains(&queries),
        "{queries} of at most {most} in {rounds} rounds: {:?}",
        fake.calls()
    );
}

#[tokio::test]
async fn a_child_of_twenty_seconds_is_not_waited_for() {
    let (state, fake) = (tempfile::tempdir().unwrap(), NvidiaSmi::with_gpus(1));
    let mut talks = [talk(state.path(), &fake).await, talk(state.path(), &fake).await];
    let first = talks[0]
        .until("the first figures", |report| report.gpus.len() == 1)
        .await;
    fake.take_seconds(20.0);
    tokio::time::sleep(Duration::from_millis(260)).await;
    let queries = fake.queries();
    for _ in 0..3 {
        for talk in &mut talks {
            let begun = Instant::now();
            let report = talk.gpus(0).await;
            let took = begun.elapsed();
            assert!(took < Duration::from_secs(1), "{took:?}");
            assert_ne!(report.state, Freshness::Fresh);
            assert_eq!(report.sampled_at, first.sampled_at);
            assert!(report.refreshing_ms.is_some(), "{report:?}");
        }
    }
    assert_eq!(fake.queries(), queries + 1);
    // The conversation whose reading it is ends in the middle.
    let [mut one, mut other] = talks;
    assert_eq!(fake.alive().len(), 1);
    one.process.kill().await.unwrap();
    other.process.kill().await.unwrap();
    let deadline = Instant::now() + PATIENCE;
    while !fake.alive().is_empty() {
        assert!(
            Instant::now() < deadline,
            "nothing is left behind: {:?}",
            fake.alive()
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_child_that_hangs_and_ignores_requests_is_one_and_delays_nobody() {
    let (state, fake) = (tempfile::tempdir().unwrap(), NvidiaSmi::with_gpus(1));
    fake.hang(true);
    fake.ignore_term(true);
    let mut talks = [talk(state.path(), &fake).await, talk(state.path(), &fake).await];
    let deadline = Instant::now() + PATIENCE;
    let mut slowest = Duration::ZERO;
    let trouble = 'ended: loop {
        for talk in &mut talks {
            slowest = slowest.max(talk.ping().await);
            let begun = Instant::now();
            let report = talk.gpus(0).await;
            slowest = slowest.max(begun.elapsed());
            assert!(fake.alive().len() <= 1, "{:?}", fake.alive());
            if let Some(trouble) = report.trouble {
                break 'ended trouble;
            }
        }
        assert!(Instant::now() < deadline, "the child is ended");
    };
    assert_eq!(trouble.kind, TroubleKind::Timeout);
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    assert_eq!(fake.queries(), 1);
    assert_eq!(fake.alive(), Vec::<u32>::new());
}

#[tokio::test]
async fn a_reading_outlasts_the_conversation_that_began_it() {
    let (state, fake) = (tempfile::tempdir().unwrap(), NvidiaSmi::with_gpus(1));
    fake.take_seconds(1.0);
    let mut first = talk(state.path(), &fake).await;
    let report = first.gpus(20_000).await;
    assert_eq!((report.state, report.gpus.len()), (Freshness::Unavailable, 0));
    assert!(report.refreshing_ms.is_some(), "{report:?}");
    drop(first.peer);
    assert!(first.process.wait().await.unwrap().success());
    assert_eq!(fake.alive(), Vec::<u32>::new());
    let mut second = talk(state.path(), &fake).await;
    let report = second.gpus(20_000).await;
    assert_eq!((report.gpus.len(), fake.queries()), (1, 1), "{report:?}");
}
