//! What the state folder holds about the run and about others: order, end, leases, series.

use crate::diagnostics::environment;
use crate::diagnostics::item::{Found, Looked};
use crate::diagnostics::scene::Scene;
use crate::record::RunFolder;
use crate::serve::{noted, stored_facts};
use farrun_protocol::RunId;
use serde_json::Value;
use std::path::Path;

/// Most unfinished runs that are listed.
const RUNS: usize = 200;
/// Bytes of a series that are kept: the newest.
const SERIES: u64 = 240 * 1024;

/// The order.
pub(in crate::diagnostics) fn spec(scene: &Scene) -> Looked {
    let spec = scene.spec.as_ref().ok_or("there is no order")?;
    let mut document = serde_json::to_value(spec).map_err(|error| error.to_string())?;
    if let Some(Value::Object(variables)) = document.get_mut("env") {
        for (name, value) in variables {
            if let Value::String(text) = value {
                *text = environment::value(&scene.redactor, name, text);
            }
        }
    }
    scene.redactor.json(&mut document);
    Found::json(&document)
}

/// What agents were asked to do lately.
pub(in crate::diagnostics) fn requests(state: &Path) -> Looked {
    let noted = noted(state).ok_or("nothing was noted")?;
    Ok(Found::Whole(noted))
}

/// What the engine said while it fetched the image.
pub(in crate::diagnostics) fn pull(run: &RunFolder) -> Looked {
    let path = run.pull_log();
    std::fs::read(path)
        .map(Found::Whole)
        .map_err(|error| error.to_string())
}

/// How it ended.
pub(in crate::diagnostics) fn settled(scene: &Scene) -> Looked {
    let settled = scene.settled.as_ref().ok_or("it has not ended")?;
    let mut document = serde_json::to_value(settled).map_err(|error| error.to_string())?;
    scene.redactor.json(&mut document);
    Found::json(&document)
}

/// Unfinished runs of the account, as the folder tells them.
pub(in crate::diagnostics) fn leases(state: &Path) -> Looked {
    let entries = std::fs::read_dir(state.join("runs")).map_err(|error| error.to_string())?;
    let facts: Vec<_> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<RunId>().ok())
        .map(|run_id| RunFolder::new(state, &run_id))
        .filter(RunFolder::is_open)
        .filter_map(|run| stored_facts(state, &run).ok()?)
        .take(RUNS)
        .collect();
    Found::json(&facts)
}

/// The newest samples of the run.
pub(in crate::diagnostics) fn series(run: &RunFolder) -> Looked {
    use std::io::{Read as _, Seek as _, SeekFrom};
    let path = run.path().join("series.jsonl");
    let mut file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err("no sample was taken; a run without GPUs has none".to_owned());
        }
        Err(error) => return Err(error.to_string()),
    };
    let length = file.metadata().map_err(|error| error.to_string())?.len();
    let from = length.saturating_sub(SERIES);
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(from))
        .and_then(|_| file.take(SERIES).read_to_end(&mut bytes))
        .map_err(|error| error.to_string())?;
    if from == 0 {
        return Ok(Found::Whole(bytes));
    }
    let line = bytes
        .iter()
        .position(|byte| *byte == b'\n')
        .map_or(0, |at| at + 1);
    bytes.drain(..line);
    Ok(Found::Part(bytes, "only the newest samples".to_owned()))
}
