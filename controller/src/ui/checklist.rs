//! Findings under headings, wrapped to the terminal.

use super::escape;
use super::table::Tone;
use unicode_width::UnicodeWidthStr as _;

/// Columns before a finding's text.
const INDENT: usize = 11;
/// Narrower than this nothing is wrapped.
const NARROWEST: usize = 40;

/// One finding.
#[derive(Debug, Clone)]
struct Entry {
    label: String,
    tone: Tone,
    text: String,
    more: Vec<(&'static str, String)>,
}

/// Findings under headings.
#[derive(Debug, Clone, Default)]
pub struct Checklist {
    sections: Vec<(String, Vec<Entry>)>,
}

impl Checklist {
    /// Begins a section.
    pub fn section(&mut self, heading: &str) {
        self.sections.push((escape::line(heading), Vec::new()));
    }

    /// Adds a finding to the newest section, with what belongs to it on lines of its own; all of it is escaped.
    pub fn entry(&mut self, label: &str, tone: Tone, text: &str, more: &[(&'static str, &str)]) {
        let entry = Entry {
            label: escape::line(label),
            tone,
            text: escape::line(text),
            more: more
                .iter()
                .map(|(name, text)| (*name, escape::line(text)))
                .collect(),
        };
        match self.sections.last_mut() {
            Some((_, entries)) => entries.push(entry),
            None => self.sections.push((String::new(), vec![entry])),
        }
    }

    /// Its lines, no wider than `width` where words allow it.
    pub(super) fn render(&self, width: usize, color: bool) -> String {
        let mut text = String::new();
        for (heading, entries) in &self.sections {
            if entries.is_empty() {
                continue;
            }
            if !text.is_empty() {
                text.push('\n');
            }
            text.push_str(&format!("{heading}\n"));
            for entry in entries {
                entry.render(&mut text, width, color);
            }
        }
        text
    }
}

impl Entry {
    fn render(&self, text: &mut String, width: usize, color: bool) {
        let label = format!("{:<9}", self.label);
        let label = match code(self.tone).filter(|_| color) {
            Some(code) => format!("\x1b[{code}m{label}\x1b[0m"),
            None => label,
        };
        let room = width.saturating_sub(INDENT).max(NARROWEST);
        let blank = " ".repeat(INDENT);
        for (number, line) in wrap(&self.text, room).iter().enumerate() {
            let head = if number == 0 {
                format!("  {label}")
            } else {
                blank.clone()
            };
            text.push_str(&format!("{head}{line}\n"));
        }
        for (name, words) in &self.more {
            for line in wrap(&format!("{name}: {words}"), room) {
                text.push_str(&format!("{blank}{line}\n"));
            }
        }
    }
}

fn code(tone: Tone) -> Option<&'static str> {
    match tone {
        Tone::Plain => None,
        Tone::Good => Some("32"),
        Tone::Warning => Some("33"),
        Tone::Bad => Some("1;31"),
        Tone::Dim => Some("90"),
    }
}

/// Lines of whole words; a word that is longer than a line has one for itself.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.width() + 1 + word.width() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list() -> Checklist {
        let mut list = Checklist::default();
        list.section("SSH");
        list.entry("ok", Tone::Good, "a round trip takes 1.2 ms", &[]);
        list.entry(
            "warning",
            Tone::Warning,
            "a restart of the engine, as in an update of the host's packages, ends every run there",
            &[
                ("seen", "live\u{1b}[2Jrestore"),
                ("do", "`sudo systemctl reload docker`"),
            ],
        );
        list.section("Nothing");
        list
    }

    #[test]
    fn findings_fit_eighty_columns_and_are_escaped() {
        let text = list().render(80, false);
        assert!(text.lines().all(|line| line.width() <= 80), "{text}");
        assert!(!text.contains('\u{1b}') && !text.contains("Nothing"), "{text}");
        assert!(text.starts_with("SSH\n  ok       a round trip takes 1.2 ms\n  warning  a restart"));
        assert!(
            text.contains("\n           do: `sudo systemctl reload docker`\n"),
            "{text}"
        );
    }

    #[test]
    fn colour_is_around_the_verdict_alone() {
        let text = list().render(80, true);
        assert!(
            text.contains("  \u{1b}[32mok       \u{1b}[0ma round trip"),
            "{text}"
        );
    }

    #[test]
    fn long_words_stay_whole() {
        assert_eq!(wrap("a bbbbbbbbbb c", 5), ["a", "bbbbbbbbbb", "c"]);
        assert!(wrap("", 5).is_empty());
    }
}
