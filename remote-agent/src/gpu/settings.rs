//! Where GPUs are read from, and for how long what was read will do.

use super::child::ChildLimits;
use super::host_lock::{Turn, Turns};
use super::program::Program;
use crate::record::host_id;
use farrun_protocol::gpu::GpuTrouble;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where GPUs are read from and for how long what was read will do.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The state folder; the cache is its `gpu/`.
    pub state: PathBuf,
    /// Which `nvidia-smi`.
    pub program: Program,
    /// The agent program, which starts it within limits.
    pub launcher: PathBuf,
    /// With whom readings take turns; with nobody beyond the account unless set.
    pub turns: Turns,
    /// Root of `proc`, `sys`, `dev` and `etc`.
    pub root: PathBuf,
    /// Age up to which figures will do when the caller does not say.
    pub keep_sample: Duration,
    /// Age up to which facts about driver and device will do.
    pub keep_facts: Duration,
    /// Longest time until an answer.
    pub answer_within: Duration,
    /// Limits of `nvidia-smi`.
    pub child: ChildLimits,
}

impl Settings {
    /// The usual ones: figures for 2 s, facts for an hour, an answer within 0.6 s.
    pub fn new(state: &Path, program: Program, launcher: &Path) -> Self {
        Self {
            state: state.to_owned(),
            program,
            launcher: launcher.to_owned(),
            turns: Turns::default(),
            root: PathBuf::from("/"),
            keep_sample: Duration::from_secs(2),
            keep_facts: Duration::from_secs(3600),
            answer_within: Duration::from_millis(600),
            child: ChildLimits::default(),
        }
    }

    /// Waits for the turn: as long as one question may take until it is given up.
    pub(super) fn turn(&self) -> Result<Turn, GpuTrouble> {
        let limits = self.child;
        let patience = limits.run + limits.terminate + limits.kill + Duration::from_secs(1);
        self.turns.take(&self.root, patience)
    }

    /// The machine's id; empty when it cannot be had.
    pub(super) fn host_id(&self) -> String {
        host_id(&self.state).map_or_else(|_| String::new(), |id| id.to_string())
    }
}
