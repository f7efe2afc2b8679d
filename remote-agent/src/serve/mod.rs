//! One SSH conversation: frames in, handlers, frames out. The process keeps nothing of its own: what it knows it
//! reads from the engine and from the state folder, so it may end at any moment.
//!
//! Each verb of the protocol has one file here. [`conversation()`] reads frames, runs one task per request and
//! owns the only way to the outside, a bounded queue in front of one writer.

mod adopt;
mod advance;
mod arriving;
mod asked;
mod call;
mod collect;
mod context;
mod conversation;
mod diagnose;
mod doctor;
mod facts;
mod fetch_log;
mod fit;
mod gpus;
mod hash_log;
mod hello;
mod host;
mod inputs;
mod launch;
mod listing;
mod log_reader;
mod look;
mod notify;
mod outputs;
mod runs;
mod series;
mod session;
mod set_residence;
mod settle;
mod stop_run;
mod turns;
mod watching;

pub use context::{Context, own_sha256};
pub use conversation::conversation;

pub(crate) use advance::advance;
pub(crate) use asked::noted;
pub(crate) use diagnose::of_run as diagnose_run;
pub(crate) use facts::{settle_if_ended_at as settle_if_ended, stored as stored_facts};
pub(crate) use gpus::whole_report as gpu_report;
pub(crate) use listing::Turn as ListingTurn;
pub(crate) use session::{Peer, Session};

use farrun_protocol::preamble;
use tokio::io::AsyncWriteExt as _;

/// Exit code of a conversation that broke off in the middle of a frame.
const BROKEN: u8 = 1;
/// Exit code of a program that was started wrongly or could not begin.
const NOT_STARTED: u8 = 2;

/// Serves one conversation on stdin and stdout; answers with the exit code.
pub fn run(nonce: &str) -> u8 {
    // The values of secrets pass through this memory; a core file would keep them.
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    if !preamble::is_nonce(nonce) {
        return NOT_STARTED;
    }
    let Ok(context) = Context::from_environment() else {
        return NOT_STARTED;
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(8)
        .enable_all()
        .build();
    let Ok(runtime) = runtime else {
        return NOT_STARTED;
    };
    let code = runtime.block_on(async {
        let mut stdout = tokio::io::stdout();
        let announced = async {
            stdout.write_all(&preamble::line(nonce)).await?;
            stdout.flush().await
        };
        if announced.await.is_err() {
            return BROKEN;
        }
        match conversation(tokio::io::stdin(), stdout, context).await {
            Ok(()) => 0,
            Err(_) => BROKEN,
        }
    });
    // A read of stdin that is still waiting must not hold the process.
    runtime.shutdown_background();
    code
}
