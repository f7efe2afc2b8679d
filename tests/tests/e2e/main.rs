//! The program against real servers, engines and containers; one module per verb or per kind of trouble.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod bad_hosts;
mod bad_input;
mod cut;
mod disk;
mod engine_down;
mod interrupt;
mod kill;
mod launch;
mod logs;
mod machine;
mod pipe;
mod pull;
mod recovery;
mod registry;
mod secrets;
mod stop;
mod trouble;
mod two_processes;
mod users;

use std::time::Duration;

/// How long something that normally takes a second or two may take on a busy machine.
const SOON: Duration = Duration::from_secs(60);
