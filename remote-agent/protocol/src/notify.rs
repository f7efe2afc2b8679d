//! Telling somebody that a run has ended: a command of the user's, or a webhook that `curl` calls.
//!
//! The same on a host, where nobody needs to be connected, and on the user's machine. What is called with which bytes
//! follows from pure functions here ([`carry_out()`] alone starts a program); a webhook's address is a secret and passes through standard input only.

mod carry_out;

pub use carry_out::carry_out;

use crate::explain;
use crate::id::{ControllerId, PromptId, RunId};
use crate::message::Secret;
use crate::record::Settled;
use crate::spec::RunSpec;
use crate::verdict::{Reason, RunResult};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Version of `notify/<controller_id>.json` and of the records of what was done.
pub const FORMAT: u32 = 1;
/// How long a hook may take.
pub const LIMIT: Duration = Duration::from_secs(30);
/// How long `curl` may take, so that it can say why it gave up.
const CURL_LIMIT: u64 = 25;
/// Longest address of a webhook, in bytes.
const LONGEST_URL: usize = 2000;
/// Most words of a command.
const MOST_WORDS: usize = 100;

/// What is done when a run has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Hook {
    /// A program is run, without a shell.
    Command {
        /// Program and arguments.
        argv: Vec<String>,
    },
    /// A webhook is called.
    Webhook {
        /// Its address, which is as good as a password.
        url: Secret,
    },
}

/// `notify/<controller_id>.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookFile {
    /// [`FORMAT`].
    pub format: u32,
    /// What its controller calls the host.
    pub host: String,
    /// What is done.
    pub hook: Hook,
}

/// A hook that cannot be one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidHook {
    /// No words, too many, or one with a NUL.
    #[error("it is not a program with at most {MOST_WORDS} words")]
    Command,
    /// Not an address that `curl` may be given.
    #[error("it is not an address that begins with https:// or http:// and holds no blanks or quotes")]
    Url,
}

impl Hook {
    /// Checks it.
    ///
    /// # Errors
    /// What it cannot be.
    pub fn check(&self) -> Result<(), InvalidHook> {
        match self {
            Self::Command { argv } => {
                let program = argv.first().is_some_and(|program| !program.is_empty());
                let fits = argv.len() <= MOST_WORDS && argv.iter().all(|word| !word.contains('\0'));
                (program && fits).then_some(()).ok_or(InvalidHook::Command)
            }
            Self::Webhook { url } => {
                let url = url.expose();
                let place = ["https://", "http://"]
                    .iter()
                    .find_map(|scheme| url.strip_prefix(scheme));
                let plain = |byte: u8| byte.is_ascii_graphic() && !b"\"\\'<>`".contains(&byte);
                let named = place.is_some_and(|place| !place.starts_with('/') && !place.is_empty());
                (named && url.len() <= LONGEST_URL && url.bytes().all(plain))
                    .then_some(())
                    .ok_or(InvalidHook::Url)
            }
        }
    }

    /// What may be shown of it: the program of a command, the host of a webhook.
    pub fn shown(&self) -> String {
        match self {
            Self::Command { argv } => format!("command {}", argv.first().map_or("", String::as_str)),
            Self::Webhook { url } => {
                let (scheme, place) = url.expose().split_once("://").unwrap_or_default();
                let host = place.split(['/', '?', '#']).next().unwrap_or_default();
                // Behind an account and its password.
                let host = host.rsplit('@').next().unwrap_or_default();
                format!("webhook {scheme}://{host}/…")
            }
        }
    }

    /// What is run for an event.
    pub fn call(&self, event: &Event) -> Call {
        let json = event.json();
        match self {
            Self::Command { argv } => Call {
                program: argv.first().cloned().unwrap_or_default(),
                arguments: argv.get(1..).unwrap_or_default().to_vec(),
                environment: event.environment(),
                stdin: json + "\n",
                is_curl: false,
            },
            Self::Webhook { url } => Call {
                program: "curl".to_owned(),
                // The account's own settings could have it print what it is told.
                arguments: ["-q", "--config", "-"].map(str::to_owned).into(),
                environment: Vec::new(),
                stdin: curl_config(url.expose(), &json),
                is_curl: true,
            },
        }
    }
}

/// What `curl` reads from its standard input: nothing of it can be seen in a list of processes.
fn curl_config(url: &str, json: &str) -> String {
    let quoted = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
    format!(
        "url = \"{}\"\nrequest = \"POST\"\nheader = \"Content-Type: application/json\"\ndata-raw = \"{}\"\n\
         proto = \"=http,https\"\nmax-time = {CURL_LIMIT}\nconnect-timeout = 10\ngloboff\nsilent\nfail\n\
         output = \"/dev/null\"\nwrite-out = \"%{{http_code}}\"\n",
        quoted(url),
        quoted(json)
    )
}

/// A program that is run.
#[derive(Clone, PartialEq, Eq)]
pub struct Call {
    /// Looked for on PATH.
    pub program: String,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Variables beside those of the session.
    pub environment: Vec<(String, String)>,
    /// What it reads.
    pub stdin: String,
    /// Whether what it prints is the status of an answer.
    pub is_curl: bool,
}

/// How a hook ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "outcome")]
pub enum Outcome {
    /// It is its turn; it may be running. One that was begun is never begun again.
    Begun,
    /// It ended with code 0.
    Done,
    /// The program could not be started.
    NotStarted {
        /// Its name.
        program: String,
        /// What the kernel said.
        error: String,
    },
    /// It was killed after [`LIMIT`].
    TimedOut,
    /// It ended otherwise.
    Failed {
        /// Exit code; none after a signal.
        #[serde(default)]
        code: Option<i32>,
        /// Status of the webhook's answer, when there was one.
        #[serde(default)]
        http_status: Option<u16>,
    },
}

impl Outcome {
    /// What `code` of a call means; `printed` is what it wrote to its standard output.
    pub fn of(call: &Call, code: Option<i32>, printed: &str) -> Self {
        if code == Some(0) {
            return Self::Done;
        }
        let status = printed.trim().parse().ok().filter(|status| *status > 0);
        Self::Failed {
            code,
            http_status: status.filter(|_| call.is_curl),
        }
    }

    /// What is wrong, for people; nothing when all is well or not yet known.
    pub fn problem(&self) -> Option<String> {
        match self {
            Self::Begun | Self::Done => None,
            Self::NotStarted { program, error } => Some(format!("`{program}` could not be started: {error}")),
            Self::TimedOut => Some(format!("it took more than {} s and was ended", LIMIT.as_secs())),
            Self::Failed {
                http_status: Some(status),
                ..
            } => Some(format!("the webhook answered with HTTP status {status}")),
            Self::Failed { code: Some(code), .. } => Some(format!("it ended with code {code}")),
            Self::Failed { .. } => Some("it was ended by a signal".to_owned()),
        }
    }
}

/// What became of telling one controller's user about a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notified {
    /// [`FORMAT`].
    pub format: u32,
    /// Whose hook it was.
    pub controller_id: ControllerId,
    /// When it was its turn.
    pub at: DateTime<Utc>,
    /// How it ended.
    #[serde(flatten)]
    pub outcome: Outcome,
}

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

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> Event {
        serde_json::from_value::<Event>(serde_json::json!({
            "schema": "farrun.notification/1", "text": "", "run_id": "rs_aaaaaaaa", "name": "light\"house",
            "host": "gpu1", "operation": "inference", "prompt_id": null, "status": "failed", "reason": "exit_code",
            "error_message": "the job exited with code 3 \\ \u{e9}", "exit_code": 3, "signal": null, "started_at": null,
            "ended_at": "2026-03-01T12:00:00Z",
        }))
        .unwrap()
        .worded()
    }

    fn webhook(url: &str) -> Hook {
        Hook::Webhook {
            url: Secret::new(url),
        }
    }

    #[test]
    fn a_webhooks_address_passes_through_standard_input_only() {
        let hook = webhook("https://ada:pw@hooks.example.org:8443/services/T0/secret?k=v");
        let call = hook.call(&event());
        assert_eq!(
            (call.program.as_str(), call.arguments.join(" ").as_str()),
            ("curl", "-q --config -")
        );
        assert!(call.environment.is_empty());
        assert!(
            call.stdin
                .starts_with("url = \"https://ada:pw@hooks.example.org:8443/services/T0/secret?k=v\"\n")
        );
        assert_eq!(hook.shown(), "webhook https://hooks.example.org:8443/…");
        assert!(!format!("{hook:?}").contains("secret"));
    }

    #[test]
    fn what_curl_is_told_to_send_is_the_document() {
        let call = webhook("https://x/").call(&event());
        let line = call
            .stdin
            .lines()
            .find_map(|line| line.strip_prefix("data-raw = \"")?.strip_suffix('"'))
            .unwrap();
        // As curl reads it.
        let sent = line.replace("\\\"", "\"").replace("\\\\", "\\");
        assert_eq!(serde_json::from_str::<Event>(&sent).unwrap(), event());
    }

    #[test]
    fn hooks_that_cannot_be_are_refused() {
        let command = |argv: &[&str]| Hook::Command {
            argv: argv.iter().map(|word| (*word).to_owned()).collect(),
        };
        for good in [
            command(&["true"]),
            command(&["a", ""]),
            webhook("http://10.0.0.1/x?y=z&a=%20"),
        ] {
            assert_eq!(good.check(), Ok(()));
        }
        for bad in [
            command(&[]),
            command(&[""]),
            command(&["a", "b\0"]),
            command(&["a"; 101]),
            webhook("ftp://x/"),
            webhook("https://"),
            webhook("https:///etc"),
            webhook("https://x/\"\noutput = \"/etc/passwd"),
            webhook("https://x/a b"),
            webhook(&format!("https://{}", "x".repeat(2000))),
            webhook("file:///etc/passwd"),
        ] {
            assert!(bad.check().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn commands_get_facts_as_variables_and_as_a_document() {
        let call = Hook::Command {
            argv: vec!["notify".into(), "--now".into()],
        }
        .call(&event());
        let variable = |name: &str| {
            let found = call.environment.iter().find(|(known, _)| known == name);
            found.map(|(_, value)| value.as_str())
        };
        assert_eq!(variable("FARRUN_STATUS"), Some("failed"));
        assert_eq!(variable("FARRUN_REASON"), Some("exit_code"));
        assert_eq!(variable("FARRUN_SIGNAL"), Some(""));
        assert_eq!(
            variable("FARRUN_TEXT"),
            Some("rs_aaaaaaaa (light\"house) on gpu1 failed: the job exited with code 3 \\ \u{e9}")
        );
        assert_eq!(serde_json::from_str::<Event>(&call.stdin).unwrap(), event());
    }

    #[test]
    fn failures_are_told_without_what_is_secret() {
        let curl = webhook("https://x/").call(&event());
        let said = |code, printed| Outcome::of(&curl, code, printed).problem();
        assert_eq!(said(Some(0), "200"), None);
        assert_eq!(
            said(Some(22), "404").as_deref(),
            Some("the webhook answered with HTTP status 404")
        );
        assert_eq!(said(Some(6), "000").as_deref(), Some("it ended with code 6"));
        assert_eq!(said(None, "").as_deref(), Some("it was ended by a signal"));
    }
}
