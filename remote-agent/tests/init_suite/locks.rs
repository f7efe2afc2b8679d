//! The locks of the run's GPUs: held for as long as PID 1 lives, or nothing runs.

use crate::harness::{Record, Running, eventually};
use farrun_protocol::record::ExecError;
use rustix::fs::{FlockOperation, flock};
use rustix::process::Signal;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const SLEEPS: [&str; 3] = ["sh", "-c", "echo up; exec sleep 300"];

fn lock_file(record: &Record, name: &str) -> String {
    let path = record.scratch(name);
    fs::write(&path, "for people").unwrap();
    path
}

fn can_be_taken(path: &str, how: FlockOperation) -> bool {
    let file = File::open(path).unwrap();
    flock(&file, how).is_ok()
}

fn is_free(path: &str) -> bool {
    can_be_taken(path, FlockOperation::NonBlockingLockExclusive)
}

fn refused_for(record: &Record, flags: &[&str]) -> (String, String) {
    assert_eq!(record.run(flags, &["true"]), 125);
    assert_eq!(record.text("started"), "", "the run was not claimed");
    match record.exit().exec_error {
        Some(ExecError::GpuLock { lock, error }) => (lock, error),
        other => panic!("{other:?}"),
    }
}

#[test]
fn locks_are_held_until_the_end_however_it_comes() {
    for kill in [false, true] {
        let record = Record::new();
        let locks = [lock_file(&record, "a"), lock_file(&record, "b")];
        let mut command = record.command(&["--lock", &locks[0], "--lock", &locks[1]]);
        let mut running = Running::start(command.args(SLEEPS));
        eventually("the job", || (record.text("run.log") == "up\n").then_some(()));
        assert!(!is_free(&locks[0]) && !is_free(&locks[1]));
        assert!(!can_be_taken(&locks[0], FlockOperation::NonBlockingLockShared));
        if kill {
            drop(running);
        } else {
            running.signal(Signal::TERM);
            running.wait();
        }
        eventually("the locks", || {
            (is_free(&locks[0]) && is_free(&locks[1])).then_some(())
        });
        assert_eq!(fs::read_to_string(&locks[0]).unwrap(), "for people");
    }
}

#[test]
fn a_lock_is_shared_with_those_who_share() {
    let (one, other) = (Record::new(), Record::new());
    let lock = lock_file(&one, "a");
    let mut command = one.command(&["--shared-lock", &lock]);
    let _running = Running::start(command.args(SLEEPS));
    eventually("the job", || (one.text("run.log") == "up\n").then_some(()));
    assert_eq!(other.run(&["--shared-lock", &lock], &["true"]), 0);
    let alone = Record::new();
    assert_eq!(refused_for(&alone, &["--lock", &lock]).1, "another run holds it");
}

#[test]
fn a_lock_that_another_holds_starts_nothing_and_one_that_is_looked_at_does() {
    let record = Record::new();
    let lock = lock_file(&record, "a");
    let held = File::open(&lock).unwrap();
    flock(&held, FlockOperation::LockExclusive).unwrap();
    let began = Instant::now();
    assert_eq!(
        refused_for(&record, &["--lock", &lock]),
        (lock.clone(), "another run holds it".to_owned())
    );
    assert!(began.elapsed() >= Duration::from_secs(2), "it did not ask again");
    let later = Record::new();
    let mut command = later.command(&["--lock", &lock]);
    let mut running = Running::start(command.arg("true"));
    std::thread::sleep(Duration::from_millis(300));
    drop(held);
    assert_eq!(running.wait(), 0);
}

#[test]
fn a_lock_that_is_no_plain_file_starts_nothing() {
    let record = Record::new();
    let missing = record.scratch("missing");
    let (lock, error) = refused_for(&record, &["--lock", &missing]);
    assert_eq!(lock, missing);
    assert!(error.contains("No such file"), "{error}");
    assert!(!fs::exists(&missing).unwrap(), "nothing is made");
    for what in ["link", "folder"] {
        let record = Record::new();
        let path = record.scratch(what);
        if what == "link" {
            std::os::unix::fs::symlink(lock_file(&record, "a"), &path).unwrap();
        } else {
            fs::create_dir(&path).unwrap();
        }
        assert_eq!(refused_for(&record, &["--lock", &path]).0, path);
    }
}

#[test]
fn a_lock_need_not_be_writable() {
    let record = Record::new();
    let lock = lock_file(&record, "a");
    fs::set_permissions(&lock, fs::Permissions::from_mode(0o444)).unwrap();
    assert_eq!(record.run(&["--lock", &lock], &["true"]), 0);
}

#[test]
fn gpus_that_the_engine_did_not_hand_over_start_nothing() {
    // A place of its own for devices, as a container has, with one in it.
    const PLACE: &str = r#"mount -t tmpfs none /dev && : > /dev/null && : > "/dev/$0" && exec "$@""#;
    for (visible, device, code) in [
        (Some("GPU-a"), "nvidia0", 0),
        (Some("GPU-a"), "dxg", 0),
        (Some("void"), "nvidia0", 0),
        (Some("all"), "nvidia0", 125),
        (None, "nvidia0", 125),
        // An engine that says it and does nothing.
        (Some("GPU-a"), "tty", 125),
        (Some("void"), "tty", 125),
    ] {
        let record = Record::new();
        let init = record.command(&["--gpu", "GPU-a"]);
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "--", "sh", "-c", PLACE, device])
            .arg(init.get_program())
            .args(init.get_args())
            .arg("true")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .env_remove("NVIDIA_VISIBLE_DEVICES")
            .envs(visible.map(|said| ("NVIDIA_VISIBLE_DEVICES", said)));
        let ended = Running::start(&mut command).wait();
        assert_eq!(ended, code, "{visible:?} {device}");
        if code != 0 {
            let hidden = ExecError::GpuHidden {
                wanted: "GPU-a".into(),
                seen: visible.map(str::to_owned),
                no_device: device == "tty",
            };
            assert_eq!(record.exit().exec_error, Some(hidden));
            assert_eq!(record.text("started"), "");
        }
    }
}
