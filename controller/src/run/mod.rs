//! The stories of a run: ordered, launched, followed, ended, brought home. One story per file.
//!
//! A story speaks to hosts through [`crate::host`], keeps what it learns in [`crate::store`] and tells the
//! observer what happens; it prints nothing and knows no flags.

pub mod adopt;
pub mod collect;
pub mod contact;
pub mod error;
pub mod explain;
pub mod follow;
pub mod garbage;
pub mod gpu_words;
pub mod launch;
pub mod look;
pub mod order;
pub mod owner;
mod reach;
pub mod reconcile;
pub mod series;
pub mod stop;
pub mod timeline;
mod upload;

pub use error::RunError;
pub use order::{Order, OrderInput, OrderSource};
