//! The hashes of large outputs, taken when something needs them.

use super::call::{Call, blocking, cancelled};
use super::listing::elsewhere;
use super::runs;
use super::session::Session;
use crate::outputs;
use crate::record::{file_sha256, read_json_within};
use farrun_protocol::manifest::{FORMAT, MAX_SIZE, Manifest};
use farrun_protocol::{ErrorCode, Failure, Reply, RunId, Sha256};
use std::sync::Arc;

pub(crate) async fn digests(
    session: &Session,
    run_id: RunId,
    manifest: Sha256,
    (from, most): (u64, Option<u64>),
    call: &Arc<Call>,
) -> Result<Reply, Failure> {
    session.peer()?;
    let folder = session.folder(&run_id);
    runs::known(session, &folder).await?;
    let call = Arc::clone(call);
    let changed = |what: &dyn std::fmt::Display| Failure::new(ErrorCode::HashMismatch, what);
    let state = session.context.state.clone();
    blocking(move || {
        let mut path = folder.manifest();
        if !path.exists() {
            let mut others = elsewhere(&state, &run_id, false).into_iter();
            path = others.find(|other| other.exists()).unwrap_or(path);
        }
        let (found, _) = file_sha256(&path)?;
        let listed: Option<Manifest> = read_json_within(&path, FORMAT, MAX_SIZE)?;
        // Another controller of the account may have had the outputs listed anew meanwhile.
        let Some(listed) = listed.filter(|_| found == manifest) else {
            return Err(changed(&found));
        };
        let places = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
        let some = (places(from), most.map_or(usize::MAX, places));
        let cancel = call.cancel.clone();
        match outputs::digests(&folder.outputs(), &listed, some, || !cancel.is_cancelled()) {
            Ok(Some(digests)) => Ok(Reply::Digests { digests }),
            Ok(None) => Err(changed(&run_id)),
            Err(_) if cancel.is_cancelled() => Err(cancelled()),
            Err(error) => Err(Failure::new(ErrorCode::Io, error)),
        }
    })
    .await
}
