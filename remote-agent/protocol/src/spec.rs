//! The run spec: the fully resolved, immutable order for one run.
//!
//! Its exact bytes are hashed ([`RunSpec::canonical`]); the hash is a label of the container, so that a repeated
//! launch with another order for the same run id is noticed. It holds the names of secrets, never their values.

use crate::id::{ControllerId, PromptId, RunId, Sha256};
use crate::lease::{Placement, Wait};
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
    /// Its content.
    pub sha256: Sha256,
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

/// Most entries of [`Gpus::Devices`], and the longest of them.
const DEVICES_LIMIT: (usize, usize) = (64, 100);
/// Longest wait for a GPU that an order may name, in seconds: a year.
const LONGEST_WAIT: u64 = 366 * 24 * 3600;

/// A spec was not acceptable to an agent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} of the run spec {problem}")]
pub struct InvalidSpec {
    /// Which field.
    pub field: String,
    /// What is wrong with it.
    pub problem: String,
}

impl RunSpec {
    /// The bytes that are hashed and stored: compact JSON, fields in declaration order, maps sorted.
    pub fn canonical(&self) -> Vec<u8> {
        // Every field is a string, number, list or string-keyed map; such values always serialise.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Hash of [`Self::canonical`].
    pub fn sha256(&self) -> Sha256 {
        Sha256::of(&self.canonical())
    }

    /// Checks what both sides rely on: names, absolute targets, safe input paths, and no mount that would hand
    /// the job the host itself.
    ///
    /// # Errors
    /// The first field that is not acceptable.
    pub fn check(&self) -> Result<(), InvalidSpec> {
        let wrong = |field: &str, problem: &str| {
            Err(InvalidSpec {
                field: field.to_owned(),
                problem: problem.to_owned(),
            })
        };
        if self.format != FORMAT {
            return wrong("format", "is of another version");
        }
        if !is_word(&self.operation, "_-") {
            return wrong("operation", "is not 1 to 63 characters of a-z 0-9 _ -");
        }
        if !is_word(&self.name, "._-") {
            return wrong("name", "is not 1 to 63 characters of a-z 0-9 . _ -");
        }
        if self.image.is_empty()
            || self.image.len() > 500
            || self.image.starts_with('-')
            || self.image.chars().any(char::is_whitespace)
        {
            return wrong("image", "is not an image reference");
        }
        let mut targets = vec![self.inputs_target.as_str(), self.outputs_target.as_str()];
        targets.extend(self.mounts.iter().map(|mount| mount.target.as_str()));
        targets.extend(self.working_dir.as_deref());
        for target in targets {
            if !is_container_path(target) {
                return wrong("a target", "is not an absolute path without `..` and `:`");
            }
        }
        for mount in &self.mounts {
            // As the host will read it: without the parts that lead nowhere.
            let parts = mount.source.split('/').filter(|part| !matches!(*part, "" | "."));
            let source: String = parts.flat_map(|part| ["/", part]).collect();
            let absolute = mount.source.starts_with('/') || mount.source.starts_with("~/");
            if !absolute
                || mount.source.split('/').any(|part| part == "..")
                || mount.source.contains(['\0', ':'])
            {
                return wrong(
                    "a mount's source",
                    "is not an absolute path (or `~/…`) without `..` and `:`",
                );
            }
            let refused = ["", "/etc", "/proc", "/sys", "/dev", "/boot", "/var/run", "/run"];
            if refused.contains(&source.as_str()) || source.ends_with("docker.sock") {
                return wrong("a mount's source", "would hand the job the host itself");
            }
        }
        for input in &self.inputs {
            if !crate::manifest::is_safe_path(&input.path) {
                return wrong("an input's path", "is not a plain relative path");
            }
        }
        for path in self
            .inputs
            .iter()
            .filter_map(|input| input.parent.as_ref())
            .map(|parent| &parent.path)
        {
            if !crate::manifest::is_safe_path(path) {
                return wrong("a parent output's path", "is not a plain relative path");
            }
        }
        for name in self.env.keys().chain(&self.secret_names) {
            if name.is_empty() || name.contains(['=', '\0']) {
                return wrong("an environment name", "is empty or holds `=` or NUL");
            }
        }
        if self.env.values().any(|value| value.contains('\0'))
            || self.command.iter().any(|word| word.contains('\0'))
        {
            return wrong("a text", "holds a NUL byte");
        }
        self.check_gpus()
    }

    fn check_gpus(&self) -> Result<(), InvalidSpec> {
        let wrong = |field: &str, problem: &str| {
            Err(InvalidSpec {
                field: field.to_owned(),
                problem: problem.to_owned(),
            })
        };
        match &self.gpus {
            Gpus::None if !self.placement.is_default() => {
                return wrong("placement", "says how to choose GPUs, and the run wants none");
            }
            Gpus::Count(0) => return wrong("gpus", "is a count of 0; `none` is the word for that"),
            Gpus::Devices(devices) => {
                let (most, longest) = DEVICES_LIMIT;
                if devices.is_empty() || devices.len() > most {
                    return wrong("gpus", "does not name 1 to 64 devices");
                }
                let plain = |word: &String| {
                    !word.trim().is_empty() && word.len() <= longest && !word.contains(char::is_control)
                };
                if !devices.iter().all(plain) {
                    return wrong("gpus", "names a device by an empty, long or unprintable text");
                }
            }
            Gpus::None | Gpus::All | Gpus::Count(_) => {}
        }
        if self.placement.min_free == Some(0) {
            return wrong("placement.min_free", "is 0");
        }
        if let Wait::Seconds(seconds) = self.placement.wait
            && !(1..=LONGEST_WAIT).contains(&seconds)
        {
            return wrong("placement.wait", "is not between a second and a year");
        }
        Ok(())
    }
}

fn is_word(text: &str, punctuation: &str) -> bool {
    (1..=63).contains(&text.len())
        && text
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || punctuation.contains(c))
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
}

fn is_container_path(path: &str) -> bool {
    path.starts_with('/')
        && path.len() > 1
        && !path.contains([':', '\0'])
        && !path.split('/').any(|part| part == "..")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> RunSpec {
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
    fn wishes_that_contradict_themselves_are_refused() {
        let with = |gpus: Gpus, placement: Placement| RunSpec {
            gpus,
            placement,
            ..spec()
        };
        let waiting = |wait| Placement {
            wait,
            ..Placement::default()
        };
        for (wrong, field) in [
            (with(Gpus::None, waiting(Wait::Until)), "placement"),
            (with(Gpus::Count(0), Placement::default()), "gpus"),
            (with(Gpus::Devices(vec![]), Placement::default()), "gpus"),
            (
                with(Gpus::Devices(vec![" ".into()]), Placement::default()),
                "gpus",
            ),
            (with(Gpus::All, waiting(Wait::Seconds(0))), "placement.wait"),
            (
                with(Gpus::All, waiting(Wait::Seconds(u64::MAX))),
                "placement.wait",
            ),
        ] {
            assert_eq!(wrong.check().unwrap_err().field, field);
        }
        assert_eq!(with(Gpus::Count(2), waiting(Wait::Seconds(60))).check(), Ok(()));
    }

    #[test]
    fn mounts_that_hand_over_the_host_are_refused() {
        for source in [
            "/",
            "/etc",
            "/etc/",
            "//etc",
            "/etc/.",
            "/./",
            "/./var//run",
            "/proc",
            "/var/run/docker.sock",
            "/run",
            "relative",
            "~/../x",
            "/a:b",
        ] {
            let mut spec = spec();
            spec.mounts.push(Mount {
                source: source.into(),
                target: "/x".into(),
                read_only: true,
                create: false,
            });
            assert!(spec.check().is_err(), "{source}");
        }
    }
}
