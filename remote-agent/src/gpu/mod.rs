//! What the host's GPUs are and do, read from `nvidia-smi`.
//!
//! [`Gpus`] is the way in. Every process of the account shares one cache folder, `<state>/gpu/`: however many
//! conversations ask, one of them runs `nvidia-smi`, at most once per time to live, and the others read what it wrote.
//! Nobody waits for a driver that hangs: answers come within a second from what there is, with its age.
//!
//! ```text
//! Gpus (gpus)          waiting for what was wished for
//!   readings           who may take a reading now, and the newest there is
//!   answer             what is said of it
//!   refresh            one reading, written down
//!     host_lock          its turn among all accounts of the host
//!     child, limited   the process: its limits, its end, its record on disk (child_record)
//!     query            which questions in which order
//!       fields rows apps mig exit cell text      bytes to values, nothing else
//!     holder, board, device                      what the kernel adds
//!   ask                other questions, for the evidence of a run that failed
//! sight                what a container shows of its GPUs
//! ```

mod answer;
mod apps;
mod ask;
mod board;
mod cell;
mod child;
mod child_record;
mod clock;
mod device;
mod exit;
mod fields;
mod gpus;
mod holder;
mod host_lock;
mod limited;
mod mig;
mod process;
mod program;
mod query;
mod readings;
mod refresh;
mod rows;
mod settings;
mod sight;
mod store;
mod text;

#[cfg(test)]
mod tests;

pub(crate) use ask::run_limited;
pub use child::ChildLimits;
pub(crate) use child::{End, Finished, run as run_child};
pub(crate) use clock::now as boot_clock;
pub(crate) use device::{VARIABLE as DEVICE_VARIABLE, for_run as device_for_run, said as device_said};
pub use gpus::Gpus;
pub use host_lock::Turns;
pub use limited::{NOT_STARTED, ROLE as LIMITED_ROLE, become_program};
pub(crate) use process::start as process_start;
pub use program::Program;
pub use settings::Settings;
pub use sight::{ROLE as SIGHT_ROLE, look as look_for_gpus};
pub(crate) use sight::{Sight, is_of_a_gpu};
