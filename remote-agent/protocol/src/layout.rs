//! Where things lie below a host's state folder. All paths are relative to it.
//!
//! ```text
//! host-id                                  made once
//! agents/<sha256>/farrun-agent             0555, never overwritten; one that is torn is moved away and replaced
//! agents/<sha256>/verified                 which file was found to have that hash
//! agents/.arriving-<nonce>/ .damaged-<nonce>/  one that is being put there or taken away
//! blobs/<content>                          inputs by content ([`crate::ContentId`] as text), 0444
//! blobs/incoming/<content>.<controller_id> an upload in progress
//! blobs/incoming/….marks                   a byte for each of its pieces, 1 once it is there
//! runs/<run_id>/spec.json launch.lock start.intent stop.intent settled.json manifest.json outputs.lock outputs.pack adopted
//!   secrets.json lease.json waits.json series.jsonl series.json engine.json device alive.json
//! runs/<run_id>/notified/<controller_id>.json  that its user was told, or is being told
//! runs/<run_id>/inputs/ outputs/
//! runs/<run_id>/diagnostics/              the evidence of a run that did not succeed, see [`crate::diagnostics`]
//! runs/<run_id>/diagnostics.manifest.json diagnostics.pack diagnose.lock diagnosed
//! runs/<run_id>/record/run.log run.tail generation started exit.json
//! gpu/sample.json facts.json device.json   cached sample, facts about the driver, what jobs compute with
//! gpu/refresh.lock child.json              who reads now, and the `nvidia-smi` that runs
//! engine.json                              what the container engine said about its settings
//! queue/<run_id>.json                      a run that waits for a GPU
//! notify/<controller_id>.json               what its user wants done when a run has ended, 0600
//! notify/due/<run_id>                       an end that nobody was told of yet
//! watch.lock watch.json watch.call         the resident observer, and that somebody brought work
//! resident/farrun-agent resident.json      which agent is started after a boot, and by what
//! diagnostics/<time>/                      evidence about the host; <time>.manifest.json and <time>.pack beside it
//! ```
//!
//! Evidence that the state folder has no room for lies at the same paths below `/dev/shm/farrun-<uid>/` or
//! `/tmp/farrun-<uid>/`, in a folder named after the state folder's path; so does the list of a run's outputs, as
//! `manifests/<run_id>.json`.
//!
//! Outside of it lies the folder of the GPU locks ([`LOCK_FOLDERS`]), which all accounts of a host share:
//!
//! ```text
//! allocator.lock           held from the choice of GPUs until PID 1 of the new container holds their locks
//! gpu-<uuid>.lock          held by PID 1 of every run that has the GPU; what is written in it is for people
//! nvidia-smi.lock          held by whoever reads the GPUs now, and by the `nvidia-smi` of it
//! ticket-<run_id>.json     a run that waits in line; counts while its account's observer holds a lock on it
//! ```

use crate::content::ContentId;
use crate::id::{ControllerId, RunId, Sha256};
use std::path::PathBuf;

/// The state folder unless a host says otherwise, relative to the account's login folder.
pub const DEFAULT_STATE: &str = ".local/share/farrun";

/// Folder of what users want done when runs have ended.
pub const NOTIFY: &str = "notify";

/// How the name of a folder beside those of agents begins that is being filled.
pub const AGENT_ARRIVING: &str = ".arriving-";
/// How it begins when the program in it is not the one it should be.
pub const AGENT_DAMAGED: &str = ".damaged-";

/// File name of the agent within its folder.
pub const AGENT: &str = "farrun-agent";
/// Beside it: which file was found to have the hash that names the folder.
pub const AGENT_VERIFIED: &str = "verified";

/// Where the agent lies inside a container; also PID 1's program.
pub const CONTAINER_AGENT: &str = "/.farrun/farrun-agent";
/// Where a run's record lies inside a container.
pub const CONTAINER_RECORD: &str = "/.farrun/record";

/// Where the lock files of a run's GPUs lie inside a container, read-only.
pub const CONTAINER_LOCKS: &str = "/.farrun/locks";

/// Folders that can hold the GPU locks that all accounts of a host share, in this order; the first whose parent
/// exists is the one. It is made with mode 1777, its files with mode 0666.
pub const LOCK_FOLDERS: [&str; 3] = ["/run/lock/farrun", "/var/lock/farrun", "/tmp/farrun-locks"];

/// Environment variable of a job with the UUIDs of its GPUs, comma-separated, in the order of their numbers inside.
pub const ENV_GPUS: &str = "FARRUN_GPUS";

/// Label that marks a container as ours; its value is the run id.
pub const LABEL_RUN: &str = "farrun.run_id";
/// Label with the id of the controller that ordered the run.
pub const LABEL_CONTROLLER: &str = "farrun.controller_id";
/// Label with the hash of the run spec.
pub const LABEL_SPEC: &str = "farrun.spec_sha256";
/// Label with the GPUs given to the run, comma-separated UUIDs, or `none`.
pub const LABEL_GPUS: &str = "farrun.gpus";
/// Label of a run that shares its GPUs with others that say so.
pub const LABEL_SHARED: &str = "farrun.shared";
/// Label with the hash of the agent that is PID 1.
pub const LABEL_AGENT: &str = "farrun.agent";

/// Folder of one agent version.
pub fn agent_folder(sha256: &Sha256) -> PathBuf {
    PathBuf::from("agents").join(sha256.as_str())
}

/// The agent program of one version.
pub fn agent(sha256: &Sha256) -> PathBuf {
    agent_folder(sha256).join(AGENT)
}

/// An input by content.
pub fn blob(content: &ContentId) -> PathBuf {
    PathBuf::from("blobs").join(content.to_string())
}

/// Where a controller uploads an input until it is verified.
pub fn incoming(content: &ContentId, controller: &ControllerId) -> PathBuf {
    PathBuf::from("blobs/incoming").join(format!("{content}.{controller}"))
}

/// Bytes of an upload that one mark stands for: two of the largest writes that OpenSSH takes.
pub const UPLOAD_PIECE: u64 = 2 * 261_120;

/// The marks of an upload that goes to `incoming`.
pub fn marks(incoming: &str) -> String {
    format!("{incoming}.marks")
}

/// Folder of one run.
pub fn run(run: &RunId) -> PathBuf {
    PathBuf::from("runs").join(run.as_str())
}

/// What the host knows about a run that waits in line.
pub fn queued(run: &RunId) -> PathBuf {
    PathBuf::from("queue").join(format!("{run}.json"))
}

/// Name of a run's container.
pub fn container_name(run: &RunId) -> String {
    format!("farrun-{run}")
}
