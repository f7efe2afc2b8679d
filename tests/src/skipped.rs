//! Tests that this machine or account cannot run: a test that passes without having looked must say so.

use crate::place::shared_folder;
use std::io::Write as _;

/// Says that the calling test does not look at what it is there for. `scripts/test` shows all of them at its end.
///
/// # Panics
/// When that cannot be written down.
pub fn skipped(why: &str) {
    let thread = std::thread::current();
    let line = format!("{}: {why}\n", thread.name().unwrap_or("a test"));
    let list = std::fs::File::options()
        .create(true)
        .append(true)
        .open(shared_folder().join("skipped"));
    list.expect("list of skipped tests")
        .write_all(line.as_bytes())
        .expect("list of skipped tests");
}
