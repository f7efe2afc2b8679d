//! GPUs that were given to the run, or what it waits for.

use super::RunFolder;
use crate::queue::WaitsFor;
use crate::record::{RecordError, read_json, remove_if_present, write_json};
use farrun_protocol::lease::{self, GpuRefusal, Lease};
use std::path::PathBuf;

impl RunFolder {
    /// Its place in the queue, outside of the folder.
    pub fn queued(&self) -> PathBuf {
        self.queued.clone()
    }

    /// Takes the run out of the queue.
    ///
    /// # Errors
    /// The kernel's.
    pub fn leave_queue(&self) -> Result<(), RecordError> {
        remove_if_present(&self.queued)?;
        remove_if_present(&self.path.join("waits.json"))
    }

    /// GPUs that were given to the run.
    ///
    /// # Errors
    /// The kernel's, damage, or a newer format.
    pub fn lease(&self) -> Result<Option<Lease>, RecordError> {
        read_json(&self.path.join("lease.json"), lease::FORMAT)
    }

    /// Writes down which GPUs the run is given.
    ///
    /// # Errors
    /// The kernel's.
    pub fn write_lease(&self, lease: &Lease) -> Result<(), RecordError> {
        write_json(&self.path.join("lease.json"), lease)
    }

    /// What the last attempt to start a waiting run met.
    pub fn waits_for(&self) -> Option<Vec<GpuRefusal>> {
        let waits: Option<WaitsFor> = read_json(&self.path.join("waits.json"), lease::FORMAT).ok()?;
        waits.map(|waits| waits.gpus)
    }

    /// Writes down what an attempt to start a waiting run met, when that is news.
    ///
    /// # Errors
    /// The kernel's.
    pub fn write_waits_for(&self, gpus: &[GpuRefusal]) -> Result<(), RecordError> {
        if self.waits_for().as_deref() == Some(gpus) {
            return Ok(());
        }
        let waits = WaitsFor {
            format: lease::FORMAT,
            gpus: gpus.to_vec(),
        };
        write_json(&self.path.join("waits.json"), &waits)
    }
}
