//! `run.tail`: the newest bytes of what did not fit the log's cap.
//!
//! While the job lives the file is a ring, written in place, so that neither memory nor disk grows with the job.
//! When the job has ended the ring is turned until its oldest byte comes first, again in place: a disk that is
//! full by then must not cost the traceback.

use rustix::io::{Errno, pread, pwrite, retry_on_intr};
use std::fs::File;

/// The ring.
#[derive(Debug)]
pub(super) struct Tail {
    file: File,
    capacity: u64,
    /// Bytes ever written to the ring.
    total: u64,
    error: Option<Errno>,
}

impl Tail {
    /// A ring of at most `capacity` bytes in an empty file.
    pub(super) fn new(file: File, capacity: u64) -> Self {
        Self {
            file,
            capacity,
            total: 0,
            error: None,
        }
    }

    /// Bytes that the ring holds.
    pub(super) fn length(&self) -> u64 {
        self.total.min(self.capacity)
    }

    /// Adds bytes; the oldest give way.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() && self.capacity > 0 {
            let position = self.total % self.capacity;
            let room = usize::try_from(self.capacity - position).unwrap_or(usize::MAX);
            let piece = rest.get(..room).unwrap_or(rest);
            match retry_on_intr(|| pwrite(&self.file, piece, position)) {
                Ok(0) => self.give_up(Errno::IO),
                Ok(count) => {
                    self.total += count as u64;
                    rest = rest.get(count..).unwrap_or_default();
                }
                // A disk that has no room for the whole ring has room for what the ring holds already.
                Err(error) if self.total < self.capacity => {
                    self.capacity = self.total;
                    self.error.get_or_insert(error);
                }
                Err(error) => self.give_up(error),
            }
        }
    }

    /// Turns the ring into order, brings it to disk, and returns its length and the first error. `buffer` is
    /// scratch space.
    pub(super) fn finish(mut self, buffer: &mut [u8]) -> (u64, Option<Errno>) {
        if self.total == 0 {
            return (0, self.error);
        }
        if let Err(error) = self.turn(buffer) {
            self.give_up(error);
        }
        let length = self.length();
        let stored = rustix::fs::ftruncate(&self.file, length)
            .and_then(|()| retry_on_intr(|| rustix::fs::fsync(&self.file)));
        (length, self.error.or(stored.err()))
    }

    /// What the ring holds can no longer be told apart.
    fn give_up(&mut self, error: Errno) {
        self.error.get_or_insert(error);
        self.capacity = 0;
    }

    /// Rotates by reversing both halves and then the whole, which needs no space beside the file.
    fn turn(&self, buffer: &mut [u8]) -> rustix::io::Result<()> {
        let seam = if self.capacity == 0 {
            0
        } else {
            self.total % self.capacity
        };
        if self.total <= self.capacity || seam == 0 {
            return Ok(());
        }
        self.reverse(0, seam, buffer)?;
        self.reverse(seam, self.capacity, buffer)?;
        self.reverse(0, self.capacity, buffer)
    }

    fn reverse(&self, from: u64, to: u64, buffer: &mut [u8]) -> rustix::io::Result<()> {
        let (low, high) = buffer.split_at_mut(buffer.len() / 2);
        let (mut from, mut to) = (from, to);
        while to - from > 1 {
            let size = low
                .len()
                .min(usize::try_from((to - from) / 2).unwrap_or(usize::MAX));
            let (Some(low), Some(high)) = (low.get_mut(..size), high.get_mut(..size)) else {
                return Err(Errno::INVAL);
            };
            if size == 0 {
                return Err(Errno::INVAL);
            }
            let far = to - size as u64;
            self.read_at(low, from)?;
            self.read_at(high, far)?;
            low.reverse();
            high.reverse();
            super::run_log::write_whole_at(&self.file, high, from)?;
            super::run_log::write_whole_at(&self.file, low, far)?;
            (from, to) = (from + size as u64, far);
        }
        Ok(())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> rustix::io::Result<()> {
        let mut done = 0;
        while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match retry_on_intr(|| pread(&self.file, &mut *rest, offset + done as u64))? {
                0 => return Err(Errno::IO),
                count => done += count,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Read as _;

    fn content(file: &std::path::Path) -> Vec<u8> {
        let mut bytes = Vec::new();
        File::open(file).unwrap().read_to_end(&mut bytes).unwrap();
        bytes
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]
        #[test]
        fn the_file_ends_as_the_newest_bytes_in_order(
            capacity in 1u64..60,
            buffer in 2usize..20,
            pushes in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..90), 0..12),
        ) {
            let file = tempfile::NamedTempFile::new().unwrap();
            let mut tail = Tail::new(file.reopen().unwrap(), capacity);
            for bytes in &pushes {
                tail.push(bytes);
                prop_assert!(tail.length() <= capacity);
            }
            let all = pushes.concat();
            let newest = &all[all.len().saturating_sub(capacity as usize)..];
            let (length, error) = tail.finish(&mut vec![0; buffer]);
            prop_assert_eq!(error, None);
            prop_assert_eq!(length, newest.len() as u64);
            prop_assert_eq!(content(file.path()), newest);
        }
    }

    #[test]
    fn a_disk_without_room_leaves_an_empty_tail() {
        let full = File::options().write(true).read(true).open("/dev/full").unwrap();
        let mut tail = Tail::new(full, 10);
        tail.push(b"text");
        tail.push(b"more");
        assert_eq!(tail.length(), 0);
        let (length, error) = tail.finish(&mut [0; 8]);
        assert_eq!((length, error), (0, Some(Errno::NOSPC)));
    }
}
