//! The end of a run, as a hook is told of it.

use crate::explain;
use crate::id::{PromptId, RunId};
use crate::record::Settled;
use crate::spec::RunSpec;
use crate::verdict::{Reason, RunResult};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// The end of a run, as a hook is told of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// `farrun.notification/1`.
    pub schema: String,
    /// One line for people; many chat services show the field of this name.
    pub text: String,
    /// The run.
    pub run_id: RunId,
    /// Name of its prompt or image.
    pub name: String,
    /// What the user calls its host.
    pub host: String,
    /// What kind of run.
    pub operation: String,
    /// Its prompt.
    pub prompt_id: Option<PromptId>,
    /// `succeeded`, `failed` or `cancelled`.
    pub status: RunResult,
    /// Why.
    pub reason: Reason,
    /// One readable line; none when it succeeded.
    pub error_message: Option<String>,
    /// Exit code of the job.
    pub exit_code: Option<i32>,
    /// Signal that ended it.
    pub signal: Option<i32>,
    /// When the job started.
    pub started_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub ended_at: Option<DateTime<Utc>>,
}

impl Event {
    /// The end of a run that its host has settled.
    pub fn settled(settled: &Settled, spec: &RunSpec, host: &str) -> Self {
        let verdict = &settled.verdict;
        Self {
            schema: "farrun.notification/1".to_owned(),
            text: String::new(),
            run_id: settled.run_id.clone(),
            name: spec.name.clone(),
            host: host.to_owned(),
            operation: spec.operation.clone(),
            prompt_id: spec.prompt_id.clone(),
            status: verdict.result,
            reason: verdict.reason,
            error_message: explain::error_message(settled, spec),
            exit_code: verdict.exit_code,
            signal: verdict.signal,
            started_at: settled.started_at,
            ended_at: settled.ended_at,
        }
        .worded()
    }

    /// With its text made from the other fields.
    #[must_use]
    pub fn worded(mut self) -> Self {
        let why = self
            .error_message
            .as_ref()
            .map(|message| format!(": {message}"))
            .unwrap_or_default();
        self.text = format!(
            "{} ({}) on {} {}{why}",
            self.run_id,
            self.name,
            self.host,
            self.status_word()
        );
        self
    }

    fn status_word(&self) -> &'static str {
        match self.status {
            RunResult::Succeeded => "succeeded",
            RunResult::Failed => "failed",
            RunResult::Cancelled => "cancelled",
        }
    }

    /// The document, on one line.
    pub fn json(&self) -> String {
        // A structure of texts and numbers always has a JSON.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The same as variables; what is not known is empty.
    pub fn environment(&self) -> Vec<(String, String)> {
        let number = |number: Option<i32>| number.map(|number| number.to_string()).unwrap_or_default();
        let time = |time: Option<DateTime<Utc>>| time.map(|time| time.to_rfc3339()).unwrap_or_default();
        let prompt = self.prompt_id.as_ref().map(ToString::to_string);
        [
            ("RUN_ID", self.run_id.to_string()),
            ("NAME", self.name.clone()),
            ("HOST", self.host.clone()),
            ("OPERATION", self.operation.clone()),
            ("PROMPT_ID", prompt.unwrap_or_default()),
            ("STATUS", self.status_word().to_owned()),
            ("REASON", self.reason.code().to_owned()),
            ("ERROR_MESSAGE", self.error_message.clone().unwrap_or_default()),
            ("EXIT_CODE", number(self.exit_code)),
            ("SIGNAL", number(self.signal)),
            ("STARTED_AT", time(self.started_at)),
            ("ENDED_AT", time(self.ended_at)),
            ("TEXT", self.text.clone()),
        ]
        .map(|(name, value)| (format!("FARRUN_{name}"), value.replace('\0', "")))
        .into()
    }
}
