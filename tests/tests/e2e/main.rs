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
mod canary;
mod crontab;
mod cut;
mod diagnose;
mod disk;
mod disk_here;
mod durable;
mod engine_down;
mod enhance;
mod failures;
mod gpus;
mod gpus_that_lie;
mod host_doctor;
mod interrupt;
mod kill;
mod killed_start;
mod launch;
mod leaving;
mod logs;
mod look;
mod machine;
mod notify;
mod owners;
mod pipe;
mod pull;
mod quiet;
mod recipes;
mod recovery;
mod registry;
mod rerun;
mod resident;
mod secrets;
mod stop;
mod terminal;
mod trouble;
mod two_machines;
mod two_processes;
mod users;
mod watching;
mod why;

use std::time::Duration;

/// How long something that normally takes a second or two may take on a busy machine.
const SOON: Duration = Duration::from_secs(60);

/// Waits until the job's process has left its record of the end, without asking the program.
fn wait_until_settled(lab: &farrun_tests::Lab, run: &str) {
    let record = lab.run_folder(run).join("record/exit.json");
    farrun_tests::wait_until("the record of the end", SOON, || {
        std::fs::read(&record).is_ok_and(|bytes| bytes.starts_with(b"FARRUN-EXIT"))
    });
}
