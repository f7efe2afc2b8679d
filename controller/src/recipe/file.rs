//! The format of a recipe, as it is written. Unknown keys are errors: a misspelt one must not be ignored.

use super::unit::{self, GpuNeed};
use farrun_protocol::spec::{Capture, PullPolicy};
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// Version of the format.
pub(super) const FORMAT: u32 = 1;

/// How kinds of runs are made.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Version of the file format.
    pub format: u32,
    /// Its name.
    pub name: String,
    /// What it is for, in a line.
    #[serde(default)]
    pub description: String,
    /// Image reference.
    pub image: String,
    /// When the image is fetched.
    #[serde(default)]
    pub pull: PullPolicy,
    /// What every operation's container has.
    #[serde(default)]
    pub container: Container,
    /// Parameters of every operation.
    #[serde(default)]
    pub parameters: BTreeMap<String, Parameter>,
    /// What can be run.
    pub operations: BTreeMap<String, Operation>,
}

/// A container's settings.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Container {
    /// Replaces the image's entrypoint; an empty list removes it.
    pub entrypoint: Option<Vec<String>>,
    /// Working directory.
    pub working_dir: Option<String>,
    /// User.
    pub user: Option<String>,
    /// Environment.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Folders of the host.
    #[serde(default)]
    pub mounts: Vec<Mount>,
    /// GPUs.
    pub gpus: Option<GpuNeed>,
    /// Size of `/dev/shm`.
    #[serde(default, deserialize_with = "unit::size")]
    pub shm_size: Option<u64>,
    /// Whether the host's IPC namespace is shared.
    #[serde(default)]
    pub ipc_host: bool,
    /// Memory limit.
    #[serde(default, deserialize_with = "unit::size")]
    pub memory: Option<u64>,
    /// Network mode.
    pub network: Option<String>,
    /// Longest a run may take.
    #[serde(default, deserialize_with = "unit::duration")]
    pub time_limit: Option<u64>,
    /// Time between SIGTERM and SIGKILL.
    #[serde(default, deserialize_with = "unit::duration")]
    pub grace: Option<u64>,
    /// Most bytes of the run log before it becomes a rolling tail.
    #[serde(default, deserialize_with = "unit::size")]
    pub log_cap: Option<u64>,
    /// Who captures the output.
    #[serde(default)]
    pub capture: Capture,
    /// Where the input files are, read-only.
    #[serde(default = "inputs_target")]
    pub inputs: String,
    /// Where the outputs go.
    #[serde(default = "outputs_target")]
    pub outputs: String,
}

impl Default for Container {
    fn default() -> Self {
        Self {
            entrypoint: None,
            working_dir: None,
            user: None,
            env: BTreeMap::new(),
            mounts: Vec::new(),
            gpus: None,
            shm_size: None,
            ipc_host: false,
            memory: None,
            network: None,
            time_limit: None,
            grace: None,
            log_cap: None,
            capture: Capture::default(),
            inputs: inputs_target(),
            outputs: outputs_target(),
        }
    }
}

fn inputs_target() -> String {
    "/farrun/inputs".to_owned()
}
fn outputs_target() -> String {
    "/farrun/outputs".to_owned()
}

/// A folder or file of the host inside the container.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mount {
    /// Path on the host, with placeholders.
    pub source: String,
    /// Path in the container.
    pub target: String,
    /// Whether the job may only read it.
    #[serde(default)]
    pub read_only: bool,
    /// Whether a missing folder is made.
    #[serde(default)]
    pub create: bool,
}

/// One kind of run.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Operation {
    /// What it does.
    #[serde(default)]
    pub help: String,
    /// The command.
    pub argv: Vec<ArgvItem>,
    /// Its parameters; they win over the recipe's.
    #[serde(default)]
    pub parameters: BTreeMap<String, Parameter>,
    /// Files it reads, by role.
    #[serde(default)]
    pub inputs: BTreeMap<String, InputRule>,
    /// Files that are written for it.
    #[serde(default)]
    pub files: Vec<FileRule>,
    /// What it leaves.
    #[serde(default)]
    pub outputs: Vec<OutputRule>,
    /// Which output holds the text of a new prompt.
    pub result: Option<ResultRule>,
    /// Environment beyond the container's.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// GPUs instead of the container's.
    pub gpus: Option<GpuNeed>,
    /// Time limit instead of the container's.
    #[serde(default, deserialize_with = "unit::duration")]
    pub time_limit: Option<u64>,
    /// Working directory instead of the container's.
    pub working_dir: Option<String>,
}

/// A word of the command, or words that depend on something.
#[derive(Debug, Clone)]
pub enum ArgvItem {
    /// One word.
    Word(String),
    /// Several words, or none.
    Group(Group),
}

/// Words that are there only when something is given.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// What must be given: a placeholder's name.
    pub when: Option<String>,
    /// What must not be given.
    pub unless: Option<String>,
    /// The words.
    pub args: Vec<String>,
}

impl<'de> Deserialize<'de> for ArgvItem {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ItemVisitor;
        impl<'de> Visitor<'de> for ItemVisitor {
            type Value = ArgvItem;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a word, or a table with `when` or `unless` and `args`")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<ArgvItem, E> {
                Ok(ArgvItem::Word(text.to_owned()))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ArgvItem, A::Error> {
                Group::deserialize(de::value::MapAccessDeserializer::new(map)).map(ArgvItem::Group)
            }
        }
        deserializer.deserialize_any(ItemVisitor)
    }
}

/// What a parameter holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A whole number.
    Int,
    /// A number.
    Float,
    /// A text.
    String,
    /// `true` or `false`.
    Bool,
    /// One of `choices`.
    Choice,
}

/// Something the user can set.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parameter {
    /// What it holds.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// Its value unless it is set.
    pub default: Option<toml::Value>,
    /// Whether it must be set.
    #[serde(default)]
    pub required: bool,
    /// Least value, or least number of characters.
    pub min: Option<f64>,
    /// Greatest value, or most characters.
    pub max: Option<f64>,
    /// What a choice allows.
    #[serde(default)]
    pub choices: Vec<String>,
    /// What it does.
    #[serde(default)]
    pub help: String,
}

/// Where an input comes from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InputFrom {
    /// A file of the prompt.
    #[default]
    Prompt,
    /// An output of the run that this one works on.
    Parent,
}

/// A file that an operation reads.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputRule {
    /// Where it comes from.
    #[serde(default)]
    pub from: InputFrom,
    /// Whether it must be given.
    #[serde(default)]
    pub required: bool,
    /// Its path below the inputs folder.
    pub file: String,
    /// With `from = "parent"`: path of the output, `*` for any characters but `/`.
    pub output: Option<String>,
    /// What it is.
    #[serde(default)]
    pub help: String,
}

/// A file that is written for an operation.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileRule {
    /// Its path below the inputs folder.
    pub path: String,
    /// Its content as JSON.
    pub json: Option<toml::Value>,
    /// Its content as text.
    pub text: Option<String>,
}

/// A file that an operation leaves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutputRule {
    /// Its path below the outputs folder.
    pub path: String,
    /// Whether the run failed without it.
    #[serde(default)]
    pub required: bool,
    /// Whether it is what the user wants to look at.
    #[serde(default)]
    pub primary: bool,
    /// What it is.
    #[serde(default)]
    pub help: String,
}

/// Which output holds the text of a new prompt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResultRule {
    /// A JSON file below the outputs folder.
    pub file: String,
    /// JSON pointer to the text in it.
    pub pointer: String,
}
