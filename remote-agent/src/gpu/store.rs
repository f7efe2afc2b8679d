//! The files of the cache folder. They are worth nothing after a power loss, so they are not forced to the disk; each
//! is replaced whole. What is damaged is read anew, what a newer farrun wrote is left alone.

use super::fields::Fields;
use crate::record::{RecordError, read_json};
use chrono::{DateTime, Utc};
use farrun_protocol::gpu::{
    DeviceFacts, DriverFacts, FORMAT, Gpu, GpuProcess, GpuTrouble, Holder, TroubleKind,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

const SAMPLE: &str = "sample.json";

/// What the newest reading found, and how it went.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Stored {
    pub(super) format: u32,
    /// The boot in which the times of this file are counted.
    pub(super) boot_id: String,
    /// The newest good reading.
    pub(super) sample: Option<Sample>,
    /// The newest reading, good or not.
    pub(super) attempt: Attempt,
    /// Whose the processes of the sample were.
    #[serde(default)]
    pub(super) holders: Vec<KnownHolder>,
}

/// One reading of the GPUs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Sample {
    pub(super) at: DateTime<Utc>,
    /// When it was complete, by the clock of the boot.
    pub(super) ended: u64,
    pub(super) took: u64,
    pub(super) driver: Option<DriverFacts>,
    pub(super) gpus: Vec<Gpu>,
    pub(super) processes: Vec<GpuProcess>,
    /// Whether the processes could not be read, so that their absence says nothing.
    #[serde(default)]
    pub(super) processes_unknown: bool,
}

/// A try to read them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Attempt {
    /// When it ended, by the clock of the boot.
    pub(super) ended: u64,
    pub(super) trouble: Option<GpuTrouble>,
    /// When the trouble began, for one that lasts.
    #[serde(default)]
    pub(super) since: Option<u64>,
    /// Tries in a row that did not end in time.
    #[serde(default)]
    pub(super) failures: u32,
}

/// Whose a process is, found out once for its life.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct KnownHolder {
    pub(super) pid: u32,
    pub(super) start: u64,
    pub(super) holder: Holder,
}

/// What changes only with the driver: kept for an hour.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Facts {
    pub(super) format: u32,
    pub(super) boot_id: String,
    /// Line of the kernel about its driver.
    pub(super) kernel_driver: String,
    /// Moment by the clock of the boot.
    pub(super) taken: u64,
    /// Fields that the driver knows.
    pub(super) fields: Vec<String>,
    /// Newest CUDA version; none before it was asked for, and within it none when the driver did not say.
    pub(super) cuda: Option<Option<String>>,
    /// How the reading went.
    pub(super) class: Option<TroubleKind>,
}

impl Facts {
    /// Nothing known yet.
    pub(super) fn new(boot_id: String, kernel_driver: String, taken: u64) -> Self {
        Self {
            format: FORMAT,
            boot_id,
            kernel_driver,
            taken,
            fields: Fields::default().names(),
            cuda: None,
            class: None,
        }
    }
}

/// What jobs compute with, as it was found out: kept for an hour.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Detected {
    pub(super) format: u32,
    /// Version of the agent.
    pub(super) version: String,
    pub(super) host_id: String,
    pub(super) boot_id: String,
    /// Line of the kernel about its driver.
    pub(super) driver: String,
    /// Moment by the host's clock.
    pub(super) taken_at: DateTime<Utc>,
    /// Moment by the clock of the boot.
    pub(super) taken: u64,
    pub(super) facts: DeviceFacts,
}

/// The cache folder.
#[derive(Debug, Clone)]
pub(super) struct Store {
    folder: PathBuf,
    /// `sample.json` as it was read last: one question looks at it many times.
    newest: Arc<Mutex<Option<Parsed>>>,
}

/// A file, and what it holds; nothing when it is damaged.
type Parsed = (Version, Option<Stored>);

/// What tells a file from the one that took its place.
type Version = (u64, u64, u64, i64, i64);

fn version(path: &Path) -> Option<Version> {
    use std::os::unix::fs::MetadataExt as _;
    let found = std::fs::metadata(path).ok()?;
    Some((
        found.dev(),
        found.ino(),
        found.len(),
        found.ctime(),
        found.ctime_nsec(),
    ))
}

impl Store {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self {
            folder,
            newest: Arc::default(),
        }
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn lock_path(&self) -> PathBuf {
        self.folder.join("refresh.lock")
    }

    /// Makes the folder. Not with its parents: a state folder that was removed stays so.
    pub(super) fn make(&self) -> Result<(), RecordError> {
        let made = std::fs::DirBuilder::new().mode(0o700).create(&self.folder);
        match made {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
            made => made.map_err(RecordError::io(&self.folder)),
        }
    }

    pub(super) fn sample(&self) -> Option<Stored> {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        // Looked at before it is read: one that is replaced meanwhile is read again the next time.
        let version = version(&self.folder.join(SAMPLE))?;
        if let Some((_, stored)) = newest.as_ref().filter(|(known, _)| *known == version) {
            return stored.clone();
        }
        let stored: Option<Stored> = self.read(SAMPLE);
        *newest = Some((version, stored.clone()));
        stored
    }

    pub(super) fn write_sample(&self, stored: &Stored) -> Result<(), RecordError> {
        self.write(SAMPLE, stored)
    }

    pub(super) fn facts(&self) -> Option<Facts> {
        self.read("facts.json")
    }

    pub(super) fn write_facts(&self, facts: &Facts) -> Result<(), RecordError> {
        self.write("facts.json", facts)
    }

    pub(super) fn detected(&self) -> Option<Detected> {
        self.read("device.json")
    }

    pub(super) fn write_detected(&self, detected: &Detected) -> Result<(), RecordError> {
        self.write("device.json", detected)
    }

    /// What is damaged, newer or not there is none.
    fn read<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        read_json(&self.folder.join(name), FORMAT).unwrap_or_default()
    }

    fn write<T: Serialize>(&self, name: &str, value: &T) -> Result<(), RecordError> {
        let path = self.folder.join(name);
        if let Err(error @ RecordError::Newer { .. }) = read_json::<serde::de::IgnoredAny>(&path, FORMAT) {
            return Err(error);
        }
        replace(&path, value)
    }
}

/// Replaces a file whole. Each file has one writer at a time, so one temporary name will do, and what a killed writer
/// left behind is overwritten.
pub(super) fn replace<T: Serialize>(path: &Path, value: &T) -> Result<(), RecordError> {
    let bytes = serde_json::to_vec(value).map_err(|error| RecordError::Damaged {
        path: path.to_owned(),
        detail: error.to_string(),
    })?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = path.with_file_name(format!(".{name}.new"));
    std::fs::write(&temporary, bytes)
        .and_then(|()| std::fs::rename(&temporary, path))
        .map_err(RecordError::io(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        Facts::new("boot".into(), "driver".into(), 7)
    }

    #[test]
    fn what_was_written_is_read_and_damage_is_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path().join("gpu"));
        assert_eq!(store.facts(), None);
        store.make().unwrap();
        store.write_facts(&facts()).unwrap();
        assert_eq!(store.facts(), Some(facts()));
        let path = store.folder().join("facts.json");
        let whole = std::fs::read(&path).unwrap();
        for length in 0..whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            assert_eq!(store.facts(), None, "{length}");
        }
        std::fs::write(&path, b"\xff\0").unwrap();
        store.write_facts(&facts()).unwrap();
        assert_eq!(store.facts(), Some(facts()));
    }

    #[test]
    fn a_sample_that_was_replaced_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path().to_owned());
        let reader = store.clone();
        let stored = |ended| Stored {
            format: FORMAT,
            boot_id: "boot".into(),
            sample: None,
            attempt: Attempt {
                ended,
                trouble: None,
                since: None,
                failures: 0,
            },
            holders: Vec::new(),
        };
        assert_eq!(reader.sample(), None);
        for ended in 10..60 {
            store.write_sample(&stored(ended)).unwrap();
            assert_eq!(reader.sample(), Some(stored(ended)));
            assert_eq!(reader.sample(), Some(stored(ended)));
        }
        std::fs::remove_file(folder.path().join(SAMPLE)).unwrap();
        assert_eq!(reader.sample(), None);
    }

    #[test]
    fn a_newer_file_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path().to_owned());
        let path = folder.path().join("facts.json");
        let newer = br#"{"format":2,"fields":"all"}"#;
        std::fs::write(&path, newer).unwrap();
        assert_eq!(store.facts(), None);
        assert!(matches!(
            store.write_facts(&facts()),
            Err(RecordError::Newer { format: 2, .. })
        ));
        assert_eq!(std::fs::read(&path).unwrap(), newer);
    }
}
