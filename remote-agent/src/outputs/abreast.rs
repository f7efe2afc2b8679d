//! Work that is cut into pieces and done by several threads.

use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::sync_channel;

/// Most threads. A host's processors are there for its jobs.
const MOST: usize = 4;

/// Does the pieces `0..count` and hands each result to `take`, in the order in which they are done.
pub(super) fn abreast<R: Send>(
    count: usize,
    work: impl Fn(usize) -> R + Sync,
    mut take: impl FnMut(usize, R),
) {
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
    let threads = threads.min(MOST).min(count);
    if threads <= 1 {
        return (0..count).for_each(|index| take(index, work(index)));
    }
    let (next, work) = (AtomicUsize::new(0), &work);
    std::thread::scope(|scope| {
        let (sender, results) = sync_channel(threads);
        for _ in 0..threads {
            let (sender, next) = (sender.clone(), &next);
            scope.spawn(move || {
                loop {
                    let index = next.fetch_add(1, Relaxed);
                    if index >= count || sender.send((index, work(index))).is_err() {
                        break;
                    }
                }
            });
        }
        drop(sender);
        for (index, result) in results {
            take(index, result);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_piece_is_done_once() {
        for count in [0, 1, 2, 1000] {
            let mut seen = vec![0; count];
            abreast(
                count,
                |index| index * 2,
                |index, double| {
                    assert_eq!(double, index * 2);
                    seen[index] += 1;
                },
            );
            assert!(seen.iter().all(|times| *times == 1));
        }
    }
}
