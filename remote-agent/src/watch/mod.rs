//! The resident observer, at most one per account and host. It starts what waits, settles what has ended and samples
//! the GPUs of what runs. It is a convenience: it may be killed at any moment, and the next conversation starts it
//! again while there is something to observe. It ends by itself when there is nothing.
//!
//! ```text
//! detach      how a conversation gets one to live
//! card        which one lives, and whether it should make room
//! call        nobody is left to one that is about to leave
//! open_runs   which runs have not ended
//! evidence    what did not succeed gets its evidence collected
//! listing     what succeeded gets its outputs listed
//! rounds      the engine and the line: what ended, what can start
//! sampling    what GPUs do
//! observer    all of it until there is nothing left to do
//! ```

mod call;
mod card;
mod detach;
mod evidence;
mod listing;
mod observer;
mod open_runs;
mod rounds;
mod sampling;

pub use card::lives;
pub(crate) use card::{living, numbers};
pub(crate) use detach::{Ensured, comes_up, ensure, environment, succeed};

use crate::serve::Context;
use card::Post;
use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// There is an observer already.
const TAKEN: u8 = 3;
/// It could not begin.
const NOT_STARTED: u8 = 1;
/// Not one of its words.
const USAGE: u8 = 2;

/// For how long an engine may still be starting after a boot.
const ENGINE_COMES_UP: Duration = Duration::from_secs(600);

/// `watch [--detach | --boot STATE]`: observes until there is nothing left, starts one who does and is gone, or does so
/// after a boot, with the surroundings that were written down for it.
pub fn run(args: &[OsString]) -> u8 {
    match args {
        [] => observe(Duration::ZERO),
        [word] if word == "--booted" => observe(ENGINE_COMES_UP),
        [word, state] if word == "--boot" => boot(Path::new(state)),
        [word] if word == "--detach" => {
            let left = std::env::current_exe().and_then(|program| detach::leave_session(&program));
            u8::from(left.is_err())
        }
        _ => USAGE,
    }
}

/// Becomes the observer, with the variables of the account's conversations instead of those of a boot.
fn boot(state: &Path) -> u8 {
    let Ok(program) = std::env::current_exe() else {
        return NOT_STARTED;
    };
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let mut command = Command::new(program);
    command
        .args(["watch", "--booted"])
        .envs(crate::residence::environment(state))
        .env("FARRUN_STATE", state)
        .current_dir(state);
    let _ = command.exec();
    NOT_STARTED
}

/// Observes; `engine_comes_up` is for how long runs whose engine does not answer are waited for.
fn observe(engine_comes_up: Duration) -> u8 {
    // The values of secrets can pass through this memory; a core file would keep them.
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    let Ok(context) = Context::from_environment() else {
        return NOT_STARTED;
    };
    let post = match Post::take(&context.state, &context.agent_sha256) {
        Ok(Some(post)) => post,
        Ok(None) => return TAKEN,
        Err(_) => return NOT_STARTED,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(4)
        .enable_all()
        .build();
    let Ok(runtime) = runtime else {
        return NOT_STARTED;
    };
    let observed = runtime.block_on(observer::observe(context, post, engine_comes_up));
    // What still runs may be cut off: whoever comes next goes on with it.
    runtime.shutdown_background();
    u8::from(observed.is_err())
}
