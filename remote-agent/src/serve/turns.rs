//! Whose turn it is among requests for one log that were sent ahead of each other's answers.

use farrun_protocol::message::Place;
use tokio::sync::watch;

/// The newest chain of requests for one log.
#[derive(Debug, Clone)]
pub(crate) struct Turns(watch::Sender<Turn>);

/// Whoever holds it is being answered; the next one's turn comes when it is dropped. It goes with the answer until that
/// is queued for the peer, so that a slow one makes nobody read ahead into memory.
#[derive(Debug)]
#[must_use]
pub(crate) struct Answered {
    turns: Turns,
    place: Option<Place>,
    /// Where the next one begins.
    offset: u64,
}

impl Drop for Answered {
    fn drop(&mut self) {
        self.turns.pass(self.place, self.offset);
    }
}

#[derive(Debug, Clone, Copy)]
struct Turn {
    /// Whose turn it is.
    place: Place,
    /// Where it begins.
    offset: u64,
}

impl Default for Turns {
    fn default() -> Self {
        let place = Place { chain: 0, index: 0 };
        Self(watch::Sender::new(Turn { place, offset: 0 }))
    }
}

impl Turns {
    /// Waits until every request before it was answered, and answers with the offset to begin at, which is its own
    /// for the first of a chain and for one that stands alone. None when a later chain has begun.
    pub(crate) async fn wait(&self, place: Option<Place>, offset: u64) -> Option<u64> {
        let Some(place) = place.filter(|place| place.index > 0) else {
            if let Some(first) = place {
                self.begin(first, offset);
            }
            return Some(offset);
        };
        let mut turns = self.0.subscribe();
        let turn = turns.wait_for(|turn| turn.place == place || turn.place.chain > place.chain);
        let turn = *turn.await.ok()?;
        (turn.place == place).then_some(turn.offset)
    }

    fn begin(&self, first: Place, offset: u64) {
        self.0.send_if_modified(|turn| {
            let later = first.chain > turn.place.chain;
            if later {
                *turn = Turn { place: first, offset };
            }
            later
        });
    }

    /// The request at `place` has its answer, with bytes that end at `offset`.
    pub(crate) fn answered(&self, place: Option<Place>, offset: u64) -> Answered {
        Answered {
            turns: self.clone(),
            place,
            offset,
        }
    }

    fn pass(&self, place: Option<Place>, offset: u64) {
        self.0.send_if_modified(|turn| {
            let his = Some(turn.place) == place;
            if his {
                turn.place.index += 1;
                turn.offset = offset;
            }
            his
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    fn at(chain: u64, index: u64) -> Option<Place> {
        Some(Place { chain, index })
    }

    #[test]
    fn each_begins_where_the_one_before_it_ended() {
        let turns = Turns::default();
        // They need not come in order.
        let mut second = Box::pin(turns.wait(at(7, 1), 0));
        let mut third = Box::pin(turns.wait(at(7, 2), 0));
        assert_eq!(third.as_mut().now_or_never(), None);
        assert_eq!(second.as_mut().now_or_never(), None);
        assert_eq!(turns.wait(at(7, 0), 100).now_or_never(), Some(Some(100)));
        assert_eq!(second.as_mut().now_or_never(), None);
        drop(turns.answered(at(7, 0), 110));
        assert_eq!(third.as_mut().now_or_never(), None);
        assert_eq!(second.as_mut().now_or_never(), Some(Some(110)));
        drop(turns.answered(at(7, 1), 110));
        assert_eq!(third.as_mut().now_or_never(), Some(Some(110)));
    }

    #[test]
    fn a_later_chain_ends_the_earlier_and_one_that_stands_alone_disturbs_none() {
        let turns = Turns::default();
        assert_eq!(turns.wait(at(1, 0), 5).now_or_never(), Some(Some(5)));
        let mut waiting = Box::pin(turns.wait(at(1, 1), 0));
        assert_eq!(turns.wait(None, 3).now_or_never(), Some(Some(3)));
        drop(turns.answered(None, 4));
        assert_eq!(waiting.as_mut().now_or_never(), None);
        assert_eq!(turns.wait(at(2, 0), 9).now_or_never(), Some(Some(9)));
        assert_eq!(waiting.as_mut().now_or_never(), Some(None));
        // An answer that comes late moves nothing.
        drop(turns.answered(at(1, 0), 6));
        drop(turns.answered(at(2, 0), 10));
        assert_eq!(turns.wait(at(2, 1), 0).now_or_never(), Some(Some(10)));
    }
}
