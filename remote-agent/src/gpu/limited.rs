//! The step between `serve` and `nvidia-smi`: a process that limits itself, writes down who it is, and becomes the
//! program. That way the limits hold from the program's first instruction, its record exists before it can hang, and
//! it is killed when the process that wants the answer is gone.

use super::child_record::ChildRecord;
use super::host_lock;
use rustix::process::{
    Resource, Rlimit, Signal, getppid, getrlimit, set_parent_process_death_signal, setrlimit,
};
use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

/// First argument of this role.
pub const ROLE: &str = "limited";
/// The program could not be started; standard error says why.
pub const NOT_STARTED: u8 = 127;
/// Descriptors it may open. Some drivers' tools walk through all that are allowed, which can take a minute.
const DESCRIPTORS: u64 = 1024;

/// Becomes a program: `limited PARENT RECORD PROGRAM [ARGUMENT…]`, where RECORD is the file to write, or nothing.
/// Answers with the reason only when that
/// failed; its caller says it on standard error and ends with [`NOT_STARTED`].
pub fn become_program(arguments: &[OsString]) -> String {
    let [parent, record, program, rest @ ..] = arguments else {
        return "it is started with a parent, a record and a program".to_owned();
    };
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    // The signal is sent for a death from now on; a parent that is gone already is seen here.
    let alive = getppid().map(|pid| pid.as_raw_nonzero().get().to_string());
    if alive.as_deref() != parent.to_str() {
        return "its parent is gone".to_owned();
    }
    let allowed = getrlimit(Resource::Nofile);
    let most = allowed.maximum.map_or(DESCRIPTORS, |most| most.min(DESCRIPTORS));
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: Some(most),
            maximum: Some(most),
        },
    );
    if let Err(error) = host_lock::keep_beside() {
        return error.to_string();
    }
    if !record.is_empty() {
        // A folder that cannot be written must not keep anybody from seeing their GPUs.
        let _ = ChildRecord::of_this_process().write(Path::new(record));
    }
    Command::new(program).args(rest).exec().to_string()
}
