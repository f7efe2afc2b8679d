//! What the user wants made.

use chrono::{DateTime, Utc};
use farrun_protocol::{PromptId, RunId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Most characters of a prompt's text.
pub const MAX_TEXT: usize = 10_000;

/// What the user wants made: a text, and the files it starts from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prompt {
    /// Its id.
    pub id: PromptId,
    /// Its name, a slug that names folders of outputs; unique among prompts.
    pub name: String,
    /// What is wanted, at most [`MAX_TEXT`] characters, no NUL.
    pub text: String,
    /// What is not wanted.
    pub negative: Option<String>,
    /// Input files by role (`video`, `depth`, `segmentation`, …); absolute local paths.
    pub inputs: BTreeMap<String, String>,
    /// The prompt this one was made from.
    pub parent: Option<PromptId>,
    /// The enhancement run that wrote it.
    pub made_by: Option<RunId>,
    /// When it was created.
    pub created_at: DateTime<Utc>,
}
