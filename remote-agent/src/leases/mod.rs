//! Who has which GPU. The agent is the allocator of its host; several accounts have one each, and nobody else.
//!
//! A GPU belongs to a run for as long as PID 1 of its container holds the lock of the GPU's file. That ends with the
//! process, however it ends, and needs nobody to notice. Where the image's own PID 1 runs, the label of the live
//! container holds the GPU instead. From choosing until the new PID 1 holds its locks, [`Allocator`] keeps every other
//! account from choosing: whatever dies in between leaves nothing held.
//!
//! | file | what it holds |
//! |---|---|
//! | `folder` | the folder all accounts share, and how its files are opened |
//! | `lock_file` | the lock of one GPU, and the names written in it |
//! | `allocator` | the mutex |
//! | `held` | who holds what now |
//! | `units`, `obstacles`, `matching`, `choose` | choosing, without looking at the world |

mod account;
mod allocator;
mod choose;
mod folder;
mod held;
mod lock_file;
mod matching;
mod obstacles;
mod units;

#[cfg(test)]
pub(crate) mod fixtures;

pub use account::account;
pub use allocator::{Allocator, PATIENCE};
pub use choose::{Refused, Reserved, Wish, choose, count_free, usable};
pub use folder::{LockFolder, LocksUnusable};
pub use held::held;
pub use lock_file::{Held, Holder, file_name, look, write_holder};
