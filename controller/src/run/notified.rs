//! What became of the hook that a run's host runs at its end.
//!
//! It is run after the end was settled, so a settled run may still have something to be asked about: as long as its
//! history says that the host is about to tell.

use super::{RunError, warnings};
use crate::controller::Controller;
use crate::model::{Run, RunEvent};
use chrono::{TimeDelta, Utc};
use farrun_protocol::RunId;
use farrun_protocol::notify::{LIMIT, Outcome};
use farrun_protocol::record::RunFacts;
use std::time::Duration;

/// Kind of the event.
const KIND: &str = "notify";
const PENDING: &str = "the host is about to tell of the end";
const DONE: &str = "the host has told of the end";
/// The end of what was pending, whatever it was; the warning says the rest.
const FAILED: &str = "the host could not tell of the end";

/// Writes down what the host says of it.
pub(super) async fn note(
    controller: &Controller,
    host: &str,
    id: &RunId,
    facts: &RunFacts,
) -> Result<(), RunError> {
    let (Some(_), Some(notified)) = (&facts.settled, &facts.notified) else {
        return Ok(());
    };
    let abandoned = Utc::now() - notified.at > TimeDelta::from_std(LIMIT * 2).unwrap_or_default();
    let problem = match &notified.outcome {
        Outcome::Begun if abandoned => Some("it was begun, and nothing says how it ended".to_owned()),
        outcome => outcome.problem(),
    };
    let says = match (&problem, &notified.outcome) {
        (Some(_), _) => FAILED,
        (None, Outcome::Begun) => PENDING,
        (None, _) => DONE,
    };
    let events = controller.store.events(id).await?;
    if newest(&events) != Some(says) {
        controller.store.add_event(id, KIND, says).await?;
    }
    match problem {
        Some(problem) => {
            warnings::add(controller, id, &format!("the hook of `{host}` failed: {problem}")).await
        }
        None => Ok(()),
    }
}

fn newest(events: &[RunEvent]) -> Option<&str> {
    let newest = events.iter().rev().find(|event| event.kind == KIND);
    newest.map(|event| event.detail.as_str())
}

/// Asks the host what became of it, where that is open. A host that says nothing is asked again another time.
///
/// # Errors
/// The database.
pub async fn refresh(controller: &Controller, run: &Run, limit: Duration) -> Result<(), RunError> {
    let events = controller.store.events(&run.id).await?;
    if newest(&events) != Some(PENDING) {
        return Ok(());
    }
    let Some(host) = controller.store.host(&run.host).await? else {
        return Ok(());
    };
    let asked = tokio::time::timeout(limit, async {
        let link = controller.contact_unasked(&host).await?;
        let facts = link.client.runs(vec![run.id.clone()]).await;
        link.session.close().await;
        Ok::<_, RunError>(facts?)
    });
    let Ok(Ok(facts)) = asked.await else {
        return Ok(());
    };
    match facts.iter().find(|facts| facts.run_id == run.id) {
        Some(facts) => note(controller, &run.host, &run.id, facts).await,
        None => Ok(()),
    }
}
