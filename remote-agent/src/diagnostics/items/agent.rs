//! What this account's agents did about the run, each step with its time. They keep no log of their own: every step
//! leaves a file, which says when, or is as old as the step.

use crate::diagnostics::item::{Found, Looked};
use crate::notify;
use crate::record::{RecordError, RunFolder};
use crate::watch::living;
use chrono::{DateTime, SubsecRound as _, Utc};
use farrun_protocol::diagnostics::AgentEvent;
use std::collections::BTreeMap;
use std::path::Path;

/// Steps whose files say nothing of the time.
const BY_FILE: [(&str, &str); 7] = [
    ("ordered", "spec.json"),
    ("prepared", "record/generation"),
    ("image_there", "image-digest"),
    ("claimed", "record/started"),
    ("adopted", "adopted"),
    ("settled", "settled.json"),
    ("outputs_listed", "manifest.json"),
];

/// A JSON object a line, oldest first.
pub(in crate::diagnostics) fn events(run: &RunFolder) -> Looked {
    let mut steps = Steps(Vec::new());
    let mut unread = Vec::new();
    for (event, file) in BY_FILE {
        let path = run.path().join(file);
        // PID 1 claims a run by what it writes; the file is there before.
        let is_done = event != "claimed" || run.claimed();
        if let Some(at) = modified(&path).filter(|_| is_done) {
            steps.0.push(AgentEvent {
                by_file: true,
                ..AgentEvent::new(at, event)
            });
        }
    }
    let mut had = |what: &str, step: Result<(), RecordError>| {
        if let Err(error) = step {
            unread.push(format!("{what}: {error}"));
        }
    };
    had("lease", steps.lease(run));
    had("start", steps.start(run));
    had("stop", steps.stop(run));
    had("end of the job", steps.job(run));
    had("end of the run", steps.verdict(run));
    if let Some(notified) = notify::told(run).filter(|_| run.path().join("notified").exists()) {
        let outcome = serde_json::to_value(&notified.outcome).unwrap_or_default();
        steps.add(notified.at, "notified", &[("outcome", outcome.to_string())]);
    }
    if let Some(observer) = living(run.state()) {
        let observer = observer.facts(run.state());
        let detail = [("pid", observer.pid.to_string()), ("version", observer.version)];
        steps.add(observer.since, "observer_started", &detail);
    }
    steps.0.sort_by_key(|step| step.at);
    let lines = steps.0.iter().filter_map(|step| serde_json::to_string(step).ok());
    let text = lines.fold(String::new(), |text, line| text + &line + "\n");
    Ok(match unread.is_empty() {
        true => Found::Whole(text.into_bytes()),
        false => Found::Part(text.into_bytes(), unread.join("; ")),
    })
}

struct Steps(Vec<AgentEvent>);

impl Steps {
    fn add(&mut self, at: DateTime<Utc>, event: &str, detail: &[(&str, String)]) {
        let detail: BTreeMap<String, String> = detail
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect();
        self.0.push(AgentEvent {
            detail,
            ..AgentEvent::new(at, event)
        });
    }

    fn lease(&mut self, run: &RunFolder) -> Result<(), RecordError> {
        if let Some(lease) = run.lease()? {
            let gpus: Vec<&str> = lease.gpus.iter().map(|gpu| gpu.uuid.as_str()).collect();
            let detail = [("gpus", gpus.join(" ")), ("shared", lease.shared.to_string())];
            self.add(lease.since, "gpus_given", &detail);
        }
        Ok(())
    }

    fn start(&mut self, run: &RunFolder) -> Result<(), RecordError> {
        if let Some(intent) = run.start_intent()? {
            let boot = intent.boot_id.unwrap_or_default();
            let detail = [("container", intent.container_id), ("boot", boot)];
            self.add(intent.at, "start_ordered", &detail);
        }
        Ok(())
    }

    fn stop(&mut self, run: &RunFolder) -> Result<(), RecordError> {
        if run.stop_requested()
            && let Some(at) = run.stop_requested_at()?
        {
            self.add(at, "stop_requested", &[]);
        }
        Ok(())
    }

    fn job(&mut self, run: &RunFolder) -> Result<(), RecordError> {
        let Some(exit) = run.exit()? else { return Ok(()) };
        if let Some(at) = exit.started_at {
            self.add(at, "job_started", &[]);
        }
        let number = |number: Option<i32>| number.map(|number| number.to_string());
        let forwarded: Vec<String> = exit.forwarded.iter().map(ToString::to_string).collect();
        let detail = [
            ("code", number(exit.code)),
            ("signal", number(exit.signal)),
            ("not_started", exit.exec_error.map(|error| format!("{error:?}"))),
            ("timed_out", exit.timed_out.then(|| "true".to_owned())),
            ("passed_on", (!forwarded.is_empty()).then(|| forwarded.join(" "))),
        ];
        let detail: Vec<(&str, String)> = detail
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)))
            .collect();
        self.add(exit.ended_at, "job_ended", &detail);
        Ok(())
    }

    /// What was decided, beside when.
    fn verdict(&mut self, run: &RunFolder) -> Result<(), RecordError> {
        let settled = run.settled()?;
        let step = self.0.iter_mut().find(|step| step.event == "settled");
        if let (Some(step), Some(settled)) = (step, settled) {
            let reason = settled.verdict.reason.code().to_owned();
            step.detail.insert("reason".to_owned(), reason);
        }
        Ok(())
    }
}

fn modified(path: &Path) -> Option<DateTime<Utc>> {
    let at: DateTime<Utc> = std::fs::metadata(path).ok()?.modified().ok()?.into();
    Some(at.trunc_subsecs(3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_come_in_their_order_and_what_cannot_be_read_is_said() {
        let state = tempfile::tempdir().unwrap();
        let run = RunFolder::new(state.path(), &"rs_abcdefgh".parse().unwrap());
        run.make().unwrap();
        run.make_skeleton().unwrap();
        let intent = farrun_protocol::record::StartIntent {
            format: farrun_protocol::record::FORMAT,
            container_id: "c0ffee".into(),
            boot_id: None,
            at: Utc::now() - chrono::TimeDelta::hours(1),
        };
        run.write_start_intent(&intent).unwrap();
        run.write_stop_intent(&"co_mine0000".parse().unwrap()).unwrap();
        let told = |looked: Looked| match looked.unwrap() {
            Found::Whole(bytes) | Found::Part(bytes, _) | Found::Redacted(bytes) => {
                let text = String::from_utf8(bytes).unwrap();
                let events = text.lines().map(|line| serde_json::from_str(line).unwrap());
                events.collect::<Vec<AgentEvent>>()
            }
        };
        let steps = told(events(&run));
        let names: Vec<&str> = steps.iter().map(|step| step.event.as_str()).collect();
        assert_eq!(names, ["start_ordered", "prepared", "stop_requested"]);
        assert_eq!(steps[0].detail["container"], "c0ffee");
        assert!(!steps[0].by_file && steps[1].by_file);
        std::fs::write(run.path().join("lease.json"), "{").unwrap();
        let looked = events(&run);
        assert!(
            matches!(&looked, Ok(Found::Part(_, why)) if why.contains("lease.json")),
            "{looked:?}"
        );
        assert_eq!(told(looked).len(), 3);
    }
}
