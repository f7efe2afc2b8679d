//! Pure types and the legal transitions between their states; no I/O.

pub mod gpu_words;
pub mod host;
pub mod output;
pub mod prompt;
pub mod run;
pub mod signal;
pub mod slug;

pub use host::{Host, HostReport, HostSettings};
pub use output::{OutputRecord, OutputsTotal};
pub use prompt::Prompt;
pub use run::{Run, RunEvent, RunStatus};
