//! Hosts, and what they said last.

use crate::support::{Fixture, host, on_both};
use chrono::{Duration, Utc};
use farrun::model::HostReport;
use farrun::store::StoreError;
use farrun_protocol::HostId;

on_both!(hosts_are_kept, what_hosts_said_last_is_kept);

async fn hosts_are_kept(fixture: Fixture) {
    let store = fixture.open().await;
    let mut first = host("gpu1");
    store.add_host(&first).await.unwrap();
    store.add_host(&host("a-gpu")).await.unwrap();
    let again = store.add_host(&first).await;
    assert!(matches!(again, Err(StoreError::HostExists { name }) if name == "gpu1"));
    assert_eq!(store.host("gpu1").await.unwrap(), Some(first.clone()));

    first.host_id = Some(HostId::random());
    first.last_seen = Some(Utc::now());
    let seen = first.clone();
    let (changed, answer) = store
        .change_host("gpu1", move |host| {
            *host = seen;
            7
        })
        .await
        .unwrap();
    assert_eq!((&changed, answer), (&first, 7));
    let names: Vec<String> = store
        .hosts()
        .await
        .unwrap()
        .into_iter()
        .map(|host| host.name)
        .collect();
    assert_eq!(names, ["a-gpu", "gpu1"]);
    let unknown = store.change_host("none", |_| ()).await;
    assert!(matches!(unknown, Err(StoreError::HostUnknown { .. })));
    assert!(store.remove_host("gpu1").await.unwrap());
    assert!(!store.remove_host("gpu1").await.unwrap());

    let id = store.controller_id().clone();
    store.close().await.unwrap();
    let store = fixture.open_as("desktop").await;
    assert_eq!(
        store.controller_id(),
        &id,
        "the controller belongs to the database"
    );
    assert_eq!(store.host("gpu1").await.unwrap(), None);
    store.close().await.unwrap();
}

async fn what_hosts_said_last_is_kept(fixture: Fixture) {
    let store = fixture.open().await;
    store.add_host(&host("gpu1")).await.unwrap();
    assert_eq!(store.report("gpu1").await.unwrap(), HostReport::default());
    let at = Utc::now();
    let gpus: farrun_protocol::gpu::GpuReport = serde_json::from_value(serde_json::json!({
        "state": "unavailable", "trouble": { "kind": "stuck", "detail": "a\u{0}b" },
        "device": { "device": "cpu", "detected_at": at, "boot_id": "b" },
    }))
    .unwrap();
    let facts: farrun_protocol::message::HostFacts = serde_json::from_value(serde_json::json!({
        "engine": { "Err": { "code": "docker_denied" } }, "disk_free": u64::MAX, "disk_total": 2, "uptime": 3,
        "load": "0", "memory_total": 4, "memory_available": 5, "containers": [], "agents": [],
    }))
    .unwrap();
    let first = HostReport {
        facts: Some((facts.clone(), at)),
        gpus: None,
    };
    store.keep_reports(&[("gpu1", first.clone())]).await.unwrap();
    assert_eq!(store.report("gpu1").await.unwrap(), first);
    // A half that was not said stays.
    let later = at + Duration::seconds(5);
    let second = HostReport {
        facts: None,
        gpus: Some((gpus.clone(), later)),
    };
    let other = HostReport {
        gpus: Some((gpus.clone(), at)),
        ..first.clone()
    };
    store
        .keep_reports(&[("gpu1", second), ("gpu2", other.clone())])
        .await
        .unwrap();
    let both = HostReport {
        facts: Some((facts.clone(), at)),
        gpus: Some((gpus.clone(), later)),
    };
    assert_eq!(store.report("gpu1").await.unwrap(), both);
    assert_eq!(store.report("gpu2").await.unwrap(), other);
    // Nobody reads a report of megabytes, so it takes no room.
    let mut huge = gpus;
    huge.device.boot_id = "x".repeat(2 * 1024 * 1024);
    let huge = HostReport {
        facts: None,
        gpus: Some((huge, later)),
    };
    store.keep_reports(&[("gpu1", huge)]).await.unwrap();
    assert_eq!(store.report("gpu1").await.unwrap(), both);
    assert!(store.remove_host("gpu1").await.unwrap());
    assert_eq!(store.report("gpu1").await.unwrap(), HostReport::default());
    store.close().await.unwrap();
}
