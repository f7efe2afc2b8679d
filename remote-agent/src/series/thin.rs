//! Old samples are made fewer: what is older than an hour is kept by the minute, and by more than that when a run
//! lives for weeks.

use chrono::{DateTime, Utc};
use farrun_protocol::series::{GpuSample, Sample};

/// Seconds for which samples stay as they were taken.
const RAW: i64 = 3600;
/// Seconds that one of the older samples stands for at first.
const MINUTE: i64 = 60;
/// Most samples that are kept; a week by the minute.
const MOST: usize = 10_800;

/// The same samples with the old ones merged. Those of one minute become one, never across a gap of the clock.
pub fn thin(samples: Vec<Sample>, now: DateTime<Utc>) -> Vec<Sample> {
    let mut seconds = MINUTE;
    let mut thinned = merge(samples, now, seconds);
    while thinned.len() > MOST && seconds < i64::from(u32::MAX / 4) {
        seconds = seconds.saturating_mul(2);
        thinned = merge(thinned, now, seconds);
    }
    thinned
}

fn merge(samples: Vec<Sample>, now: DateTime<Utc>, seconds: i64) -> Vec<Sample> {
    let place = |at: DateTime<Utc>| at.timestamp().div_euclid(seconds);
    let raw_from = now.timestamp().saturating_sub(RAW).div_euclid(seconds);
    let mut merged: Vec<Sample> = Vec::new();
    for sample in samples {
        let here = place(sample.at);
        match merged.last_mut() {
            Some(last) if here < raw_from && place(last.at) == here && same_gpus(last, &sample) => {
                take_in(last, &sample);
            }
            _ => merged.push(sample),
        }
    }
    merged
}

fn same_gpus(one: &Sample, other: &Sample) -> bool {
    let uuids = |sample: &Sample| sample.gpus.iter().map(|gpu| gpu.uuid.clone()).collect::<Vec<_>>();
    uuids(one) == uuids(other)
}

/// The moment and the length of the log stay those of the first.
fn take_in(sample: &mut Sample, later: &Sample) {
    let (before, after) = (u64::from(sample.covers), u64::from(later.covers));
    for (gpu, other) in sample.gpus.iter_mut().zip(&later.gpus) {
        let mean = |one: Option<u64>, other: Option<u64>| mean((one, before), (other, after));
        *gpu = GpuSample {
            uuid: std::mem::take(&mut gpu.uuid),
            run_memory: gpu.run_memory.max(other.run_memory),
            memory: gpu.memory.max(other.memory),
            utilization: mean(gpu.utilization, other.utilization),
            power: mean(gpu.power, other.power),
            temperature: gpu.temperature.max(other.temperature),
        };
    }
    sample.covers = sample.covers.saturating_add(later.covers);
}

fn mean((one, before): (Option<u64>, u64), (other, after): (Option<u64>, u64)) -> Option<u64> {
    let (Some(one), Some(other)) = (one, other) else {
        return one.or(other);
    };
    let sum = one
        .saturating_mul(before)
        .saturating_add(other.saturating_mul(after));
    let seconds = before.saturating_add(after);
    sum.saturating_add(seconds / 2).checked_div(seconds)
}

#[cfg(test)]
mod tests {
    use super::super::Tally;
    use super::*;
    use proptest::prelude::*;

    fn sample(second: i64, value: u64) -> Sample {
        Sample {
            at: DateTime::from_timestamp(second, 0).unwrap(),
            covers: 5,
            log_offset: second.unsigned_abs(),
            gpus: vec![GpuSample {
                uuid: "GPU-0".into(),
                run_memory: Some(value),
                memory: Some(value),
                utilization: Some(value % 101),
                power: Some(value),
                temperature: (!value.is_multiple_of(7)).then_some(value % 90),
            }],
        }
    }

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(second, 0).unwrap()
    }

    #[test]
    fn what_is_older_than_an_hour_is_kept_by_the_minute() {
        let samples: Vec<Sample> = (0..1440)
            .map(|number| sample(number * 5, number.unsigned_abs()))
            .collect();
        let thinned = thin(samples.clone(), at(7200));
        assert_eq!(thinned.len(), 60 + 720);
        assert_eq!((thinned[1].covers, thinned[1].log_offset), (60, 60));
        assert_eq!(thinned[1].gpus[0].run_memory, Some(23));
        assert_eq!(thinned[60], samples[720]);
        assert_eq!(thin(thinned.clone(), at(7200)), thinned);
    }

    #[test]
    fn a_life_of_months_stays_bounded() {
        let minutes: Vec<Sample> = (0..100_000)
            .map(|minute| Sample {
                covers: 60,
                ..sample(minute * 60, 1)
            })
            .collect();
        let thinned = thin(minutes, at(100_000 * 60));
        assert!(
            thinned.len() <= MOST && thinned.len() > MOST / 3,
            "{}",
            thinned.len()
        );
        assert_eq!(thinned[0].covers, 960);
    }

    proptest! {
        #[test]
        fn thinning_changes_no_greatest_value_and_no_number(
            steps in proptest::collection::vec((0i64..200, 0u64..50_000), 1..400),
            end in 0i64..50_000,
        ) {
            let mut second = 0;
            let samples: Vec<Sample> = steps.iter().map(|(step, value)| {
                second += step;
                sample(second, *value)
            }).collect();
            let thinned = thin(samples.clone(), at(end));
            let (raw, thin) = (Tally::of(&samples).summary(), Tally::of(&thinned).summary());
            prop_assert_eq!(
                (raw.peak_memory, raw.max_temperature, raw.samples),
                (thin.peak_memory, thin.max_temperature, thin.samples)
            );
            prop_assert!(thinned.windows(2).all(|pair| pair[0].at <= pair[1].at));
        }
    }
}
