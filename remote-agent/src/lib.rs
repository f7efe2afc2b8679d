//! The program farrun puts on a host. It has two roles: `serve`, one SSH conversation, and `init`, PID 1 of a
//! container. A host's truth is Docker labels plus files; any of these processes may die at any time.

pub mod docker;
pub mod gpu;
pub mod init;
pub mod leases;
pub mod outputs;
pub mod queue;
pub mod record;
pub mod serve;
