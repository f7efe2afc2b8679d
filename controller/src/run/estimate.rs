//! How long runs take, from those that took place: the median of runs of the same recipe and operation, on GPUs of the
//! same model where there are any, else on the same host, else anywhere.

use crate::model::{Run, RunStatus};
use crate::store::{RunFilter, Store, StoreError};
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
pub async fn usual(store: &Store, run: &Run) -> Result<Option<Usual>, StoreError> {
    let models = models(run);
    let like: [(Option<String>, bool); 3] = [(None, true), (Some(run.host.clone()), false), (None, false)];
    for (host, same_model) in like {
        if same_model && models.is_empty() {
            continue;
        }
        let filter = RunFilter {
            statuses: vec![RunStatus::Completed, RunStatus::Downloading],
            operation: Some(run.operation.clone()),
            host,
            limit: Some(LOOKED_AT),
            ..RunFilter::default()
        };
        let before = store.runs(&filter).await?;
        let took = before
            .iter()
            // Runs of an image without a recipe have nothing in common but the image.
            .filter(|other| other.recipe == run.recipe && (run.recipe.is_some() || is_same_job(other, run)))
            .filter(|other| !same_model || self::models(other) == models)
            .filter_map(|other| (other.ended_at? - other.started_at?).to_std().ok())
            .take(COUNTED)
            .collect();
        if let Some(usual) = median(took) {
            return Ok(Some(usual));
        }
    }
    Ok(None)
}

/// The models of the GPUs that a run was given; none when it has none or waits for them.
fn models(run: &Run) -> Vec<&str> {
    let gpus = run.lease.iter().flat_map(|lease| &lease.gpus);
    let mut models: Vec<&str> = gpus.map(|gpu| gpu.name.as_str()).collect();
    models.sort_unstable();
    models
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
pub async fn rest(store: &Store, run: &Run) -> Result<Option<Duration>, StoreError> {
    let (Some(usual), Some(started)) = (usual(store, run).await?, run.started_at) else {
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
pub async fn wait(store: &Store, place: &QueuePlace) -> Result<Option<Duration>, StoreError> {
    if place.others_ahead > 0 {
        return Ok(None);
    }
    let mut soonest: Option<Duration> = None;
    let mut gpus: u32 = 0;
    for gpu in &place.waits_for {
        let holders: Vec<&RunId> = gpu.obstacles.iter().filter_map(holder).collect();
        let [holder] = holders.as_slice() else { continue };
        gpus = gpus.saturating_add(1);
        let Some(run) = store.run(holder).await? else {
            return Ok(None);
        };
        let Some(rest) = rest(store, &run).await? else {
            continue;
        };
        soonest = Some(soonest.map_or(rest, |soonest| soonest.min(rest)));
    }
    let Some(soonest) = soonest else { return Ok(None) };
    let mut before = Duration::ZERO;
    for id in &place.ahead {
        let Some(run) = store.run(id).await? else {
            return Ok(None);
        };
        let Some(usual) = usual(store, &run).await? else {
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

/// What can be told of an active run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Estimate {
    /// How long runs like it take.
    pub usual: Option<Usual>,
    /// How long it still waits in line.
    pub starts_in: Option<Duration>,
}

/// What can be told of an active run; `place` is where it stands in line.
///
/// # Errors
/// The database.
pub async fn of(store: &Store, run: &Run, place: Option<&QueuePlace>) -> Result<Estimate, StoreError> {
    let starts_in = match place {
        Some(place) => wait(store, place).await?,
        None => None,
    };
    Ok(Estimate {
        usual: usual(store, run).await?,
        starts_in,
    })
}

/// For how long a run has been running, beside how long it usually takes: `12 m 03 s of ~30 min`.
pub fn beside(elapsed: &str, usual: Option<Usual>) -> String {
    match usual {
        Some(usual) => format!("{elapsed} of {}", about(usual.duration).replace("about ", "~")),
        None => elapsed.to_owned(),
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
        let usual = Usual {
            duration: Duration::from_secs(1800),
            runs: 3,
        };
        assert_eq!(beside("12 m 03 s", Some(usual)), "12 m 03 s of ~30 min");
        assert_eq!(beside("12 m 03 s", None), "12 m 03 s");
    }
}
