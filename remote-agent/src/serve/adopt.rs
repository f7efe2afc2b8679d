//! Making this controller an owner of a run.

use super::runs;
use super::session::{Session, unknown};
use farrun_protocol::{Failure, Reply, RunId};

pub(crate) async fn adopt(session: &Session, run_id: RunId) -> Result<Reply, Failure> {
    let peer = session.peer()?;
    let folder = session.folder(&run_id);
    let spec = folder.spec()?.ok_or_else(|| unknown(&run_id))?;
    if spec.controller_id != peer.controller_id {
        // Two controllers that adopt at once must not lose one another.
        let _lock = folder.lock().await?;
        folder.add_adopted(&peer.controller_id)?;
    }
    Ok(Reply::Run(Box::new(runs::known(session, &folder).await?)))
}
