use super::*;
use crate::config::Config;
use crate::controller::Silent;
use crate::run::order::{Order, Placed, cancel, place};
use crate::ssh::NobodyToAsk;
use crate::store::support::{Fixture, on_both, spec};
use tokio_util::sync::CancellationToken;

/// Rounds of what only a race would show.
const ROUNDS: usize = 25;

/// A machine with a home of its own.
struct Machine {
    controller: Controller,
    _home: tempfile::TempDir,
}

impl Machine {
    async fn new(fixture: &Fixture, name: &str) -> Self {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().display().to_string();
        let config = Config::load(None, &|name| (name == "HOME").then(|| folder.clone())).unwrap();
        let controller = Controller {
            config,
            store: fixture.open_as(name).await,
            interrupt: CancellationToken::new(),
            ask: Arc::new(NobodyToAsk),
            observer: Arc::new(Silent),
        };
        Self {
            controller,
            _home: home,
        }
    }

    fn order(&self, key: Option<&str>) -> Order {
        let id = RunId::random();
        Order {
            host: "gpu1".to_owned(),
            spec: spec(&id, self.controller.store.controller_id()),
            inputs: Vec::new(),
            parent_run: None,
            key: key.map(str::to_owned),
        }
    }

    async fn place(&self, key: Option<&str>) -> Placed {
        place(&self.controller, self.order(key)).await.unwrap()
    }

    async fn placed(&self) -> RunId {
        match self.place(None).await {
            Placed::New(run) => run.id,
            Placed::Existing(run) => panic!("{} was there", run.id),
        }
    }

    async fn row(&self, id: &RunId) -> Run {
        self.controller.store.run(id).await.unwrap().unwrap()
    }
}

async fn machines(fixture: &Fixture) -> (Machine, Machine) {
    (
        Machine::new(fixture, "laptop").await,
        Machine::new(fixture, "desktop").await,
    )
}

on_both!(
    an_order_that_another_machine_may_be_working_on_is_left_to_it,
    two_machines_that_reach_for_an_order_do_not_both_get_it,
    an_order_is_either_asked_for_or_cancelled_elsewhere,
    a_key_that_was_given_up_makes_one_run_of_two_machines,
);

async fn an_order_that_another_machine_may_be_working_on_is_left_to_it(fixture: Fixture) {
    let here = Machine::new(&fixture, "laptop").await;
    let controller = &here.controller;
    let spec = here.order(None).spec;
    let paths = order::LocalPaths::of(&controller.config, &spec);
    for (owner, left) in [
        ("7 another-boot 8 on:0123456789abcdef", true),
        // The host knows what became of these: whoever looks, takes them up.
        ("7 another-boot 8 on:0123456789abcdef asked", false),
        // A process of this machine that is no more, and one of an earlier version.
        (
            &Owner::this("laptop")
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
        let taken = take(controller, &id).await;
        let kept = controller.store.run(&id).await.unwrap().unwrap().owner;
        assert_eq!(
            matches!(taken, Err(RunError::OrderedElsewhere(_))),
            left,
            "{owner}: {taken:?}"
        );
        assert_eq!(kept.as_deref() == Some(owner), left, "{owner}: {kept:?}");
    }
}

async fn two_machines_that_reach_for_an_order_do_not_both_get_it(fixture: Fixture) {
    let (laptop, desktop) = machines(&fixture).await;
    for _ in 0..ROUNDS {
        let id = laptop.placed().await;
        let (ours, theirs) = tokio::join!(take(&laptop.controller, &id), take(&desktop.controller, &id));
        assert!(ours.is_ok(), "{ours:?}");
        assert!(matches!(theirs, Err(RunError::OrderedElsewhere(_))), "{theirs:?}");
        let owner = Owner::this("laptop").to_string();
        assert_eq!(desktop.row(&id).await.owner, Some(owner));
    }
}

async fn an_order_is_either_asked_for_or_cancelled_elsewhere(fixture: Fixture) {
    let (laptop, desktop) = machines(&fixture).await;
    for round in 0..ROUNDS {
        let id = laptop.placed().await;
        let (asking, cancelling) = if round % 2 == 0 {
            tokio::join!(
                announce(&laptop.controller, &id),
                cancel(&desktop.controller, &id)
            )
        } else {
            let (cancelling, asking) = tokio::join!(
                cancel(&desktop.controller, &id),
                announce(&laptop.controller, &id)
            );
            (asking, cancelling)
        };
        let (asked, row) = (asking.unwrap(), laptop.row(&id).await);
        assert_ne!(Owner::has_asked(&row), row.status.is_settled(), "{row:?}");
        // Both were told what it is.
        assert_eq!(asked.status, row.status);
        assert_eq!(cancelling.unwrap().status, row.status);
    }
}

async fn a_key_that_was_given_up_makes_one_run_of_two_machines(fixture: Fixture) {
    let (laptop, desktop) = machines(&fixture).await;
    let mut earlier = None;
    for _ in 0..ROUNDS {
        let (one, other) = tokio::join!(laptop.place(Some("K")), desktop.place(Some("K")));
        let id = match (one, other) {
            (Placed::New(new), Placed::Existing(found)) | (Placed::Existing(found), Placed::New(new)) => {
                assert_eq!(new.id, found.id);
                new.id
            }
            both => panic!("{both:?}"),
        };
        assert_ne!(Some(&id), earlier.as_ref());
        // It lets go of its key, for two orders that come at the same time.
        let cancelled = cancel(&desktop.controller, &id).await.unwrap();
        assert_eq!(cancelled.status, RunStatus::Cancelled);
        earlier = Some(id);
    }
}
