//! Memory of packets that is used again.
//!
//! Content comes in packets of 256 KiB, in one thread, and is let go of in others. An allocator would keep what each of them
//! has freed, on a busy machine several times what is under way, or give it back and zero it anew for every packet.

use bytes::{Bytes, BytesMut};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Buffers that are kept: those of all content that a download has in memory by default.
const MOST: usize = 128;

/// Buffers of one connection that wait to be filled.
#[derive(Debug, Default)]
pub(super) struct Buffers(Mutex<Vec<BytesMut>>);

impl Buffers {
    /// An empty buffer with at least this much room.
    pub(super) fn take(&self, room: usize) -> BytesMut {
        let mut buffer = self.lock().pop().unwrap_or_default();
        buffer.reserve(room);
        buffer
    }

    /// Takes back what nobody else looks at any more.
    pub(super) fn give_back(&self, content: Vec<Bytes>) {
        let mut kept = self.lock();
        for piece in content {
            if kept.len() < MOST
                && let Ok(mut buffer) = piece.try_into_mut()
            {
                buffer.clear();
                kept.push(buffer);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<BytesMut>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: usize = 1000;

    #[test]
    fn memory_that_comes_back_is_used_again() {
        let buffers = Buffers::default();
        let mut first = buffers.take(ROOM);
        first.extend_from_slice(&[7; ROOM]);
        let place = first.as_ptr();
        // As a packet's content is cut out of it.
        let mut packet = first.split_to(ROOM).freeze();
        let content = packet.split_off(9);
        drop((first, packet));
        buffers.give_back(vec![content]);
        let again = buffers.take(ROOM);
        assert!(again.is_empty() && again.capacity() >= ROOM);
        assert_eq!(again.as_ptr(), place);
    }

    #[test]
    fn memory_that_somebody_still_looks_at_is_left_alone() {
        let buffers = Buffers::default();
        let content = Bytes::from(vec![7; ROOM]);
        buffers.give_back(vec![content.clone()]);
        assert!(buffers.lock().is_empty());
        assert_eq!(content, vec![7; ROOM]);
    }

    #[test]
    fn no_more_is_kept_than_a_download_has_under_way() {
        let buffers = Buffers::default();
        buffers.give_back((0..=MOST).map(|_| Bytes::from(vec![7; 8])).collect());
        assert_eq!(buffers.lock().len(), MOST);
    }
}
