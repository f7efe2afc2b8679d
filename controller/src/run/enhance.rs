//! Makes a new prompt of what an enhancement wrote, whichever command brings it home.

use super::RunError;
use crate::controller::Controller;
use crate::model::prompt::check_text;
use crate::model::slug::is_prompt_name;
use crate::model::{Prompt, Run};
use crate::store::StoreError;
use farrun_protocol::PromptId;
use farrun_protocol::manifest::is_safe_path;
use farrun_protocol::spec::PromptResult;
use std::io::Read as _;
use std::path::Path;

/// A result is a prompt of at most 10,000 characters in a little JSON.
const MAX_RESULT: u64 = 1024 * 1024;
/// The name of a prompt whose own cannot be one.
const NAMELESS: &str = "enhanced";
/// Most names that are tried.
const MOST_NAMES: u32 = 10_000;

/// The prompt that was made of a run's result, if there is one.
///
/// # Errors
/// The database.
pub async fn made_by(controller: &Controller, run: &Run) -> Result<Option<Prompt>, RunError> {
    match id_of(run) {
        Some(id) => Ok(controller.store.prompt(&id).await?),
        None => Ok(None),
    }
}

/// Makes a prompt of the result of a run whose outputs are here, once: the prompt's id follows from the run's, so that of
/// two commands one makes it and both find it. The sentence says why the result is no prompt.
///
/// # Errors
/// The database.
pub(super) async fn write_back(
    controller: &Controller,
    run: &Run,
    outputs: &Path,
) -> Result<Option<Result<Prompt, String>>, RunError> {
    let (Some(rule), Some(id)) = (&run.spec.result, id_of(run)) else {
        return Ok(None);
    };
    if let Some(made) = controller.store.prompt(&id).await? {
        return Ok(Some(Ok(made)));
    }
    let text = match text(rule, outputs) {
        Ok(text) => text,
        Err(why) => return Ok(Some(Err(why))),
    };
    let parent = match &run.prompt_id {
        Some(parent) => controller.store.prompt(parent).await?,
        None => None,
    };
    let mut prompt = Prompt {
        id,
        name: rule.name.clone(),
        text,
        negative: parent.as_ref().and_then(|parent| parent.negative.clone()),
        inputs: parent
            .as_ref()
            .map(|parent| parent.inputs.clone())
            .unwrap_or_default(),
        parent: parent.map(|parent| parent.id),
        made_by: Some(run.id.clone()),
        created_at: chrono::Utc::now(),
    };
    // It may come from a host.
    let stem = match is_prompt_name(&rule.name) {
        true => rule.name.as_str(),
        false => NAMELESS,
    };
    let stem: String = stem.chars().take(43).collect();
    let mut number = 1;
    loop {
        if number > 1 {
            prompt.name = format!("{stem}_{number}");
        } else if !is_prompt_name(&prompt.name) {
            prompt.name.clone_from(&stem);
        }
        let Err(error) = controller.store.create_prompt(&prompt).await else {
            return Ok(Some(Ok(prompt)));
        };
        // Another command may have made it meanwhile, or another prompt taken its name.
        if let Some(made) = controller.store.prompt(&prompt.id).await? {
            return Ok(Some(Ok(made)));
        }
        if !matches!(error, StoreError::PromptNameTaken { .. }) || number == MOST_NAMES {
            return Err(error.into());
        }
        number += 1;
    }
}

/// The id of the prompt that a run makes.
fn id_of(run: &Run) -> Option<PromptId> {
    run.spec.result.as_ref()?;
    format!("ps_{}", run.id.as_str().strip_prefix("rs_")?)
        .parse()
        .ok()
}

/// The text of the new prompt, or why there is none.
fn text(rule: &PromptResult, outputs: &Path) -> Result<String, String> {
    if !is_safe_path(&rule.file) {
        return Err(format!("`{}` is no plain path", rule.file));
    }
    let unreadable = |error: std::io::Error| format!("`{}` cannot be read: {error}", rule.file);
    let mut bytes = Vec::new();
    std::fs::File::open(outputs.join(&rule.file))
        .and_then(|file| file.take(MAX_RESULT).read_to_end(&mut bytes))
        .map_err(unreadable)?;
    let value: serde_json::Value =
        serde_json::from_slice(&bytes).map_err(|error| format!("`{}` is no JSON: {error}", rule.file))?;
    let text = value.pointer(&rule.pointer).and_then(serde_json::Value::as_str);
    let text = text.ok_or_else(|| format!("`{}` has no text at `{}`", rule.file, rule.pointer))?;
    check_text(text).map_err(|error| error.to_string())?;
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_is_text_at_its_pointer_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let rule = |file: &str| PromptResult {
            file: file.to_owned(),
            pointer: "/a/b".to_owned(),
            name: "city".to_owned(),
        };
        for (content, expected) in [
            (r#"{"a": {"b": "a city"}}"#, Ok("a city")),
            (r#"{"a": {"b": 7}}"#, Err("no text at `/a/b`")),
            (r#"{"a": {"b": " "}}"#, Err("empty")),
            ("a city", Err("no JSON")),
        ] {
            std::fs::write(folder.path().join("made.json"), content).unwrap();
            let read = text(&rule("made.json"), folder.path());
            match (&read, expected) {
                (Ok(text), Ok(wanted)) => assert_eq!(text, wanted),
                (Err(why), Err(part)) => assert!(why.contains(part), "{why}"),
                _ => panic!("{content}: {read:?}"),
            }
        }
        assert!(
            text(&rule("missing.json"), folder.path())
                .unwrap_err()
                .contains("cannot be read")
        );
        assert!(
            text(&rule("../made.json"), &folder.path().join("x"))
                .unwrap_err()
                .contains("plain path")
        );
    }
}
