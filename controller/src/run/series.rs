//! What a run's GPUs did, brought here from its host.

use super::RunError;
use crate::agent::Client;
use crate::controller::Controller;
use crate::host::Link;
use crate::model::Run;
use chrono::{DateTime, Utc};
use farrun_protocol::RunId;
use farrun_protocol::lease::LeasedGpu;
use farrun_protocol::series::{MAX_SAMPLES, Sample};

/// Most samples of one run: thinned, they are those of months.
const MOST: usize = 200_000;

/// Every sample of a run, oldest first.
///
/// # Errors
/// The host is out of reach, or does not know the run.
pub async fn of(controller: &Controller, run: &Run) -> Result<Vec<Sample>, RunError> {
    let host = controller.host_of(&run.id, &run.host).await?;
    let link = controller.contact(&host).await?;
    all(link, run).await
}

/// As [`of`], without asking the user for anything.
///
/// # Errors
/// As [`of`], also where something would have to be asked.
pub async fn in_passing(controller: &Controller, run: &Run) -> Result<Vec<Sample>, RunError> {
    let host = controller.host_of(&run.id, &run.host).await?;
    let link = controller.contact_unasked(&host).await?;
    all(link, run).await
}

async fn all(link: Link, run: &Run) -> Result<Vec<Sample>, RunError> {
    let samples = through(&link.client, &link.host, &run.id, None).await;
    link.session.close().await;
    samples
}

/// Every sample of a run later than `after`, over a link that is there.
///
/// # Errors
/// The link, or the host does not know the run.
pub async fn through(
    client: &Client,
    host: &str,
    run: &RunId,
    after: Option<DateTime<Utc>>,
) -> Result<Vec<Sample>, RunError> {
    let mut samples: Vec<Sample> = Vec::new();
    let mut after = after;
    loop {
        let (part, more) = client.series(run.clone(), after).await?;
        let forward = part.iter().try_fold(after, |before, sample| {
            before
                .is_none_or(|before| sample.at > before)
                .then_some(Some(sample.at))
        });
        let Some(last) = forward.filter(|_| part.len() <= MAX_SAMPLES && samples.len() <= MOST) else {
            return Err(RunError::Hostile {
                host: host.to_owned(),
                what: format!("samples of `{run}` without order or end"),
            });
        };
        let empty = part.is_empty();
        samples.extend(part);
        if !more || empty {
            return Ok(samples);
        }
        after = last;
    }
}

/// The GPUs of samples, in the order in which they appear: each with its UUID, a name for people, and what the run's
/// lease says of it.
pub fn gpus<'a>(run: &'a Run, samples: &'a [Sample]) -> Vec<(&'a str, String, Option<&'a LeasedGpu>)> {
    let mut uuids: Vec<&str> = Vec::new();
    for gpu in samples.iter().flat_map(|sample| &sample.gpus) {
        if !uuids.contains(&gpu.uuid.as_str()) {
            uuids.push(&gpu.uuid);
        }
    }
    let described = |uuid: &'a str| {
        let leased = run
            .lease
            .iter()
            .flat_map(|lease| &lease.gpus)
            .find(|gpu| gpu.uuid == uuid);
        let name = leased.map_or_else(|| uuid.to_owned(), name);
        (uuid, name, leased)
    };
    uuids.into_iter().map(described).collect()
}

/// `GPU 0`, and `GPU 0 MIG 1g.10gb` for an instance of it.
fn name(gpu: &LeasedGpu) -> String {
    let instance = gpu
        .name
        .rsplit_once(" MIG ")
        .filter(|_| gpu.uuid.starts_with("MIG-"));
    match instance {
        Some((_, profile)) => format!("GPU {} MIG {profile}", gpu.index),
        None => format!("GPU {}", gpu.index),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_has_its_profile_in_its_name() {
        let name = |uuid: &str, model: &str| {
            name(&LeasedGpu {
                uuid: uuid.to_owned(),
                index: 3,
                name: model.to_owned(),
                memory_total: None,
            })
        };
        assert_eq!(name("GPU-a", "NVIDIA H100"), "GPU 3");
        assert_eq!(name("MIG-a", "NVIDIA H100 MIG 1g.10gb"), "GPU 3 MIG 1g.10gb");
        assert_eq!(name("GPU-a", "A MIG B"), "GPU 3");
    }
}
