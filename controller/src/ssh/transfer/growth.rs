//! When another connection is worth its cost.
//!
//! Where one connection is held back by its TCP window, a second one doubles the rate; where the processor or the
//! path is the limit, it only costs. Nobody can know beforehand, so the rate says it. At a distance the window is the limit
//! more often than not, and a connection takes long to make: the first further one for much content is not waited for.

use super::Sftp;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{Stream, StreamExt as _};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Most connections of one download.
const MOST: usize = 4;
/// How long a rate is measured.
const MEASURED: Duration = Duration::from_millis(400);
/// A new connection is let in before it is measured: its window has to open first.
const SETTLES: Duration = Duration::from_millis(200);
/// What is done within this many seconds is not worth the first further connection, of which nobody knows what it will do.
const SOON: f64 = 2.0;
/// The same once one has made everything faster, and where that is likely.
const SOON_WHEN_PROVEN: f64 = 0.8;
/// How much faster everything has to become by one connection for another one to be asked for.
const WORTH: f64 = 1.2;

/// From this many bytes on the first further connection over a long way is asked for at once.
const MUCH: u64 = 64 * 1024 * 1024;

/// Opens another connection, or nothing when it cannot.
#[derive(Clone)]
pub struct More(Arc<dyn Fn() -> BoxFuture<'static, Option<Sftp>> + Send + Sync>);

impl More {
    /// Asks `open` for each.
    pub fn new(open: impl Fn() -> BoxFuture<'static, Option<Sftp>> + Send + Sync + 'static) -> Self {
        Self(Arc::new(open))
    }
}

impl fmt::Debug for More {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("More")
    }
}

/// The connections that join a transfer of `bytes` while it runs; `fetched` says how far it is. Each time they are worth
/// it there are twice as many.
pub(super) fn joining<'a>(
    more: Option<&'a More>,
    bytes: u64,
    is_far: bool,
    fetched: &'a (impl Fn() -> u64 + Sync),
) -> impl Stream<Item = Sftp> + 'a {
    let begin = Step {
        lanes: 1,
        at_once: is_far && bytes >= MUCH,
        before: 0.0,
        soon: SOON,
    };
    let steps = futures_util::stream::unfold(begin, move |step| async move {
        let more = more.filter(|_| step.lanes < MOST)?;
        let rate = match step.at_once {
            true => 0.0,
            false => {
                sleep(SETTLES).await;
                let rate = measure(fetched).await;
                let left = bytes.saturating_sub(fetched()) as f64;
                step.is_worth(rate, left).then_some(rate)?
            }
        };
        let asked = step.lanes.min(MOST - step.lanes);
        let joined: FuturesUnordered<_> = (0..asked).map(|_| more.0()).collect();
        let next = Step {
            lanes: step.lanes + asked,
            at_once: false,
            before: rate,
            soon: SOON_WHEN_PROVEN,
        };
        Some((joined.filter_map(std::future::ready), next))
    });
    steps.flatten()
}

/// What is known before the next connections are asked for.
#[derive(Debug)]
struct Step {
    lanes: usize,
    /// Whether they are asked for without a look at the rate.
    at_once: bool,
    /// The rate with half as many connections; 0 when nobody has measured it.
    before: f64,
    /// What is done within this many seconds is not worth them.
    soon: f64,
}

impl Step {
    fn is_worth(&self, rate: f64, left: f64) -> bool {
        rate > self.before * WORTH && left > rate * self.soon
    }
}

/// Bytes per second; waits until there are any.
async fn measure(fetched: &(impl Fn() -> u64 + Sync)) -> f64 {
    let (start, at) = (fetched(), Instant::now());
    loop {
        sleep(MEASURED).await;
        let count = fetched().saturating_sub(start);
        if count > 0 {
            return count as f64 / at.elapsed().as_secs_f64();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_brought_nothing_is_the_last() {
        let is_worth = |before: f64, rate, left| {
            let soon = if before > 0.0 { SOON_WHEN_PROVEN } else { SOON };
            let step = Step {
                lanes: 1,
                at_once: false,
                before,
                soon,
            };
            step.is_worth(rate, left)
        };
        assert!(is_worth(0.0, 100.0, 1000.0));
        assert!(is_worth(100.0, 190.0, 1000.0));
        assert!(is_worth(100.0, 190.0, 200.0) && !is_worth(100.0, 190.0, 150.0));
        assert!(!is_worth(100.0, 110.0, 1000.0));
        assert!(!is_worth(0.0, 100.0, 150.0), "it is nearly done");
    }

    /// How many connections are asked for before the first look at the rate.
    async fn asked_at_once(bytes: u64, is_far: bool) -> usize {
        let asked = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let counted = Arc::clone(&asked);
        let more = More::new(move || {
            counted.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            Box::pin(std::future::ready(None))
        });
        let nothing = || 0;
        let joining = std::pin::pin!(joining(Some(&more), bytes, is_far, &nothing));
        let _ = tokio::time::timeout(SETTLES / 2, joining.into_future()).await;
        asked.load(std::sync::atomic::Ordering::SeqCst)
    }

    #[tokio::test]
    async fn over_a_long_way_much_is_not_left_to_one_connection() {
        assert_eq!(asked_at_once(MUCH, true).await, 1);
        assert_eq!(asked_at_once(MUCH - 1, true).await, 0);
        assert_eq!(asked_at_once(MUCH, false).await, 0);
    }
}
