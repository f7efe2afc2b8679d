//! One run's folder: every file of it has one method here, beside those of the same occasion.

mod alive;
mod device;
mod end;
mod engine;
mod line;
mod order;
mod skeleton;

use super::{Lock, RecordError, make_private_folder};
use farrun_protocol::{RunId, layout};
use std::path::{Path, PathBuf};

/// The folder of one run, which may not exist yet.
#[derive(Debug, Clone)]
pub struct RunFolder {
    path: PathBuf,
    queued: PathBuf,
    run_id: RunId,
}

impl RunFolder {
    /// The folder of `run_id` below the state folder.
    pub fn new(state: &Path, run_id: &RunId) -> Self {
        Self {
            path: state.join(layout::run(run_id)),
            queued: state.join(layout::queued(run_id)),
            run_id: run_id.clone(),
        }
    }

    /// Whose folder it is.
    pub fn run_id(&self) -> &RunId {
        &self.run_id
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The state folder that it lies in.
    pub fn state(&self) -> &Path {
        // <state>/runs/<run_id>
        self.path.ancestors().nth(2).unwrap_or(&self.path)
    }

    /// Inputs as the job sees them.
    pub fn inputs(&self) -> PathBuf {
        self.path.join("inputs")
    }

    /// What the job leaves.
    pub fn outputs(&self) -> PathBuf {
        self.path.join("outputs")
    }

    /// The files that PID 1 writes.
    pub fn record(&self) -> PathBuf {
        self.path.join("record")
    }

    /// The run log.
    pub fn log(&self) -> PathBuf {
        self.record().join("run.log")
    }

    /// The list of outputs.
    pub fn manifest(&self) -> PathBuf {
        self.path.join("manifest.json")
    }

    /// The lock of whoever lists the outputs.
    pub fn listing(&self) -> PathBuf {
        self.path.join("outputs.lock")
    }

    /// Copies of the small outputs, end to end.
    pub fn pack(&self) -> PathBuf {
        self.path.join("outputs.pack")
    }

    /// What the engine said while it fetched the image.
    pub fn pull_log(&self) -> PathBuf {
        self.path.join("pull.log")
    }

    /// Secrets on their way to the job.
    pub fn secrets(&self) -> PathBuf {
        self.path.join("secrets.json")
    }

    /// Blocks that are kept for the record of the end.
    fn reserve(&self) -> PathBuf {
        self.path.join("reserve")
    }

    /// Makes the folder.
    ///
    /// # Errors
    /// The kernel's.
    pub fn make(&self) -> Result<(), RecordError> {
        make_private_folder(&self.path)
    }

    /// Takes the lock that serialises launching, stopping and settling.
    ///
    /// # Errors
    /// The kernel's.
    pub async fn lock(&self) -> Result<Lock, RecordError> {
        Lock::take(&self.path.join("launch.lock")).await
    }

    /// As [`Self::lock`], or `None` when it is taken.
    ///
    /// # Errors
    /// The kernel's.
    pub fn try_lock(&self) -> Result<Option<Lock>, RecordError> {
        Lock::try_take(&self.path.join("launch.lock"))
    }
}
