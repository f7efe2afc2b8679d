//! GPUs: their memory, their hardware, what does not fit them, and who else was on them.

pub(super) mod hardware;
pub(super) mod memory;
pub(super) mod others;
pub(super) mod software;
pub(super) mod wear;

use super::{Try, run};

const SEE: Try = run("see the host's GPUs", "farrun gpu {host}");
const OTHER_HOST: Try = run("order it on another host", "farrun rerun {run} --host any");
