//! What the kernel says about memory, load and limits.

use super::{kernel_file, under_heading};
use crate::diagnostics::item::Looked;
use crate::diagnostics::thread::SoFar;
use std::path::Path;

const FILES: [&str; 10] = [
    "/proc/uptime",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/pressure/memory",
    "/proc/pressure/io",
    "/proc/pressure/cpu",
    "/proc/self/limits",
    "/proc/version",
    "/proc/swaps",
    "/etc/os-release",
];

pub(in crate::diagnostics) fn system(so_far: &SoFar) -> Looked {
    for file in FILES {
        // One that an older kernel does not have says so.
        let body = kernel_file(Path::new(file)).unwrap_or_else(|error| error.to_string().into_bytes());
        so_far.add(&under_heading(file, &body));
    }
    so_far.whole()
}
