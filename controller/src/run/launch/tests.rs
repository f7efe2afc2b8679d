use super::*;
use crate::config::Config;
use crate::controller::Silent;
use crate::ssh::NobodyToAsk;
use tokio_util::sync::CancellationToken;

#[tokio::test]
async fn an_order_that_another_machine_may_be_working_on_is_left_to_it() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().display().to_string();
    let config = Config::load(None, &|name| (name == "HOME").then(|| folder.clone())).unwrap();
    let (ask, observer) = (Arc::new(NobodyToAsk), Arc::new(Silent));
    let opened = Controller::open(config, CancellationToken::new(), ask, observer);
    let controller = opened.await.unwrap();
    let spec = serde_json::from_value(serde_json::json!({
        "format": 1, "run_id": "rs_abcdefgh", "controller_id": "co_abcdefgh", "operation": "run", "name": "x",
        "created_at": "2026-01-02T03:04:05Z", "image": "demo:1", "inputs_target": "/i", "outputs_target": "/o",
    }))
    .unwrap();
    let paths = order::LocalPaths::of(&controller.config, &spec);
    for (owner, left) in [
        ("7 another-boot 8 on:0123456789abcdef", true),
        // The host knows what became of these: whoever looks, takes them up.
        ("7 another-boot 8 on:0123456789abcdef asked", false),
        // A process of this machine that is no more, and one of an earlier version.
        (
            &Owner::this()
                .to_string()
                .replacen(&std::process::id().to_string(), "4194305", 1),
            false,
        ),
        ("7 another-boot 8", false),
    ] {
        let id = RunId::random();
        let run = Run {
            id: id.clone(),
            owner: Some(owner.to_owned()),
            ..order::blank(
                "gpu1",
                farrun_protocol::spec::RunSpec {
                    run_id: id.clone(),
                    ..spec.clone()
                },
                &paths,
            )
        };
        controller.store.create_run(&run).await.unwrap();
        let taken = take(&controller, &id).await;
        let kept = controller.store.run(&id).await.unwrap().unwrap().owner;
        assert_eq!(
            matches!(taken, Err(RunError::OrderedElsewhere(_))),
            left,
            "{owner}: {taken:?}"
        );
        assert_eq!(kept.as_deref() == Some(owner), left, "{owner}: {kept:?}");
    }
}
