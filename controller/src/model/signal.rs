//! Names of signals.

pub use farrun_protocol::explain::signal_name;
