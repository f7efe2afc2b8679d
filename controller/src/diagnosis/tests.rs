//! What is common to the tests: a run, and folders of evidence.

mod benign;
mod documented;
mod facts;
mod host;
mod hostile;
mod messages;
mod particulars;
mod records;
mod wear;
mod withheld;

use super::{Certainty, Diagnosis, Facts, read};
use crate::model::Run;
use serde_json::{Value, json};
use std::path::Path;

/// The engine's id of the container of [`run()`].
pub(super) const CONTAINER: &str = "c0ffeec0ffeec0ffeec0ffeec0ffeec0ffeec0ffeec0ffeec0ffeec0ffee0001";

/// A run that failed with exit code 1.
pub(super) fn run() -> Run {
    serde_json::from_value(json!({
        "id": "rs_abcdefgh", "host": "gpu1", "controller_id": "co_abcdefgh", "operation": "inference", "status": "failed",
        "reason": "exit_code", "exit_code": 1, "log_complete": true, "gpus": "GPU-aaaa", "container_id": CONTAINER,
        "created_at": "2026-03-01T09:59:00Z", "updated_at": "2026-03-01T10:10:00Z", "launched_at": "2026-03-01T09:59:30Z",
        "started_at": "2026-03-01T10:00:00Z", "ended_at": "2026-03-01T10:10:00Z",
        "lease": { "format": 1, "since": "2026-03-01T10:00:00Z",
                   "gpus": [{ "uuid": "GPU-aaaa", "index": 0, "name": "H100", "memory_total": 81559 }] },
        "spec": {
            "format": 1, "run_id": "rs_abcdefgh", "controller_id": "co_abcdefgh", "operation": "inference", "name": "city",
            "created_at": "2026-03-01T09:59:00Z", "image": "nvcr.io/nvidia/pytorch:24.05-py3", "command": ["python", "run.py"],
            "inputs_target": "/farrun/inputs", "outputs_target": "/farrun/outputs", "gpus": { "count": 1 },
            "parameters": { "batch_size": 4, "num_workers": 8 },
        },
    }))
    .unwrap()
}

/// A folder of evidence under construction.
pub(super) struct Folder {
    pub(super) dir: tempfile::TempDir,
    pub(super) run: Run,
}

impl Folder {
    pub(super) fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            run: run(),
        }
    }

    pub(super) fn with(self, file: &str, content: impl AsRef<[u8]>) -> Self {
        std::fs::write(self.dir.path().join(file), content).unwrap();
        self
    }

    pub(super) fn json(self, file: &str, value: &Value) -> Self {
        self.with(file, value.to_string())
    }

    /// With a log that is short enough to be an excerpt as a whole.
    pub(super) fn log(self, text: impl AsRef<[u8]>) -> Self {
        let length = text.as_ref().len();
        let places = json!({ "length": length, "head": 0, "tail_from": 0, "tail": length, "dropped": 0 });
        self.with("log.head", "")
            .with("log.tail", text)
            .json("log.json", &places)
    }

    /// With a start that failed, and what the engine said about it.
    pub(super) fn said(mut self, reason: &str, detail: &str) -> Self {
        self.run.reason = farrun_protocol::verdict::Reason::from_code(reason);
        (self.run.exit_code, self.run.started_at) = (None, None);
        let settled = settled(
            &json!({ "result": "failed", "reason": reason, "detail": detail }),
            None,
        );
        self.json("settled.json", &settled)
    }

    pub(super) fn read(&self) -> Diagnosis {
        read(Some(self.dir.path()), &Facts::of(&self.run)).unwrap()
    }
}

/// `settled.json` with this verdict.
pub(super) fn settled(verdict: &Value, exit: Option<&Value>) -> Value {
    json!({
        "format": 1, "run_id": "rs_abcdefgh", "verdict": verdict,
        "log": { "length": 0, "sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" },
        "generation": "0123456789abcdef0123456789abcdef", "exit": exit,
    })
}

/// Every code that was found, the cause first.
pub(super) fn codes(diagnosis: &Diagnosis) -> Vec<&'static str> {
    let all = diagnosis.cause.iter().chain(&diagnosis.also);
    all.map(|finding| finding.code).collect()
}

/// The cause, which must be there and certain.
pub(super) fn certain(diagnosis: &Diagnosis) -> &super::Finding {
    let cause = diagnosis.cause.as_ref().unwrap();
    assert_eq!(cause.certainty, Certainty::Certain, "{cause:?}");
    cause
}

#[test]
fn runs_that_did_not_fail_have_no_diagnosis() {
    let folder =
        Folder::new().log("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.\n");
    let mut run = folder.run.clone();
    for status in [
        "pending",
        "uploading",
        "queued",
        "running",
        "downloading",
        "completed",
    ] {
        run.status = status.parse().unwrap();
        assert_eq!(read(Some(folder.dir.path()), &Facts::of(&run)), None, "{status}");
    }
    run.status = "cancelled".parse().unwrap();
    assert!(read(Some(folder.dir.path()), &Facts::of(&run)).is_some());
    assert!(read(Some(Path::new("/nowhere/at/all")), &Facts::of(&run)).is_some());
}
