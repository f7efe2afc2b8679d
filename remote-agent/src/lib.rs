//! The program farrun puts on a host. It has three roles: `serve`, one SSH conversation, `init`, PID 1 of a
//! container, and `watch`, the resident observer of an account. A host's truth is Docker labels plus files; any of these processes may die at any time.

mod diagnostics;
pub mod docker;
pub mod doctor;
pub mod gpu;
pub mod init;
pub mod leases;
pub mod notify;
pub mod outputs;
mod program_pages;
pub mod queue;
pub mod record;
mod residence;
pub mod series;
pub mod serve;
pub mod watch;
