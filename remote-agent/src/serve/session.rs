//! What the requests of one conversation share.

use super::Context;
use super::gpus::Containers;
use super::log_reader::LogReader;
use crate::docker::{Address, Engine};
use crate::gpu::{Gpus, Settings, Turns};
use crate::leases::{LockFolder, LocksUnusable};
use crate::queue::DockerSettings;
use crate::record::RunFolder;
use farrun_protocol::{ControllerId, ErrorCode, Failure, RunId};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Instant;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

/// Chunks of logs that are made ready at the same time.
const MOST_CHUNKS: usize = 2;

/// One conversation.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) context: Context,
    /// The host's GPUs.
    pub(crate) gpus: Gpus,
    /// What the engine told about containers that use them.
    pub(crate) containers: Containers,
    peer: OnceLock<Peer>,
    readers: Mutex<HashMap<RunId, Arc<LogReader>>>,
    /// Chunks of logs that are on their way from a file to the queue of the writer. Each can hold a megabyte, and any number of
    /// logs may be followed.
    pub(crate) chunks: Arc<Semaphore>,
    /// Held by the one task of this conversation that starts what waits.
    pub(crate) advancing: tokio::sync::Mutex<()>,
    /// When an observer was last asked for.
    pub(crate) watch_tried: Arc<tokio::sync::Mutex<Option<Instant>>>,
    /// Observers that are being started, which the end of the conversation must not prevent.
    pub(crate) starting: TaskTracker,
    /// Whether this process itself is the observer.
    pub(crate) observes: bool,
}

/// Who is at the other end, and the engine it wants to use.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    pub(crate) controller_id: ControllerId,
    pub(crate) engine: Engine,
    /// How it wants the engine to be reached.
    pub(crate) docker: DockerSettings,
}

impl Peer {
    /// A controller whose engine is reached in this way.
    pub(crate) fn new(
        context: &Context,
        controller_id: ControllerId,
        docker: DockerSettings,
    ) -> Result<Self, Failure> {
        let address = if docker.sudo {
            Address::Sudo
        } else if let Some(host) = docker.host.as_ref().or(context.docker_host.as_ref()) {
            Address::parse(host)?
        } else {
            Address::default_for(context.runtime_folder.as_deref())
        };
        Ok(Self {
            controller_id,
            engine: Engine::new(address, context.home.clone())?,
            docker,
        })
    }
}

impl Session {
    pub(crate) fn new(context: Context) -> Self {
        let mut gpus = Settings::new(&context.state, context.nvidia_smi.clone(), &context.agent);
        gpus.turns = context.locks.clone().map_or(Turns::Usual, Turns::At);
        Self {
            context,
            gpus: Gpus::new(gpus),
            containers: Containers::default(),
            peer: OnceLock::new(),
            readers: Mutex::new(HashMap::new()),
            chunks: Arc::new(Semaphore::new(MOST_CHUNKS)),
            advancing: tokio::sync::Mutex::new(()),
            watch_tried: Arc::default(),
            starting: TaskTracker::new(),
            observes: false,
        }
    }

    /// That of the observer.
    pub(crate) fn of_observer(context: Context) -> Self {
        Self {
            observes: true,
            ..Self::new(context)
        }
    }

    /// The peer of a hello that was accepted.
    pub(crate) fn peer(&self) -> Result<&Peer, Failure> {
        self.peer
            .get()
            .ok_or_else(|| Failure::new(ErrorCode::Protocol, "no hello yet"))
    }

    /// Accepts a hello; the first one counts.
    pub(crate) fn set_peer(&self, peer: Peer) -> Result<(), Failure> {
        self.peer
            .set(peer)
            .map_err(|_| Failure::new(ErrorCode::Protocol, "a second hello"))
    }

    /// The folder of the GPU locks.
    pub(crate) fn locks(&self) -> Result<LockFolder, LocksUnusable> {
        LockFolder::open(self.context.locks.as_deref())
    }

    /// The folder of a run, known or not.
    pub(crate) fn folder(&self, run_id: &RunId) -> RunFolder {
        RunFolder::new(&self.context.state, run_id)
    }

    fn readers(&self) -> MutexGuard<'_, HashMap<RunId, Arc<LogReader>>> {
        match self.readers.lock() {
            Ok(readers) => readers,
            Err(poisoned) => poisoned.into_inner(),
        }
    }

    /// The reader of a run's log, opened once.
    pub(crate) fn reader(&self, run_id: &RunId) -> Result<Arc<LogReader>, Failure> {
        /// Each holds two descriptors; one that is dropped is opened again when it is asked for.
        const MOST_READERS: usize = 64;
        let mut readers = self.readers();
        if let Some(reader) = readers.get(run_id) {
            return Ok(Arc::clone(reader));
        }
        let reader = Arc::new(LogReader::open(&self.folder(run_id))?);
        if readers.len() >= MOST_READERS {
            // One that is waited at knows whose turn is next.
            readers.retain(|_, reader| Arc::strong_count(reader) > 1);
        }
        readers.insert(run_id.clone(), Arc::clone(&reader));
        Ok(reader)
    }

    /// Forgets a run that was removed.
    pub(crate) fn forget(&self, run_id: &RunId) {
        self.readers().remove(run_id);
    }
}

/// No such run.
pub(crate) fn unknown(run_id: &RunId) -> Failure {
    Failure::new(ErrorCode::RunUnknown, run_id)
}
