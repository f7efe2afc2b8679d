//! One run's evidence, as rows ask about it.

mod end;
mod gpus;
mod record;
pub(super) mod words;

pub(in crate::diagnosis) use words::RUN_LOG;
use words::{Said, named, said};

use super::search::{Hits, PATTERNS, compiled};
use crate::diagnosis::evidence::{Evidence, Line};
use crate::diagnosis::rules::{Found, Look, Rule};
use crate::diagnosis::words::cut;
use crate::diagnosis::{Certainty, Context, Facts, surroundings};
use regex::Regex;
use std::collections::BTreeSet;

/// One run's evidence.
pub(in crate::diagnosis) struct Case<'a> {
    pub(in crate::diagnosis) evidence: &'a Evidence,
    pub(in crate::diagnosis) facts: &'a Facts<'a>,
    pub(in crate::diagnosis) context: Context,
    hits: Hits,
    /// What was said about the start.
    said: Vec<Said>,
    /// The first row and look that each of them fits.
    said_by: Vec<Option<(usize, usize)>>,
}

impl<'a> Case<'a> {
    pub(super) fn new(evidence: &'a Evidence, facts: &'a Facts<'a>) -> Self {
        let said = said(evidence, facts);
        let first = |text: &str| {
            let fits = PATTERNS
                .said
                .iter()
                .filter(|pattern| pattern.regex.is_match(text));
            fits.map(|pattern| (pattern.row, pattern.look)).min()
        };
        Self {
            said_by: said.iter().map(|said| first(&said.text)).collect(),
            said,
            hits: Hits::of(&evidence.log.lines),
            context: surroundings::context(evidence, facts),
            evidence,
            facts,
        }
    }

    /// What a row finds, with the best of its looks; lines that spoke for a row before do not count.
    pub(super) fn look(&self, row: usize, rule: &Rule, spoken: &BTreeSet<usize>) -> Option<Found> {
        let mut best: Option<Found> = None;
        for (look, what) in rule.looks.iter().enumerate() {
            let found = match what {
                Look::Log(sure, _) => self.look_in_log(row, look, *sure, spoken),
                Look::Said(sure, _) => self.look_in_said(row, look, *sure),
                Look::Facts(ask) => {
                    ask(self).filter(|found| found.lines.iter().all(|line| !spoken.contains(line)))
                }
            };
            let better = |found: &Found| best.as_ref().is_none_or(|best| found.certainty < best.certainty);
            if let Some(found) = found.filter(better) {
                best = Some(found);
            }
        }
        best
    }

    fn look_in_log(
        &self,
        row: usize,
        look: usize,
        sure: Certainty,
        spoken: &BTreeSet<usize>,
    ) -> Option<Found> {
        let at = self.hits.lines(row, look).find(|line| !spoken.contains(line))?;
        let line = self.evidence.log.lines.get(at)?;
        // An error far from the end was survived, for a while at least.
        let certainty = match sure {
            Certainty::Certain if !line.last_words => Certainty::Likely,
            Certainty::Likely if !line.last_words => Certainty::Seen,
            sure => sure,
        };
        let captures = compiled(&PATTERNS.log, row, look)?.captures(&line.text);
        let mut found = named(Found::with(certainty), captures.as_ref());
        found.lines.push(at);
        Some(found.with_line(line))
    }

    fn look_in_said(&self, row: usize, look: usize, sure: Certainty) -> Option<Found> {
        let at = self
            .said_by
            .iter()
            .position(|first| *first == Some((row, look)))?;
        let said = self.said.get(at)?;
        let captures = compiled(&PATTERNS.said, row, look)?.captures(&said.text);
        let found = named(Found::with(sure), captures.as_ref()).figure("said", cut(&said.text, 300));
        Some(match said.quote.as_str() {
            "" => found,
            quote => found.quoting(said.file, quote),
        })
    }

    /// The first line near the end that fits, for rows that ask for more than words.
    pub(in crate::diagnosis) fn in_log(&self, pattern: &str) -> Option<Found> {
        let regex = Regex::new(pattern).ok()?;
        let mut lines = self.evidence.log.lines.iter().enumerate();
        let (at, line) = lines.find(|(_, line)| line.last_words && regex.is_match(&line.text))?;
        Some(at_line(&regex, at, line))
    }

    /// As [`Self::in_log`], the last of them.
    pub(in crate::diagnosis) fn last_in_log(&self, pattern: &str) -> Option<Found> {
        let regex = Regex::new(pattern).ok()?;
        let mut lines = self.evidence.log.lines.iter().enumerate().rev();
        let (at, line) = lines.find(|(_, line)| line.last_words && regex.is_match(&line.text))?;
        Some(at_line(&regex, at, line))
    }
}

/// What a pattern finds in a line that it fits.
fn at_line(regex: &Regex, at: usize, line: &Line) -> Found {
    let mut found = named(Found::certain(), regex.captures(&line.text).as_ref());
    found.lines.push(at);
    found.with_line(line)
}
