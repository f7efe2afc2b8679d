//! What a host no longer needs, and its removal. Nothing goes that was not listed.

use super::RunError;
use crate::controller::Controller;
use crate::model::Host;
use farrun_protocol::RunId;
use farrun_protocol::message::{Collect, Garbage};

/// Lists what would go from a host, or removes it.
///
/// `runs` are settled runs whose outputs are here or are not wanted; the host refuses any that is still active.
///
/// # Errors
/// The host is out of reach.
pub async fn collect(
    controller: &Controller,
    host: &Host,
    runs: Vec<RunId>,
    dry_run: bool,
) -> Result<Vec<Garbage>, RunError> {
    let link = controller.contact(host).await?;
    let order = Collect {
        dry_run,
        run_ids: runs,
        agents: true,
        blobs: true,
    };
    let items = link.client.collect(order).await?;
    link.session.close().await;
    Ok(items)
}
