//! The transfer engine against OpenSSH's own SFTP server, and against one that lies.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "the functions that tests share may fail like tests"
)]

mod content;
mod download;
mod full_disk;
mod hostile;
mod lost_writes;
mod pack;
#[allow(dead_code, unreachable_pub, reason = "each suite uses its own part")]
#[path = "../../../tests/src/place.rs"]
mod place;
mod refusals;
mod resume;
mod server;
#[allow(unreachable_pub, reason = "the file is another crate's too")]
#[path = "../../../tests/src/skipped.rs"]
mod skipped;
#[allow(dead_code, unreachable_pub, reason = "each suite uses its own part")]
#[path = "../../../tests/src/small_disk.rs"]
mod small_disk;
mod upload;
