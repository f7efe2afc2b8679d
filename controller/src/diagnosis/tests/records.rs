//! What is quoted for ends that say themselves why: what the host wrote down, never our own words.

use super::{CONTAINER, Folder, certain, settled};
use farrun_protocol::verdict::Reason;
use serde_json::{Value, json};

/// A run that ended for this reason, as its host recorded it.
fn ended(reason: &str, record: &Value) -> Folder {
    let mut folder = Folder::new();
    folder.run.reason = Reason::from_code(reason);
    folder.run.exit_code = None;
    folder.run.error_message = Some(farrun_protocol::explain::without_record(
        folder.run.reason.unwrap(),
        None,
        &folder.run.spec,
    ));
    let mut whole = settled(&json!({ "result": "failed", "reason": reason }), None);
    whole
        .as_object_mut()
        .unwrap()
        .extend(record.as_object().unwrap().clone());
    folder.json("settled.json", &whole)
}

fn exit(fields: &Value) -> Value {
    let mut exit = json!({
        "format": 1, "ended_at": "2026-03-01T10:10:00Z", "written": 0, "dropped": 0, "tail": 0,
        "log": { "length": 0, "sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" },
    });
    exit.as_object_mut()
        .unwrap()
        .extend(fields.as_object().unwrap().clone());
    json!({ "exit": exit })
}

fn quotes(folder: &Folder) -> Vec<String> {
    let diagnosis = folder.read();
    let quotes = certain(&diagnosis).evidence.iter();
    quotes
        .map(|quote| format!("{}: {}", quote.file, quote.text))
        .collect()
}

const TIMES: &str = "started_at: 2026-03-01T10:00:00.000Z, ended_at: 2026-03-01T10:10:00.000Z";

#[test]
fn a_time_limit_is_proven_by_the_record() {
    let mut folder = ended("time_limit", &exit(&json!({ "signal": 15, "timed_out": true })));
    folder.run.spec.time_limit = Some(600);
    folder.run.signal = Some(15);
    assert_eq!(
        quotes(&folder),
        [
            "spec.json: time_limit: 600 s".to_owned(),
            format!("settled.json: {TIMES}, signal: 15 (SIGTERM), timed_out: true"),
        ]
    );
}

#[test]
fn an_engine_that_went_down_is_proven_by_its_events_and_its_start() {
    let events = "{\"Action\":\"kill\",\"Actor\":{\"Attributes\":{\"signal\":\"15\"}},\"timeNano\":1772359799900000000}\n";
    let restarted = ended(
        "engine_restart",
        &json!({ "engine_started_at": "2026-03-01T10:10:07Z" }),
    );
    assert_eq!(
        quotes(&restarted.with("events.jsonl", events)),
        [
            "events.jsonl: 2026-03-01T10:09:59.900Z kill: the container was sent a signal (signal 15)"
                .to_owned(),
            format!("settled.json: {TIMES}, engine_started_at: 2026-03-01T10:10:07.000Z"),
        ]
    );
    let down = ended(
        "engine_restart",
        &json!({ "engine_error": "unix:///run/docker.sock: gone" }),
    );
    assert_eq!(
        quotes(&down),
        [format!(
            "settled.json: {TIMES}, engine_error: unix:///run/docker.sock: gone"
        )]
    );
    let rebooted = ended("host_reboot", &json!({ "booted_at": "2026-03-01T10:11:00Z" }));
    assert_eq!(
        quotes(&rebooted),
        [format!(
            "settled.json: {TIMES}, booted_at: 2026-03-01T10:11:00.000Z"
        )]
    );
}

#[test]
fn a_container_that_was_removed_is_proven_by_the_engine() {
    let destroyed = "{\"Action\":\"destroy\",\"timeNano\":1772359799900000000}\n";
    let removed = || ended("container_removed", &json!({}));
    assert_eq!(
        quotes(&removed().with("events.jsonl", destroyed)),
        ["events.jsonl: 2026-03-01T10:09:59.900Z destroy: the container was removed"]
    );
    // After a restart of the engine there are no events any more.
    let bundle = json!({
        "format": 1, "run_id": "rs_abcdefgh", "host_id": "ho_abcdefghijkl", "host_name": "box", "agent_version": "0.1.0",
        "boot_id": "b", "trigger": "failure", "began_at": "2026-03-01T10:10:01Z", "ended_at": "2026-03-01T10:10:05Z",
        "items": [{ "file": "container.json", "outcome": { "outcome": "missing", "why": "the engine has no such container" },
                    "bytes": 0, "took_ms": 1 }],
    });
    assert_eq!(
        quotes(&removed().json("bundle.json", &bundle)),
        ["container.json: the engine has no such container"]
    );
}

#[test]
fn a_stop_is_proven_by_who_asked_for_it() {
    let mut folder = ended("stopped", &json!({})).with(
        "agent.jsonl",
        "{\"at\":\"2026-03-01T10:09:58Z\",\"event\":\"stop_requested\"}\n",
    );
    folder.run.status = "cancelled".parse().unwrap();
    assert_eq!(
        quotes(&folder),
        [
            "agent.jsonl: 2026-03-01T10:09:58.000Z stop_requested".to_owned(),
            format!("settled.json: {TIMES}"),
        ]
    );
}

#[test]
fn a_program_that_is_missing_is_told_in_the_words_of_the_kernel() {
    let record = exit(&json!({ "exec_error": { "kind": "not_found", "program": "trian.py" } }));
    let mut folder = ended("command_not_found", &record);
    let mut whole = settled(
        &json!({ "result": "failed", "reason": "command_not_found", "exit_code": 127, "detail": "trian.py" }),
        None,
    );
    whole["exit"] = record["exit"].clone();
    folder = folder.json("settled.json", &whole);
    assert_eq!(
        quotes(&folder),
        ["settled.json: exec trian.py: No such file or directory"]
    );
    let diagnosis = folder.read();
    assert_eq!(
        certain(&diagnosis).sentence,
        "the image has no program `trian.py`"
    );
    assert_eq!(diagnosis.ending, "exit code 127");
}

#[test]
fn our_own_words_are_no_evidence() {
    let refused = |reason: &str, message: &str| {
        let mut folder = Folder::new();
        folder.run.reason = Reason::from_code(reason);
        folder.run.error_message = Some(message.to_owned());
        (
            folder.run.exit_code,
            folder.run.launched_at,
            folder.run.started_at,
        ) = (None, None, None);
        folder
    };
    let folder = refused(
        "not_launched",
        "the order did not reach the host: connection reset",
    );
    assert_eq!(quotes(&folder), ["the host's answer: connection reset"]);
    let folder = refused("not_launched", "the order did not reach the host");
    assert_eq!(quotes(&folder), Vec::<String>::new());
    // A refusal in words of its own is the host's.
    let said = "a folder to mount does not exist on the host: /data";
    assert_eq!(
        quotes(&refused("engine_refused", said)),
        [format!("the host's answer: {said}")]
    );
}

#[test]
fn a_kill_for_memory_is_quoted_from_the_line_that_people_can_read() {
    let oom = format!(
        "2026-03-01T10:09:59Z kernel: oom-kill:constraint=CONSTRAINT_MEMCG,cpuset={CONTAINER},\
         task_memcg=/docker/{CONTAINER},task=tail,pid=42,uid=0\n"
    );
    let readable =
        "2026-03-01T10:09:59Z kernel: Memory cgroup out of memory: Killed process 42 (tail) anon-rss:48384kB";
    let other = readable.replace("42", "77");
    let mut folder = ended("out_of_memory", &exit(&json!({ "signal": 9, "oom_kills": 1 })))
        .with("kernel.log", format!("{other}\n{oom}{readable}\n"));
    folder.run.signal = Some(9);
    assert_eq!(
        quotes(&folder),
        [
            format!("kernel.log: {readable}"),
            "settled.json: oom_kills: 1".to_owned()
        ]
    );
    let folder = folder.with("kernel.log", &oom);
    assert!(quotes(&folder)[0].contains("oom-kill:"));
}
