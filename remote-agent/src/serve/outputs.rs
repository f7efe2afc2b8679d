//! The list of what an ended run left, with hashes.

use super::call::{Call, blocking};
use super::listing::Turn;
use super::runs;
use super::session::Session;
use super::settle;
use crate::outputs::Hashing;
use crate::record::{RunFolder, file_sha256};
use farrun_protocol::message::ManifestReply;
use farrun_protocol::record::{Phase, RunFacts};
use farrun_protocol::{ErrorCode, Failure, Progress, Reply, RunId};
use std::sync::Arc;

/// Opens what could not be opened when the run was settled: an engine that was down then may be there again.
async fn open(session: &Session, folder: &RunFolder, facts: &RunFacts) -> Result<(), Failure> {
    let settled = facts.settled.as_ref();
    if settled.is_none_or(|settled| settled.engine_error.is_none()) {
        return Ok(());
    }
    let Some(spec) = folder.spec()? else {
        return Ok(());
    };
    let engine = &session.peer()?.engine;
    match settle::open_to_account(engine, &session.context, folder, &spec.image).await {
        Some(problem) => Err(Failure::new(ErrorCode::Io, problem)),
        None => Ok(()),
    }
}

pub(crate) async fn outputs(session: &Session, run_id: RunId, call: &Arc<Call>) -> Result<Reply, Failure> {
    session.peer()?;
    let folder = session.folder(&run_id);
    let facts = runs::known(session, &folder).await?;
    if facts.phase != Phase::Settled {
        return Err(Failure::new(ErrorCode::RunActive, run_id));
    }
    open(session, &folder, &facts).await?;
    let tell = |call: &Call, hashing: Hashing| {
        call.frequent_progress(&Progress::Hashing {
            bytes_done: hashing.bytes_done,
            bytes: hashing.bytes,
        });
    };
    let turn = Turn::wait(&folder, &call.cancel, |hashing| tell(call, hashing)).await?;
    let call = Arc::clone(call);
    blocking(move || {
        let (manifest, path) = turn.list(|hashing| tell(&call, hashing))?;
        let (sha256, size) = file_sha256(&path)?;
        let packed = manifest.files.iter().any(|file| file.packed_at.is_some());
        Ok(Reply::Manifest(ManifestReply {
            path: path.to_string_lossy().into_owned(),
            size,
            sha256,
            outputs: folder.outputs().to_string_lossy().into_owned(),
            pack: packed.then(|| folder.pack().to_string_lossy().into_owned()),
            files: manifest.files.len() as u64,
            bytes: manifest.files.iter().map(|file| file.size).sum(),
        }))
    })
    .await
}
