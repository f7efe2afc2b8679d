//! PID 1 of a job's container: it starts the job, keeps what the job prints, and records how the job ended.
//!
//! Everything happens in one thread around one `poll` over the job's pipe and the signals, so an idle job costs
//! nothing and the whole program stays within a few MiB. It does not know the engine, the network or the
//! controller; what it has to say is in the files of the record (see [`farrun_protocol::record`]):
//!
//! * `started` is locked, checked to be empty and written before the job is: whoever finds it claimed leaves
//!   everything alone and ends with [`REFUSED`], so that a second start of the container runs nothing.
//! * `run.log` gets both output streams of the job, byte by byte, in the order in which they were written. Behind
//!   the cap stands [`cap_marker`] and the newest output goes to `run.tail`, a ring while the job lives
//!   and in order once `exit.json` is there.
//! * `exit.json` is overwritten in place at the very end.
//!
//! The job is never held up: a record that cannot be written is noted and output is dropped, and what the engine
//! reads of it is a copy that may have gaps.
//!
//! | file | what it holds |
//! |---|---|
//! | `args` | the command line |
//! | `claim` | `started` and `exit.json`: at most one start, one record of the end |
//! | `gpu_locks` | the locks of the run's GPUs, held until the container ends |
//! | `secrets` | values that arrive on stdin |
//! | `spawn` | finding and starting the program |
//! | `signals` | signals as something to poll |
//! | `supervise` | the loop: capture, pass on signals, reap, keep the time limit |
//! | `capture`, `run_log`, `tail` | what happens to the bytes |
//! | `echo` | the bounded copy to our own stdout |
//! | `oom` | the cgroup's count of processes killed for memory |

mod args;
mod capture;
mod claim;
mod echo;
mod gpu_locks;
mod oom;
mod run;
mod run_log;
mod secrets;
mod signals;
mod spawn;
mod supervise;
mod tail;

pub use args::{GpuLock, InitArgs, InvalidArgs};
pub use capture::cap_marker;
pub use run::run;

/// Exit code when the job was not started for a reason that is ours: a claim, a record or secrets.
pub const REFUSED: u8 = 125;
/// Longest text of a foreign error or path in the exit record, in characters; keeps the record within its file
/// even when every character has to be escaped.
const TEXT_LIMIT: usize = 500;

/// Cuts a foreign text to what the exit record has room for.
fn bounded(text: impl std::fmt::Display) -> String {
    text.to_string().chars().take(TEXT_LIMIT).collect()
}
