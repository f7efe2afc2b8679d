//! Every byte, in order, and never at the job's expense.

use crate::harness::{Record, Running, noise};
use farrun_agent::init::cap_marker;
use farrun_protocol::record::TAIL_SIZE;
use std::fs;
use std::io::Read as _;
use std::process::Stdio;

fn write_noise(record: &Record, length: usize) -> (String, Vec<u8>) {
    let path = record.scratch("noise");
    let bytes = noise(length);
    fs::write(&path, &bytes).unwrap();
    (path, bytes)
}

#[test]
fn any_bytes_arrive_unchanged() {
    for length in [0, 1, 65_536, 1_048_577, 64 << 20] {
        let record = Record::new();
        let (path, bytes) = write_noise(&record, length);
        assert_eq!(record.run(&[], &["cat", &path]), 0);
        assert!(record.read("run.log") == bytes, "{length} bytes differ");
        let exit = record.checked_exit();
        assert_eq!((exit.written, exit.dropped, exit.tail), (length as u64, 0, 0));
        assert_eq!(exit.log_error, None);
    }
}

#[test]
fn an_endless_line_and_nul_bytes_arrive_unchanged() {
    let record = Record::new();
    assert_eq!(record.shell(&[], "head -c 9000000 /dev/zero; printf end"), 0);
    let mut expected = vec![0; 9_000_000];
    expected.extend_from_slice(b"end");
    assert!(record.read("run.log") == expected);
    record.checked_exit();
}

#[test]
fn both_streams_keep_the_order_between_them() {
    let record = Record::new();
    let script = "i=0; while [ $i -lt 500 ]; do echo out $i; echo error $i >&2; i=$((i+1)); done";
    assert_eq!(record.shell(&[], script), 0);
    let expected: String = (0..500).map(|i| format!("out {i}\nerror {i}\n")).collect();
    assert_eq!(record.text("run.log"), expected);
}

#[test]
fn what_exceeds_the_cap_leaves_the_head_a_marker_and_the_newest_output() {
    let record = Record::new();
    let (path, bytes) = write_noise(&record, 11_000_003);
    assert_eq!(record.run(&["--cap", "100001"], &["cat", &path]), 0);
    let mut head = bytes[..100_001].to_vec();
    head.extend_from_slice(cap_marker(100_001).as_bytes());
    assert!(record.read("run.log") == head);
    assert!(record.read("run.tail") == bytes[bytes.len() - TAIL_SIZE as usize..]);
    let exit = record.checked_exit();
    assert_eq!(exit.written, 11_000_003);
    assert_eq!(exit.dropped, 11_000_003 - 100_001 - TAIL_SIZE);
}

#[test]
fn a_tail_that_never_filled_up_is_whole() {
    let record = Record::new();
    assert_eq!(
        record.shell(&["--cap", "4"], "printf 0123; printf 456; printf 789"),
        0
    );
    assert_eq!(record.text("run.log"), format!("0123{}", cap_marker(4)));
    assert_eq!(record.text("run.tail"), "456789");
    let exit = record.checked_exit();
    assert_eq!((exit.written, exit.dropped, exit.tail), (10, 0, 6));
}

#[test]
fn output_that_just_fits_the_cap_has_no_marker() {
    let record = Record::new();
    assert_eq!(record.shell(&["--cap", "10"], "printf 0123456789"), 0);
    assert_eq!(record.text("run.log"), "0123456789");
    assert_eq!(record.checked_exit().tail, 0);
}

#[test]
fn short_output_is_copied_on() {
    let record = Record::new();
    let mut command = record.command::<&str>(&[]);
    command.args(["sh", "-c", "echo out; echo error >&2"]);
    let mut running = Running::start(command.stdout(Stdio::piped()));
    let mut copy = String::new();
    running.stdout().read_to_string(&mut copy).unwrap();
    assert_eq!(running.wait(), 0);
    assert_eq!(copy, "out\nerror\n");
}

#[test]
fn a_reader_that_never_reads_or_goes_away_is_not_noticed() {
    for gone in [false, true] {
        let record = Record::new();
        let (path, bytes) = write_noise(&record, 8 << 20);
        let mut command = record.command::<&str>(&[]);
        let mut running = Running::start(command.args(["cat", &path]).stdout(Stdio::piped()));
        let kept = Some(running.stdout()).filter(|_| !gone);
        assert_eq!(running.wait(), 0);
        drop(kept);
        assert!(record.read("run.log") == bytes);
        record.checked_exit();
    }
}
