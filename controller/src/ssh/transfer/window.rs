//! How many requests may be under way on one connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// On a link this quick the starting size already fills the pipe, and more only queues.
const SHORT_TRIP: Duration = Duration::from_millis(4);
/// An answer this late means that the queue, not the distance, is long.
const SLOW: Duration = Duration::from_secs(5);
/// What a link begins with whose first answer took this long or longer: growing from the start would cost round trips.
const LONG_TRIP: Duration = Duration::from_millis(20);
const LONG_START: usize = 64;
/// Fewest requests under way.
const FLOOR: usize = 4;

/// Grows while answers take about one round trip, shrinks when they queue up for seconds.
#[derive(Debug)]
pub(super) struct Window {
    slots: Arc<Semaphore>,
    size: AtomicUsize,
    ceiling: usize,
    quickest_us: AtomicU64,
    is_far: AtomicBool,
}

/// The right to have one request under way.
#[derive(Debug)]
pub(super) struct Slot {
    permit: OwnedSemaphorePermit,
    window: Arc<Window>,
}

impl Window {
    pub(super) fn new(start: usize, ceiling: usize) -> Arc<Self> {
        Arc::new(Self {
            slots: Arc::new(Semaphore::new(start)),
            size: AtomicUsize::new(start),
            ceiling,
            quickest_us: AtomicU64::new(u64::MAX),
            is_far: AtomicBool::new(false),
        })
    }

    /// Learns how far away the host is, before anything large is asked for.
    pub(super) fn begin(&self, round_trip: Duration) {
        self.is_far.store(round_trip >= LONG_TRIP, Relaxed);
        let more = LONG_START
            .min(self.ceiling)
            .saturating_sub(self.size.load(Relaxed));
        if round_trip >= LONG_TRIP && more > 0 {
            self.size.fetch_add(more, Relaxed);
            self.slots.add_permits(more);
        }
    }

    /// Whether the host is far away.
    pub(super) fn is_far(&self) -> bool {
        self.is_far.load(Relaxed)
    }

    /// Waits for a free slot. None never happens, because the semaphore is never closed.
    pub(super) async fn slot(self: &Arc<Self>) -> Option<Slot> {
        let permit = Arc::clone(&self.slots).acquire_owned().await.ok()?;
        Some(Slot {
            permit,
            window: Arc::clone(self),
        })
    }
}

impl Slot {
    /// Gives the slot back after its answer came, and learns from how long that took.
    pub(super) fn answered(self, took: Duration) {
        let window = &self.window;
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let quickest = window.quickest_us.fetch_min(micros, Relaxed).min(micros);
        let size = window.size.load(Relaxed);
        if took > SLOW && size > FLOOR {
            window.size.fetch_sub(1, Relaxed);
            self.permit.forget();
        } else if took > SHORT_TRIP && micros < quickest.saturating_mul(2) && size < window.ceiling {
            window.size.fetch_add(1, Relaxed);
            window.slots.add_permits(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn answer(window: &Arc<Window>, took: Duration, times: usize) {
        for _ in 0..times {
            window.slot().await.unwrap().answered(took);
        }
    }

    #[tokio::test]
    async fn it_grows_on_a_long_link_and_shrinks_on_a_slow_one() {
        let window = Window::new(16, 128);
        answer(&window, Duration::from_millis(1), 100).await;
        assert_eq!(window.slots.available_permits(), 16);
        window.begin(Duration::from_millis(1));
        assert_eq!(window.slots.available_permits(), 16);
        window.begin(Duration::from_millis(50));
        assert_eq!(window.slots.available_permits(), LONG_START);
        let window = Window::new(16, 128);
        answer(&window, Duration::from_millis(50), 1000).await;
        assert_eq!(window.slots.available_permits(), 128);
        answer(&window, Duration::from_millis(120), 100).await;
        assert_eq!(window.slots.available_permits(), 128);
        answer(&window, Duration::from_secs(9), 1000).await;
        assert_eq!(window.slots.available_permits(), FLOOR);
    }
}
