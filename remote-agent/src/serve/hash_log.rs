//! Hash of a prefix of a run log.

use super::call::blocking;
use super::session::{Session, unknown};
use crate::record::{RecordError, hash_reader};
use farrun_protocol::{Failure, Reply, RunId};

pub(crate) async fn hash_log(session: &Session, run_id: RunId, length: u64) -> Result<Reply, Failure> {
    session.peer()?;
    let folder = session.folder(&run_id);
    if folder.generation()?.is_none() {
        return Err(unknown(&run_id));
    }
    blocking(move || {
        let path = folder.log();
        let file = std::fs::File::open(&path).map_err(RecordError::io(&path))?;
        let (sha256, found) = hash_reader(file, length).map_err(RecordError::io(&path))?;
        Ok(Reply::LogPrefix {
            sha256: (found == length).then_some(sha256),
        })
    })
    .await
}
