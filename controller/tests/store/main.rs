//! The database as every story uses it, on SQLite and on PostgreSQL.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test may fail by panicking, also in the functions that tests share"
)]

mod hosts;
mod outputs;
mod prompts;
mod runs;
mod sharing;
mod support;
