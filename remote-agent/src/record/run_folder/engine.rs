//! How a run's engine is reached, so that its end can be seen by one who does not talk to its controller.

use super::RunFolder;
use crate::queue::DockerSettings;
use crate::record::{RecordError, read_bounded};

/// Longest file that is read.
const LONGEST: u64 = 16 * 1024;

impl RunFolder {
    /// How its engine is reached; the usual way when nobody has said or what was said cannot be read.
    pub fn docker_settings(&self) -> DockerSettings {
        let bytes = read_bounded(&self.path().join("engine.json"), LONGEST);
        let bytes = bytes.ok().flatten().unwrap_or_default();
        serde_json::from_slice(&bytes).unwrap_or_default()
    }

    /// Writes down how its engine is reached. Not synced: a power loss leaves nobody to observe.
    ///
    /// # Errors
    /// The kernel's.
    pub fn write_docker_settings(&self, settings: &DockerSettings) -> Result<(), RecordError> {
        let path = self.path().join("engine.json");
        let json = serde_json::to_vec(settings).unwrap_or_default();
        std::fs::write(&path, json).map_err(RecordError::io(&path))
    }

    /// Whether there is no record of its end.
    pub fn is_open(&self) -> bool {
        !self.path().join("settled.json").exists()
    }
}
