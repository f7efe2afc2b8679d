//! From a program's bytes to lines that can be trusted to be text.

/// A longer line is none that `nvidia-smi` prints for us.
const LONGEST_LINE: usize = 64 * 1024;
/// More lines than any host has GPUs and processes.
const MOST_LINES: usize = 100_000;
/// What a trouble's detail holds.
const LONGEST_DETAIL: usize = 500;

/// The lines of an output without colour codes, control characters and what is no UTF-8. Lines that are far too
/// long are left out.
pub(super) fn lines(bytes: &[u8]) -> Vec<String> {
    bytes
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty() && line.len() <= LONGEST_LINE)
        .take(MOST_LINES)
        .map(|line| clean(&String::from_utf8_lossy(line)))
        .filter(|line| !line.trim().is_empty())
        .collect()
}

/// Text without colour codes and control characters; a tab becomes a blank.
pub(super) fn clean(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\u{1b}' if characters.peek() == Some(&'[') => {
                characters.next();
                for parameter in characters.by_ref() {
                    if ('@'..='~').contains(&parameter) {
                        break;
                    }
                }
            }
            '\t' => clean.push(' '),
            character if character.is_control() => {}
            character => clean.push(character),
        }
    }
    clean
}

/// The first words of an output, for people.
pub(super) fn detail(bytes: &[u8]) -> Option<String> {
    let text = lines(bytes.get(..bytes.len().min(16 * 1024)).unwrap_or_default());
    let text = text.iter().map(|line| line.trim()).collect::<Vec<_>>().join("; ");
    (!text.is_empty()).then(|| bounded(&text, LONGEST_DETAIL))
}

/// At most so many characters.
pub(super) fn bounded(text: &str, most: usize) -> String {
    text.chars().take(most).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_and_control_characters_go() {
        let printed = b"\x1b[4mGPU0\x1b[0m\tX\r\n\0\n  \nlast\xff\x1b[31";
        assert_eq!(lines(printed), ["GPU0 X", "last\u{fffd}"]);
    }

    #[test]
    fn what_is_far_too_long_is_left_out() {
        let mut printed = vec![b'x'; LONGEST_LINE + 1];
        printed.extend_from_slice(b"\nkept\n");
        assert_eq!(lines(&printed), ["kept"]);
        assert_eq!(
            detail(&vec![b'y'; 1000]).map(|text| text.len()),
            Some(LONGEST_DETAIL)
        );
        assert_eq!(detail(b" \n"), None);
    }
}
