use super::*;
use crate::notify::{is_due, mark, set, told};
use farrun_protocol::log::LogEnd;
use farrun_protocol::notify::{Hook, HookFile};
use farrun_protocol::record::Settled;
use farrun_protocol::spec::RunSpec;
use farrun_protocol::verdict::{Reason, RunResult, Verdict};
use farrun_protocol::{Generation, Sha256};
use std::time::{Duration, Instant};

fn controller() -> ControllerId {
    "co_mine0000".parse().unwrap()
}

/// Has a script told of every end.
fn hooked(state: &Path, script: &str) {
    let hook = HookFile {
        format: FORMAT,
        host: "gpu1".into(),
        hook: Hook::Command {
            argv: ["sh", "-c", script].map(str::to_owned).into(),
        },
    };
    set(state, &controller(), Some(&hook)).unwrap();
}

fn ended(state: &Path, name: &str) -> RunFolder {
    let folder = RunFolder::new(state, &name.parse().unwrap());
    folder.make().unwrap();
    let spec: RunSpec = serde_json::from_value(serde_json::json!({
        "format": 1, "run_id": name, "controller_id": controller(), "operation": "inference",
        "name": "test", "created_at": "2026-01-02T03:04:05Z", "image": "x", "pull": "never",
        "inputs_target": "/i", "outputs_target": "/o", "network": "none",
    }))
    .unwrap();
    folder.write_spec(&spec).unwrap();
    mark(&folder);
    let verdict = Verdict {
        result: RunResult::Failed,
        reason: Reason::ExitCode,
        exit_code: Some(3),
        signal: None,
        detail: None,
    };
    let log = LogEnd {
        length: 0,
        sha256: Sha256::of(b""),
    };
    let settled = Settled::of(folder.run_id().clone(), verdict, log, Generation::random());
    folder.write_settled(&settled).unwrap();
    folder
}

fn until(what: &str, mut come: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !come() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn look_until_done(deliveries: &mut Deliveries, state: &Path) {
    until("all is told", || {
        deliveries.look();
        !deliveries.is_busy() && !is_due(state)
    });
}

#[test]
fn every_end_is_told_once_by_whoever_comes() {
    let state = tempfile::tempdir().unwrap();
    let log = state.path().join("told");
    hooked(
        state.path(),
        &format!(
            "echo \"$FARRUN_RUN_ID $FARRUN_REASON $FARRUN_HOST\" >> {}",
            log.display()
        ),
    );
    let names: Vec<String> = (0..20).map(|n| format!("rs_aaaaaa{n:02}")).collect();
    let folders: Vec<RunFolder> = names.iter().map(|name| ended(state.path(), name)).collect();
    // Two observers, as while one makes room for another.
    let mut observers = [(); 2].map(|()| Deliveries::new(state.path().to_owned()));
    until("all is told", || {
        observers.iter_mut().for_each(Deliveries::look);
        !is_due(state.path()) && !observers.iter().any(Deliveries::is_busy)
    });
    let mut lines: Vec<String> = std::fs::read_to_string(&log)
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect();
    lines.sort();
    let expected: Vec<String> = names
        .iter()
        .map(|name| format!("{name} exit_code gpu1"))
        .collect();
    assert_eq!(lines, expected);
    assert!(
        folders
            .iter()
            .all(|folder| told(folder).unwrap().outcome == Outcome::Done)
    );
    // A mark that is left again tells nobody anything.
    mark(&folders[0]);
    look_until_done(&mut observers[0], state.path());
    assert_eq!(std::fs::read_to_string(log).unwrap().lines().count(), 20);
}

#[test]
fn a_hook_that_hangs_delays_no_other() {
    let state = tempfile::tempdir().unwrap();
    let log = state.path().join("told");
    hooked(
        state.path(),
        &format!(
            "test $FARRUN_RUN_ID != rs_hangs000 || exec sleep 600; echo >> {}",
            log.display()
        ),
    );
    let hanging = ended(state.path(), "rs_hangs000");
    let mut deliveries = Deliveries::new(state.path().to_owned());
    deliveries.look();
    until("it has begun", || hanging.path().join("notified").exists());
    for name in ["rs_aaaaaaaa", "rs_bbbbbbbb"] {
        ended(state.path(), name);
    }
    let begun = Instant::now();
    until("the others are told", || {
        deliveries.look();
        std::fs::read_to_string(&log).is_ok_and(|told| told.lines().count() == 2)
    });
    assert!(begun.elapsed() < Duration::from_secs(25), "{:?}", begun.elapsed());
    assert_eq!(told(&hanging).unwrap().outcome, Outcome::Begun);
    assert!(deliveries.is_busy());
}

#[test]
fn nobody_who_wants_nothing_is_told() {
    let state = tempfile::tempdir().unwrap();
    let folder = ended(state.path(), "rs_aaaaaaaa");
    assert!(!is_due(state.path()) && told(&folder).is_none());
    hooked(state.path(), "exit 7");
    let folder = ended(state.path(), "rs_bbbbbbbb");
    assert!(is_due(state.path()));
    assert_eq!(told(&folder).unwrap().outcome, Outcome::Begun);
    let mut deliveries = Deliveries::new(state.path().to_owned());
    look_until_done(&mut deliveries, state.path());
    assert_eq!(
        told(&folder).unwrap().outcome,
        Outcome::Failed {
            code: Some(7),
            http_status: None
        }
    );
    // Taken away between the end and the telling, and a run whose folder is gone.
    let folder = ended(state.path(), "rs_cccccccc");
    let gone = ended(state.path(), "rs_dddddddd");
    set(state.path(), &controller(), None).unwrap();
    std::fs::remove_dir_all(gone.path()).unwrap();
    look_until_done(&mut deliveries, state.path());
    assert!(told(&folder).is_none());
}

#[test]
fn a_secret_address_is_for_the_account_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let state = tempfile::tempdir().unwrap();
    let hook = HookFile {
        format: FORMAT,
        host: "gpu1".into(),
        hook: Hook::Webhook {
            url: farrun_protocol::message::Secret::new("https://x/secret"),
        },
    };
    set(state.path(), &controller(), Some(&hook)).unwrap();
    let path = state.path().join("notify/co_mine0000.json");
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let folder = std::fs::metadata(state.path().join("notify")).unwrap();
    assert_eq!(folder.permissions().mode() & 0o777, 0o700);
    assert_eq!(super::hook(state.path(), &controller()), Some(hook));
}
