//! `resident.json`: what starts the observer after a boot, and with which surroundings.

use crate::record::{RecordError, read_json, write_json};
use farrun_protocol::doctor::Residence;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Version of the file.
const FORMAT: u32 = 1;

/// The file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Note {
    format: u32,
    pub(super) by: Residence,
    /// Whether lingering was switched on for it, and so is switched off with it.
    #[serde(default)]
    pub(super) lingers_for_it: bool,
    /// The unit's file.
    #[serde(default)]
    pub(super) unit: Option<PathBuf>,
    /// Version of the agent that starts.
    #[serde(default)]
    pub(super) version: String,
    /// Variables that an observer is started with.
    #[serde(default)]
    environment: Vec<(String, String)>,
}

impl Note {
    /// A new one; that lingering was ours to switch on is kept from the one before.
    pub(super) fn new(environment: Vec<(String, String)>, before: Option<&Self>) -> Self {
        Self {
            format: FORMAT,
            by: Residence::UserUnit,
            lingers_for_it: before.is_some_and(|before| before.lingers_for_it),
            unit: None,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            environment,
        }
    }
}

pub(super) fn path(state: &Path) -> PathBuf {
    state.join("resident.json")
}

pub(super) fn read(state: &Path) -> Result<Option<Note>, RecordError> {
    read_json(&path(state), FORMAT)
}

pub(super) fn write(state: &Path, note: &Note) -> Result<(), RecordError> {
    write_json(&path(state), note)
}

/// What starts the observer after a boot. A unit whose file somebody removed starts nothing.
pub(crate) fn installed(state: &Path) -> Option<Residence> {
    let note = read(state).ok().flatten()?;
    let gone = note.unit.as_ref().is_some_and(|unit| !unit.exists());
    (!gone).then_some(note.by)
}

/// The variables that an observer is started with after a boot.
pub(crate) fn environment(state: &Path) -> Vec<(String, String)> {
    read(state)
        .ok()
        .flatten()
        .map(|note| note.environment)
        .unwrap_or_default()
}
