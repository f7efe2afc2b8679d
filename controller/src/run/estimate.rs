//! How long runs take, from those that took place: the median of runs of the same recipe and operation, on the same
//! host where there are any.

use super::RunError;
use crate::controller::Controller;
use crate::model::{Run, RunStatus};
use crate::store::RunFilter;
use chrono::{TimeDelta, Utc};
use farrun_protocol::RunId;
use farrun_protocol::lease::{Obstacle, QueuePlace};
use std::time::Duration;

/// Newest runs that are looked at.
const LOOKED_AT: u64 = 50;
/// As many as this count.
const COUNTED: usize = 20;

/// How long a run like this one usually takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usual {
    /// The median.
    pub duration: Duration,
    /// Of how many runs.
    pub runs: usize,
}

/// How long a run like `run` usually takes; nothing when none has succeeded before.
///
/// # Errors
/// The database.
pub async fn usual(controller: &Controller, run: &Run) -> Result<Option<Usual>, RunError> {
    // Runs of an image without a recipe have nothing in common but the image.
    for host in [Some(run.host.clone()), None] {
        let filter = RunFilter {
            statuses: vec![RunStatus::Completed, RunStatus::Downloading],
            operation: Some(run.operation.clone()),
            host,
            limit: Some(LOOKED_AT),
            ..RunFilter::default()
        };
        let before = controller.store.runs(&filter).await?;
        let took = before
            .iter()
            .filter(|other| other.recipe == run.recipe && (run.recipe.is_some() || is_same_job(other, run)))
            .filter_map(|other| (other.ended_at? - other.started_at?).to_std().ok())
            .take(COUNTED)
            .collect();
        if let Some(usual) = median(took) {
            return Ok(Some(usual));
        }
    }
    Ok(None)
}

fn is_same_job(one: &Run, other: &Run) -> bool {
    one.spec.image == other.spec.image && one.spec.command == other.spec.command
}

fn median(mut took: Vec<Duration>) -> Option<Usual> {
    took.sort_unstable();
    let duration = *took.get(took.len() / 2)?;
    Some(Usual {
        duration,
        runs: took.len(),
    })
}

/// How long a run that is running still needs, when that can be told; nothing once it takes longer than usual.
///
/// # Errors
/// The database.
pub async fn rest(controller: &Controller, run: &Run) -> Result<Option<Duration>, RunError> {
    let (Some(usual), Some(started)) = (usual(controller, run).await?, run.started_at) else {
        return Ok(None);
    };
    let elapsed = (Utc::now() - started)
        .max(TimeDelta::zero())
        .to_std()
        .unwrap_or_default();
    Ok(usual.duration.checked_sub(elapsed))
}

/// How long a run still waits in line, when that can be told: until the first of the GPUs it waits for is given back,
/// and until those before it are done.
///
/// # Errors
/// The database.
pub async fn wait(controller: &Controller, place: &QueuePlace) -> Result<Option<Duration>, RunError> {
    if place.others_ahead > 0 {
        return Ok(None);
    }
    let mut soonest: Option<Duration> = None;
    let mut gpus: u32 = 0;
    for gpu in &place.waits_for {
        let holders: Vec<&RunId> = gpu.obstacles.iter().filter_map(holder).collect();
        let [holder] = holders.as_slice() else { continue };
        gpus = gpus.saturating_add(1);
        let Some(run) = controller.store.run(holder).await? else {
            return Ok(None);
        };
        let Some(rest) = rest(controller, &run).await? else {
            continue;
        };
        soonest = Some(soonest.map_or(rest, |soonest| soonest.min(rest)));
    }
    let Some(soonest) = soonest else { return Ok(None) };
    let mut before = Duration::ZERO;
    for id in &place.ahead {
        let Some(run) = controller.store.run(id).await? else {
            return Ok(None);
        };
        let Some(usual) = usual(controller, &run).await? else {
            return Ok(None);
        };
        before += usual.duration;
    }
    Ok(Some(soonest + before / gpus.max(1)))
}

/// The run that alone stands in the way.
fn holder(obstacle: &Obstacle) -> Option<&RunId> {
    match obstacle {
        Obstacle::Leased { run_id, .. } | Obstacle::Draining { run_id } | Obstacle::Reserved { run_id } => {
            run_id.as_ref()
        }
        _ => None,
    }
}

/// About how long, as people say it: `about 40 s`, `about 12 min`, `about 3 h`.
pub fn about(duration: Duration) -> String {
    match duration.as_secs() {
        seconds @ 0..60 => format!("about {} s", seconds.div_ceil(10) * 10),
        seconds @ 60..5400 => format!("about {} min", (seconds + 30) / 60),
        seconds => format!("about {} h", (seconds + 1800) / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_no_mean() {
        let seconds = |list: &[u64]| list.iter().map(|second| Duration::from_secs(*second)).collect();
        assert_eq!(median(seconds(&[])), None);
        let usual = median(seconds(&[10, 1000, 12])).unwrap();
        assert_eq!((usual.duration, usual.runs), (Duration::from_secs(12), 3));
    }

    #[test]
    fn guesses_sound_like_guesses() {
        let said = |seconds| about(Duration::from_secs(seconds));
        assert_eq!(said(0), "about 0 s");
        assert_eq!(said(31), "about 40 s");
        assert_eq!(said(89), "about 1 min");
        assert_eq!(said(720), "about 12 min");
        assert_eq!(said(10_000), "about 3 h");
    }
}
