//! When another connection is worth its cost.
//!
//! Where one connection is held back by its TCP window, a second one doubles the rate; where the processor or the
//! path is the limit, it only costs. Nobody can know beforehand, so the rate says it.

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
/// The same once one has made everything faster.
const SOON_WHEN_PROVEN: f64 = 0.8;
/// How much faster everything has to become by one connection for another one to be asked for.
const WORTH: f64 = 1.2;

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

/// The connections that join a download of `bytes` while it runs; `fetched` says how far it is. Each time they are worth
/// it there are twice as many.
pub(super) fn joining<'a>(
    more: Option<&'a More>,
    bytes: u64,
    fetched: &'a (impl Fn() -> u64 + Sync),
) -> impl Stream<Item = Sftp> + 'a {
    let steps = futures_util::stream::unfold((1, 0.0), move |(lanes, before)| async move {
        let more = more.filter(|_| lanes < MOST)?;
        sleep(SETTLES).await;
        let rate = measure(fetched).await;
        let left = bytes.saturating_sub(fetched()) as f64;
        if !is_worth(before, rate, left) {
            return None;
        }
        let asked = lanes.min(MOST - lanes);
        let joined: FuturesUnordered<_> = (0..asked).map(|_| more.0()).collect();
        Some((joined.filter_map(std::future::ready), (lanes + asked, rate)))
    });
    steps.flatten()
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

fn is_worth(before: f64, rate: f64, left: f64) -> bool {
    let soon = if before > 0.0 { SOON_WHEN_PROVEN } else { SOON };
    rate > before * WORTH && left > rate * soon
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_brought_nothing_is_the_last() {
        assert!(is_worth(0.0, 100.0, 1000.0));
        assert!(is_worth(100.0, 190.0, 1000.0));
        assert!(is_worth(100.0, 190.0, 200.0) && !is_worth(100.0, 190.0, 150.0));
        assert!(!is_worth(100.0, 110.0, 1000.0));
        assert!(!is_worth(0.0, 100.0, 150.0), "it is nearly done");
    }
}
