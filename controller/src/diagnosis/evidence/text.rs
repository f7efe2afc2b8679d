//! Lines as a rule reads them: without escape sequences, of bounded length, each with its place in the log.

/// Longest line that rules see, in bytes. A longer one is cut in its middle: errors stand at the start or the end.
pub(in crate::diagnosis) const LONGEST: usize = 4096;
/// Bytes of a longer line's end that are kept.
const KEPT_END: usize = 1024;

/// A line that is not blank.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::diagnosis) struct Line {
    /// Bytes of the piece before it.
    pub(in crate::diagnosis) at: usize,
    /// Its text.
    pub(in crate::diagnosis) text: String,
}

/// The last `most` lines of `bytes`, in order. What a carriage return begins anew is a line of its own, so that an
/// error behind a progress bar is seen.
pub(in crate::diagnosis) fn lines(bytes: &[u8], most: usize) -> Vec<Line> {
    let mut found = std::collections::VecDeque::new();
    let mut at = 0;
    for part in bytes.split(|byte| matches!(byte, b'\n' | b'\r')) {
        let start = at;
        at += part.len() + 1;
        // Cleaning costs; the bytes of blank lines are not worth it.
        if part.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let text = plain(&cut(part));
        if text.trim().is_empty() {
            continue;
        }
        if found.len() == most {
            found.pop_front();
        }
        found.push_back(Line { at: start, text });
    }
    found.into()
}

/// Where the lines of `bytes` begin, blank ones as well.
pub(in crate::diagnosis) fn starts(bytes: &[u8]) -> Vec<usize> {
    let breaks = bytes
        .iter()
        .enumerate()
        .filter(|(_, byte)| matches!(byte, b'\n' | b'\r'));
    std::iter::once(0).chain(breaks.map(|(at, _)| at + 1)).collect()
}

/// The text of a line, cut in its middle when it is longer than [`LONGEST`].
fn cut(line: &[u8]) -> String {
    if line.len() <= LONGEST {
        return String::from_utf8_lossy(line).into_owned();
    }
    let start = line.get(..LONGEST - KEPT_END).unwrap_or_default();
    let end = line.get(line.len() - KEPT_END..).unwrap_or_default();
    format!(
        "{} … {}",
        String::from_utf8_lossy(start),
        String::from_utf8_lossy(end)
    )
}

/// The text without escape sequences; other control characters but tabs become the replacement character.
pub(in crate::diagnosis) fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        match c {
            '\u{1b}' => skip_sequence(&mut characters),
            '\u{9b}' => skip_parameters(&mut characters),
            '\t' => out.push(' '),
            '\n' => out.push('\n'),
            '\u{8}' => {
                out.pop();
            }
            c if c.is_control() => out.push(char::REPLACEMENT_CHARACTER),
            c => out.push(c),
        }
    }
    out.truncate(out.trim_end().len());
    out
}

/// Skips what follows an ESC: a sequence with parameters, a string up to its end, or one character.
fn skip_sequence(characters: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    match characters.next() {
        Some('[') => skip_parameters(characters),
        Some(']' | 'P' | 'X' | '^' | '_') => {
            while let Some(c) = characters.next() {
                if c == '\u{7}' || c == '\u{9c}' {
                    return;
                }
                if c == '\u{1b}' {
                    characters.next_if_eq(&'\\');
                    return;
                }
            }
        }
        _ => {}
    }
}

/// Skips parameters and the letter that ends them.
fn skip_parameters(characters: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    while characters.next_if(|c| matches!(c, '\u{20}'..='\u{3f}')).is_some() {}
    characters.next_if(|c| matches!(c, '\u{40}'..='\u{7e}'));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn texts(bytes: &[u8]) -> Vec<String> {
        lines(bytes, 1000).into_iter().map(|line| line.text).collect()
    }

    #[test]
    fn lines_have_no_colours_and_begin_at_carriage_returns() {
        assert_eq!(texts(b"one\r\n\r\n  \ntwo\n"), ["one", "two"]);
        assert_eq!(
            texts(b"10%|#\r90%|###\rError: x\n"),
            ["10%|#", "90%|###", "Error: x"]
        );
        assert_eq!(
            texts(b"\x1b[1;31mRuntimeError\x1b[0m: \x1b]8;;http://x\x1b\\bad\x1b]8;;\x07\tend"),
            ["RuntimeError: bad end"]
        );
        assert_eq!(texts(b"a\0b\xff"), ["a\u{fffd}b\u{fffd}"]);
        assert_eq!(texts(b"cut \x1b[31"), ["cut"]);
        let offsets: Vec<usize> = lines(b"one\r\n\r\ntwo", 9).iter().map(|line| line.at).collect();
        assert_eq!(offsets, [0, 7]);
    }

    #[test]
    fn a_flood_takes_bounded_room_and_time() {
        let long = vec![b'x'; 1024 * 1024];
        let found = lines(&long, 10);
        assert_eq!(found.len(), 1);
        assert!(found[0].text.len() <= LONGEST + 8);
        let many = b"a\n".repeat(512 * 1024);
        let found = lines(&many, 100);
        assert_eq!((found.len(), found[0].at), (100, 1024 * 1024 - 200));
    }

    proptest! {
        #[test]
        fn nothing_that_a_terminal_acts_on_is_left(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            for line in lines(&bytes, 50) {
                prop_assert!(!line.text.contains(|c: char| c.is_control()), "{:?}", line.text);
            }
        }
    }
}
