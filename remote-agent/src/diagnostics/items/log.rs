//! Beginning and end of the run log.
//!
//! A secret may lie across the border of an excerpt. So what lies around it is redacted as well, and only then cut. Once
//! the values of a run's secrets are gone, what was excerpted while they were there is all that is handed out.

use crate::diagnostics::item::{Found, Looked};
use crate::record::{RecordError, RunFolder, read_bounded};
use farrun_protocol::diagnostics::{LOG_HEAD, LOG_TAIL, LogExcerpts};
use farrun_protocol::redact::{Piece, Redactor};
use rustix::io::{pread, retry_on_intr};
use std::fs::File;
use std::ops::Range;
use std::path::Path;

/// Bytes around an excerpt that are read to understand it.
const AROUND: u64 = 64 * 1024;
/// Bytes read at once.
const READ: usize = 64 * 1024;

/// The file of this name of a bundle that was made before.
pub(in crate::diagnostics) fn of_before(folder: Option<&Path>, name: &str) -> Looked {
    const GONE: &str =
        "the values of the run's secrets are gone from its host, so the log cannot be freed of them";
    let before = folder.and_then(|folder| read_bounded(&folder.join(name), 2 * LOG_TAIL).ok()?);
    before.map(Found::Redacted).ok_or_else(|| GONE.to_owned())
}

/// What the job wrote, as far as it is kept: the log up to its cap, then a gap, then the newest of what came later.
pub(in crate::diagnostics) struct Written {
    log: File,
    length: u64,
    tail: Option<File>,
    tail_length: u64,
    dropped: u64,
}

impl Written {
    pub(in crate::diagnostics) fn open(run: &RunFolder) -> Result<Self, String> {
        let open = |path: &std::path::Path| {
            File::open(path).map_err(|error| RecordError::io(path)(error).to_string())
        };
        let length_of = |file: &File| file.metadata().map_or(0, |found| found.len());
        let log = open(&run.log())?;
        let exit = run.exit().ok().flatten();
        let tail = open(&run.record().join("run.tail")).ok();
        // While PID 1 has not put it in order the ring begins anywhere.
        let tail_length = exit.as_ref().map_or(0, |exit| exit.tail);
        Ok(Self {
            length: length_of(&log),
            tail_length: tail.as_ref().map_or(0, |tail| length_of(tail).min(tail_length)),
            dropped: exit.map_or(0, |exit| exit.dropped),
            log,
            tail,
        })
    }

    /// Where the excerpts lie.
    pub(in crate::diagnostics) fn places(&self) -> LogExcerpts {
        let head = self.length.min(LOG_HEAD);
        let end = self.length + self.dropped + self.tail_length;
        // Across a gap there is nothing to show.
        let from = if self.tail_length == 0 {
            self.length.saturating_sub(LOG_TAIL)
        } else if self.dropped > 0 {
            end.saturating_sub(LOG_TAIL).max(self.length + self.dropped)
        } else {
            end.saturating_sub(LOG_TAIL)
        };
        let from = from.max(head);
        let tail_end = if self.tail_length == 0 { self.length } else { end };
        LogExcerpts {
            length: self.length,
            head,
            tail_from: from,
            tail: tail_end.saturating_sub(from),
            dropped: self.dropped,
        }
    }

    /// A part of it, redacted.
    pub(in crate::diagnostics) fn excerpt(&self, part: Range<u64>, redactor: &Redactor) -> Looked {
        let mut excerpt = Excerpt {
            redactor,
            part: part.clone(),
            at: part.start.saturating_sub(AROUND),
            text: Vec::new(),
        };
        // What lies on the other side of a gap tells nothing about this one.
        let tail_from = self.length + self.dropped;
        if self.dropped > 0 && part.start >= tail_from {
            excerpt.at = excerpt.at.max(tail_from);
        }
        let (mut position, until) = (excerpt.at, part.end + AROUND);
        let mut stream = redactor.stream();
        let mut buffer = vec![0; READ];
        let mut problem = None;
        while position < until {
            let wanted = usize::try_from(until - position).unwrap_or(READ).min(READ);
            match self.read(position, buffer.get_mut(..wanted).unwrap_or_default()) {
                Ok(0) => break,
                Ok(count) => {
                    position += count as u64;
                    stream.push(buffer.get(..count).unwrap_or_default(), &mut |piece| {
                        excerpt.take(&piece)
                    });
                }
                Err(error) => {
                    problem = Some(error.to_string());
                    break;
                }
            }
        }
        stream.finish(&mut |piece| excerpt.take(&piece));
        match problem {
            Some(why) if excerpt.text.is_empty() => Err(why),
            Some(why) => Ok(Found::Part(excerpt.text, why)),
            None => Ok(Found::Redacted(excerpt.text)),
        }
    }

    fn read(&self, position: u64, buffer: &mut [u8]) -> rustix::io::Result<usize> {
        if position < self.length {
            let room = usize::try_from(self.length - position)
                .unwrap_or(usize::MAX)
                .min(buffer.len());
            let buffer = buffer.get_mut(..room).unwrap_or_default();
            return retry_on_intr(|| pread(&self.log, &mut *buffer, position));
        }
        let Some(tail) = self.tail.as_ref().filter(|_| self.tail_length > 0) else {
            return Ok(0);
        };
        let Some(position) = position.checked_sub(self.length + self.dropped) else {
            return Ok(0);
        };
        let left = usize::try_from(self.tail_length.saturating_sub(position)).unwrap_or(usize::MAX);
        let room = left.min(buffer.len());
        let buffer = buffer.get_mut(..room).unwrap_or_default();
        retry_on_intr(|| pread(tail, &mut *buffer, position))
    }
}

/// Keeps of a redacted text what lies within a part of the original.
struct Excerpt<'a> {
    redactor: &'a Redactor,
    part: Range<u64>,
    at: u64,
    text: Vec<u8>,
}

impl Excerpt<'_> {
    fn take(&mut self, piece: &Piece<'_>) {
        let start = self.at;
        self.at += piece.length() as u64;
        let (from, to) = (self.part.start.max(start), self.part.end.min(self.at));
        if from >= to {
            return;
        }
        let within = |position: u64| usize::try_from(position - start).unwrap_or(usize::MAX);
        match piece {
            Piece::Plain(bytes) => {
                let bytes = bytes.get(within(from)..within(to)).unwrap_or_default();
                self.text.extend_from_slice(bytes);
            }
            Piece::Hidden { .. } => self.redactor.write(piece, &mut self.text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use farrun_protocol::log::LogEnd;
    use farrun_protocol::record::{ExitRecord, FORMAT};
    use farrun_protocol::{RunId, Sha256};

    fn run(log: &[u8], tail: &[u8], dropped: u64) -> (tempfile::TempDir, RunFolder) {
        let state = tempfile::tempdir().unwrap();
        let folder = RunFolder::new(state.path(), &RunId::random());
        folder.make().unwrap();
        folder.make_skeleton().unwrap();
        std::fs::write(folder.log(), log).unwrap();
        std::fs::write(folder.record().join("run.tail"), tail).unwrap();
        let exit = ExitRecord {
            format: FORMAT,
            code: Some(1),
            signal: None,
            exec_error: None,
            started_at: None,
            ended_at: chrono::Utc::now(),
            boot_id: None,
            log: LogEnd {
                length: log.len() as u64,
                sha256: Sha256::of(log),
            },
            written: log.len() as u64 + tail.len() as u64 + dropped,
            dropped,
            tail: tail.len() as u64,
            log_error: None,
            timed_out: false,
            forwarded: Vec::new(),
            end_signal: None,
            oom_kills: 0,
        };
        std::fs::write(folder.record().join("exit.json"), exit.encode().unwrap()).unwrap();
        (state, folder)
    }

    fn excerpts(folder: &RunFolder, redactor: &Redactor) -> (LogExcerpts, Vec<u8>, Vec<u8>) {
        let written = Written::open(folder).unwrap();
        let places = written.places();
        let text = |part| match written.excerpt(part, redactor).unwrap() {
            Found::Redacted(text) => text,
            other => panic!("{other:?}"),
        };
        let head = text(0..places.head);
        let tail = text(places.tail_from..places.tail_from + places.tail);
        (places, head, tail)
    }

    #[test]
    fn a_short_log_is_all_head() {
        let (_state, folder) = run(b"one\n\xfftwo", b"", 0);
        let (places, head, tail) = excerpts(&folder, &Redactor::by_shape());
        assert_eq!((places.head, places.tail_from, places.tail), (8, 8, 0));
        assert_eq!((&*head, &*tail), (&b"one\n\xfftwo"[..], &b""[..]));
    }

    #[test]
    fn a_long_log_shows_both_ends_and_what_came_behind_its_cap() {
        let log: Vec<u8> = (0..3_000_000u32)
            .map(|n| b'a' + u8::try_from(n % 23).unwrap())
            .collect();
        let (_state, folder) = run(&log, b"", 0);
        let (places, head, tail) = excerpts(&folder, &Redactor::by_shape());
        assert_eq!((places.head, places.tail), (LOG_HEAD, LOG_TAIL));
        assert_eq!(head, log[..LOG_HEAD as usize]);
        assert_eq!(tail, log[log.len() - LOG_TAIL as usize..]);
        // Behind the cap, without a gap.
        let (_state, folder) = run(&log, b"the end", 0);
        let (places, _, tail) = excerpts(&folder, &Redactor::by_shape());
        assert_eq!(places.tail_from + places.tail, 3_000_007);
        assert!(tail.ends_with(b"the end") && tail.len() as u64 == LOG_TAIL);
        // With one.
        let (_state, folder) = run(&log, b"the end", 500);
        let (places, _, tail) = excerpts(&folder, &Redactor::by_shape());
        assert_eq!(
            (places.tail_from, places.tail, places.dropped),
            (3_000_500, 7, 500)
        );
        assert_eq!(tail, b"the end");
    }

    #[test]
    fn a_secret_across_a_border_is_gone_on_both_sides() {
        let token = "hf_AbCdEfGhIjKlMnOpQrStUvWxYz012345";
        for back in [1, 3, 10, token.len() - 1] {
            for secret in [token, "plain word of a secret"] {
                let mut log = vec![b' '; 3_000_000];
                for border in [LOG_HEAD as usize, log.len() - LOG_TAIL as usize] {
                    let at = border - back.min(secret.len() - 1);
                    log[at..at + secret.len()].copy_from_slice(secret.as_bytes());
                }
                let (_state, folder) = run(&log, b"", 0);
                let redactor = Redactor::with_values([("WORD", "plain word of a secret")]);
                let (places, head, tail) = excerpts(&folder, &redactor);
                assert_eq!((places.head, places.tail), (LOG_HEAD, LOG_TAIL));
                for text in [head, tail] {
                    let text = String::from_utf8(text).unwrap();
                    let left = text.trim();
                    assert!(left.starts_with("[redacted:") && left.ends_with(']'), "{left}");
                }
            }
        }
    }

    #[test]
    fn a_line_without_an_end_costs_no_memory() {
        let (_state, folder) = run(b"", b"", 0);
        let log = File::options().write(true).open(folder.log()).unwrap();
        log.set_len(1 << 30).unwrap();
        let (places, head, tail) = excerpts(&folder, &Redactor::by_shape());
        assert_eq!(places.length, 1 << 30);
        assert_eq!((head.len() as u64, tail.len() as u64), (LOG_HEAD, LOG_TAIL));
    }
}
