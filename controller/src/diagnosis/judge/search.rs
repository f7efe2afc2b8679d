//! All patterns of the table at once over the lines of the log.

use crate::diagnosis::evidence::Line;
use crate::diagnosis::rules::{Look, RULES};
use regex::{Regex, RegexSet, RegexSetBuilder};
use std::collections::BTreeMap;
use std::sync::LazyLock;

/// Lines that are remembered for a pattern: the first near the end, and one before.
const MOST: usize = 8;
/// Room for the compiled set; it is a constant, so that this never fails with one table and not with another.
const ROOM: usize = 64 << 20;

/// A pattern of the table: row, place in it, and the compiled form.
pub(super) struct Pattern {
    pub(super) row: usize,
    pub(super) look: usize,
    pub(super) regex: Regex,
}

/// The patterns that look at the log, and those that look at what was said.
pub(super) struct Patterns {
    set: Option<RegexSet>,
    pub(super) log: Vec<Pattern>,
    pub(super) said: Vec<Pattern>,
}

// A pattern that does not compile finds nothing; a test sees that all do.
pub(super) static PATTERNS: LazyLock<Patterns> = LazyLock::new(|| {
    let (mut log, mut said) = (Vec::new(), Vec::new());
    for (row, rule) in RULES.iter().enumerate() {
        for (look, what) in rule.looks.iter().enumerate() {
            let (list, text) = match what {
                Look::Log(_, text) => (&mut log, *text),
                Look::Said(_, text) => (&mut said, *text),
                Look::Facts(_) => continue,
            };
            if let Ok(regex) = Regex::new(text) {
                list.push(Pattern { row, look, regex });
            }
        }
    }
    let set = RegexSetBuilder::new(log.iter().map(|pattern| pattern.regex.as_str()))
        .size_limit(ROOM)
        .dfa_size_limit(ROOM / 4)
        .build()
        .ok();
    Patterns { set, log, said }
});

/// Which lines each pattern of the log fits.
#[derive(Debug, Default)]
pub(super) struct Hits {
    /// By row and look: lines near the end, and the last one before that.
    lines: BTreeMap<(usize, usize), (Vec<usize>, Option<usize>)>,
}

impl Hits {
    pub(super) fn of(lines: &[Line]) -> Self {
        let mut hits = Self::default();
        let Some(set) = &PATTERNS.set else { return hits };
        for (at, line) in lines.iter().enumerate() {
            for found in set.matches(&line.text) {
                let Some(pattern) = PATTERNS.log.get(found) else {
                    continue;
                };
                let (near, before) = hits.lines.entry((pattern.row, pattern.look)).or_default();
                if !line.last_words {
                    *before = Some(at);
                } else if near.len() < MOST {
                    near.push(at);
                }
            }
        }
        hits
    }

    /// Lines that a pattern fits, the best first.
    pub(super) fn lines(&self, row: usize, look: usize) -> impl Iterator<Item = usize> {
        let found = self.lines.get(&(row, look));
        let near = found.map(|(near, _)| near.as_slice()).unwrap_or_default();
        near.iter().copied().chain(found.and_then(|(_, before)| *before))
    }
}

/// The compiled pattern of a row.
pub(super) fn compiled(patterns: &'static [Pattern], row: usize, look: usize) -> Option<&'static Regex> {
    patterns
        .iter()
        .find(|pattern| (pattern.row, pattern.look) == (row, look))
        .map(|pattern| &pattern.regex)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pattern_compiles() {
        assert!(PATTERNS.set.is_some());
        let wanted = RULES
            .iter()
            .flat_map(|rule| rule.looks)
            .filter(|look| !matches!(look, Look::Facts(_)))
            .count();
        for look in RULES.iter().flat_map(|rule| rule.looks) {
            if let Look::Log(_, text) | Look::Said(_, text) = look {
                assert!(Regex::new(text).is_ok(), "{text}: {:?}", Regex::new(text).err());
            }
        }
        assert_eq!(PATTERNS.log.len() + PATTERNS.said.len(), wanted);
    }

    #[test]
    fn every_named_group_becomes_a_figure() {
        let all = PATTERNS.log.iter().chain(&PATTERNS.said);
        for name in all.flat_map(|pattern| pattern.regex.capture_names()).flatten() {
            assert!(super::super::case::words::NAMES.contains(&name), "{name}");
        }
    }
}
