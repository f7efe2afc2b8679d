//! What the engine says of the container, its image, itself, and what happened. Only what rules and pages need.

use chrono::{DateTime, Utc};
use serde::Deserialize;
use std::collections::BTreeMap;

/// `container.json`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(in crate::diagnosis) struct Inspect {
    /// Its 64 hex digits.
    pub(in crate::diagnosis) id: String,
    /// How it stands.
    pub(in crate::diagnosis) state: State,
    /// How it was made.
    pub(in crate::diagnosis) host_config: HostConfig,
}

/// How a container stands.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(in crate::diagnosis) struct State {
    /// The engine's flag.
    #[serde(rename = "OOMKilled")]
    pub(in crate::diagnosis) oom_killed: bool,
    /// The engine's error about the start.
    pub(in crate::diagnosis) error: String,
}

/// How a container was made.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(in crate::diagnosis) struct HostConfig {
    /// Memory limit in bytes; 0 for none.
    pub(in crate::diagnosis) memory: u64,
    /// Size of `/dev/shm` in bytes.
    pub(in crate::diagnosis) shm_size: u64,
}

/// `image.json`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(in crate::diagnosis) struct Image {
    /// `amd64`, `arm64`.
    pub(in crate::diagnosis) architecture: String,
}

/// `engine.json`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(in crate::diagnosis) struct Engine {
    /// `GET /info`.
    pub(in crate::diagnosis) info: Info,
}

/// The engine about its host.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(in crate::diagnosis) struct Info {
    /// Version of the engine.
    pub(in crate::diagnosis) server_version: String,
    /// Architecture of the host as `uname -m` says it.
    pub(in crate::diagnosis) architecture: String,
}

/// A line of `events.jsonl`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(in crate::diagnosis) struct Event {
    /// What happened, such as `die`.
    pub(in crate::diagnosis) action: String,
    /// To what.
    pub(in crate::diagnosis) actor: Actor,
    /// When, in seconds since 1970.
    #[serde(rename = "time")]
    seconds: i64,
    /// When, in nanoseconds since 1970.
    #[serde(rename = "timeNano")]
    nanoseconds: i64,
}

/// What an event is about.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(in crate::diagnosis) struct Actor {
    /// What the engine says of it: labels, and `exitCode` or `signal`.
    pub(in crate::diagnosis) attributes: BTreeMap<String, String>,
}

impl Event {
    /// When it happened.
    pub(in crate::diagnosis) fn at(&self) -> Option<DateTime<Utc>> {
        match (self.nanoseconds, self.seconds) {
            (0, 0) => None,
            (0, seconds) => DateTime::from_timestamp(seconds, 0),
            (nanoseconds, _) => Some(DateTime::from_timestamp_nanos(nanoseconds)),
        }
    }

    /// What happened, with its exit code or signal.
    pub(in crate::diagnosis) fn words(&self) -> String {
        let of = |name: &str| self.actor.attributes.get(name).filter(|value| !value.is_empty());
        let action = match self.action.as_str() {
            "create" => "the engine made the container",
            "start" => "the engine started the container",
            "die" => "the container ended",
            "kill" => "the container was sent a signal",
            "stop" => "the container was stopped through the engine",
            "oom" => "the engine noticed a want of memory",
            "pause" => "the container was paused",
            "unpause" => "the container went on",
            "destroy" => "the container was removed",
            other => other,
        };
        match (of("signal"), of("exitCode")) {
            (Some(signal), _) => format!("{action} (signal {signal})"),
            (None, Some(code)) => format!("{action} (exit code {code})"),
            (None, None) => action.to_owned(),
        }
    }
}
