//! What happens to the bytes of a job: the head to `run.log`, a marker behind it, the newest rest to `run.tail`.

use super::run_log::RunLog;
use super::tail::Tail;
use farrun_protocol::log::LogEnd;

/// What stands in `run.log` between the head and its end when the job printed more than `cap` bytes. Everything
/// before it is what the job wrote; it is part of the log's length and hash.
pub fn cap_marker(cap: u64) -> String {
    format!("\n[farrun: log cap of {cap} bytes reached; the newest output is in run.tail]\n")
}

/// The bytes of one job on their way to disk.
#[derive(Debug)]
pub(super) struct Capture {
    log: RunLog,
    tail: Tail,
    /// Room in the log's head.
    room: u64,
    /// Until it is written.
    marker: Option<String>,
    written: u64,
    /// Bytes that went to the log's head.
    head: u64,
}

/// What became of the bytes.
#[derive(Debug)]
pub(super) struct Captured {
    /// Length and hash of `run.log`.
    pub(super) log: LogEnd,
    /// Bytes the job wrote.
    pub(super) written: u64,
    /// Bytes that are in neither file.
    pub(super) dropped: u64,
    /// Bytes in `run.tail`.
    pub(super) tail: u64,
    /// First error that kept bytes from being stored.
    pub(super) error: Option<String>,
}

impl Capture {
    /// Captures into these files, with at most `cap` bytes of the job in the log.
    pub(super) fn new(log: RunLog, tail: Tail, cap: u64) -> Self {
        Self {
            log,
            tail,
            room: cap,
            marker: Some(cap_marker(cap)),
            written: 0,
            head: 0,
        }
    }

    /// Stores what the job wrote, as far as that is possible. It never fails: the job must not notice.
    pub(super) fn take(&mut self, bytes: &[u8]) {
        self.written += bytes.len() as u64;
        let split = usize::try_from(self.room).unwrap_or(usize::MAX).min(bytes.len());
        let (head, rest) = bytes.split_at(split);
        self.room -= head.len() as u64;
        self.head += self.log.append(head) as u64;
        if rest.is_empty() {
            return;
        }
        if let Some(marker) = self.marker.take() {
            self.log.append(marker.as_bytes());
        }
        if !self.log.has_failed() {
            self.tail.push(rest);
        }
    }

    /// Brings everything to disk. `buffer` is scratch space.
    pub(super) fn finish(self, buffer: &mut [u8]) -> Captured {
        let (tail, tail_error) = self.tail.finish(buffer);
        let (log, log_error) = self.log.finish();
        Captured {
            log,
            written: self.written,
            dropped: self.written - self.head - tail,
            tail,
            error: log_error.or(tail_error.map(super::bounded)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use farrun_protocol::Sha256;
    use proptest::prelude::*;
    use tempfile::NamedTempFile;

    proptest! {
        #[test]
        fn every_byte_is_in_the_head_in_the_tail_or_counted(
            cap in 0u64..200,
            ring in 1u64..50,
            writes in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..80), 0..10),
        ) {
            let (log, tail) = (NamedTempFile::new().unwrap(), NamedTempFile::new().unwrap());
            let append = std::fs::File::options().append(true).open(log.path()).unwrap();
            let mut capture = Capture::new(RunLog::new(append), Tail::new(tail.reopen().unwrap(), ring), cap);
            for bytes in &writes {
                capture.take(bytes);
            }
            let captured = capture.finish(&mut [0; 16]);
            let all = writes.concat();
            let cut = all.len().min(cap as usize);
            let mut expected = all[..cut].to_vec();
            if cut < all.len() {
                expected.extend_from_slice(cap_marker(cap).as_bytes());
            }
            let rest = &all[cut..];
            let newest = &rest[rest.len().saturating_sub(ring as usize)..];
            let stored = std::fs::read(log.path()).unwrap();
            prop_assert_eq!(&stored, &expected);
            prop_assert_eq!(captured.log, LogEnd { length: stored.len() as u64, sha256: Sha256::of(&stored) });
            prop_assert_eq!(std::fs::read(tail.path()).unwrap(), newest);
            prop_assert_eq!(captured.tail, newest.len() as u64);
            prop_assert_eq!(captured.written, all.len() as u64);
            prop_assert_eq!(captured.dropped, (rest.len() - newest.len()) as u64);
            prop_assert_eq!(captured.error, None);
        }
    }

    #[test]
    fn nothing_is_stored_behind_a_write_that_failed() {
        let tail = NamedTempFile::new().unwrap();
        let full = std::fs::File::options().append(true).open("/dev/full").unwrap();
        let mut capture = Capture::new(RunLog::new(full), Tail::new(tail.reopen().unwrap(), 10), 4);
        capture.take(b"0123456789");
        capture.take(b"0123456789");
        let captured = capture.finish(&mut [0; 16]);
        assert_eq!((captured.written, captured.dropped, captured.tail), (20, 20, 0));
        assert!(captured.error.is_some());
    }
}
