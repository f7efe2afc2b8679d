//! GPUs as `serve` processes read them, from a stand-in for `nvidia-smi` that can misbehave.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on must stop"
)]

mod cache;
#[allow(dead_code, unreachable_pub, reason = "each suite uses its own part")]
#[path = "../../../tests/src/nvidia_smi.rs"]
mod nvidia_smi;
mod processes;
#[path = "../serve_support/mod.rs"]
mod support;
mod turns;
mod unkillable;

use farrun_agent::gpu::{ChildLimits, Gpus, Program, Settings};
use nvidia_smi::NvidiaSmi;
use std::path::Path;
use std::time::Duration;

const AGENT: &str = env!("CARGO_BIN_EXE_farrun-agent");

/// A host in this process, with limits that a test can wait for.
fn host(state: &Path, fake: &NvidiaSmi) -> Settings {
    let mut settings = Settings::new(state, Program::At(fake.path()), Path::new(AGENT));
    settings.child = ChildLimits {
        run: Duration::from_millis(600),
        terminate: Duration::from_millis(200),
        kill: Duration::from_secs(20),
    };
    settings
}

fn patient(state: &Path, fake: &NvidiaSmi) -> Gpus {
    let mut settings = host(state, fake);
    settings.answer_within = support::PATIENCE;
    settings.child = ChildLimits {
        run: support::PATIENCE,
        ..settings.child
    };
    Gpus::new(settings)
}
