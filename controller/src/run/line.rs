//! A run that waits for a GPU: tells where it stands until it is its turn.

use super::reach::{Reach, may_pass};
use super::{RunError, device, estimate, gpu_words, reconcile};
use crate::controller::Event;
use crate::host::LinkError;
use farrun_protocol::record::{Phase, RunFacts};
use std::time::Duration;

/// How often the host is asked. The host starts the run by itself; this only tells.
const LOOK_APART: Duration = Duration::from_secs(3);

/// Waits until the run is no longer in line, and tells when its place changes.
pub(super) async fn wait(reach: &mut Reach<'_>) -> Result<(), RunError> {
    let controller = reach.controller;
    let id = reach.run.id.clone();
    let mut told = String::new();
    let mut waited = false;
    loop {
        let link = reach.link().await?;
        let answer = link.client.runs(vec![id.clone()]).await;
        let facts = match answer {
            Ok(mut facts) => facts.pop(),
            Err(error) => {
                let error = RunError::from(LinkError::from(error));
                if may_pass(&error) {
                    reach.lost(&error).await;
                    continue;
                }
                return Err(error);
            }
        };
        let Some(facts) = facts else {
            // The host has no folder of it: settling says what that means.
            reach.keep(link);
            return Ok(());
        };
        let host = link.host.clone();
        reach.keep(link);
        reconcile::apply(controller, &host, &id, &facts).await?;
        let Some(mut place) = in_line(&facts) else {
            if facts.settled.is_none() && (waited || facts.phase == Phase::Running) {
                let run = controller.store.run(&id).await?;
                device::tell_running(controller, run.as_ref().unwrap_or(reach.run));
            }
            return Ok(());
        };
        waited = true;
        if place != told {
            told.clone_from(&place);
            if let Some(queue) = facts.queue.as_deref()
                && let Some(wait) = estimate::wait(&controller.store, queue).await?
            {
                place = format!("{place}, {}", estimate::about(wait));
            }
            controller.tell(&Event::InLine {
                run: id.as_str(),
                place: &place,
            });
        }
        tokio::time::sleep(LOOK_APART).await;
    }
}

/// Where a run stands in line, for people; nothing when it does not stand there.
fn in_line(facts: &RunFacts) -> Option<String> {
    if facts.phase != Phase::Queued || facts.settled.is_some() {
        return None;
    }
    let unknown = || "in line for a GPU".to_owned();
    Some(facts.queue.as_deref().map_or_else(unknown, gpu_words::place))
}
