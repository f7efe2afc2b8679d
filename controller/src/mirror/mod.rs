//! The local file that is a byte prefix of a run's log, and equal to it once the run is over.

pub mod source;

pub use source::{LogSource, SourceError};
