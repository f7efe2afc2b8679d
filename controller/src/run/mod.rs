//! The stories of a run: ordered, launched, followed, ended, brought home. One story per file.
//!
//! A story speaks to hosts through [`crate::host`], keeps what it learns in [`crate::store`] and tells the
//! observer what happens; it prints nothing and knows no flags.

pub mod adopt;
pub mod bulk;
pub mod bundle;
pub mod choose;
pub mod collect;
pub mod contact;
pub mod device;
pub mod diagnose;
pub mod doctor;
pub mod enhance;
pub mod error;
pub mod estimate;
pub mod follow;
pub mod garbage;
mod lanes;
pub mod launch;
mod line;
pub mod links;
pub mod local_garbage;
pub mod log_error;
pub mod look;
pub mod manifest_of;
pub mod notified;
pub mod order;
pub mod owner;
mod pulled;
pub mod quiet;
mod reach;
pub mod reconcile;
mod refusal;
pub mod residence;
pub mod series;
pub mod stop;
pub mod timeline;
mod upload;
pub mod warnings;
pub mod why;

pub use crate::model::gpu_words;
pub use error::RunError;
pub use farrun_protocol::explain;
pub use order::{Order, OrderInput, OrderSource};
