//! The life of runs, and their list.

use crate::support::{Fixture, on_both, run};
use chrono::{DateTime, Duration, Utc};
use farrun::model::RunStatus;
use farrun::store::{Created, RunFilter, StoreError};
use farrun_protocol::verdict::Reason;
use farrun_protocol::{PromptId, RunId, Sha256};

on_both!(
    a_run_lives_and_ends,
    an_end_that_awaits_its_engine_may_become_another_once,
    runs_are_listed_by_page,
    what_a_run_did_to_gpus_is_kept,
    what_was_found_is_kept
);

async fn a_run_lives_and_ends(fixture: Fixture) {
    let store = fixture.open().await;
    let ordered = run(&store, None);
    assert_eq!(store.create_run(&ordered).await.unwrap(), Created::New);
    assert_eq!(
        store.run(&ordered.id).await.unwrap(),
        Some(ordered.clone()),
        "nothing is lost or rounded"
    );
    let again = store.create_run(&ordered).await;
    assert!(matches!(again, Err(StoreError::RunExists { .. })));

    let (running, ()) = store
        .change_run(&ordered.id, |run| {
            run.status = RunStatus::Running;
            run.started_at = Some(DateTime::from_timestamp_nanos(1_700_000_000_123_456_789));
            run.container_id = Some("c0ffee".to_owned());
        })
        .await
        .unwrap();
    assert!(running.updated_at > ordered.updated_at);
    let back = store
        .change_run(&ordered.id, |run| run.status = RunStatus::Queued)
        .await;
    assert!(matches!(
        back,
        Err(StoreError::IllegalTransition {
            from: RunStatus::Running,
            to: RunStatus::Queued,
            ..
        })
    ));
    assert_eq!(store.run(&ordered.id).await.unwrap(), Some(running.clone()));
    let (same, ()) = store.change_run(&ordered.id, |_| ()).await.unwrap();
    assert_eq!(same, running);

    let (failed, ()) = store
        .change_run(&ordered.id, |run| {
            run.status = RunStatus::Failed;
            run.reason = Some(Reason::ExitCode);
            run.exit_code = Some(3);
            run.error_message = Some("ü\0".repeat(600));
            run.log_length = Some(i64::MAX as u64);
            run.log_sha256 = Some(Sha256::of(b"log"));
        })
        .await
        .unwrap();
    assert_eq!(failed.error_message.as_ref().unwrap().chars().count(), 1000);
    let once = store
        .change_run(&ordered.id, |run| run.status = RunStatus::Completed)
        .await;
    assert!(matches!(once, Err(StoreError::IllegalTransition { .. })));
    assert_eq!(store.unclear_runs(None).await.unwrap(), []);
    store
        .change_run(&ordered.id, |run| run.log_complete = true)
        .await
        .unwrap();
    assert!(store.run(&ordered.id).await.unwrap().unwrap().log_complete);

    store.add_event(&ordered.id, "pulled", "2 files\0").await.unwrap();
    let events = store.events(&ordered.id).await.unwrap();
    let told: Vec<_> = events
        .iter()
        .map(|event| (event.kind.as_str(), event.detail.as_str()))
        .collect();
    assert_eq!(
        told,
        [
            ("status", "pending"),
            ("status", "pending -> running"),
            ("status", "running -> failed (exit_code)"),
            ("pulled", "2 files\u{fffd}"),
        ]
    );
    let unknown = RunId::random();
    let nowhere = store.add_event(&unknown, "pulled", "").await;
    assert!(matches!(nowhere, Err(StoreError::RunUnknown { run }) if run == unknown));
    assert!(matches!(
        store.change_run(&unknown, |_| ()).await,
        Err(StoreError::RunUnknown { .. })
    ));
    store.close().await.unwrap();
}

async fn an_end_that_awaits_its_engine_may_become_another_once(fixture: Fixture) {
    let store = fixture.open().await;
    let mut ordered = run(&store, None);
    ordered.spec.name = "night_run".to_owned();
    let other = run(&store, None);
    for run in [&ordered, &other] {
        store.create_run(run).await.unwrap();
    }
    let named = RunFilter {
        name: Some("night_run".to_owned()),
        ..RunFilter::default()
    };
    let ids = |runs: Vec<farrun::model::Run>| runs.into_iter().map(|run| run.id).collect::<Vec<_>>();
    assert_eq!(ids(store.runs(&named).await.unwrap()), [ordered.id.clone()]);
    for (id, reason) in [(&ordered.id, Reason::EngineSilent), (&other.id, Reason::ExitCode)] {
        store
            .change_run(id, |run| {
                (run.status, run.reason) = (RunStatus::Failed, Some(reason))
            })
            .await
            .unwrap();
    }
    assert_eq!(ids(store.unclear_runs(None).await.unwrap()), [ordered.id.clone()]);
    assert_eq!(store.unclear_runs(Some("elsewhere")).await.unwrap(), []);
    assert_eq!(store.unsettled_runs(None).await.unwrap(), []);
    let succeed = |run: &mut farrun::model::Run| {
        (run.status, run.reason) = (RunStatus::Downloading, Some(Reason::Ok));
    };
    store.change_run(&ordered.id, succeed).await.unwrap();
    assert_eq!(store.unclear_runs(None).await.unwrap(), []);
    let events = store.events(&ordered.id).await.unwrap();
    assert_eq!(events.last().unwrap().detail, "failed -> downloading (ok)");
    let refused = store.change_run(&other.id, succeed).await;
    assert!(matches!(refused, Err(StoreError::IllegalTransition { .. })));
    store.close().await.unwrap();
}

async fn runs_are_listed_by_page(fixture: Fixture) {
    let store = fixture.open().await;
    let made_from = PromptId::random();
    let start = Utc::now();
    let mut ids = Vec::new();
    for number in 0..25 {
        let mut run = run(&store, (number % 5 == 0).then_some(&made_from));
        // Pairs of the same instant: a page must neither repeat nor drop one of them.
        run.created_at = start + Duration::seconds(number / 2);
        run.host = if number < 10 { "gpu1" } else { "gpu2" }.to_owned();
        run.status = if number % 2 == 0 {
            RunStatus::Completed
        } else {
            RunStatus::Queued
        };
        run.operation = if number == 3 { "upscale" } else { "inference" }.to_owned();
        store.create_run(&run).await.unwrap();
        ids.push(run.id);
    }
    let mut filter = RunFilter {
        limit: Some(7),
        ..RunFilter::default()
    };
    let mut seen = Vec::new();
    loop {
        let page = store.runs(&filter).await.unwrap();
        let summaries = store.run_summaries(&filter).await.unwrap();
        assert!(
            page.iter()
                .map(|run| &run.id)
                .eq(summaries.iter().map(|run| &run.id))
        );
        assert!(
            summaries
                .iter()
                .all(|run| run.name == "neon_city" && run.gpus == "all")
        );
        assert!(page.is_sorted_by(|one, next| one.created_at >= next.created_at));
        let Some(last) = page.last() else { break };
        filter.before = Some(last.id.clone());
        seen.extend(page.into_iter().map(|run| run.id));
    }
    assert_eq!(seen.len(), 25);
    seen.sort();
    ids.sort();
    assert_eq!(seen, ids);

    let count = async |filter: RunFilter| store.runs(&filter).await.unwrap().len();
    let all = RunFilter::default;
    assert_eq!(
        count(RunFilter {
            host: Some("gpu1".to_owned()),
            ..all()
        })
        .await,
        10
    );
    assert_eq!(
        count(RunFilter {
            prompt: Some(made_from),
            ..all()
        })
        .await,
        5
    );
    assert_eq!(
        count(RunFilter {
            operation: Some("upscale".to_owned()),
            ..all()
        })
        .await,
        1
    );
    assert_eq!(
        count(RunFilter {
            statuses: vec![RunStatus::Queued, RunStatus::Failed],
            ..all()
        })
        .await,
        12
    );
    assert_eq!(store.unsettled_runs(None).await.unwrap().len(), 12);
    assert_eq!(store.unsettled_runs(Some("gpu1")).await.unwrap().len(), 5);
    let last = store.last_run().await.unwrap().unwrap();
    assert_eq!(last.created_at, start + Duration::seconds(12));
    assert_eq!(
        store.find_runs(last.id.as_str(), 5).await.unwrap(),
        std::slice::from_ref(&last)
    );
    assert_eq!(store.find_runs("rs_", 5).await.unwrap().len(), 5);
    assert_eq!(store.find_runs("rs%", 5).await.unwrap(), []);
    let unknown = RunFilter {
        before: Some(RunId::random()),
        ..all()
    };
    assert!(matches!(
        store.runs(&unknown).await,
        Err(StoreError::RunUnknown { .. })
    ));
    store.close().await.unwrap();
}

async fn what_a_run_did_to_gpus_is_kept(fixture: Fixture) {
    let store = fixture.open().await;
    let order = run(&store, None);
    store.create_run(&order).await.unwrap();
    let lease: farrun_protocol::lease::Lease = serde_json::from_value(serde_json::json!({
        "format": 1, "since": Utc::now(), "gpus": [{ "uuid": "GPU-a", "index": 2, "name": "H100" }],
    }))
    .unwrap();
    let summary = farrun_protocol::series::GpuSummary {
        peak_memory: Some(61_000),
        energy: Some(u64::MAX),
        samples: 12,
        ..Default::default()
    };
    let (changed, ()) = store
        .change_run(&order.id, |run| {
            run.lease = Some(lease.clone());
            run.gpu_summary = Some(summary.clone());
        })
        .await
        .unwrap();
    let read = store.run(&order.id).await.unwrap().unwrap();
    assert_eq!(read, changed);
    assert_eq!((read.lease, read.gpu_summary), (Some(lease), Some(summary)));
    store.close().await.unwrap();
}

async fn what_was_found_is_kept(fixture: Fixture) {
    let (laptop, desktop) = (fixture.open_as("laptop").await, fixture.open_as("desktop").await);
    let order = run(&laptop, None);
    laptop.create_run(&order).await.unwrap();
    let folder = "/outputs/neon_city/diagnostics/rs".to_owned();
    let long = "é\0".repeat(1000);
    let at = Utc::now();
    let (changed, ()) = laptop
        .change_run(&order.id, |run| {
            run.status = RunStatus::Failed;
            run.finding = Some("gpu_memory".to_owned());
            run.finding_text = Some(long);
            run.diagnosed_at = Some(at);
            run.diagnostics_path = Some(folder.clone());
        })
        .await
        .unwrap();
    assert_eq!(changed.finding_text.as_ref().unwrap().chars().count(), 1000);
    assert_eq!(laptop.run(&order.id).await.unwrap().unwrap(), changed);
    let [listed] = &laptop.run_summaries(&RunFilter::default()).await.unwrap()[..] else {
        panic!("one run")
    };
    assert_eq!(
        (&listed.finding, &listed.finding_text),
        (&changed.finding, &changed.finding_text)
    );
    // Every machine knows the cause, and only this one has its evidence.
    let elsewhere = desktop.run(&order.id).await.unwrap().unwrap();
    assert_eq!(elsewhere.finding.as_deref(), Some("gpu_memory"));
    assert_eq!(
        (elsewhere.diagnosed_at, elsewhere.diagnostics_path),
        (Some(at), None)
    );
    desktop
        .change_run(&order.id, |run| run.finding = None)
        .await
        .unwrap();
    let again = laptop.run(&order.id).await.unwrap().unwrap();
    assert_eq!((again.finding, again.diagnostics_path), (None, Some(folder)));
    laptop.close().await.unwrap();
    desktop.close().await.unwrap();
}
