//! What the requests of one conversation share.

use super::Context;
use super::log_reader::LogReader;
use crate::docker::Engine;
use crate::record::RunFolder;
use farrun_protocol::{ControllerId, ErrorCode, Failure, RunId};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

/// One conversation.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) context: Context,
    peer: OnceLock<Peer>,
    readers: Mutex<HashMap<RunId, Arc<LogReader>>>,
}

/// Who is at the other end, and the engine it wants to use.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    pub(crate) controller_id: ControllerId,
    pub(crate) engine: Engine,
}

impl Session {
    pub(crate) fn new(context: Context) -> Self {
        Self {
            context,
            peer: OnceLock::new(),
            readers: Mutex::new(HashMap::new()),
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
