//! Prose broken into lines of a terminal.

use super::escape;
use textwrap::{Options, WordSplitter};

/// Fewest columns that text is broken to; where there are less, the terminal breaks it.
const NARROWEST: usize = 20;
/// How much deeper than a line that somebody else wrote its further parts stand; nothing of ours stands there.
const DEEPER: usize = 2;

/// The lines of `text`: the first begins with `first`, all others with `next`; no wider than `width` where that is
/// given, and one line where it is not. Text is escaped and its white space folded, so that none of it passes for a line
/// of ours.
pub fn wrapped(text: &str, first: &str, next: &str, width: Option<usize>) -> Vec<String> {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    broken(&text, first, next, width)
}

/// As [`wrapped`], for a line that somebody else wrote: its white space stays, and only its first part is marked, so that
/// a long line is not taken for several.
pub fn quoted(text: &str, mark: &str, width: Option<usize>) -> Vec<String> {
    let next = " ".repeat(mark.chars().count() + DEEPER);
    broken(&text.replace('\t', "    "), mark, &next, width)
}

fn broken(text: &str, first: &str, next: &str, width: Option<usize>) -> Vec<String> {
    let text = escape::line(text);
    let Some(width) = width else {
        return vec![format!("{first}{text}").trim_end().to_owned()];
    };
    // Names, paths and commands stay whole where they fit a line.
    let options = Options::new(width.max(next.len() + NARROWEST))
        .initial_indent(first)
        .subsequent_indent(next)
        .word_splitter(WordSplitter::NoHyphenation);
    textwrap::wrap(&text, options)
        .into_iter()
        .map(|line| line.trim_end().to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use unicode_width::UnicodeWidthStr as _;

    #[test]
    fn text_is_folded_broken_and_never_passes_for_a_line_of_ours() {
        let text = "GPU memory\nfull: \u{1b}[2J the job needed 20.0 GiB";
        assert_eq!(
            wrapped(text, "- ", "  ", Some(30)),
            [r"- GPU memory full: \x1b[2J the", "  job needed 20.0 GiB"]
        );
        assert_eq!(
            wrapped(text, "- ", "  ", None),
            [r"- GPU memory full: \x1b[2J the job needed 20.0 GiB"]
        );
        assert_eq!(wrapped("", "- ", "  ", Some(30)), ["-"]);
        assert_eq!(quoted("\tx  =\r\n1", "| ", None), [r"|     x  =\r\n1"]);
        assert_eq!(quoted("  raise x", "| ", Some(30)), ["|   raise x"]);
        assert_eq!(
            quoted("torch.OutOfMemoryError: CUDA out of memory.", "> ", Some(30)),
            ["> torch.OutOfMemoryError: CUDA", "    out of memory."]
        );
        let wide = "字".repeat(100);
        for line in wrapped(&wide, "", "", Some(40)) {
            assert!(line.width() <= 40, "{line}");
        }
    }
}
