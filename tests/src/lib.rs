//! Harness of the end-to-end suites: the real parts a farrun command meets, each thrown away with its guard.
//!
//! | part | what it is |
//! |---|---|
//! | [`Sshd`] | an OpenSSH server on a loopback port with keys of its own |
//! | [`Engine`] | a Docker engine in a network namespace of its own |
//! | [`Registry`] | Debian's registry inside an engine's namespace |
//! | [`Cluster`] | a PostgreSQL in a folder of its own |
//! | [`AgentGate`] | what stands before a deployed agent and holds one kind of request back |
//! | [`NvidiaSmi`] | a stand-in for `nvidia-smi` that is told which GPUs there are and how to misbehave |
//! | [`FaultProxy`] | a TCP proxy that delays, limits, stalls, cuts and refuses |
//! | [`Home`] | a home folder from which the real `farrun` program is run |
//! | [`Lab`] | home, server and engine put together, with the host added |
//!
//! Every wait has a deadline and names what it waited for. Whatever a guard started, its drop ends, and nothing
//! here touches a process or an engine that it did not start.
#![allow(
    clippy::panic,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a harness fails the test it serves"
)]

mod agent_gate;
mod engine;
mod home;
mod image;
mod lab;
mod nvidia_smi;
mod observer;
mod place;
mod postgres;
mod process;
mod proxy;
mod pty;
mod registry;
mod skipped;
mod small_disk;
mod sshd;
mod wait;

pub use agent_gate::AgentGate;
pub use engine::{Engine, EngineOptions, Filler, SMALL_DISK, Toolkit};
pub use home::{Background, Home};
pub use image::{BUSYBOX, SCRATCH, USER};
pub use lab::{Lab, TEST_ACCOUNT, test_account};
pub use nvidia_smi::NvidiaSmi;
pub use place::{binary, static_agent, target_folder, temporary_folder};
pub use postgres::Cluster;
pub use process::{Outcome, privileged, run};
pub use proxy::{Direction, FaultProxy};
pub use pty::Pty;
pub use registry::{FRESH_LAYER, Registry};
pub use skipped::skipped;
pub use small_disk::SmallDisk;
pub use sshd::{Sshd, SshdOptions};
pub use wait::{wait_for, wait_until};
