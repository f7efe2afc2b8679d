//! Applies the table to the evidence and decides which match is the cause.

mod case;
mod search;

pub(super) use case::Case;
use case::RUN_LOG;

use super::evidence::Evidence;
use super::rules::{Found, RULES, Rule};
use super::{
    Certainty, Diagnosis, Facts, Finding, LAST_LINES, LogLine, Missing, ending, remedy, story, words,
};
use farrun_protocol::verdict::Reason;
use std::collections::BTreeSet;

/// Lines before and behind the one that the cause was read from.
const AROUND: (usize, usize) = (14, 6);
/// Longest sentence, in characters.
const SENTENCE: usize = 900;
/// Longest line that is shown, in characters.
const LINE: usize = 1000;

/// Everything that is found, and what surrounds it.
pub(super) fn judge(evidence: &Evidence, facts: &Facts<'_>) -> Diagnosis {
    let case = Case::new(evidence, facts);
    let withheld = is_withheld(&case);
    let mut found = findings(&case);
    let best = [Certainty::Certain, Certainty::Likely]
        .into_iter()
        .find_map(|sure| found.iter().position(|(finding, _)| finding.certainty == sure));
    let cause = best.map(|at| found.remove(at));
    let line = cause.as_ref().and_then(|(_, line)| *line);
    Diagnosis {
        run_id: facts.run.id.clone(),
        ending: ending(evidence, facts, cause.is_some()),
        last_lines: if withheld {
            Vec::new()
        } else {
            last_lines(evidence)
        },
        around: line
            .filter(|_| !withheld)
            .map(|line| around(evidence, line))
            .unwrap_or_default(),
        cause: cause.map(|(finding, _)| finding),
        also: found.into_iter().map(|(finding, _)| finding).collect(),
        moments: story::moments(&case),
        missing: missing(&case),
        documents: evidence.documents.clone(),
        samples: evidence.samples.clone(),
        context: case.context,
    }
}

/// What the reason means by itself; of an order that was refused in other words than its reason's, only that.
fn ending(evidence: &Evidence, facts: &Facts<'_>, is_explained: bool) -> String {
    let words = ending::words(facts.run, evidence.settled.as_ref(), is_explained);
    let run = facts.run;
    let by_reason = matches!(run.reason, Some(Reason::EngineRefused | Reason::NotLaunched));
    let said = run.error_message.as_deref();
    let refused_otherwise = by_reason
        && run.launched_at.is_none()
        && evidence.settled.is_none()
        && said.is_some_and(|said| !said.starts_with(&words));
    if refused_otherwise {
        return "the order was not carried out".to_owned();
    }
    words
}

/// What each row found, in the order of the table, with the line of the log that it was read from.
fn findings(case: &Case<'_>) -> Vec<(Finding, Option<usize>)> {
    let mut found = Vec::new();
    // A line speaks for one row: the first that it fits.
    let mut spoken = BTreeSet::new();
    for last_resort in [false, true] {
        // Once something known was seen, what is merely the way a job ended adds nothing.
        if last_resort
            && found
                .iter()
                .any(|(finding, _): &(Finding, _)| finding.certainty < Certainty::Seen)
        {
            break;
        }
        for (index, rule) in RULES.iter().enumerate() {
            if rule.last_resort != last_resort {
                continue;
            }
            let Some(what) = case.look(index, rule, &spoken) else {
                continue;
            };
            spoken.extend(what.lines.iter().copied());
            let line = what.lines.first().copied().or_else(|| quoted_line(case, &what));
            found.push((finding(case, rule, &what), line));
        }
    }
    found
}

/// Whether the log is read and judged and no word of it is told: it is here as the job printed it, and which of its
/// words are the run's secrets only the host can tell.
fn is_withheld(case: &Case<'_>) -> bool {
    case.evidence.log.as_printed && !case.facts.run.spec.secret_names.is_empty()
}

fn missing(case: &Case<'_>) -> Vec<Missing> {
    let mut missing = case.evidence.missing.clone();
    if is_withheld(case) {
        missing.push(Missing {
            file: RUN_LOG.to_owned(),
            why: format!(
                "it is not quoted, because the job may have printed a secret and only `{}` can tell where; \
                 `farrun logs {} --tail 50` shows it as it is",
                case.facts.run.host, case.facts.run.id
            ),
            partial: true,
        });
    }
    missing
}

/// The line of the log that a row quotes although it may speak for other rows as well.
fn quoted_line(case: &Case<'_>, found: &Found) -> Option<usize> {
    let offset = found.quotes.iter().find(|quote| quote.file == RUN_LOG)?.offset?;
    let mut lines = case.evidence.log.lines.iter();
    lines.position(|line| line.offset == Some(offset))
}

fn finding(case: &Case<'_>, rule: &'static Rule, found: &Found) -> Finding {
    let mut figures = remedy::common(case);
    let mut quotes = found.quotes.clone();
    let is_of_log = |quote: &super::Quote| quote.file == RUN_LOG;
    if is_withheld(case) && quotes.iter().any(is_of_log) {
        // Where it stands may be told; the words and what was read from them may not.
        let of_log = quotes.iter_mut().filter(|quote| is_of_log(quote));
        of_log.for_each(|quote| quote.text.clear());
    } else {
        figures.extend(found.figures.iter().map(|(name, value)| (*name, value.clone())));
        // What a row computes is better than what it read.
        figures.extend((rule.figures)(case, found));
    }
    for value in figures.values_mut() {
        *value = words::shown(value, 400);
    }
    let sentence = remedy::sentence(rule.say, &figures).unwrap_or_else(|| rule.when.to_owned());
    Finding {
        code: rule.code,
        certainty: found.certainty.unwrap_or(Certainty::Seen),
        sentence: words::shown(&sentence, SENTENCE),
        evidence: quotes
            .iter()
            .map(|quote| super::Quote {
                text: words::shown(&quote.text, LINE),
                ..quote.clone()
            })
            .collect(),
        remedies: remedy::remedies(rule.remedies, &figures),
    }
}

fn last_lines(evidence: &Evidence) -> Vec<LogLine> {
    let lines = &evidence.log.lines;
    shown(
        evidence,
        lines.len().saturating_sub(LAST_LINES),
        lines.len(),
        None,
    )
}

fn around(evidence: &Evidence, line: usize) -> Vec<LogLine> {
    shown(
        evidence,
        line.saturating_sub(AROUND.0),
        line.saturating_add(AROUND.1 + 1),
        Some(line),
    )
}

/// Lines `from..to`, redacted as one text, because some secrets have several lines.
fn shown(evidence: &Evidence, from: usize, to: usize, cause: Option<usize>) -> Vec<LogLine> {
    let lines = &evidence.log.lines;
    let picked = lines.get(from..to.min(lines.len())).unwrap_or_default();
    let texts: Vec<String> = picked.iter().map(|line| words::cut(&line.text, LINE)).collect();
    let whole = words::redacted(&texts.join("\n"));
    let redacted: Vec<&str> = whole.split('\n').collect();
    // A secret of several lines leaves fewer: then each is redacted by itself, and those that are gone are gone.
    let fits = redacted.len() == texts.len();
    picked
        .iter()
        .zip(&texts)
        .enumerate()
        .map(|(at, (line, text))| LogLine {
            offset: line.offset,
            text: match redacted.get(at).filter(|_| fits) {
                Some(text) => (*text).to_owned(),
                None if whole.contains(text.as_str()) => words::redacted(text),
                None => "[redacted]".to_owned(),
            },
            cause: cause == Some(from + at),
        })
        .collect()
}
