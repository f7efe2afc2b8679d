//! How an order would fare here, for one who looks for a host: the word of the allocator itself, and nothing is kept.

use super::launch::Scene;
use super::session::Session;
use crate::docker::Engine;
use crate::leases::{Refused, Wish, choose, count_free};
use crate::queue;
use farrun_protocol::lease::{Fit, Placement};
use farrun_protocol::spec::Gpus;
use farrun_protocol::{ErrorCode, Failure, Reply, layout};
use std::time::Duration;

/// How long the figures may take; a host that needs longer now is no better than one that does not answer.
const FIGURES: Duration = Duration::from_millis(1500);
/// How long everything may take.
const BUDGET: Duration = Duration::from_secs(3);

pub(crate) async fn fit(session: &Session, gpus: Gpus, placement: Placement) -> Result<Reply, Failure> {
    let engine = session.peer()?.engine.clone();
    let wish = Wish {
        run_id: None,
        gpus,
        placement,
    };
    match tokio::time::timeout(BUDGET, look(session, &engine, &wish)).await {
        Ok(fit) => fit.map(Reply::Fit),
        Err(_) => Err(Failure::new(
            ErrorCode::DockerTimeout,
            format!("{} s", BUDGET.as_secs()),
        )),
    }
}

async fn look(session: &Session, engine: &Engine, wish: &Wish) -> Result<Fit, Failure> {
    let ours = engine.running().await?;
    let ours = ours
        .iter()
        .filter(|container| container.labels.contains_key(layout::LABEL_RUN));
    let mut fit = Fit {
        given: Some(Vec::new()),
        free: 0,
        gpus: 0,
        running: count(ours.count()),
        waiting: count(queue::line(&session.context.state)?.len()),
    };
    if wish.gpus == Gpus::None {
        return Ok(fit);
    }
    let scene = Scene::look_within(session, engine, FIGURES).await?;
    let held = scene.held(session, engine).await?;
    let reserved = scene.reserved(session, None)?;
    let (free, all) = count_free(&scene.report, &held, &reserved, wish);
    (fit.free, fit.gpus) = (count(free), count(all));
    fit.given = match choose(&scene.report, &held, &reserved, wish) {
        Ok(given) => Some(given),
        Err(Refused::NotFree(_)) if !wish.placement.wait.is_no() => None,
        Err(refused) => return Err(refused.into()),
    };
    Ok(fit)
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
