//! What was asked for: the order, its start, its stop, and who may ask.

use super::RunFolder;
use crate::record::{
    RECORD_LIMIT, RecordError, read_bounded, read_json, remove_if_present, sync_folder, write_atomically,
    write_in_place, write_json,
};
use chrono::{DateTime, Utc};
use farrun_protocol::record::{self, StartIntent};
use farrun_protocol::spec::{self, RunSpec};
use farrun_protocol::{ControllerId, Sha256};
use serde::{Deserialize, Serialize};

/// `adopted`: controllers that may act on a run besides the one that ordered it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Adopted {
    format: u32,
    /// Who adopted the run, oldest first.
    controllers: Vec<ControllerId>,
}

/// `stop.intent`: written before the first signal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct StopIntent {
    format: u32,
    controller_id: ControllerId,
    at: DateTime<Utc>,
}

impl RunFolder {
    /// The order, when one was stored.
    ///
    /// # Errors
    /// The kernel's, damage, or a newer format.
    pub fn spec(&self) -> Result<Option<RunSpec>, RecordError> {
        read_json(&self.path.join("spec.json"), spec::FORMAT)
    }

    /// Hash of the stored order's exact bytes.
    ///
    /// # Errors
    /// The kernel's.
    pub fn spec_sha256(&self) -> Result<Option<Sha256>, RecordError> {
        Ok(read_bounded(&self.path.join("spec.json"), RECORD_LIMIT)?.map(|bytes| Sha256::of(&bytes)))
    }

    /// Stores the order.
    ///
    /// # Errors
    /// The kernel's.
    pub fn write_spec(&self, spec: &RunSpec) -> Result<(), RecordError> {
        write_atomically(&self.path.join("spec.json"), &spec.canonical(), 0o600)
    }

    /// Forgets an order that was refused before anything came of it; the run is unknown then. The caller holds the
    /// lock, whose file stays.
    ///
    /// # Errors
    /// The kernel's.
    pub fn forget_order(&self) -> Result<(), RecordError> {
        remove_if_present(&self.path.join("spec.json"))?;
        sync_folder(&self.path)?;
        self.leave_queue()?;
        for file in [
            self.secrets(),
            self.path.join("lease.json"),
            self.path.join("device"),
            self.reserve(),
        ] {
            remove_if_present(&file)?;
        }
        for folder in [self.inputs(), self.outputs(), self.record()] {
            match std::fs::remove_dir_all(&folder) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(RecordError::io(&folder)(error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Digest of the image as its registry names it.
    ///
    /// # Errors
    /// The kernel's.
    pub fn image_digest(&self) -> Result<Option<String>, RecordError> {
        let bytes = read_bounded(&self.path.join("image-digest"), 1000)?;
        Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// Remembers the image's digest.
    ///
    /// # Errors
    /// The kernel's.
    pub fn write_image_digest(&self, digest: &str) -> Result<(), RecordError> {
        write_in_place(&self.path.join("image-digest"), digest.as_bytes(), 0o600)
    }

    /// `start.intent`, when a start was ordered.
    ///
    /// # Errors
    /// The kernel's, damage, or a newer format.
    pub fn start_intent(&self) -> Result<Option<StartIntent>, RecordError> {
        read_json(&self.path.join("start.intent"), record::FORMAT)
    }

    /// Writes `start.intent`.
    ///
    /// # Errors
    /// The kernel's.
    pub fn write_start_intent(&self, intent: &StartIntent) -> Result<(), RecordError> {
        write_json(&self.path.join("start.intent"), intent)
    }

    /// Takes `start.intent` back: the container it names was never started and is about to be removed.
    ///
    /// # Errors
    /// The kernel's.
    pub fn withdraw_start_intent(&self) -> Result<(), RecordError> {
        remove_if_present(&self.path.join("start.intent"))?;
        sync_folder(&self.path)
    }

    /// Whether a stop was asked for.
    pub fn stop_requested(&self) -> bool {
        self.path.join("stop.intent").exists()
    }

    /// When a stop was asked for. A file that cannot be read is as old as it is: it was written for nothing else.
    ///
    /// # Errors
    /// The kernel's.
    pub fn stop_requested_at(&self) -> Result<Option<DateTime<Utc>>, RecordError> {
        let path = self.path.join("stop.intent");
        match read_json::<StopIntent>(&path, record::FORMAT) {
            Ok(intent) => Ok(intent.map(|intent| intent.at)),
            Err(_) => {
                let written = std::fs::metadata(&path).and_then(|found| found.modified());
                Ok(Some(written.map_err(RecordError::io(&path))?.into()))
            }
        }
    }

    /// Writes `stop.intent`, once.
    ///
    /// # Errors
    /// The kernel's.
    pub fn write_stop_intent(&self, controller_id: &ControllerId) -> Result<(), RecordError> {
        if self.stop_requested() {
            return Ok(());
        }
        write_json(
            &self.path.join("stop.intent"),
            &StopIntent {
                format: record::FORMAT,
                controller_id: controller_id.clone(),
                at: Utc::now(),
            },
        )
    }

    /// Controllers that adopted the run.
    ///
    /// # Errors
    /// The kernel's, damage, or a newer format.
    pub fn adopted(&self) -> Result<Vec<ControllerId>, RecordError> {
        let adopted: Option<Adopted> = read_json(&self.path.join("adopted"), record::FORMAT)?;
        Ok(adopted.map(|adopted| adopted.controllers).unwrap_or_default())
    }

    /// Adds a controller to those that adopted the run.
    ///
    /// # Errors
    /// The kernel's, damage, or a newer format.
    pub fn add_adopted(&self, controller_id: &ControllerId) -> Result<(), RecordError> {
        let mut controllers = self.adopted()?;
        if controllers.contains(controller_id) {
            return Ok(());
        }
        controllers.push(controller_id.clone());
        write_json(
            &self.path.join("adopted"),
            &Adopted {
                format: record::FORMAT,
                controllers,
            },
        )
    }
}
