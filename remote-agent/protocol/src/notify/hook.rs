//! What is done when a run has ended, and which program with which bytes that is.

use super::Event;
use crate::message::Secret;
use serde::{Deserialize, Serialize};

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
    /// [`super::FORMAT`].
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
