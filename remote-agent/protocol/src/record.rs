//! The files a run leaves on its host, and how they survive a full disk, a crash and other agent versions.
//!
//! Every file carries a format number. A reader keeps fields it does not know and refuses a newer major format
//! without touching the file.
//!
//! `exit.json` is special. PID 1 may run as any user and cannot create or rename inside the account's folder, and
//! the disk may be full when the job ends. So the file is made beforehand, [`EXIT_SIZE`] bytes long with its blocks
//! allocated, and overwritten in place: one line `FARRUN-EXIT 1 <sha256 of the JSON> <length>`, the JSON, and
//! padding. A file whose checksum does not hold was never finished.

mod exec_error;

pub use exec_error::ExecError;

use crate::gpu::Device;
use crate::id::{ControllerId, Generation, PromptId, RunId, Sha256};
use crate::lease::{Lease, QueuePlace};
use crate::log::LogEnd;
use crate::notify::Notified;
use crate::series::GpuSummary;
use crate::verdict::{Reason, Verdict};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// Version of `exit.json`, `settled.json` and `start.intent`.
pub const FORMAT: u32 = 1;
/// Size of `exit.json` on disk, in bytes.
pub const EXIT_SIZE: usize = 8192;
/// Size of the rolling tail behind the log cap, in bytes.
pub const TAIL_SIZE: u64 = 4 * 1024 * 1024;

/// Signals that ask a process to end: SIGINT, SIGQUIT and SIGTERM. `docker stop` sends one of them; others, such as
/// SIGHUP and SIGUSR1, are as often meant to be worked with.
pub const END_SIGNALS: [i32; 3] = [2, 3, 15];

/// What PID 1 knows when the main process has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRecord {
    /// [`FORMAT`].
    pub format: u32,
    /// Exit code of the main process.
    #[serde(default)]
    pub code: Option<i32>,
    /// Signal that ended it.
    #[serde(default)]
    pub signal: Option<i32>,
    /// Why the main process could not be started at all.
    #[serde(default)]
    pub exec_error: Option<ExecError>,
    /// When it was started.
    #[serde(default)]
    pub started_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub ended_at: DateTime<Utc>,
    /// Boot id of the host.
    #[serde(default)]
    pub boot_id: Option<String>,
    /// Length and hash of `run.log`.
    pub log: LogEnd,
    /// Bytes the job wrote in all.
    pub written: u64,
    /// Bytes that are neither in `run.log` nor in `run.tail`.
    pub dropped: u64,
    /// Bytes in `run.tail`, the newest [`TAIL_SIZE`] of what did not fit the cap.
    pub tail: u64,
    /// Error of the first write to `run.log` that failed; capture went on without storing.
    #[serde(default)]
    pub log_error: Option<String>,
    /// Whether the time limit ended it.
    #[serde(default)]
    pub timed_out: bool,
    /// Signals that PID 1 received and passed on, in order, at most 16.
    #[serde(default)]
    pub forwarded: Vec<i32>,
    /// The last of them that asks a process to end ([`END_SIGNALS`]), however many others came before it.
    #[serde(default)]
    pub end_signal: Option<i32>,
    /// Processes of the container that the kernel ended for want of memory.
    #[serde(default)]
    pub oom_kills: u64,
}

/// What the engine says about a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerFacts {
    /// Its 64 hex digits.
    pub id: String,
    /// The engine's word: `created`, `running`, `paused`, `restarting`, `removing`, `exited`, `dead`.
    pub status: String,
    /// Id of the image it was made from (`sha256:…`).
    #[serde(default)]
    pub image_id: Option<String>,
    /// When it was last started; none when never.
    #[serde(default)]
    pub started_at: Option<DateTime<Utc>>,
    /// When it last ended; none when never.
    #[serde(default)]
    pub finished_at: Option<DateTime<Utc>>,
    /// Exit code, once ended.
    #[serde(default)]
    pub exit_code: Option<i64>,
    /// The engine's flag; unreliable on its own.
    #[serde(default)]
    pub oom_killed: bool,
    /// The engine's error about the start.
    #[serde(default)]
    pub error: Option<String>,
    /// Whether the engine captures the output instead of PID 1.
    #[serde(default)]
    pub engine_capture: bool,
}

impl ContainerFacts {
    /// Whether the container has a live process.
    pub fn is_live(&self) -> bool {
        matches!(self.status.as_str(), "running" | "paused" | "restarting")
    }
}

/// `start.intent`: written and fsynced before the one start call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartIntent {
    /// [`FORMAT`].
    pub format: u32,
    /// The container that is about to be started.
    pub container_id: String,
    /// Boot id of the host at that moment.
    #[serde(default)]
    pub boot_id: Option<String>,
    /// When.
    pub at: DateTime<Utc>,
}

/// `settled.json`: written once, when nothing about the run will change on the host any more; see
/// [`Self::awaits_engine`] for the exception.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settled {
    /// [`FORMAT`].
    pub format: u32,
    /// Whose end this is.
    pub run_id: RunId,
    /// How it ended.
    pub verdict: Verdict,
    /// Length and hash of `run.log`.
    pub log: LogEnd,
    /// Life of that log.
    pub generation: Generation,
    /// What PID 1 recorded, when its record is valid.
    #[serde(default)]
    pub exit: Option<ExitRecord>,
    /// The engine's last word.
    #[serde(default)]
    pub container: Option<ContainerFacts>,
    /// When the job was started, from the best source.
    #[serde(default)]
    pub started_at: Option<DateTime<Utc>>,
    /// When it ended, from the best source.
    #[serde(default)]
    pub ended_at: Option<DateTime<Utc>>,
    /// Why outputs could not be opened to the account, when that failed.
    #[serde(default)]
    pub outputs_error: Option<String>,
    /// When the host was started, where that is what ended the job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub booted_at: Option<DateTime<Utc>>,
    /// When the engine was started that answers now, where its restart is what ended the job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine_started_at: Option<DateTime<Utc>>,
    /// What kept the engine from saying anything, when the end was told without its word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine_error: Option<String>,
    /// Why the engine's copy of the output could not be fetched whole, when the engine captured it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_error: Option<String>,
}

impl Settled {
    /// Whether the engine is still to be asked how it ended. Then another record takes the place of this one.
    pub fn awaits_engine(&self) -> bool {
        self.verdict.reason == Reason::EngineSilent
    }

    /// An end of which nothing else is known.
    pub fn of(run_id: RunId, verdict: Verdict, log: LogEnd, generation: Generation) -> Self {
        Self {
            format: FORMAT,
            run_id,
            verdict,
            log,
            generation,
            exit: None,
            container: None,
            started_at: None,
            ended_at: None,
            outputs_error: None,
            booted_at: None,
            engine_started_at: None,
            engine_error: None,
            log_error: None,
        }
    }
}

/// What a host knows about one of its runs, gathered on request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunFacts {
    /// The run.
    pub run_id: RunId,
    /// Who ordered it.
    pub controller_id: ControllerId,
    /// Controllers that have adopted it since.
    #[serde(default)]
    pub adopted_by: Vec<ControllerId>,
    /// Its prompt.
    #[serde(default)]
    pub prompt_id: Option<PromptId>,
    /// Hash of its spec.
    pub spec_sha256: Sha256,
    /// Where it stands.
    pub phase: Phase,
    /// The engine's word; none when it has no such container or did not answer.
    #[serde(default)]
    pub container: Option<ContainerFacts>,
    /// Digest of the image as its registry names it (`repository@sha256:…`), when it came from one.
    #[serde(default)]
    pub image_digest: Option<String>,
    /// Length of `run.log` now.
    pub log_length: u64,
    /// The GPUs it was given.
    #[serde(default)]
    pub lease: Option<Lease>,
    /// Where it stands in line, while it waits for a GPU.
    #[serde(default)]
    pub queue: Option<Box<QueuePlace>>,
    /// What it did to its GPUs so far.
    #[serde(default)]
    pub gpu_summary: Option<GpuSummary>,
    /// What its `DEVICE` says.
    #[serde(default)]
    pub device: Option<Device>,
    /// The record of its end.
    #[serde(default)]
    pub settled: Option<Box<Settled>>,
    /// When the newest evidence about it was collected, once there is some.
    #[serde(default)]
    pub diagnosed_at: Option<DateTime<Utc>>,
    /// When its job printed last, by the host's clock, while it runs. None when it has printed nothing yet, or when the
    /// engine captures.
    #[serde(default)]
    pub last_output_at: Option<DateTime<Utc>>,
    /// Seconds since then, or since its start, while it runs.
    #[serde(default)]
    pub silent_seconds: Option<u64>,
    /// Seconds for which all its GPUs have been seen to do nothing; none when nobody has looked just now.
    #[serde(default)]
    pub gpu_idle_seconds: Option<u64>,
    /// What became of telling an owner of its end, when one wants to be told.
    #[serde(default)]
    pub notified: Option<Notified>,
}

/// Where a run stands on its host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Its folder exists; nothing was started.
    Prepared,
    /// It waits in line for a GPU.
    Queued,
    /// Its container lives.
    Running,
    /// It has ended and `settled.json` says how.
    Settled,
    /// The engine did not answer in time, so nothing is claimed.
    Unclear,
}

impl ExitRecord {
    /// The signal that asked the main process to end, when one was passed on to it before it ended.
    pub fn asked_to_end(&self) -> Option<i32> {
        let asks = |signal: &&i32| END_SIGNALS.contains(*signal);
        // Older records have only the list.
        self.end_signal
            .or_else(|| self.forwarded.iter().rev().find(asks).copied())
    }

    /// The [`EXIT_SIZE`] bytes of `exit.json`.
    ///
    /// # Errors
    /// When the record does not fit; its texts are bounded so that it does.
    pub fn encode(&self) -> Result<Vec<u8>, serde_json::Error> {
        let json = serde_json::to_vec(self)?;
        let mut file = format!("FARRUN-EXIT {FORMAT} {} {}\n", Sha256::of(&json), json.len()).into_bytes();
        file.extend_from_slice(&json);
        if file.len() >= EXIT_SIZE {
            return Err(serde::ser::Error::custom(
                "an exit record is larger than its file",
            ));
        }
        file.resize(EXIT_SIZE - 1, b' ');
        file.push(b'\n');
        Ok(file)
    }

    /// Reads `exit.json`; `None` when it was never finished or is of a newer format.
    pub fn decode(file: &[u8]) -> Option<Self> {
        let newline = file.iter().position(|byte| *byte == b'\n')?;
        let head = std::str::from_utf8(file.get(..newline)?).ok()?;
        let mut words = head.split(' ');
        if words.next() != Some("FARRUN-EXIT") || words.next()?.parse::<u32>().ok()? > FORMAT {
            return None;
        }
        let sha256 = words.next()?;
        let length: usize = words.next()?.parse().ok()?;
        let json = file.get(newline + 1..newline.checked_add(1)?.checked_add(length)?)?;
        if Sha256::of(json).as_str() != sha256 {
            return None;
        }
        serde_json::from_slice(json).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record() -> ExitRecord {
        ExitRecord {
            format: FORMAT,
            code: Some(3),
            signal: None,
            exec_error: None,
            started_at: None,
            ended_at: "2026-01-02T03:04:05Z".parse().unwrap(),
            boot_id: Some("b".into()),
            log: LogEnd {
                length: 4,
                sha256: Sha256::of(b"done"),
            },
            written: 4,
            dropped: 0,
            tail: 0,
            log_error: None,
            timed_out: false,
            forwarded: vec![15],
            end_signal: Some(15),
            oom_kills: 0,
        }
    }

    #[test]
    fn the_file_is_frozen_and_of_fixed_size() {
        let file = record().encode().unwrap();
        assert_eq!(file.len(), EXIT_SIZE);
        let text = String::from_utf8(file.clone()).unwrap();
        assert!(text.starts_with("FARRUN-EXIT 1 "), "{text}");
        assert!(text.contains(r#"{"format":1,"code":3,"signal":null,"#), "{text}");
        assert_eq!(ExitRecord::decode(&file), Some(record()));
    }

    proptest! {
        #[test]
        fn a_half_written_file_is_never_believed(cut in 0usize..600) {
            let whole = record().encode().unwrap();
            let mut file = vec![0; EXIT_SIZE];
            file[..cut].copy_from_slice(&whole[..cut]);
            let json_end = whole.iter().rposition(|byte| *byte == b'}').unwrap() + 1;
            prop_assert_eq!(ExitRecord::decode(&file).is_some(), cut >= json_end);
        }

        #[test]
        fn hostile_files_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = ExitRecord::decode(&bytes);
        }
    }
}
