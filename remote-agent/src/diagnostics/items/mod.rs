//! One file per source of evidence.

pub(super) mod agent;
pub(super) mod caches;
pub(super) mod cgroup;
pub(super) mod command;
pub(super) mod disks;
pub(super) mod driver;
pub(super) mod engine;
pub(super) mod kept;
pub(super) mod kernel;
pub(super) mod log;
pub(super) mod processes;
pub(super) mod system;
pub(super) mod toolkit;

use std::io::Read as _;
use std::path::Path;

/// Largest file of `/proc` or `/sys` that is read.
const MOST: u64 = 256 * 1024;

/// A file of `/proc` or `/sys`; those tell no length beforehand.
fn kernel_file(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(MOST).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A part of a text under its heading.
fn under_heading(heading: &str, body: &[u8]) -> Vec<u8> {
    let mut part = format!("== {heading} ==\n").into_bytes();
    part.extend_from_slice(body);
    if !part.ends_with(b"\n") {
        part.push(b'\n');
    }
    part
}
