//! What a controller asks.

use super::Secret;
use crate::content::ContentId;
use crate::id::{ControllerId, Generation, RunId, Sha256};
use crate::lease::Placement;
use crate::notify::Hook;
use crate::spec::{Gpus, Input, RunSpec};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What a controller asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "verb")]
pub enum Request {
    /// Opens the conversation. Answered by [`super::Reply::Hello`].
    Hello(Hello),
    /// Which inputs must be sent. Answered by [`super::Reply::Inputs`].
    CheckInputs {
        /// The inputs of a run that is about to be launched.
        inputs: Vec<Input>,
    },
    /// Verify an upload and give it its name. Answered by [`super::Reply::Done`]; fails as `hash_mismatch`, and then
    /// the upload is gone.
    CommitInput {
        /// What it must be.
        content: ContentId,
        /// How long it must be.
        size: u64,
        /// Whether it has begun and is still on its way: then it is hashed as far as its marks go, until all of it is
        /// there. Fails as `input_missing` when another upload of the same content has taken it away.
        #[serde(default)]
        arriving: bool,
    },
    /// Start a run, or find it started. Answered by [`super::Reply::Run`], with any number of [`super::Progress`]
    /// before. An order that wants GPUs is given them, stands in line ([`crate::record::Phase::Queued`]) when it is
    /// willing to wait, or fails as `no_free_gpu`, `no_such_gpu`, `no_gpu` or `locks_unusable`, and then there is no
    /// such run.
    Launch(Box<Launch>),
    /// The facts of these runs, or of all. Ended ones are settled on the way. Answered by [`super::Reply::Runs`].
    Runs {
        /// Which; empty for all of them.
        run_ids: Vec<RunId>,
        /// Wanted page by page, by ascending id; only for all of them. Agents that do not know it send all at once.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        page: Option<RunsPage>,
    },
    /// The order of a run. Answered by [`super::Reply::Spec`].
    Spec {
        /// The run.
        run_id: RunId,
    },
    /// Run-log bytes from an offset. Answered by a log chunk.
    FetchLog(FetchLog),
    /// Hash of a prefix of the run log. Answered by [`super::Reply::LogPrefix`].
    HashLog {
        /// The run.
        run_id: RunId,
        /// How many bytes from the start.
        length: u64,
    },
    /// Ask the job to end, or end it. Answered by [`super::Reply::Run`].
    StopRun {
        /// The run.
        run_id: RunId,
        /// Seconds between SIGTERM and SIGKILL.
        grace: u64,
        /// SIGKILL at once.
        kill: bool,
    },
    /// Hash the outputs of an ended run. Answered by [`super::Reply::Manifest`], with [`super::Progress`] before.
    Outputs {
        /// The run.
        run_id: RunId,
    },
    /// Make this controller an owner of a run. Answered by [`super::Reply::Run`].
    Adopt {
        /// The run.
        run_id: RunId,
    },
    /// What the host is and holds. Answered by [`super::Reply::Host`].
    Host,
    /// What its GPUs are and do. Answered by [`super::Reply::Gpus`] within a second, whatever `nvidia-smi` does.
    Gpus {
        /// Age in milliseconds up to which figures that are there will do; the agent's time to live when absent.
        #[serde(default)]
        max_age: Option<u64>,
        /// Whether to find out anew what jobs compute with, instead of believing what was found within the hour.
        #[serde(default)]
        detect: bool,
    },
    /// How an order for these GPUs would fare here now; nothing is given or kept for it. Answered by
    /// [`super::Reply::Fit`] within three seconds, whatever `nvidia-smi` does; fails where the order would be refused, as its
    /// launch would.
    Fit {
        /// How many, or which.
        gpus: Gpus,
        /// What else it wants of them.
        #[serde(default)]
        placement: Placement,
    },
    /// What a run's GPUs did. Answered by [`super::Reply::Series`].
    Series {
        /// The run.
        run_id: RunId,
        /// Only samples later than this.
        #[serde(default)]
        after: Option<DateTime<Utc>>,
    },
    /// The evidence of a run that did not succeed, or of the host as it is now. Answered by
    /// [`super::Reply::Diagnostics`], with [`super::Progress::Collecting`] before.
    Diagnose {
        /// The run; none for the host.
        #[serde(default)]
        run_id: Option<RunId>,
        /// Whether to collect although there is a bundle of the run.
        #[serde(default)]
        anew: bool,
    },
    /// What to do when a run of this controller has ended. Answered by [`super::Reply::Done`].
    SetHook(SetHook),
    /// What could be removed, or remove it. Answered by [`super::Reply::Garbage`].
    Collect(Collect),
    /// Look at everything that runs depend on. Answered by [`super::Reply::Doctor`].
    Doctor,
    /// Whether the observer is started after a boot. Answered by [`super::Reply::Residence`]; fails as
    /// `residence_refused` where the host offers no way.
    SetResidence {
        /// Whether it is from now on.
        resident: bool,
    },
}

impl Request {
    /// What is asked for, as `verb` says it on the wire.
    pub fn verb(&self) -> &'static str {
        match self {
            Self::Hello(_) => "hello",
            Self::CheckInputs { .. } => "check_inputs",
            Self::CommitInput { .. } => "commit_input",
            Self::Launch(_) => "launch",
            Self::Runs { .. } => "runs",
            Self::Spec { .. } => "spec",
            Self::FetchLog(_) => "fetch_log",
            Self::HashLog { .. } => "hash_log",
            Self::StopRun { .. } => "stop_run",
            Self::Outputs { .. } => "outputs",
            Self::Adopt { .. } => "adopt",
            Self::Host => "host",
            Self::Gpus { .. } => "gpus",
            Self::Fit { .. } => "fit",
            Self::Series { .. } => "series",
            Self::Diagnose { .. } => "diagnose",
            Self::SetHook(_) => "set_hook",
            Self::Collect(_) => "collect",
            Self::Doctor => "doctor",
            Self::SetResidence { .. } => "set_residence",
        }
    }
}

/// Opens a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`crate::PROTOCOL`] of the controller.
    pub protocol: u32,
    /// Who asks; the owner of what this conversation launches.
    pub controller_id: ControllerId,
    /// Whether Docker needs `sudo -n` on this host.
    #[serde(default)]
    pub docker_sudo: bool,
    /// `DOCKER_HOST` for this host (`unix://…`, `tcp://…`), when its settings name one.
    #[serde(default)]
    pub docker_host: Option<String>,
}

/// Which part of all runs is wanted: as many as fit a frame.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunsPage {
    /// Those behind this one; none for the first page.
    #[serde(default)]
    pub after: Option<RunId>,
}

/// Starts a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launch {
    /// The order.
    pub spec: RunSpec,
    /// Values for [`RunSpec::secret_names`].
    #[serde(default)]
    pub secrets: BTreeMap<String, Secret>,
}

/// Asks for run-log bytes: a long poll.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FetchLog {
    /// The run.
    pub run_id: RunId,
    /// The life of the log the caller already holds bytes of; fails as `generation_changed` when it is another.
    #[serde(default)]
    pub generation: Option<Generation>,
    /// Run-log bytes the caller already holds. Fails as `offset_beyond_end` when the log is shorter.
    pub offset: u64,
    /// Its place among requests that are sent ahead of each other's answers; none for one that stands alone.
    #[serde(default)]
    pub place: Option<Place>,
    /// Hash of the last [`crate::log::TAIL_LENGTH`] bytes (or fewer) before `offset`, to prove that they are the
    /// same bytes. Fails as `tail_mismatch` when they are not.
    #[serde(default)]
    pub tail_sha256: Option<Sha256>,
    /// Most bytes wanted; capped at [`crate::log::MAX_CHUNK`].
    pub max: u64,
    /// How long to wait for a byte, in milliseconds; capped at 30 s. An empty chunk answers when none came.
    pub wait: u64,
}

/// A place in a chain of requests for one run log.
///
/// The first begins at its own offset. Each other waits for the answer to the one before it and begins where that
/// ended, whatever its own offset says; only then does its time to wait begin. So a follower at a distance gets what
/// the job writes without a round trip between two answers, although it cannot know the offsets when it asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Names the chain; a later one of the same conversation and run has a higher number and ends the earlier.
    pub chain: u64,
    /// Number of requests before it.
    pub index: u64,
}

/// Says what is done on the host when a run of this controller has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetHook {
    /// What its user calls the host.
    pub host: String,
    /// What is done; none for nothing.
    #[serde(default)]
    pub hook: Option<Hook>,
}

/// Removes what a host no longer needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Collect {
    /// Only say what would go.
    pub dry_run: bool,
    /// Settled runs of this controller whose folders and containers may go.
    #[serde(default)]
    pub run_ids: Vec<RunId>,
    /// Agents that no run needs, other than the one that answers.
    #[serde(default)]
    pub agents: bool,
    /// Inputs that no run's order names.
    #[serde(default)]
    pub blobs: bool,
    /// With `dry_run`: runs that are taken for gone when inputs are looked for.
    #[serde(default)]
    pub as_if_gone: Vec<RunId>,
    /// Evidence about the host that is at least so many seconds old.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diagnostics: Option<u64>,
    /// Images of the demo.
    #[serde(default)]
    pub images: bool,
    /// Of what is no run only what has one of these names: what came since the user was shown a list stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub only: Option<Vec<String>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_tagged_by_verb() {
        let request = Request::StopRun {
            run_id: "rs_abcdefgh".parse().unwrap(),
            grace: 10,
            kill: false,
        };
        assert_eq!(
            serde_json::to_string(&request).unwrap(),
            r#"{"verb":"stop_run","run_id":"rs_abcdefgh","grace":10,"kill":false}"#
        );
        for request in [request, Request::Host, Request::SetResidence { resident: true }] {
            assert_eq!(serde_json::to_value(&request).unwrap()["verb"], request.verb());
        }
    }
}
