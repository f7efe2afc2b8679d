//! One run's folder: every file of it has one method here.

use super::{
    Lock, RecordError, make_private_folder, read_bounded, read_json, remove_if_present, write_all_in_place,
    write_atomically, write_in_place, write_json,
};
use crate::queue::WaitsFor;
use chrono::{DateTime, Utc};
use farrun_protocol::lease::{self, GpuRefusal, Lease};
use farrun_protocol::record::{self, EXIT_SIZE, ExitRecord, Settled, StartIntent};
use farrun_protocol::spec::{self, RunSpec};
use farrun_protocol::verdict::RunResult;
use farrun_protocol::{ControllerId, Generation, RunId, Sha256, layout};
use serde::{Deserialize, Serialize};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// Enough for `settled.json` and the folder that names it.
const RESERVE: usize = 64 * 1024;

/// The folder of one run, which may not exist yet.
#[derive(Debug, Clone)]
pub struct RunFolder {
    path: PathBuf,
    queued: PathBuf,
    run_id: RunId,
}

/// `adopted`: controllers that may act on a run besides the one that ordered it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Adopted {
    /// Version of the file.
    pub format: u32,
    /// Who adopted the run, oldest first.
    pub controllers: Vec<ControllerId>,
}

/// `stop.intent`: written before the first signal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct StopIntent {
    format: u32,
    controller_id: ControllerId,
    at: DateTime<Utc>,
}

impl RunFolder {
    /// The folder of `run_id` below the state folder.
    pub fn new(state: &Path, run_id: &RunId) -> Self {
        Self {
            path: state.join(layout::run(run_id)),
            queued: state.join(layout::queued(run_id)),
            run_id: run_id.clone(),
        }
    }

    /// Whose folder it is.
    pub fn run_id(&self) -> &RunId {
        &self.run_id
    }
    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }
    /// Inputs as the job sees them.
    pub fn inputs(&self) -> PathBuf {
        self.path.join("inputs")
    }
    /// What the job leaves.
    pub fn outputs(&self) -> PathBuf {
        self.path.join("outputs")
    }
    /// The files that PID 1 writes.
    pub fn record(&self) -> PathBuf {
        self.path.join("record")
    }
    /// The run log.
    pub fn log(&self) -> PathBuf {
        self.record().join("run.log")
    }
    /// The list of outputs.
    pub fn manifest(&self) -> PathBuf {
        self.path.join("manifest.json")
    }
    /// Copies of the small outputs, end to end.
    pub fn pack(&self) -> PathBuf {
        self.path.join("outputs.pack")
    }
    /// What the engine said while it fetched the image.
    pub fn pull_log(&self) -> PathBuf {
        self.path.join("pull.log")
    }
    /// Secrets on their way to the job.
    pub fn secrets(&self) -> PathBuf {
        self.path.join("secrets.json")
    }

    /// Its place in the queue, outside of the folder.
    pub fn queued(&self) -> PathBuf {
        self.queued.clone()
    }

    /// Takes the run out of the queue.
    ///
    /// # Errors
    /// The kernel's.
    pub fn leave_queue(&self) -> Result<(), RecordError> {
        remove_if_present(&self.queued)?;
        remove_if_present(&self.path.join("waits.json"))
    }

    /// GPUs that were given to the run.
    ///
    /// # Errors
    /// The kernel's, damage, or a newer format.
    pub fn lease(&self) -> Result<Option<Lease>, RecordError> {
        read_json(&self.path.join("lease.json"), lease::FORMAT)
    }

    /// Writes down which GPUs the run is given.
    ///
    /// # Errors
    /// The kernel's.
    pub fn write_lease(&self, lease: &Lease) -> Result<(), RecordError> {
        write_json(&self.path.join("lease.json"), lease)
    }

    /// What the last attempt to start a waiting run met.
    pub fn waits_for(&self) -> Option<Vec<GpuRefusal>> {
        let waits: Option<WaitsFor> = read_json(&self.path.join("waits.json"), lease::FORMAT).ok()?;
        waits.map(|waits| waits.gpus)
    }

    /// Writes down what an attempt to start a waiting run met, when that is news.
    ///
    /// # Errors
    /// The kernel's.
    pub fn write_waits_for(&self, gpus: &[GpuRefusal]) -> Result<(), RecordError> {
        if self.waits_for().as_deref() == Some(gpus) {
            return Ok(());
        }
        let waits = WaitsFor {
            format: lease::FORMAT,
            gpus: gpus.to_vec(),
        };
        write_json(&self.path.join("waits.json"), &waits)
    }

    /// Forgets an order that was refused before anything came of it; the run is unknown then. The caller holds the
    /// lock, whose file stays.
    ///
    /// # Errors
    /// The kernel's.
    pub fn forget_order(&self) -> Result<(), RecordError> {
        remove_if_present(&self.path.join("spec.json"))?;
        super::sync_folder(&self.path)?;
        self.leave_queue()?;
        for file in [
            self.secrets(),
            self.path.join("lease.json"),
            self.path.join("device"),
            self.reserve(),
        ] {
            remove_if_present(&file)?;
        }
        for folder in [self.inputs(), self.outputs(), self.record()] {
            match std::fs::remove_dir_all(&folder) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(RecordError::io(&folder)(error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Makes the folder.
    ///
    /// # Errors
    /// The kernel's.
    pub fn make(&self) -> Result<(), RecordError> {
        make_private_folder(&self.path)
    }

    /// Takes the lock that serialises launching, stopping and settling.
    ///
    /// # Errors
    /// The kernel's.
    pub async fn lock(&self) -> Result<Lock, RecordError> {
        Lock::take(&self.path.join("launch.lock")).await
    }

    /// As [`Self::lock`], or `None` when it is taken.
    ///
    /// # Errors
    /// The kernel's.
    pub fn try_lock(&self) -> Result<Option<Lock>, RecordError> {
        Lock::try_take(&self.path.join("launch.lock"))
    }

    /// The order, when one was stored.
    ///
    /// # Errors
    /// The kernel's, damage, or a newer format.
    pub fn spec(&self) -> Result<Option<RunSpec>, RecordError> {
        read_json(&self.path.join("spec.json"), spec::FORMAT)
    }

    /// Hash of the stored order's exact bytes.
    ///
    /// # Errors
    /// The kernel's.
    pub fn spec_sha256(&self) -> Result<Option<Sha256>, RecordError> {
        Ok(read_bounded(&self.path.join("spec.json"), super::RECORD_LIMIT)?.map(|bytes| Sha256::of(&bytes)))
    }

    /// Stores the order.
    ///
    /// # Errors
    /// The kernel's.
    pub fn write_spec(&self, spec: &RunSpec) -> Result<(), RecordError> {
        write_atomically(&self.path.join("spec.json"), &spec.canonical(), 0o600)
    }

    /// `start.intent`, when a start was ordered.
    ///
    /// # Errors
    /// The kernel's, damage, or a newer format.
    pub fn start_intent(&self) -> Result<Option<StartIntent>, RecordError> {
        read_json(&self.path.join("start.intent"), record::FORMAT)
    }

    /// Writes `start.intent`.
    ///
    /// # Errors
    /// The kernel's.
    pub fn write_start_intent(&self, intent: &StartIntent) -> Result<(), RecordError> {
        write_json(&self.path.join("start.intent"), intent)
    }

    /// Takes `start.intent` back: the container it names was never started and is about to be removed.
    ///
    /// # Errors
    /// The kernel's.
    pub fn withdraw_start_intent(&self) -> Result<(), RecordError> {
        remove_if_present(&self.path.join("start.intent"))?;
        super::sync_folder(&self.path)
    }

    /// Whether a stop was asked for.
    pub fn stop_requested(&self) -> bool {
        self.path.join("stop.intent").exists()
    }

    /// When a stop was asked for. A file that cannot be read is as old as it is: it was written for nothing else.
    ///
    /// # Errors
    /// The kernel's.
    pub fn stop_requested_at(&self) -> Result<Option<DateTime<Utc>>, RecordError> {
        let path = self.path.join("stop.intent");
        match read_json::<StopIntent>(&path, record::FORMAT) {
            Ok(intent) => Ok(intent.map(|intent| intent.at)),
            Err(_) => {
                let written = std::fs::metadata(&path).and_then(|found| found.modified());
                Ok(Some(written.map_err(RecordError::io(&path))?.into()))
            }
        }
    }

    /// The state folder that it lies in.
    pub fn state(&self) -> &Path {
        // <state>/runs/<run_id>
        self.path.ancestors().nth(2).unwrap_or(&self.path)
    }

    /// Writes `stop.intent`, once.
    ///
    /// # Errors
    /// The kernel's.
    pub fn write_stop_intent(&self, controller_id: &ControllerId) -> Result<(), RecordError> {
        if self.stop_requested() {
            return Ok(());
        }
        write_json(
            &self.path.join("stop.intent"),
            &StopIntent {
                format: record::FORMAT,
                controller_id: controller_id.clone(),
                at: Utc::now(),
            },
        )
    }

    /// How the run ended, once it is settled.
    ///
    /// # Errors
    /// The kernel's, damage, or a newer format.
    pub fn settled(&self) -> Result<Option<Settled>, RecordError> {
        read_json(&self.path.join("settled.json"), record::FORMAT)
    }

    /// Writes `settled.json`; the caller holds the lock and has seen that there is none.
    ///
    /// # Errors
    /// The kernel's.
    pub fn write_settled(&self, settled: &Settled) -> Result<(), RecordError> {
        let path = self.path.join("settled.json");
        if let Err(error) = write_json(&path, settled) {
            // A full disk must not keep a run from ever being settled: this is what the reserve is for.
            remove_if_present(&self.reserve())?;
            write_json(&path, settled).map_err(|_| error)?;
        }
        remove_if_present(&self.reserve())?;
        // The evidence of any other end is redacted by them first, and removes them.
        if settled.verdict.result == RunResult::Succeeded {
            remove_if_present(&self.secrets())?;
        }
        self.leave_queue()
    }

    /// Blocks that are kept for the record of the end.
    fn reserve(&self) -> PathBuf {
        self.path.join("reserve")
    }

    /// Controllers that adopted the run.
    ///
    /// # Errors
    /// The kernel's, damage, or a newer format.
    pub fn adopted(&self) -> Result<Vec<ControllerId>, RecordError> {
        let adopted: Option<Adopted> = read_json(&self.path.join("adopted"), record::FORMAT)?;
        Ok(adopted.map(|adopted| adopted.controllers).unwrap_or_default())
    }

    /// Adds a controller to those that adopted the run.
    ///
    /// # Errors
    /// The kernel's, damage, or a newer format.
    pub fn add_adopted(&self, controller_id: &ControllerId) -> Result<(), RecordError> {
        let mut controllers = self.adopted()?;
        if controllers.contains(controller_id) {
            return Ok(());
        }
        controllers.push(controller_id.clone());
        write_json(
            &self.path.join("adopted"),
            &Adopted {
                format: record::FORMAT,
                controllers,
            },
        )
    }

    /// PID 1's record, when it is valid.
    ///
    /// # Errors
    /// The kernel's.
    pub fn exit(&self) -> Result<Option<ExitRecord>, RecordError> {
        // The job could have grown the file, so only the part that counts is read.
        use std::io::Read as _;
        let path = self.record().join("exit.json");
        let mut bytes = Vec::new();
        match std::fs::File::open(&path) {
            Ok(file) => file.take(EXIT_SIZE as u64).read_to_end(&mut bytes),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => Err(error),
        }
        .map_err(RecordError::io(&path))?;
        Ok(ExitRecord::decode(&bytes))
    }

    /// Whether PID 1 claimed the run.
    pub fn claimed(&self) -> bool {
        std::fs::metadata(self.record().join("started")).is_ok_and(|started| started.len() > 0)
    }

    /// Life of the run log.
    ///
    /// # Errors
    /// The kernel's or a damaged file.
    pub fn generation(&self) -> Result<Option<Generation>, RecordError> {
        let path = self.record().join("generation");
        let Some(bytes) = read_bounded(&path, 100)? else {
            return Ok(None);
        };
        let text = String::from_utf8_lossy(&bytes);
        text.trim()
            .parse()
            .map(Some)
            .map_err(|error| RecordError::Damaged {
                path,
                detail: format!("{error}"),
            })
    }

    /// Length of the run log now.
    pub fn log_length(&self) -> u64 {
        std::fs::metadata(self.log()).map_or(0, |log| log.len())
    }

    /// Digest of the image as its registry names it.
    ///
    /// # Errors
    /// The kernel's.
    pub fn image_digest(&self) -> Result<Option<String>, RecordError> {
        let bytes = read_bounded(&self.path.join("image-digest"), 1000)?;
        Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// Remembers the image's digest.
    ///
    /// # Errors
    /// The kernel's.
    pub fn write_image_digest(&self, digest: &str) -> Result<(), RecordError> {
        write_in_place(&self.path.join("image-digest"), digest.as_bytes(), 0o600)
    }

    /// Makes what the container mounts. Files of `record/` are made now and written in place later, because PID 1
    /// may run as any user; the folders are open to that user, their parent is not open to other accounts.
    ///
    /// # Errors
    /// The kernel's.
    pub fn make_skeleton(&self) -> Result<(), RecordError> {
        for (folder, mode) in [
            (self.inputs(), 0o755),
            (self.outputs(), 0o777),
            (self.record(), 0o755),
            (self.path.join("diagnostics"), 0o700),
        ] {
            make_private_folder(&folder)?;
            std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(mode))
                .map_err(RecordError::io(&folder))?;
        }
        let record = self.record();
        let generation = format!("{}\n", Generation::random());
        let mut files: Vec<(&str, &[u8], u32)> = vec![("generation", generation.as_bytes(), 0o644)];
        files.extend(["run.log", "run.tail", "started"].map(|name| (name, &b""[..], 0o666)));
        // Their blocks are written now: a disk that is full at the end must not turn a success into a failure.
        let exit = vec![0; EXIT_SIZE];
        files.push(("exit.json", &exit, 0o666));
        write_all_in_place(&record, &files)?;
        if self.path.join("settled.json").exists() {
            return Ok(());
        }
        write_in_place(&self.reserve(), &vec![1; RESERVE], 0o600)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_skeleton_is_made_once_and_kept() {
        let state = tempfile::tempdir().unwrap();
        let folder = RunFolder::new(state.path(), &"rs_abcdefgh".parse().unwrap());
        folder.make().unwrap();
        folder.make_skeleton().unwrap();
        let generation = folder.generation().unwrap();
        std::fs::write(folder.log(), b"kept").unwrap();
        folder.make_skeleton().unwrap();
        assert_eq!(folder.generation().unwrap(), generation);
        assert_eq!(folder.log_length(), 4);
        assert_eq!(folder.exit().unwrap(), None);
        assert!(!folder.claimed());
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(folder.path()), 0o700);
        assert_eq!(mode(&folder.outputs()), 0o777);
        assert_eq!(mode(&folder.log()), 0o666);
        assert_eq!(
            std::fs::metadata(folder.record().join("exit.json"))
                .unwrap()
                .len(),
            8192
        );
    }

    #[test]
    fn a_newer_format_is_refused_and_left_alone() {
        let state = tempfile::tempdir().unwrap();
        let folder = RunFolder::new(state.path(), &"rs_abcdefgh".parse().unwrap());
        folder.make().unwrap();
        let path = folder.path().join("settled.json");
        std::fs::write(&path, br#"{"format":2,"new":true}"#).unwrap();
        assert!(matches!(
            folder.settled(),
            Err(RecordError::Newer { format: 2, .. })
        ));
        assert_eq!(std::fs::read(&path).unwrap(), br#"{"format":2,"new":true}"#);
    }
}
