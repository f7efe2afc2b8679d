//! A disk that takes nothing more costs output, never the job or the record of its end.

use crate::harness::{Record, noise};
use crate::small_disk::SmallDisk;
use farrun_protocol::record::EXIT_SIZE;
use std::fs;
use std::path::Path;
use tempfile::TempDir;

#[test]
fn a_job_succeeds_while_its_disk_fills_up() {
    for cap in ["100000000", "900000"] {
        let disk = SmallDisk::new("1m");
        let record = Record::below(disk.path());
        let source = TempDir::new().unwrap();
        let (path, bytes) = (source.path().join("noise"), noise(6 << 20));
        fs::write(&path, &bytes).unwrap();
        assert_eq!(record.run(&["--cap", cap], &["cat", path.to_str().unwrap()]), 0);
        let exit = record.checked_exit();
        assert_eq!((exit.code, exit.written), (Some(0), bytes.len() as u64));
        assert!(exit.log_error.unwrap().contains("No space left"));
        let log = record.read("run.log");
        let head = log.len().min(cap.parse().unwrap());
        assert!(
            head > 800_000 && log[..head] == bytes[..head],
            "the log is a prefix"
        );
        let tail = record.read("run.tail");
        assert!(bytes.ends_with(&tail), "the tail is the newest output");
        assert_eq!(tail.is_empty(), cap.len() > 6);
        assert_eq!(exit.dropped, (bytes.len() - head - tail.len()) as u64);
    }
}

#[test]
fn a_log_that_takes_no_byte_at_all_costs_the_log_alone() {
    let record = Record::new();
    let log = record.path.join("run.log");
    fs::remove_file(&log).unwrap();
    std::os::unix::fs::symlink("/dev/full", &log).unwrap();
    assert_eq!(record.shell(&[], "head -c 3000000 /dev/zero; exit 0"), 0);
    let exit = record.exit();
    assert_eq!((exit.code, exit.log.length), (Some(0), 0));
    assert_eq!((exit.written, exit.dropped), (3_000_000, 3_000_000));
    assert!(exit.log_error.unwrap().contains("No space left"));
}

#[test]
fn a_claim_that_cannot_be_kept_starts_nothing() {
    let record = Record::new();
    let (started, counter) = (record.path.join("started"), record.scratch("counter"));
    fs::remove_file(&started).unwrap();
    std::os::unix::fs::symlink("/dev/full", &started).unwrap();
    assert_eq!(record.shell(&[], &format!("echo ran > {counter}")), 125);
    assert!(!Path::new(&counter).exists());
    assert_eq!(record.read("exit.json").len(), EXIT_SIZE);
}
