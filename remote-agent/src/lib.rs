//! The program farrun puts on a host. It has three roles: `serve`, one SSH conversation, `init`, PID 1 of a
//! container, and `watch`, the resident observer of an account. A host's truth is Docker labels plus files; any of these processes may die at any time.

mod diagnostics;
pub mod docker;
pub mod gpu;
pub mod init;
pub mod leases;
pub mod outputs;
pub mod queue;
pub mod record;
pub mod series;
pub mod serve;
pub mod watch;
