//! What an engine is, kept beside the account's other files: an engine that is asked starts two programs to find out
//! their versions, which costs more than everything else of a short conversation together.
//!
//! What is kept counts for the same process of the engine and not for long: a few of its settings can be loaded anew
//! while it runs.

use super::process::EngineProcess;
use crate::record::read_bounded;
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Version of the file.
const FORMAT: u32 = 1;
/// How long what was heard is believed.
const BELIEVED: TimeDelta = TimeDelta::minutes(10);
/// Longest file that is read.
const LONGEST: u64 = 64 * 1024;

/// What an engine said about its settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Settings {
    /// Whether containers outlive a restart of it.
    pub(super) live_restore: bool,
    /// Whether it knows a runtime or devices of NVIDIA.
    pub(super) gpus: bool,
    /// Folder of its images and containers.
    pub(super) root: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Known {
    format: u32,
    at: DateTime<Utc>,
    address: String,
    process: EngineProcess,
    settings: Settings,
}

/// What the engine at `address` said, when it is the same process as then.
pub(super) fn recall(
    file: &Path,
    address: &str,
    process: &EngineProcess,
    now: DateTime<Utc>,
) -> Option<Settings> {
    let bytes = read_bounded(file, LONGEST).ok()??;
    let known: Known = serde_json::from_slice(&bytes).ok()?;
    let age = now.signed_duration_since(known.at);
    let young = age >= TimeDelta::zero() && age < BELIEVED;
    let same = known.format == FORMAT && known.address == address && known.process == *process;
    (young && same).then_some(known.settings)
}

/// What the engine at `address` said last, whichever process it was.
pub(super) fn last(file: &Path, address: &str) -> Option<Settings> {
    let bytes = read_bounded(file, LONGEST).ok()??;
    let known: Known = serde_json::from_slice(&bytes).ok()?;
    (known.format == FORMAT && known.address == address).then_some(known.settings)
}

/// Keeps what an engine said. Best effort, and not synced: without it the engine is asked again.
pub(super) fn keep(file: &Path, address: &str, process: EngineProcess, settings: &Settings) {
    let known = Known {
        format: FORMAT,
        at: Utc::now(),
        address: address.to_owned(),
        process,
        settings: settings.clone(),
    };
    let temporary = file.with_extension(uuid::Uuid::new_v4().simple().to_string());
    let json = serde_json::to_vec(&known).unwrap_or_default();
    let kept = std::fs::write(&temporary, json).and_then(|()| std::fs::rename(&temporary, file));
    if kept.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_counts_for_one_process_and_not_for_long() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("engine.json");
        let process = |pid| EngineProcess {
            boot: "boot".into(),
            pid,
            started: 7,
        };
        let settings = Settings {
            live_restore: true,
            gpus: false,
            root: "/var/lib/docker".into(),
        };
        let recall = |address: &str, pid, later: TimeDelta| {
            super::recall(&file, address, &process(pid), Utc::now() + later)
        };
        assert_eq!(recall("unix:///a", 1, TimeDelta::zero()), None);
        keep(&file, "unix:///a", process(1), &settings);
        assert_eq!(recall("unix:///a", 1, TimeDelta::seconds(1)), Some(settings));
        assert_eq!(
            recall("unix:///a", 2, TimeDelta::seconds(1)),
            None,
            "another process"
        );
        assert_eq!(
            recall("unix:///b", 1, TimeDelta::seconds(1)),
            None,
            "another engine"
        );
        assert_eq!(recall("unix:///a", 1, TimeDelta::minutes(11)), None, "long ago");
        assert_eq!(
            recall("unix:///a", 1, TimeDelta::minutes(-1)),
            None,
            "from the future"
        );
        std::fs::write(&file, b"{").unwrap();
        assert_eq!(recall("unix:///a", 1, TimeDelta::seconds(1)), None, "damaged");
    }
}
