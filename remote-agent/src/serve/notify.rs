//! What a controller's user wants done when a run has ended.

use super::session::Session;
use crate::notify;
use farrun_protocol::message::SetHook;
use farrun_protocol::notify::{FORMAT, HookFile};
use farrun_protocol::{ErrorCode, Failure, Reply};

pub(crate) fn set(session: &Session, set: SetHook) -> Result<Reply, Failure> {
    let peer = session.peer()?;
    if let Some(hook) = &set.hook {
        hook.check()
            .map_err(|error| Failure::new(ErrorCode::BadRequest, error))?;
    }
    let file = set.hook.map(|hook| HookFile {
        format: FORMAT,
        host: set.host,
        hook,
    });
    notify::set(&session.context.state, &peer.controller_id, file.as_ref())?;
    Ok(Reply::Done)
}
