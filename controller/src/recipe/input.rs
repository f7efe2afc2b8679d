//! Files that a run reads.

use super::check::matches;
use super::file::{InputFrom, InputRule, Operation};
use super::resolve::{ParentRun, Request};
use super::template::{self, Values};
use farrun_protocol::{ContentId, RunId};
use std::fs::File;
use std::path::{Path, PathBuf};

/// A file that a run reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedInput {
    /// Its path below the inputs folder.
    pub path_in_inputs: String,
    /// What it is made of.
    pub source: Source,
}

/// What an input is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A file of this machine.
    Local(PathBuf),
    /// An output of an earlier run.
    Parent {
        /// The earlier run.
        run_id: RunId,
        /// Path below its outputs folder.
        path: String,
        /// Its size.
        size: u64,
        /// What its content is known by.
        content: ContentId,
    },
    /// These bytes.
    Inline(Vec<u8>),
}

/// The inputs that are given; problems are added to `problems`.
pub(super) fn given<'a>(
    operation: &'a Operation,
    request: &Request<'_>,
    problems: &mut Vec<String>,
) -> Vec<(&'a str, ResolvedInput)> {
    let mut inputs = Vec::new();
    for (role, rule) in &operation.inputs {
        let found = match rule.from {
            InputFrom::Prompt => of_prompt(role, request),
            InputFrom::Parent => of_parent(rule, request.parent),
        };
        match found {
            Ok(Some(source)) => {
                inputs.push((
                    role.as_str(),
                    ResolvedInput {
                        path_in_inputs: rule.file.clone(),
                        source,
                    },
                ));
            }
            Ok(None) if rule.required => problems.push(match rule.from {
                InputFrom::Prompt => format!("the prompt has no input `{role}`, which this operation needs"),
                InputFrom::Parent => "this operation works on an earlier run, and none is given".to_owned(),
            }),
            Ok(None) => {}
            Err(problem) => problems.push(format!("input `{role}`: {problem}")),
        }
    }
    inputs
}

fn of_prompt(role: &str, request: &Request<'_>) -> Result<Option<Source>, String> {
    let Some(path) = request.prompt.and_then(|prompt| prompt.inputs.get(role)) else {
        return Ok(None);
    };
    readable(Path::new(path))?;
    Ok(Some(Source::Local(path.into())))
}

fn readable(path: &Path) -> Result<(), String> {
    match regular(path)? {
        0 => Err(format!("`{}` is empty", path.display())),
        _ => Ok(()),
    }
}

/// Checks that a path is a regular file that can be read, by opening it: permission bits do not tell. Answers with its
/// size.
///
/// # Errors
/// Why it cannot be an input.
pub fn regular(path: &Path) -> Result<u64, String> {
    let shown = path.display();
    // Opening a pipe for reading would wait for a writer, and a device has no end.
    let kind = std::fs::metadata(path).map_err(|error| format!("cannot read `{shown}`: {error}"))?;
    if kind.is_dir() {
        return Err(format!("`{shown}` is a folder, not a file"));
    }
    if !kind.is_file() {
        return Err(format!("`{shown}` is not a regular file"));
    }
    File::open(path)
        .map(|_| kind.len())
        .map_err(|error| format!("cannot read `{shown}`: {error}"))
}

fn of_parent(rule: &InputRule, parent: Option<&ParentRun>) -> Result<Option<Source>, String> {
    let (Some(parent), Some(pattern)) = (parent, rule.output.as_deref()) else {
        return Ok(None);
    };
    let run = &parent.run_id;
    let found: Vec<_> = parent
        .outputs
        .iter()
        .filter(|output| matches(pattern, &output.path))
        .collect();
    match found.as_slice() {
        [] if !rule.required => Ok(None),
        [] => Err(format!("run `{run}` has no output `{pattern}`")),
        [output] if output.size == 0 => Err(format!("output `{}` of run `{run}` is empty", output.path)),
        [output] => match output.content() {
            Some(content) => Ok(Some(Source::Parent {
                run_id: run.clone(),
                path: output.path.clone(),
                size: output.size,
                content,
            })),
            None => Err(format!("output `{}` of run `{run}` has no hash", output.path)),
        },
        _ => Err(format!(
            "run `{run}` has {} outputs that match `{pattern}`",
            found.len()
        )),
    }
}

/// The files that are written for the run.
pub(super) fn written(
    operation: &Operation,
    values: &Values,
    problems: &mut Vec<String>,
) -> Vec<ResolvedInput> {
    let mut inputs = Vec::new();
    for file in &operation.files {
        let content = match (&file.json, &file.text) {
            (Some(json), _) => template::json(json, values).map(|value| {
                // A tree of JSON values always serialises.
                serde_json::to_vec_pretty(&value.unwrap_or_default()).unwrap_or_default()
            }),
            (None, Some(text)) => template::text(text, values).map(String::into_bytes),
            (None, None) => Ok(Vec::new()),
        };
        match content {
            Ok(bytes) => inputs.push(ResolvedInput {
                path_in_inputs: file.path.clone(),
                source: Source::Inline(bytes),
            }),
            Err(problem) => problems.push(format!("file `{}` {problem}", file.path)),
        }
    }
    inputs
}
