//! The run log as far as it is here: its start and its end, from the excerpts of a bundle or from the mirror.
//!
//! Only the host knew the values of a run's secrets. A mirror has them as the job printed them, excerpts do not: what is
//! quoted and kept comes from excerpts wherever they reach as far, and of a run with secrets from nothing else.

use super::file::{self, Piece};
use super::text;
use farrun_protocol::diagnostics::{LOG_HEAD, LOG_HEAD_FILE, LOG_TAIL, LOG_TAIL_FILE, LogExcerpts};
use std::path::Path;

/// Lines of the start that are kept, and of the end.
const LINES: (usize, usize) = (2_000, 20_000);
/// Lines from the end, and bytes, within which an error counts as the last word of a job.
const NEAR_END: (usize, usize) = (300, 48 * 1024);
/// Redaction may lengthen an excerpt; more than this is cut.
const SLACK: u64 = 2;

/// A line of the run log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::diagnosis) struct Line {
    /// Run-log bytes before it, when they are known.
    pub(in crate::diagnosis) offset: Option<u64>,
    /// Its text without escape sequences.
    pub(in crate::diagnosis) text: String,
    /// Whether it stands so near the end that an error in it may be what ended the job.
    pub(in crate::diagnosis) last_words: bool,
}

/// The start and the end of a run log.
#[derive(Debug, Default)]
pub(in crate::diagnosis) struct Log {
    /// Its lines, oldest first; some may be missing between the start and the end.
    pub(in crate::diagnosis) lines: Vec<Line>,
    /// What could not be had of it.
    pub(in crate::diagnosis) missing: Vec<(String, String)>,
    /// Whether lines are as the job printed them, given secrets included.
    pub(in crate::diagnosis) as_printed: bool,
}

/// Where the bytes of a piece lie in the run log.
struct Place {
    from: u64,
    /// Bytes of the run log that the piece stands for; another number than its own when something was redacted.
    covers: u64,
    /// Bytes of the piece before which no text was replaced, and after which none was.
    exact: (usize, usize),
    /// Where lines begin in the piece, and where the same lines begin in the run log.
    lines: Vec<(usize, u64)>,
}

impl Place {
    /// Where a piece as it was written lies.
    fn whole(piece: &Piece) -> Self {
        let length = piece.bytes.len();
        Self {
            from: piece.from,
            covers: length as u64,
            exact: (length, 0),
            lines: Vec::new(),
        }
    }

    /// Where an excerpt lies that may have been redacted.
    fn redacted(from: u64, covers: u64, bytes: &[u8]) -> Self {
        const MARK: &[u8] = b"[redacted";
        let exact = if bytes.len() as u64 == covers {
            (bytes.len(), 0)
        } else {
            let mut marks = bytes.windows(MARK.len());
            let first = marks.position(|window| window == MARK).unwrap_or(0);
            let last = bytes.windows(MARK.len()).rposition(|window| window == MARK);
            (first, last.map_or(bytes.len(), |last| last + MARK.len()))
        };
        Self {
            from,
            covers,
            exact,
            lines: Vec::new(),
        }
    }

    /// With the places of lines between replacements, from the mirror of the log: it has the same lines as they were
    /// printed. Where a secret was of several lines it has more, and nothing is known of those.
    fn beside(mut self, bytes: &[u8], mirror: Option<&Path>) -> Self {
        if self.exact.0 >= self.exact.1 {
            return self;
        }
        let printed = mirror.and_then(|path| file::part(path, self.from, self.covers).ok());
        let Some(printed) = printed.filter(|printed| printed.len() as u64 == self.covers) else {
            return self;
        };
        let (own, of_mirror) = (text::starts(bytes), text::starts(&printed));
        if own.len() == of_mirror.len() {
            let from = self.from;
            let pairs = own.into_iter().zip(of_mirror);
            self.lines = pairs.map(|(at, of_log)| (at, from + of_log as u64)).collect();
        }
        self
    }

    fn offset(&self, at: usize, length: usize) -> Option<u64> {
        if at <= self.exact.0 {
            return self.from.checked_add(at as u64);
        }
        if at < self.exact.1 {
            let found = self.lines.binary_search_by_key(&at, |(own, _)| *own).ok()?;
            return self.lines.get(found).map(|(_, of_log)| *of_log);
        }
        let behind = (length - at) as u64;
        self.from.checked_add(self.covers)?.checked_sub(behind)
    }
}

impl Log {
    /// Reads the excerpts of `folder`, and the mirror where they are absent or of an earlier moment.
    pub(super) fn read(mirror: Option<&Path>, folder: Option<&Path>, places: Option<&LogExcerpts>) -> Self {
        let mut log = Self::default();
        let printed = mirror;
        let mirror = mirror.filter(|mirror| !reach_as_far(folder, places, mirror));
        let here = mirror.and_then(|path| log.of_mirror(path));
        let excerpt =
            |name: &str, most: u64| folder.map(|folder| file::start(&folder.join(name), most * SLACK));
        if here.is_none() {
            match (excerpt(LOG_HEAD_FILE, LOG_HEAD), places) {
                (Some(Ok(piece)), Some(places)) => {
                    let place = Place::redacted(0, places.head, &piece.bytes).beside(&piece.bytes, printed);
                    log.add(&piece.bytes, Some(&place), LINES.0);
                }
                (Some(Ok(piece)), None) => log.add(&piece.bytes, None, LINES.0),
                (Some(Err(why)), _) => log.missing.push((LOG_HEAD_FILE.to_owned(), why)),
                (None, _) => {}
            }
        }
        let ends = places.map_or(u64::MAX, |places| places.tail_from.saturating_add(places.tail));
        // The tail of a log beyond its cap is in no mirror.
        if here.is_none_or(|here| places.is_some() && ends > here) {
            match (excerpt(LOG_TAIL_FILE, LOG_TAIL), places) {
                (Some(Ok(piece)), Some(places)) => {
                    let place = Place::redacted(places.tail_from, places.tail, &piece.bytes)
                        .beside(&piece.bytes, printed);
                    if here.is_some_and(|here| places.tail_from < here) {
                        log.drop_from(places.tail_from);
                    }
                    log.add(&piece.bytes, Some(&place), LINES.1);
                }
                (Some(Ok(piece)), None) => log.add(&piece.bytes, None, LINES.1),
                (Some(Err(why)), _) => log.missing.push((LOG_TAIL_FILE.to_owned(), why)),
                (None, _) => {}
            }
        }
        log.mark_end();
        log
    }

    /// The start and the end of the mirror; its length, when there is one.
    fn of_mirror(&mut self, path: &Path) -> Option<u64> {
        let start = file::start(path, LOG_HEAD)
            .ok()
            .filter(|piece| piece.length > 0)?;
        self.as_printed = true;
        self.add(&start.bytes, Some(&Place::whole(&start)), LINES.0);
        if let Ok(end) = file::end(path, LOG_TAIL, start.bytes.len() as u64) {
            self.add(&end.bytes, Some(&Place::whole(&end)), LINES.1);
        }
        Some(start.length)
    }

    fn add(&mut self, bytes: &[u8], place: Option<&Place>, most: usize) {
        let lines = text::lines(bytes, most);
        self.lines.extend(lines.into_iter().map(|line| Line {
            offset: place.and_then(|place| place.offset(line.at, bytes.len())),
            text: line.text,
            last_words: false,
        }));
    }

    /// Takes away what another piece has as well.
    fn drop_from(&mut self, offset: u64) {
        self.lines.retain(|line| line.offset.is_none_or(|at| at < offset));
    }

    fn mark_end(&mut self) {
        let mut bytes = 0;
        for line in self.lines.iter_mut().rev().take(NEAR_END.0) {
            bytes += line.text.len() + 1;
            if bytes > NEAR_END.1 {
                break;
            }
            line.last_words = true;
        }
    }
}

/// Whether excerpts have all of the start and the end that a mirror has.
fn reach_as_far(folder: Option<&Path>, places: Option<&LogExcerpts>, mirror: &Path) -> bool {
    let (Some(folder), Some(places)) = (folder, places) else {
        return false;
    };
    let reads = |name: &str| file::start(&folder.join(name), 1).is_ok();
    let length = std::fs::metadata(mirror).map_or(0, |mirror| mirror.len());
    places.length >= length && reads(LOG_HEAD_FILE) && reads(LOG_TAIL_FILE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(length: u64, head: u64, tail_from: u64, tail: u64) -> LogExcerpts {
        LogExcerpts {
            length,
            head,
            tail_from,
            tail,
            dropped: 0,
        }
    }

    fn told(log: &Log) -> Vec<(Option<u64>, &str)> {
        log.lines
            .iter()
            .map(|line| (line.offset, line.text.as_str()))
            .collect()
    }

    #[test]
    fn excerpts_have_the_offsets_of_the_run_log() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(LOG_HEAD_FILE), "one\ntwo\n").unwrap();
        std::fs::write(folder.path().join(LOG_TAIL_FILE), "a\nb [redacted:X]\nc\nd\n").unwrap();
        // `[redacted:X]` stands for twenty bytes.
        let tail = 21 - 12 + 20;
        let places = places(500, 8, 471, tail);
        let log = Log::read(None, Some(folder.path()), Some(&places));
        assert_eq!(
            told(&log),
            [
                (Some(0), "one"),
                (Some(4), "two"),
                (Some(471), "a"),
                (Some(473), "b [redacted:X]"),
                (Some(496), "c"),
                (Some(498), "d"),
            ]
        );
        assert!(log.lines.iter().all(|line| line.last_words));
        let log = Log::read(None, Some(folder.path()), None);
        assert!(log.lines.iter().all(|line| line.offset.is_none()) && log.lines.len() == 6);
    }

    #[test]
    fn a_value_that_only_the_host_knew_is_not_read_from_the_mirror() {
        let folder = tempfile::tempdir().unwrap();
        let mirror = folder.path().join("run.log");
        std::fs::write(&mirror, "it is hunter2\n").unwrap();
        std::fs::write(folder.path().join(LOG_HEAD_FILE), "it is [redacted:X]\n").unwrap();
        std::fs::write(folder.path().join(LOG_TAIL_FILE), "").unwrap();
        let log = Log::read(Some(&mirror), Some(folder.path()), Some(&places(14, 14, 14, 0)));
        assert_eq!(told(&log), [(Some(0), "it is [redacted:X]")]);
        assert!(!log.as_printed);
        // Without what the host left, the log is all there is.
        std::fs::remove_file(folder.path().join(LOG_HEAD_FILE)).unwrap();
        let log = Log::read(Some(&mirror), Some(folder.path()), Some(&places(14, 14, 14, 0)));
        assert_eq!(told(&log), [(Some(0), "it is hunter2")]);
        assert!(log.as_printed);
    }

    #[test]
    fn lines_between_replacements_are_placed_by_the_mirror() {
        let folder = tempfile::tempdir().unwrap();
        let mirror = folder.path().join("run.log");
        let printed = "key hunter2\nstep\nkey hunter2\nend\n";
        let sent = printed.replace("hunter2", "[redacted:X]");
        std::fs::write(&mirror, printed).unwrap();
        std::fs::write(folder.path().join(LOG_HEAD_FILE), &sent).unwrap();
        std::fs::write(folder.path().join(LOG_TAIL_FILE), "").unwrap();
        let length = printed.len() as u64;
        let places = places(length, length, length, 0);
        let offsets = || {
            let log = Log::read(Some(&mirror), Some(folder.path()), Some(&places));
            log.lines.iter().map(|line| line.offset).collect::<Vec<_>>()
        };
        assert_eq!(offsets(), [Some(0), Some(12), Some(17), Some(29)]);
        // Of a mirror with other lines nothing is taken.
        std::fs::write(&mirror, printed.replace("step", "s\np")).unwrap();
        assert_eq!(offsets(), [Some(0), None, None, Some(29)]);
    }

    #[test]
    fn a_mirror_that_goes_further_is_better_and_the_tail_beyond_the_cap_is_added() {
        let folder = tempfile::tempdir().unwrap();
        let mirror = folder.path().join("run.log");
        std::fs::write(&mirror, "mirror\n".repeat(20)).unwrap();
        std::fs::write(folder.path().join(LOG_HEAD_FILE), "never read\n").unwrap();
        std::fs::write(folder.path().join(LOG_TAIL_FILE), "beyond\n").unwrap();
        let read = |places: LogExcerpts| Log::read(Some(&mirror), Some(folder.path()), Some(&places));
        let log = read(places(133, 11, 900, 7));
        assert_eq!(log.lines.len(), 21);
        assert_eq!(
            (log.lines[19].offset, log.lines[20].offset),
            (Some(133), Some(900))
        );
        let whole = read(places(133, 11, 126, 7));
        assert_eq!(whole.lines.len(), 20);
        // Without its start an excerpt completes a mirror that stopped early.
        std::fs::remove_file(folder.path().join(LOG_HEAD_FILE)).unwrap();
        let longer = read(places(147, 11, 133, 14));
        assert_eq!(told(&longer).last(), Some(&(Some(133), "beyond")));
        assert_eq!(longer.lines.len(), 20);
    }

    #[test]
    fn a_huge_mirror_is_read_in_part() {
        let folder = tempfile::tempdir().unwrap();
        let mirror = folder.path().join("run.log");
        let file = std::fs::File::create(&mirror).unwrap();
        file.set_len(3 * 1024 * 1024 * 1024).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, b"\nlast", 3 * 1024 * 1024 * 1024).unwrap();
        let log = Log::read(Some(&mirror), None, None);
        assert_eq!(
            told(&log).last(),
            Some(&(Some(3 * 1024 * 1024 * 1024 + 1), "last"))
        );
        assert!(log.lines.iter().map(|line| line.text.len()).sum::<usize>() < 64 * 1024);
    }

    #[test]
    fn only_the_end_of_a_long_log_is_its_last_words() {
        let folder = tempfile::tempdir().unwrap();
        let mirror = folder.path().join("run.log");
        std::fs::write(&mirror, "line\n".repeat(1000)).unwrap();
        let log = Log::read(Some(&mirror), None, None);
        assert_eq!(
            log.lines.iter().filter(|line| line.last_words).count(),
            NEAR_END.0
        );
        assert!(!log.lines[0].last_words && log.lines[999].last_words);
    }
}
