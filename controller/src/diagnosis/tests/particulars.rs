//! What is told fits this run and no other: names, the lines around the cause, commands that help.

use super::{Folder, certain, codes, settled};
use crate::diagnosis::{Certainty, Diagnosis, Facts, read};
use farrun_protocol::spec::{Gpus, Mount, PullPolicy};
use farrun_protocol::verdict::Reason;
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

/// An order that its host refused, as its row has it.
fn refused(reason: Reason, message: &str) -> Diagnosis {
    let mut run = super::run();
    (run.reason, run.error_message) = (Some(reason), Some(message.to_owned()));
    (run.exit_code, run.launched_at, run.started_at) = (None, None, None);
    run.spec.mounts.push(mount("/srv/nothere", "/data"));
    read(None, &Facts::of(&run)).unwrap()
}

fn mount(source: &str, target: &str) -> Mount {
    Mount {
        source: source.to_owned(),
        target: target.to_owned(),
        read_only: false,
        create: false,
    }
}

#[test]
fn an_order_that_was_refused_says_what_was_missing() {
    for (reason, message, code, told) in [
        (
            Reason::GpuRefused,
            "the host has no such GPUs: 7 are wanted and 4 are there",
            "gpu_no_such",
            "`gpu1` has no such GPUs: 7 are wanted and 4 are there",
        ),
        (
            Reason::EngineRefused,
            "a folder to mount does not exist on the host: /srv/nothere",
            "mount_missing",
            "the folder /srv/nothere, to be mounted at /data, is not on `gpu1`",
        ),
        (
            Reason::NotLaunched,
            "no container engine answers on the host: unix:///run/docker.sock: Connection refused (os error 111)",
            "engine_unreachable",
            "no container engine answered on `gpu1` at unix:///run/docker.sock, so the job was not started",
        ),
        (
            Reason::NotLaunched,
            "the account may not use Docker on the host: unix:///run/docker.sock: Permission denied (os error 13)",
            "engine_denied",
            "the account may not use Docker on `gpu1`, so the job was not started",
        ),
    ] {
        let diagnosis = refused(reason, message);
        assert_eq!(codes(&diagnosis), [code]);
        assert_eq!(certain(&diagnosis).sentence, told);
        let ending = match reason {
            Reason::GpuRefused => "the host had no GPU for it",
            _ => "the order was not carried out",
        };
        assert_eq!(diagnosis.ending, ending);
    }
    let gone = refused(
        Reason::NotLaunched,
        "the order did not reach the host: input `a.png` is gone",
    );
    assert_eq!(codes(&gone), ["not_launched"]);
    assert_eq!(gone.ending, "the order did not reach the host");
}

#[test]
fn a_path_that_was_refused_is_named_in_full() {
    for (said, path) in [
        ("sh: can't create /data/o: Permission denied", "/data/o"),
        ("sh: 1: cannot create /data/o: Permission denied", "/data/o"),
        (
            "mkdir: can't create directory '/data/o/p': Permission denied",
            "/data/o/p",
        ),
        (
            "mkdir: cannot create directory ‘/data/o/p’: Permission denied",
            "/data/o/p",
        ),
        (
            "cp: cannot create regular file '/data/a b': Permission denied",
            "/data/a b",
        ),
        ("touch: cannot touch '/data/x': Permission denied", "/data/x"),
        ("rm: cannot remove '/data/x': Permission denied", "/data/x"),
        ("rm: can't remove 'x': Permission denied", "x"),
        (
            "head: cannot open '/data/x' for reading: Permission denied",
            "/data/x",
        ),
        (
            "cat: can't open '/data/data.txt': Permission denied",
            "/data/data.txt",
        ),
        ("cat: /data/data.txt: Permission denied", "/data/data.txt"),
        ("bash: /data/run.sh: Permission denied", "/data/run.sh"),
        ("bash: line 1: /data/x: Permission denied", "/data/x"),
        ("/bin/sh: 1: ./run.sh: Permission denied", "./run.sh"),
    ] {
        let diagnosis = Folder::new().log(format!("step 1\n{said}\n")).read();
        assert_eq!(codes(&diagnosis), ["permission_denied"], "{said}");
        let cause = diagnosis.cause.unwrap();
        assert_eq!(cause.certainty, Certainty::Likely, "{said}");
        assert_eq!(cause.sentence, format!("the job's user has no right to {path}"));
    }
}

#[test]
fn whose_right_and_which_folder_of_the_host_are_told() {
    let mut folder = Folder::new().log("cat: can't open '/data/sub/x': Permission denied\n");
    folder.run.spec.user = Some("65534".to_owned());
    folder.run.spec.mounts = vec![mount("/srv/d", "/d"), mount("/srv/shared", "/data")];
    assert_eq!(
        folder.read().cause.unwrap().sentence,
        "the job's user (65534) has no right to /data/sub/x, which is /srv/shared/sub/x on `gpu1`"
    );
    let nameless = Folder::new().log("PermissionError: [Errno 13] Permission denied\n");
    assert_eq!(
        certain(&nameless.read()).sentence,
        "the job's user has no right to what it wanted to open"
    );
}

#[test]
fn a_refusal_that_was_survived_hides_no_exception() {
    let log = "cat: /etc/shadow: Permission denied\nTraceback (most recent call last):\n  \
               File \"x.py\", line 1, in <module>\nValueError: no\n";
    let diagnosis = Folder::new().log(log).read();
    assert_eq!(codes(&diagnosis), ["python_exception", "permission_denied"]);
    assert_eq!(diagnosis.also[0].certainty, Certainty::Seen);
}

#[test]
fn a_disk_that_the_run_filled_itself_is_emptied_of_what_it_wrote() {
    let log = "OSError: [Errno 28] No space left on device: '/farrun/outputs/video.raw'\n";
    let disk = |free: u64| json!([{ "role": "state", "path": "/srv/farrun", "total": 40 << 20, "free": free, "inodes": 1000, "inodes_free": 9 }]);
    let full = Folder::new().log(log).json("disks.json", &disk(0)).read();
    let cause = certain(&full);
    let commands: Vec<&str> = cause
        .remedies
        .iter()
        .filter_map(|remedy| remedy.command.as_deref())
        .collect();
    assert_eq!(
        commands,
        [
            "farrun pull rs_abcdefgh",
            "farrun gc rs_abcdefgh",
            "farrun gc gpu1",
            "farrun rerun rs_abcdefgh"
        ]
    );
    let told: String = cause.remedies.iter().map(|remedy| remedy.text.as_str()).collect();
    assert!(told.contains("farrun host set gpu1 --state PATH"), "{told}");
    assert!(!told.contains("docker system df"), "{told}");
}

#[test]
fn a_disk_that_has_room_again_is_not_said_to_be_full_now() {
    let log = "IOError: [Errno 28] No space left on device: '/farrun/outputs/x'\n";
    let disks = json!([{ "role": "state", "path": "/srv/farrun", "total": 252u64 << 30, "free": 50u64 << 30, "inodes": 1000, "inodes_free": 9 }]);
    let room = Folder::new().log(log).json("disks.json", &disks).read();
    assert_eq!(
        certain(&room).sentence,
        "a disk of `gpu1` was full; it was about /farrun/outputs/x; /srv/farrun has 50.0 GiB free again"
    );
}

#[test]
fn whoever_holds_the_rest_of_a_gpu_is_read_from_the_message() {
    let log = |held: &str, own: &str| {
        format!(
            "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of 79.11 GiB of which \
             1.20 GiB is free. Process 4242 has {held} memory in use. Of the allocated memory {own} is allocated by PyTorch, and \
             200.00 MiB is reserved by PyTorch but unallocated.\n"
        )
    };
    let beside = Folder::new().log(log("60.00 GiB", "15.30 GiB")).read();
    let cause = certain(&beside);
    assert_eq!(
        cause.sentence,
        "the GPU's memory was full: the job asked for 2.50 GiB more; GPU 0 has 79.11 GiB, 1.20 GiB of it free; 15.30 GiB were the \
         job's own; others on it: process 4242 with 60.00 GiB"
    );
    let first = cause.remedies[0].command.as_deref();
    assert_eq!(first, Some("farrun rerun rs_abcdefgh --wait --min-free 71g"));
    // In a container the job's own process has a number that PyTorch does not know as its own.
    let alone = Folder::new().log(log("77.90 GiB", "75.00 GiB")).read();
    assert!(!certain(&alone).sentence.contains("4242"));
}

#[test]
fn an_order_without_gpus_is_told_so_and_offered_none_of_a_size() {
    let mut folder = Folder::new().log("RuntimeError: CUDA error: out of memory\n");
    folder.run.spec.gpus = Gpus::None;
    let diagnosis = folder.read();
    let cause = certain(&diagnosis);
    assert!(
        cause.sentence.ends_with("the order itself had no GPU"),
        "{}",
        cause.sentence
    );
    let commands: Vec<&str> = cause
        .remedies
        .iter()
        .filter_map(|remedy| remedy.command.as_deref())
        .collect();
    assert_eq!(
        commands,
        [
            "farrun rerun rs_abcdefgh --gpus 1",
            "farrun rerun rs_abcdefgh --set batch_size=2"
        ]
    );
}
