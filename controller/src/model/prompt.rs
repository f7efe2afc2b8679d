//! What the user wants made.

use chrono::{DateTime, Utc};
use farrun_protocol::{PromptId, RunId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Most characters of a prompt's text.
pub const MAX_TEXT: usize = 10_000;

/// Why a text cannot be a prompt's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidText {
    /// It says nothing.
    #[error("the text is empty")]
    Empty,
    /// It is longer than [`MAX_TEXT`].
    #[error("the text has {0} characters; at most {most} are kept", most = MAX_TEXT)]
    TooLong(usize),
    /// No argument of a program can hold it.
    #[error("the text holds a NUL character")]
    Nul,
}

/// Checks the text of a prompt.
///
/// # Errors
/// It is empty, too long, or holds a NUL.
pub fn check_text(text: &str) -> Result<(), InvalidText> {
    let length = text.chars().count();
    if text.trim().is_empty() {
        return Err(InvalidText::Empty);
    }
    if length > MAX_TEXT {
        return Err(InvalidText::TooLong(length));
    }
    if text.contains('\0') {
        return Err(InvalidText::Nul);
    }
    Ok(())
}

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
