//! What agents of this account were asked to do, kept for a while: names and runs, nothing of what was sent.

use crate::record::read_bounded;
use chrono::{SecondsFormat, Utc};
use farrun_protocol::{Request, RunId};
use serde::Serialize;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Length beyond which the file becomes the older one.
const MOST: u64 = 128 * 1024;

/// A line of the file.
#[derive(Debug, Serialize)]
struct Asked<'a> {
    at: String,
    pid: u32,
    request: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    run_id: Option<&'a RunId>,
}

/// Notes a request that changes something, beside what it does. Best effort.
pub(super) fn note(state: &Path, request: &Request) {
    let Some((name, run_id)) = named(request) else {
        return;
    };
    let line = Asked {
        at: Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true),
        pid: std::process::id(),
        request: name,
        run_id,
    };
    let (state, line) = (state.to_owned(), serde_json::to_string(&line).unwrap_or_default());
    tokio::task::spawn_blocking(move || append(&state, &line));
}

/// What was noted, newest last.
pub(crate) fn noted(state: &Path) -> Option<Vec<u8>> {
    let read = |path: PathBuf| read_bounded(&path, 2 * MOST).ok().flatten();
    let (older, newer) = (read(older(state)), read(newer(state)));
    if older.is_none() && newer.is_none() {
        return None;
    }
    Some([older.unwrap_or_default(), newer.unwrap_or_default()].concat())
}

/// Requests that only look are not kept: they come by the second.
fn named(request: &Request) -> Option<(&'static str, Option<&RunId>)> {
    Some(match request {
        Request::Hello(_) => ("hello", None),
        Request::CommitInput { .. } => ("commit_input", None),
        Request::Launch(order) => ("launch", Some(&order.spec.run_id)),
        Request::StopRun {
            run_id, kill: false, ..
        } => ("stop", Some(run_id)),
        Request::StopRun {
            run_id, kill: true, ..
        } => ("kill", Some(run_id)),
        Request::Outputs { run_id } => ("outputs", Some(run_id)),
        Request::Diagnose { run_id, anew } => {
            (if *anew { "diagnose_anew" } else { "diagnose" }, run_id.as_ref())
        }
        Request::Adopt { run_id } => ("adopt", Some(run_id)),
        Request::Collect(collect) if !collect.dry_run => ("collect", collect.run_ids.first()),
        Request::SetHook(_) => ("set_hook", None),
        Request::SetResidence { .. } => ("set_residence", None),
        Request::Doctor => ("doctor", None),
        _ => return None,
    })
}

fn newer(state: &Path) -> PathBuf {
    state.join("requests.jsonl")
}

fn older(state: &Path) -> PathBuf {
    state.join("requests.1.jsonl")
}

fn append(state: &Path, line: &str) {
    let path = newer(state);
    if std::fs::metadata(&path).is_ok_and(|found| found.len() > MOST) {
        // Of two that do this at once, one has nothing left to move.
        let _ = std::fs::rename(&path, older(state));
    }
    let mut options = std::fs::File::options();
    let opened = options.append(true).create(true).mode(0o600).open(&path);
    if let Ok(mut file) = opened {
        let _ = file.write_all(format!("{line}\n").as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_kept() {
        let state = tempfile::tempdir().unwrap();
        assert_eq!(noted(state.path()), None);
        for number in 0..40_000 {
            append(state.path(), &format!("{{\"number\":{number}}}"));
        }
        let kept = String::from_utf8(noted(state.path()).unwrap()).unwrap();
        let lines: Vec<&str> = kept.lines().collect();
        assert_eq!(lines.last(), Some(&"{\"number\":39999}"));
        assert!(kept.len() as u64 <= 2 * MOST + 100 && lines.len() > 4000);
        assert!(!lines.contains(&"{\"number\":0}"));
    }

    #[test]
    fn what_only_looks_is_left_out() {
        let run_id: RunId = "rs_abcdefgh".parse().unwrap();
        assert!(named(&Request::Host).is_none());
        let stop = Request::StopRun {
            run_id: run_id.clone(),
            grace: 1,
            kill: true,
        };
        assert_eq!(named(&stop), Some(("kill", Some(&run_id))));
    }
}
