//! What one who asks is answered, from what there is.

use super::clock;
use super::readings::{Readings, Wish};
use super::store::Sample;
use super::{device, text};
use crate::record::boot_id;
use chrono::Utc;
use farrun_protocol::gpu::{Device, DeviceFacts, Freshness, GpuReport, GpuTrouble, STALE_AFTER, TroubleKind};
use std::time::Duration;

impl Readings {
    pub(super) fn report(&self, wish: Wish) -> GpuReport {
        let now = clock::now();
        let refreshing_ms = if self.is_granted(wish) {
            None
        } else {
            self.refreshing()
        };
        let (sample, attempt) = match self.newest() {
            Some(stored) => (stored.sample, Some(stored.attempt)),
            None => (None, None),
        };
        let trouble = attempt.and_then(|attempt| {
            let mut trouble = attempt.trouble?;
            let since = attempt.since.map(|since| now.saturating_sub(since));
            trouble.for_ms = since.or(trouble.for_ms);
            Some(trouble)
        });
        let device = self.device(trouble.as_ref(), refreshing_ms);
        let trouble = trouble.or_else(|| self.unwritable());
        GpuReport {
            state: state(sample.as_ref(), wish, self.settings.keep_sample, now),
            sampled_at: sample.as_ref().map(|sample| sample.at),
            age_ms: sample.as_ref().map(|sample| now.saturating_sub(sample.ended)),
            took_ms: sample.as_ref().map(|sample| sample.took),
            refreshing_ms,
            trouble,
            device,
            driver: sample.as_ref().and_then(|sample| sample.driver.clone()),
            gpus: sample
                .as_ref()
                .map(|sample| sample.gpus.clone())
                .unwrap_or_default(),
            processes: sample.map(|sample| sample.processes).unwrap_or_default(),
            leases: Vec::new(),
        }
    }

    /// What was found out about the device. Before the first reading has ended nothing is claimed: GPUs that cannot be
    /// used yet.
    fn device(&self, trouble: Option<&GpuTrouble>, refreshing_ms: Option<u64>) -> DeviceFacts {
        let boot_id = boot_id();
        let own = self.memory().detected.clone();
        let found = [self.store.detected(), own]
            .into_iter()
            .flatten()
            .filter(|found| found.boot_id == boot_id && found.version == device::VERSION)
            .max_by_key(|found| found.taken);
        if let Some(found) = found {
            return found.facts;
        }
        let broken = trouble.cloned().unwrap_or(GpuTrouble {
            kind: TroubleKind::Reading,
            detail: None,
            pid: None,
            for_ms: refreshing_ms,
        });
        DeviceFacts {
            device: Device::Cuda,
            broken: Some(broken),
            detected_at: Utc::now(),
            boot_id,
        }
    }

    fn unwritable(&self) -> Option<GpuTrouble> {
        let detail = self.memory().unwritable.clone()?;
        Some(GpuTrouble {
            kind: TroubleKind::CacheUnwritable,
            detail: Some(text::bounded(&detail, 500)),
            pid: None,
            for_ms: None,
        })
    }
}

/// How much a reading can be trusted by one who asks now.
fn state(sample: Option<&Sample>, wish: Wish, keep: Duration, now: u64) -> Freshness {
    let Some(sample) = sample else {
        return Freshness::Unavailable;
    };
    if sample.ended >= wish.asked {
        return Freshness::Fresh;
    }
    let age = Duration::from_millis(now.saturating_sub(sample.ended));
    if age <= wish.max_age.max(keep).min(Duration::from_millis(STALE_AFTER)) {
        Freshness::Cached
    } else {
        Freshness::Stale
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_figures_are_never_called_fresh() {
        let sample = Sample {
            at: Utc::now(),
            ended: 100_000,
            took: 1,
            driver: None,
            gpus: Vec::new(),
            processes: Vec::new(),
            processes_unknown: false,
        };
        let keep = Duration::from_secs(2);
        let seen = |asked, now, max_age| {
            let wish = Wish {
                asked,
                max_age: Duration::from_millis(max_age),
                detect: false,
            };
            state(Some(&sample), wish, keep, now)
        };
        assert_eq!(seen(99_000, 100_001, 2000), Freshness::Fresh);
        assert_eq!(seen(101_000, 101_000, 2000), Freshness::Cached);
        assert_eq!(seen(103_000, 103_000, 2000), Freshness::Stale);
        assert_eq!(seen(110_000, 110_000, 20_000), Freshness::Cached);
        assert_eq!(seen(131_000, 131_000, 600_000), Freshness::Stale);
    }
}
