//! The copy of a job's output to our own stdout, where the engine reads it.
//!
//! It is a courtesy to people who type `docker logs`, never a source of truth: an engine that is down or slow
//! must not hold up the job, and one that keeps up must not cost the job its processor. So it is non-blocking,
//! limited in rate, and what does not fit is dropped.

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use std::time::Instant;

/// Bytes that may be copied at once.
const BURST: u64 = 1024 * 1024;
/// Bytes that may be copied per second in the long run.
const RATE: u64 = 4 * 1024 * 1024;

/// The copy.
#[derive(Debug)]
pub(super) struct Echo {
    open: bool,
    budget: Budget,
}

impl Echo {
    /// Starts copying, unless stdout cannot be kept from blocking.
    pub(super) fn new() -> Self {
        let stdout = rustix::stdio::stdout();
        let set = fcntl_getfl(stdout).and_then(|flags| fcntl_setfl(stdout, flags | OFlags::NONBLOCK));
        Self {
            open: set.is_ok(),
            budget: Budget::new(Instant::now()),
        }
    }

    /// Copies as much as budget and reader allow.
    pub(super) fn offer(&mut self, bytes: &[u8]) {
        if !self.open {
            return;
        }
        let allowed = self.budget.take(Instant::now(), bytes.len());
        let Some(piece) = bytes.get(..allowed).filter(|piece| !piece.is_empty()) else {
            return;
        };
        match rustix::io::write(rustix::stdio::stdout(), piece) {
            Ok(_) | Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => self.open = false,
        }
    }
}

/// A token bucket.
#[derive(Debug)]
struct Budget {
    tokens: u64,
    filled: Instant,
}

impl Budget {
    fn new(now: Instant) -> Self {
        Self {
            tokens: BURST,
            filled: now,
        }
    }

    /// How many of `wanted` bytes may pass now.
    fn take(&mut self, now: Instant, wanted: usize) -> usize {
        let micros = now.saturating_duration_since(self.filled).as_micros();
        let earned = u64::try_from(micros).unwrap_or(u64::MAX).saturating_mul(RATE) / 1_000_000;
        if earned > 0 {
            self.tokens = self.tokens.saturating_add(earned).min(BURST);
            self.filled = now;
        }
        let allowed = wanted.min(usize::try_from(self.tokens).unwrap_or(usize::MAX));
        self.tokens -= allowed as u64;
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_burst_passes_and_then_the_rate_holds() {
        let start = Instant::now();
        let mut budget = Budget::new(start);
        assert_eq!(budget.take(start, 700_000), 700_000);
        assert_eq!(budget.take(start, 700_000), BURST as usize - 700_000);
        assert_eq!(budget.take(start, 1), 0);
        let later = start + Duration::from_millis(10);
        assert_eq!(budget.take(later, usize::MAX), (RATE / 100) as usize);
    }

    #[test]
    fn idle_time_earns_one_burst_and_no_more() {
        let start = Instant::now();
        let mut budget = Budget::new(start);
        let later = start + Duration::from_secs(3600);
        assert_eq!(budget.take(later, usize::MAX), BURST as usize);
    }
}
