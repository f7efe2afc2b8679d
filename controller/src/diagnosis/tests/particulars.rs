//! What is told fits this run and no other: names, the lines around the cause, commands that help.

use super::{Folder, certain, settled};
use farrun_protocol::spec::PullPolicy;
use serde_json::json;

#[test]
fn a_program_that_is_missing_is_named_by_the_verdict() {
    let folder = Folder::new().said("command_not_found", "pyhton").read();
    assert_eq!(certain(&folder).sentence, "the image has no program `pyhton`");
    let words = Folder::new()
        .said("command_not_found", "words of another engine")
        .read();
    assert_eq!(certain(&words).sentence, "the image has no program");
}

#[test]
fn an_image_that_may_not_be_fetched_was_not_looked_for_elsewhere() {
    let mut folder = Folder::new().said("image_missing", "demo:1");
    let commands = |folder: &Folder| -> Vec<String> {
        let diagnosis = folder.read();
        let remedies = certain(&diagnosis).remedies.iter();
        remedies.filter_map(|remedy| remedy.command.clone()).collect()
    };
    assert!(
        certain(&folder.read())
            .sentence
            .contains("its registry has no such name")
    );
    assert_eq!(commands(&folder), ["farrun rerun rs_abcdefgh"]);
    folder.run.spec.pull = PullPolicy::Never;
    let told = certain(&folder.read()).sentence.clone();
    assert!(
        told.ends_with("not on `gpu1`, and the order forbids to fetch it"),
        "{told}"
    );
    assert_eq!(
        commands(&folder)[0],
        "farrun rerun rs_abcdefgh --pull-image missing"
    );
}

#[test]
fn an_exception_is_shown_with_its_traceback() {
    let log =
        "start\nTraceback (most recent call last):\n  File \"x.py\", line 1, in <module>\nValueError: no\n";
    let verdict = json!({ "result": "failed", "reason": "exit_code", "exit_code": 3 });
    let diagnosis = Folder::new()
        .log(log)
        .json("settled.json", &settled(&verdict, None))
        .read();
    let cause = diagnosis.cause.unwrap();
    assert_eq!(cause.code, "python_exception");
    assert_eq!(diagnosis.around.len(), 4);
    assert_eq!(diagnosis.around[3].text, "ValueError: no");
    assert!(diagnosis.around[3].cause && !diagnosis.around[2].cause);
}

#[test]
fn bus_errors_of_workers_speak_of_shared_memory_by_themselves() {
    let log = "ERROR: Unexpected bus error encountered in worker. This might be caused by insufficient shared memory (shm).\n";
    assert_eq!(certain(&Folder::new().log(log).read()).code, "shm_full");
}

#[test]
fn old_runs_are_given_back_only_where_that_helps() {
    let disk = |role: &str, path: &str, total: u64, free: u64| json!({ "role": role, "path": path, "total": total, "free": free, "inodes": total, "inodes_free": 9 });
    let gives_back = |disks: serde_json::Value| {
        let folder = Folder::new()
            .log("dd: error writing '/data/x': No space left on device\n")
            .json("disks.json", &disks);
        let diagnosis = folder.read();
        let cause = certain(&diagnosis);
        assert_eq!(cause.code, "disk_full");
        let mut commands = cause
            .remedies
            .iter()
            .filter_map(|remedy| remedy.command.as_deref());
        commands.any(|command| command == "farrun gc gpu1")
    };
    let state = disk("state", "/home/ada/farrun", 500 << 30, 40 << 30);
    assert!(!gives_back(json!([state, disk("mount", "/data", 2 << 20, 0)])));
    assert!(gives_back(json!([disk(
        "state",
        "/home/ada/farrun",
        500 << 30,
        0
    )])));
    // Of a disk that nobody looked at nothing is known.
    assert!(gives_back(json!([state])));
}
