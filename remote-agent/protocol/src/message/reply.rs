//! What an agent answers, and what it tells until then.

use super::HostFacts;
use crate::diagnostics::Bundle;
use crate::doctor::{Checkup, Residence};
use crate::gpu::GpuReport;
use crate::id::{HostId, RunId, Sha256};
use crate::lease::Fit;
use crate::record::RunFacts;
use crate::series::Sample;
use crate::spec::RunSpec;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// What an agent answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "answer")]
pub enum Reply {
    /// To [`super::Request::Hello`].
    Hello(HelloReply),
    /// To [`super::Request::CheckInputs`], in the same order.
    Inputs {
        /// Whether each must be sent.
        states: Vec<InputState>,
    },
    /// Nothing to say.
    Done,
    /// One run.
    Run(Box<RunFacts>),
    /// Several runs.
    Runs {
        /// Their facts; runs the host does not know are absent.
        runs: Vec<RunFacts>,
        /// Where the next page begins ([`super::RunsPage::after`]); none behind the last.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        next: Option<RunId>,
    },
    /// An order.
    Spec(Box<RunSpec>),
    /// To [`super::Request::HashLog`].
    LogPrefix {
        /// Hash of the prefix; none when the log is shorter than asked.
        sha256: Option<Sha256>,
    },
    /// To [`super::Request::Outputs`].
    Manifest(ManifestReply),
    /// To [`super::Request::Host`].
    Host(Box<HostFacts>),
    /// To [`super::Request::Gpus`].
    Gpus(Box<GpuReport>),
    /// To [`super::Request::Fit`].
    Fit(Fit),
    /// To [`super::Request::Series`].
    Series {
        /// Oldest first, at most [`crate::series::MAX_SAMPLES`].
        samples: Vec<Sample>,
        /// Whether there are later ones.
        more: bool,
    },
    /// To [`super::Request::Diagnose`]. The bundle is fetched as outputs are, by its manifest, whose `run_id` is the
    /// run's or [`crate::diagnostics::HOST_MANIFEST`]. Where nothing could be written the manifest's path is empty,
    /// it lists no file, and the bundle says why.
    Diagnostics {
        /// What it is and what it lacks.
        bundle: Box<Bundle>,
        /// Where to find it.
        manifest: ManifestReply,
    },
    /// To [`super::Request::Collect`].
    Garbage {
        /// What went, or would go.
        items: Vec<Garbage>,
    },
    /// To [`super::Request::Doctor`].
    Doctor(Box<Checkup>),
    /// To [`super::Request::SetResidence`].
    Residence {
        /// What starts the observer after a boot, when something does.
        by: Option<Residence>,
    },
}

/// Who answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HelloReply {
    /// [`crate::PROTOCOL`] of the agent.
    pub protocol: u32,
    /// The agent's version.
    pub version: String,
    /// Hash of the program that answers.
    pub agent_sha256: Sha256,
    /// The machine.
    pub host_id: HostId,
    /// This boot of it.
    pub boot_id: String,
    /// `uname -m`.
    pub machine: String,
    /// Absolute path of the state folder.
    pub state: String,
    /// The host's clock.
    pub now: DateTime<Utc>,
}

/// Whether an input must be sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum InputState {
    /// It lies on the host, verified.
    Present,
    /// It must be uploaded to `path` (absolute). Which pieces of it are there already say its
    /// [marks](crate::layout::marks); the whole is verified at the end.
    Missing {
        /// Where to.
        path: String,
        /// How long an earlier upload has made it; 0 when there is none.
        have: u64,
    },
}

/// Where to find a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestReply {
    /// Absolute path of the manifest file.
    pub path: String,
    /// Its size in bytes.
    pub size: u64,
    /// Its hash.
    pub sha256: Sha256,
    /// Absolute path of the outputs folder.
    pub outputs: String,
    /// Absolute path of the pack, when files are in one: their contents end to end, see
    /// [`crate::manifest::OutputFile::packed_at`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pack: Option<String>,
    /// Number of files.
    pub files: u64,
    /// Their sizes together, in bytes.
    pub bytes: u64,
}

/// Something that can be removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Garbage {
    /// `run`, `container`, `agent`, `blob`, `incoming`, `diagnostics`, `image`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Bytes on disk.
    pub bytes: u64,
    /// Files in its outputs folder; none for what is no run.
    #[serde(default)]
    pub outputs: Option<u64>,
    /// How many of the bytes are the evidence of its end; none where there is no evidence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diagnostics: Option<u64>,
    /// Why it stays although it was named, when it does.
    #[serde(default)]
    pub kept: Option<String>,
}

/// What happens while a request is answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "step")]
pub enum Progress {
    /// The image is being fetched.
    Pulling {
        /// Layers that are complete.
        layers_done: u64,
        /// Layers known so far.
        layers: u64,
        /// Bytes fetched.
        bytes_done: u64,
        /// Bytes known so far.
        bytes: u64,
    },
    /// The container is being made and started.
    Starting,
    /// Outputs are being hashed.
    Hashing {
        /// Bytes hashed.
        bytes_done: u64,
        /// Bytes in all.
        bytes: u64,
    },
    /// Outputs are being opened to the account.
    Opening,
    /// Evidence is being collected.
    Collecting {
        /// The file that is being made.
        file: String,
    },
}
