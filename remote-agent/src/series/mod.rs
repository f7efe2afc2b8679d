//! What a run's GPUs did while it ran: `series.jsonl`, one sample a line, and `series.json`, what they come to.
//!
//! The account's observer alone writes them. Both are a convenience: a line that a crash tore is passed over, and a
//! summary that is missing is made anew from the samples.

mod file;
mod tally;
mod thin;

pub use file::{Series, idle, read, summary};
pub use tally::{Moment, Tally};
pub use thin::thin;
