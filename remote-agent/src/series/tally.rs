//! What samples come to, kept up to date with each of them.

use crate::gpu::boot_clock;
use crate::record::boot_id;
use farrun_protocol::series::{APART, FORMAT, GpuSample, GpuSummary, Sample};
use serde::{Deserialize, Serialize};

/// A GPU that is used by no more percent does nothing; drivers and screens use a little.
const IDLE: u64 = 5;
/// Seconds after which a sample says nothing about now.
const FRESH: u64 = 3 * APART;

/// A moment by the clock that nobody can set; comparable within one boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    /// The boot.
    pub boot_id: String,
    /// Milliseconds since then.
    pub ms: u64,
}

impl Moment {
    /// Now.
    pub fn now() -> Self {
        Self {
            boot_id: boot_id(),
            ms: boot_clock(),
        }
    }

    /// Milliseconds until a moment of the same boot.
    pub(super) fn until(&self, later: &Self) -> Option<u64> {
        (self.boot_id == later.boot_id).then(|| later.ms.saturating_sub(self.ms))
    }

    /// Samples that should have been taken between `self` and `later` and were not. Across a restart of the host
    /// there is no telling, and nothing ran in between.
    fn missed_until(&self, later: &Self) -> u64 {
        if self.boot_id != later.boot_id {
            return 0;
        }
        let apart = APART.saturating_mul(1000);
        let steps = later
            .ms
            .saturating_sub(self.ms)
            .saturating_add(apart / 2)
            .checked_div(apart);
        steps.unwrap_or_default().saturating_sub(1)
    }
}

/// `series.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// [`FORMAT`].
    pub format: u32,
    samples: u64,
    gaps: u64,
    peak_memory: Option<u64>,
    max_temperature: Option<u64>,
    /// Percent times seconds, over GPUs.
    utilization: u64,
    /// Seconds for which a GPU's utilisation is known.
    utilization_seconds: u64,
    /// Milliwatts times seconds, over GPUs.
    energy: Option<u64>,
    #[serde(default)]
    shared: bool,
    #[serde(default)]
    intruders: bool,
    /// When the newest sample was taken.
    #[serde(default)]
    newest: Option<Moment>,
    /// Seconds, up to that sample, for which every GPU was seen to do nothing.
    #[serde(default)]
    idle: u64,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            format: FORMAT,
            samples: 0,
            gaps: 0,
            peak_memory: None,
            max_temperature: None,
            utilization: 0,
            utilization_seconds: 0,
            energy: None,
            shared: false,
            intruders: false,
            newest: None,
            idle: 0,
        }
    }
}

impl Tally {
    /// Of samples that were stored; gaps are told by the host's clock, for want of a better one.
    pub fn of(samples: &[Sample]) -> Self {
        let mut tally = Self::default();
        let mut before: Option<&Sample> = None;
        for sample in samples {
            tally.count(sample);
            if let Some(before) = before {
                let apart = sample.at.signed_duration_since(before.at).num_seconds();
                let missing = u64::try_from(apart)
                    .unwrap_or_default()
                    .saturating_sub(u64::from(before.covers))
                    .saturating_add(APART / 2)
                    .checked_div(APART);
                tally.gaps = tally.gaps.saturating_add(missing.unwrap_or_default());
            }
            before = Some(sample);
        }
        tally
    }

    /// Adds a sample that was taken at this moment.
    pub fn add(&mut self, sample: &Sample, moment: Moment) {
        if let Some(newest) = &self.newest {
            let missed = newest.missed_until(&moment);
            self.gaps = self.gaps.saturating_add(missed);
            if missed > 0 || newest.boot_id != moment.boot_id {
                // Nobody has seen what they did meanwhile.
                self.idle = 0;
            }
        }
        self.newest = Some(moment);
        self.count(sample);
    }

    /// The moment of the newest sample, where it is known.
    pub(super) fn newest(&self) -> Option<&Moment> {
        self.newest.as_ref()
    }

    /// Others use the run's GPUs as well, because they may.
    pub fn set_shared(&mut self) {
        self.shared = true;
    }

    /// Somebody else's process was seen on a GPU that was the run's alone.
    pub fn set_intruders(&mut self) {
        self.intruders = true;
    }

    fn count(&mut self, sample: &Sample) {
        let seconds = u64::from(sample.covers);
        self.samples = self
            .samples
            .saturating_add(seconds.checked_div(APART).unwrap_or(1).max(1));
        let nothing = |gpu: &GpuSample| gpu.utilization.is_some_and(|percent| percent <= IDLE);
        self.idle = match !sample.gpus.is_empty() && sample.gpus.iter().all(nothing) {
            true => self.idle.saturating_add(seconds),
            false => 0,
        };
        for gpu in &sample.gpus {
            self.peak_memory = self.peak_memory.max(gpu.run_memory);
            self.max_temperature = self.max_temperature.max(gpu.temperature);
            if let Some(utilization) = gpu.utilization {
                let added = utilization.saturating_mul(seconds);
                self.utilization = self.utilization.saturating_add(added);
                self.utilization_seconds = self.utilization_seconds.saturating_add(seconds);
            }
            if let Some(power) = gpu.power {
                let energy = self.energy.unwrap_or_default();
                self.energy = Some(energy.saturating_add(power.saturating_mul(seconds)));
            }
        }
    }

    /// For how many seconds every GPU has done nothing; none when the newest sample is too old to tell.
    pub fn idle_at(&self, now: &Moment) -> Option<u64> {
        let newest = self.newest.as_ref()?;
        let fresh =
            newest.boot_id == now.boot_id && now.ms.saturating_sub(newest.ms) < FRESH.saturating_mul(1000);
        fresh.then_some(self.idle)
    }

    /// As it stands in a run's facts.
    pub fn summary(&self) -> GpuSummary {
        let half = self.utilization_seconds / 2;
        GpuSummary {
            peak_memory: self.peak_memory,
            mean_utilization: self
                .utilization
                .saturating_add(half)
                .checked_div(self.utilization_seconds),
            max_temperature: self.max_temperature,
            energy: self.energy.map(|energy| energy / 3600),
            samples: self.samples,
            gaps: self.gaps,
            shared: self.shared,
            intruders: self.intruders,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idleness_counts_while_it_was_seen() {
        let mut tally = Tally::default();
        let moment = |second: u64| Moment {
            boot_id: "one".into(),
            ms: second * 1000,
        };
        for second in [5, 10, 15] {
            tally.add(&sample(i64::try_from(second).unwrap(), 3, 0), moment(second));
        }
        assert_eq!(tally.idle_at(&moment(16)), Some(15));
        // Too old to tell, or of another boot.
        assert_eq!(tally.idle_at(&moment(31)), None);
        let other = Moment {
            boot_id: "two".into(),
            ms: 16_000,
        };
        assert_eq!(tally.idle_at(&other), None);
        // Nobody looked for a while.
        tally.add(&sample(60, 0, 0), moment(60));
        assert_eq!(tally.idle_at(&moment(60)), Some(5));
        tally.add(&sample(65, 80, 0), moment(65));
        assert_eq!(tally.idle_at(&moment(65)), Some(0));
        tally.add(&sample(70, 0, 0), moment(70));
        let mut unknown = sample(75, 0, 0);
        unknown.gpus[0].utilization = None;
        assert_eq!(tally.idle_at(&moment(70)), Some(5));
        tally.add(&unknown, moment(75));
        assert_eq!(tally.idle_at(&moment(75)), Some(0));
    }

    fn sample(second: i64, utilization: u64, power: u64) -> Sample {
        Sample {
            at: chrono::DateTime::from_timestamp(second, 0).unwrap(),
            covers: 5,
            log_offset: 0,
            gpus: vec![GpuSample {
                uuid: "GPU-0".into(),
                run_memory: Some(utilization * 10),
                memory: Some(1),
                utilization: Some(utilization),
                power: Some(power),
                temperature: Some(30 + utilization),
            }],
        }
    }

    fn moment(ms: u64) -> Moment {
        Moment {
            boot_id: "one".into(),
            ms,
        }
    }

    #[test]
    fn figures_are_over_the_whole_life() {
        let mut tally = Tally::default();
        tally.add(&sample(0, 10, 3_600_000), moment(1000));
        tally.add(&sample(5, 30, 7_200_000), moment(6200));
        let summary = tally.summary();
        assert_eq!(summary.peak_memory, Some(300));
        assert_eq!(summary.mean_utilization, Some(20));
        assert_eq!(summary.max_temperature, Some(60));
        // 3.6 kW for 5 s and 7.2 kW for 5 s are 15 Wh.
        assert_eq!(summary.energy, Some(15_000));
        assert_eq!((summary.samples, summary.gaps), (2, 0));
    }

    #[test]
    fn gaps_go_by_the_clock_that_nobody_sets() {
        let mut tally = Tally::default();
        tally.add(&sample(1_000_000, 1, 1), moment(0));
        // The host's clock was set back by days; 5 s have passed.
        tally.add(&sample(5, 1, 1), moment(5400));
        assert_eq!(tally.summary().gaps, 0);
        tally.add(&sample(10, 1, 1), moment(25_300));
        assert_eq!(tally.summary().gaps, 3);
        let other_boot = Moment {
            boot_id: "two".into(),
            ms: 90_000,
        };
        tally.add(&sample(15, 1, 1), other_boot);
        assert_eq!(tally.summary().gaps, 3);
    }

    #[test]
    fn nothing_known_is_nothing_claimed() {
        let mut unknown = sample(0, 0, 0);
        unknown.gpus = vec![GpuSample {
            uuid: "GPU-0".into(),
            ..GpuSample::default()
        }];
        let summary = Tally::of(&[unknown]).summary();
        assert_eq!(
            summary,
            GpuSummary {
                samples: 1,
                ..GpuSummary::default()
            }
        );
    }

    #[test]
    fn the_stored_form_is_frozen() {
        let mut tally = Tally::default();
        tally.add(&sample(0, 10, 100), moment(7));
        tally.set_shared();
        let text = concat!(
            r#"{"format":1,"samples":1,"gaps":0,"peak_memory":100,"max_temperature":40,"utilization":50,"#,
            r#""utilization_seconds":5,"energy":500,"shared":true,"intruders":false,"#,
            r#""newest":{"boot_id":"one","ms":7},"idle":0}"#
        );
        assert_eq!(serde_json::to_string(&tally).unwrap(), text);
        assert_eq!(serde_json::from_str::<Tally>(text).unwrap(), tally);
        // As it was before idleness was counted.
        let before = text.replace(r#","idle":0"#, "");
        assert_eq!(serde_json::from_str::<Tally>(&before).unwrap(), tally);
    }
}
