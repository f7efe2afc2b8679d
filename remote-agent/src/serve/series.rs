//! What a run's GPUs did.

use super::call::blocking;
use super::session::{Session, unknown};
use crate::series;
use chrono::{DateTime, Utc};
use farrun_protocol::series::{MAX_SAMPLES, Sample};
use farrun_protocol::{Failure, Reply, RunId};

/// A reply must fit a frame.
const LARGE: usize = 900 * 1024;

pub(crate) async fn series(
    session: &Session,
    run_id: &RunId,
    after: Option<DateTime<Utc>>,
) -> Result<Reply, Failure> {
    session.peer()?;
    let folder = session.folder(run_id);
    if folder.spec()?.is_none() {
        return Err(unknown(run_id));
    }
    let samples = blocking(move || Ok(series::read(&folder)?)).await?;
    Ok(page(samples, after))
}

fn page(samples: Vec<Sample>, after: Option<DateTime<Utc>>) -> Reply {
    let mut later = samples
        .into_iter()
        .filter(|sample| after.is_none_or(|after| sample.at > after))
        .peekable();
    let (mut page, mut size) = (Vec::new(), 0);
    while let Some(sample) = later.peek() {
        size += serde_json::to_vec(sample).map_or(0, |json| json.len());
        if page.len() >= MAX_SAMPLES || (size > LARGE && !page.is_empty()) {
            break;
        }
        page.extend(later.next());
    }
    Reply::Series {
        samples: page,
        more: later.peek().is_some(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use farrun_protocol::series::GpuSample;

    fn samples(number: i64, gpus: usize) -> Vec<Sample> {
        let sample = |second| Sample {
            at: DateTime::from_timestamp(second, 0).unwrap(),
            covers: 5,
            log_offset: 0,
            gpus: vec![
                GpuSample {
                    uuid: "GPU-0".into(),
                    memory: Some(u64::MAX),
                    power: Some(u64::MAX),
                    ..GpuSample::default()
                };
                gpus
            ],
        };
        (0..number).map(sample).collect()
    }

    fn told(reply: Reply) -> (Vec<Sample>, bool) {
        match reply {
            Reply::Series { samples, more } => (samples, more),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn pages_are_bounded_and_leave_nothing_out() {
        for gpus in [1, 40] {
            let all = samples(2500, gpus);
            let (mut seen, mut after) = (Vec::new(), None);
            loop {
                let (page, more) = told(page(all.clone(), after));
                assert!(page.len() <= MAX_SAMPLES && serde_json::to_vec(&page).unwrap().len() < 1 << 20);
                after = page.last().map(|sample| sample.at);
                seen.extend(page);
                if !more {
                    break;
                }
            }
            assert_eq!(seen, all);
        }
    }
}
