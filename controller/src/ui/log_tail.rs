//! The last lines of a run log as plain text, for a place that shows only a few of them.

use std::collections::VecDeque;

/// Bytes that are kept.
const MOST: usize = 64 * 1024;
/// Lines that are made of them.
const LINES: usize = 200;

/// The end of a log.
#[derive(Debug, Default)]
pub struct LogTail {
    bytes: VecDeque<u8>,
}

impl LogTail {
    /// Adds bytes; the oldest go.
    pub fn push(&mut self, bytes: &[u8]) {
        let kept = bytes.get(bytes.len().saturating_sub(MOST)..).unwrap_or(bytes);
        self.bytes.extend(kept);
        let beyond = self.bytes.len().saturating_sub(MOST);
        self.bytes.drain(..beyond);
    }

    /// Its lines, oldest first, without escape sequences. What a carriage return begins anew replaces its line, as a
    /// terminal shows it.
    pub fn lines(&self) -> Vec<String> {
        let bytes: Vec<u8> = self.bytes.iter().copied().collect();
        let text = plain(&String::from_utf8_lossy(&bytes));
        let lines: Vec<&str> = text.trim_end_matches(['\n', '\r']).split('\n').collect();
        if lines == [""] {
            return Vec::new();
        }
        lines
            .iter()
            .skip(lines.len().saturating_sub(LINES))
            .map(|line| {
                let line = line.trim_end_matches('\r');
                let shown = line.rsplit('\r').next().unwrap_or(line);
                shown.replace('\t', "    ")
            })
            .collect()
    }
}

/// The text without sequences that begin with ESC `[`; a lone ESC stays for the escaper to show.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("\u{1b}[") {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let behind = from.get(2..).unwrap_or_default();
        let end = behind.find(|c: char| !matches!(c, '\u{20}'..='\u{3f}'));
        rest = match end {
            Some(end) => behind.get(end..).map_or("", |last| {
                let mut characters = last.chars();
                match characters.next() {
                    Some('\u{40}'..='\u{7e}') => characters.as_str(),
                    _ => last,
                }
            }),
            None => "",
        };
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(pieces: &[&[u8]]) -> Vec<String> {
        let mut tail = LogTail::default();
        pieces.iter().for_each(|piece| tail.push(piece));
        tail.lines()
    }

    #[test]
    fn lines_are_what_a_terminal_would_show() {
        assert!(lines(&[]).is_empty());
        assert_eq!(lines(&[b"one\ntw", b"o\n"]), ["one", "two"]);
        assert_eq!(lines(&[b"10 %\r50 %\r100 %\r\ndone"]), ["100 %", "done"]);
        assert_eq!(lines(&[b"\x1b[1;31mred\x1b[0m plain\x1b[2K\n"]), ["red plain"]);
        assert_eq!(lines(&[b"cut \x1b[31"]), ["cut "]);
        assert_eq!(lines(&[b"a\tb"]), ["a    b"]);
        assert_eq!(lines(&[b"\xff\xfe"]), ["\u{fffd}\u{fffd}"]);
    }

    #[test]
    fn a_flood_takes_no_more_room() {
        let mut tail = LogTail::default();
        for _ in 0..100 {
            tail.push(&[b'x'; MOST]);
        }
        tail.push(b"\nlast");
        assert!(tail.bytes.len() <= MOST);
        assert_eq!(tail.lines().last().map(String::as_str), Some("last"));
    }
}
