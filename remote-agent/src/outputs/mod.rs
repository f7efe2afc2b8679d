//! The folder a job leaves its results in: opening it to the account, and listing it with hashes.
//!
//! The job made everything in it, so nothing is believed: no symbolic link is followed, no pipe is waited for.

mod abreast;
mod content;
mod hashing;
mod manifest;
mod open;
mod pack;
mod walk;

pub use manifest::{Hashing, build, build_somewhere};
pub use open::{Access, open};
pub use walk::{Entry, EntryKind, all_readable, walk};
