//! The run spec: the fully resolved, immutable order for one run.
//!
//! Its exact bytes are hashed ([`RunSpec::canonical`]); the hash is a label of the container, so that a repeated
//! launch with another order for the same run id is noticed. It holds the names of secrets, never their values.

mod check;

pub use check::InvalidSpec;

use crate::content::ContentId;
use crate::id::{ControllerId, PromptId, RunId, Sha256};
use crate::lease::Placement;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Version of the file.
pub const FORMAT: u32 = 1;

/// The log cap unless an order says otherwise: 100 MB.
pub const DEFAULT_LOG_CAP: u64 = 100_000_000;

/// How long a job may take to end after SIGTERM, in seconds, unless an order says otherwise.
pub const DEFAULT_GRACE: u64 = 10;

/// The order for one run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunSpec {
    /// [`FORMAT`].
    pub format: u32,
    /// The run this is the order for.
    pub run_id: RunId,
    /// What the user wants made; none for `farrun run IMAGE`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_id: Option<PromptId>,
    /// Who ordered it.
    pub controller_id: ControllerId,
    /// `inference`, `upscale`, `enhance`, `run` or what a recipe names; at most 63 characters `[a-z0-9_-]`.
    pub operation: String,
    /// Name of the prompt or image, for people; at most 63 characters `[a-z0-9._-]`.
    pub name: String,
    /// When the order was made.
    pub created_at: DateTime<Utc>,
    /// Recipe it was resolved from, and with which parameters; for people and for a repetition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipe: Option<String>,
    /// Every parameter of the recipe's operation with its value.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, serde_json::Value>,
    /// Image reference as an engine understands it.
    pub image: String,
    /// When the image is fetched from its registry.
    #[serde(default)]
    pub pull: PullPolicy,
    /// Replaces the image's entrypoint when present.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// Replaces the image's command when not empty.
    #[serde(default)]
    pub command: Vec<String>,
    /// Working directory inside the container; the image's own when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// User inside the container; the image's own when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Environment, without secrets.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Names of environment variables whose values travel with [`crate::message::Launch::secrets`].
    #[serde(default)]
    pub secret_names: Vec<String>,
    /// Folders and files of the host that the job sees.
    #[serde(default)]
    pub mounts: Vec<Mount>,
    /// Files the job reads, placed in the run's `inputs/` folder.
    #[serde(default)]
    pub inputs: Vec<Input>,
    /// Where `inputs/` is mounted in the container, read-only; absolute.
    pub inputs_target: String,
    /// Where `outputs/` is mounted in the container; absolute.
    pub outputs_target: String,
    /// Paths below `outputs/` that must exist for the run to have succeeded.
    #[serde(default)]
    pub required_outputs: Vec<String>,
    /// GPUs the job gets.
    #[serde(default)]
    pub gpus: Gpus,
    /// What else it wants of them.
    #[serde(default, skip_serializing_if = "Placement::is_default")]
    pub placement: Placement,
    /// Size of `/dev/shm` in bytes; the engine's default (64 MiB) when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shm_size: Option<u64>,
    /// Whether the job shares the host's IPC namespace.
    #[serde(default)]
    pub ipc_host: bool,
    /// Memory limit in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_limit: Option<u64>,
    /// Network mode as the engine understands it; its default when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// Seconds the job may run before it gets SIGTERM, and SIGKILL after the grace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_limit: Option<u64>,
    /// Seconds between SIGTERM and SIGKILL.
    #[serde(default = "default_grace")]
    pub grace: u64,
    /// Bytes of `run.log`; what a job writes beyond goes to a rolling tail of 4 MiB.
    #[serde(default = "default_log_cap")]
    pub log_cap: u64,
    /// Who captures the output.
    #[serde(default)]
    pub capture: Capture,
    /// Which output holds the text of a new prompt, for the controller that brings it home.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<PromptResult>,
}

fn default_grace() -> u64 {
    DEFAULT_GRACE
}

fn default_log_cap() -> u64 {
    DEFAULT_LOG_CAP
}

impl RunSpec {
    /// The bytes that are hashed and stored: compact JSON, fields in declaration order, maps sorted.
    pub fn canonical(&self) -> Vec<u8> {
        // Every field is a string, number, list or string-keyed map; such values always serialise.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Most bytes that the log of this run can have, whatever its job writes.
    pub fn longest_log(&self) -> u64 {
        self.log_cap.saturating_add(crate::log::BEYOND_CAP)
    }

    /// Hash of [`Self::canonical`].
    pub fn sha256(&self) -> Sha256 {
        Sha256::of(&self.canonical())
    }
}

/// When an image is fetched.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PullPolicy {
    /// Only when the host does not have it.
    #[default]
    Missing,
    /// Never: it must be there.
    Never,
    /// Before every run.
    Always,
}

/// Who captures a job's output.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Capture {
    /// The agent is PID 1 of the container and writes every byte to `run.log`.
    #[default]
    Init,
    /// The engine's `local` log driver; for images that insist on being PID 1. Bytes may be lost when the engine
    /// restarts, and exit evidence is the engine's word.
    Docker,
}

/// An output that holds the text of a new prompt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromptResult {
    /// A JSON file below `outputs/`.
    pub file: String,
    /// JSON pointer to the text in it.
    pub pointer: String,
    /// Name of the new prompt, if it is still free.
    pub name: String,
}

/// A folder or file of the host inside the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Path on the host; absolute, or `~/…` for the account's home.
    pub source: String,
    /// Absolute path in the container.
    pub target: String,
    /// Whether the job may only read it.
    #[serde(default)]
    pub read_only: bool,
    /// Whether a missing source is made as an empty folder rather than refused.
    #[serde(default)]
    pub create: bool,
}

/// A file the job reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Input {
    /// Path below the run's `inputs/`; see [`crate::manifest::is_safe_path`].
    pub path: String,
    /// Its content: a field `sha256` or `blocks`.
    #[serde(flatten)]
    pub content: ContentId,
    /// Its size in bytes.
    pub size: u64,
    /// An output of an earlier run on this host that had this content; used instead of a blob when it still has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<ParentOutput>,
}

/// Names an output file of an earlier run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParentOutput {
    /// The earlier run.
    pub run_id: RunId,
    /// Path below its `outputs/`.
    pub path: String,
}

/// GPUs of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gpus {
    /// None.
    #[default]
    None,
    /// Every GPU of the host.
    All,
    /// This many, whichever are free.
    Count(u32),
    /// Exactly these, by UUID (`GPU-…` or `MIG-…`), a UUID's beginning, index, or a part of the model's name.
    Devices(Vec<String>),
}

impl Gpus {
    /// The order in words; the label [`crate::layout::LABEL_GPUS`] names what was given.
    pub fn label(&self) -> String {
        match self {
            Self::None => "none".to_owned(),
            Self::All => "all".to_owned(),
            Self::Count(count) => count.to_string(),
            Self::Devices(devices) => devices.join(","),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn spec() -> RunSpec {
        serde_json::from_value(serde_json::json!({
            "format": 1, "run_id": "rs_abcdefgh", "controller_id": "co_abcdefgh", "operation": "inference",
            "name": "city", "created_at": "2026-01-02T03:04:05Z", "image": "demo:1",
            "inputs_target": "/farrun/inputs", "outputs_target": "/farrun/outputs",
        }))
        .unwrap()
    }

    #[test]
    fn the_stored_form_is_frozen() {
        assert_eq!(
            String::from_utf8(spec().canonical()).unwrap(),
            concat!(
                r#"{"format":1,"run_id":"rs_abcdefgh","controller_id":"co_abcdefgh","operation":"inference","name":"city","#,
                r#""created_at":"2026-01-02T03:04:05Z","image":"demo:1","pull":"missing","command":[],"env":{},"secret_names":[],"#,
                r#""mounts":[],"inputs":[],"inputs_target":"/farrun/inputs","outputs_target":"/farrun/outputs","required_outputs":[],"#,
                r#""gpus":"none","ipc_host":false,"grace":10,"log_cap":100000000,"capture":"init"}"#
            )
        );
        assert_eq!(spec().check(), Ok(()));
    }

    #[test]
    fn inputs_keep_the_form_that_older_orders_have() {
        let digits = "0".repeat(64);
        for field in ["sha256", "blocks"] {
            let stored = format!(r#"{{"path":"a","{field}":"{digits}","size":9000000}}"#);
            let input: Input = serde_json::from_str(&stored).unwrap();
            assert_eq!(serde_json::to_string(&input).unwrap(), stored);
        }
        assert!(serde_json::from_str::<Input>(r#"{"path":"a","size":1}"#).is_err());
    }
}
