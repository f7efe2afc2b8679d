//! What failed, what to try, and what it was read from.

use super::{details, section};
use crate::diagnosis::page::class;
use crate::diagnosis::page::html::{line, sentence};
use crate::diagnosis::words::redacted;
use crate::diagnosis::{Certainty, Diagnosis, Finding, LogLine, Quote, Remedy, steps};
use crate::model::Run;

/// What failed, of what, and how sure that is.
pub(in crate::diagnosis::page) fn head(diagnosis: &Diagnosis, run: &Run) -> String {
    let cause = diagnosis.cause.as_ref();
    let sure = class(cause.map(|cause| cause.certainty));
    let (headline, badge) = match cause {
        Some(cause) if cause.certainty == Certainty::Certain => (sentence(&cause.sentence), "cause"),
        Some(cause) => (sentence(&cause.sentence), "probable cause"),
        None => ("No known cause".to_owned(), "unknown"),
    };
    let code = cause
        .map(|cause| format!(" <code>{}</code>", line(cause.code)))
        .unwrap_or_default();
    format!(
        "<header class=\"{sure}\">\n<p class=\"over\"><strong>{}</strong> · <bdi>{}</bdi> on <bdi>{}</bdi> · {}</p>\n\
         <h1>{headline}</h1>\n<p><span class=\"badge {sure}\">{badge}</span>{code} <span class=\"soft\">{}</span></p>\n</header>\n",
        line(run.id.as_str()),
        line(&redacted(&run.spec.name)),
        line(&run.host),
        line(run.status.as_str()),
        sentence(&diagnosis.ending),
    )
}

/// What to try.
pub(in crate::diagnosis::page) fn tries(diagnosis: &Diagnosis, run: &Run) -> String {
    let items: String = steps(diagnosis, run)
        .iter()
        .map(|remedy| format!("<li>{}</li>\n", advice(remedy)))
        .collect();
    match items.as_str() {
        "" => String::new(),
        items => section("What to try", &format!("<ol class=\"tries\">\n{items}</ol>\n")),
    }
}

fn advice(remedy: &Remedy) -> String {
    let command = remedy
        .command
        .as_ref()
        .map(|command| format!("<pre class=\"command\">{}</pre>", line(command)))
        .unwrap_or_default();
    format!("{}{command}", sentence(&remedy.text))
}

/// What the cause was read from, and the log around it or its end.
pub(in crate::diagnosis::page) fn log(diagnosis: &Diagnosis) -> String {
    let mut out = String::new();
    let quotes = diagnosis.cause.iter().flat_map(|cause| &cause.evidence);
    // What is in the excerpt below need not be said twice.
    let quoted: String = quotes
        .filter(|quote| quote.file != "run.log" || diagnosis.around.is_empty())
        .map(quotation)
        .collect();
    out.push_str(&section("Evidence", &quoted));
    let (title, lines) = match diagnosis.around.is_empty() {
        true => ("The end of its log", &diagnosis.last_lines),
        false => ("What it wrote when it failed", &diagnosis.around),
    };
    out.push_str(&section(title, &excerpt(lines)));
    let shown_last = lines.last() == diagnosis.last_lines.last();
    if !shown_last && !diagnosis.last_lines.is_empty() {
        let count = format!("{} lines", diagnosis.last_lines.len());
        out.push_str(&details(
            "",
            "The end of its log",
            &count,
            &excerpt(&diagnosis.last_lines),
        ));
    }
    out
}

fn excerpt(lines: &[LogLine]) -> String {
    if lines.is_empty() {
        return String::new();
    }
    let rows: String = lines
        .iter()
        .map(|shown| {
            let class = if shown.cause { " class=\"cause\"" } else { "" };
            let offset = shown
                .offset
                .map_or_else(|| "·".to_owned(), |offset| offset.to_string());
            format!(
                "<tr{class}><td>{offset}</td><td>{}</td></tr>\n",
                line(&shown.text)
            )
        })
        .collect();
    format!(
        "<div class=\"log\"><table>\n{rows}</table></div>\n<p class=\"soft\">The numbers are bytes of the run log before a line.</p>\n"
    )
}

fn quotation(quote: &Quote) -> String {
    let place = match quote.offset {
        Some(offset) => format!("{} at byte {offset}", quote.file),
        None => quote.file.clone(),
    };
    format!(
        "<blockquote><pre>{}</pre><span class=\"soft\">{}</span></blockquote>\n",
        line(&quote.text),
        line(&place)
    )
}

/// What else was seen.
pub(in crate::diagnosis::page) fn also(diagnosis: &Diagnosis) -> String {
    let found: String = diagnosis.also.iter().map(finding).collect();
    match found.as_str() {
        "" => String::new(),
        found => details(
            "",
            "Also seen",
            &diagnosis.also.len().to_string(),
            &format!("<div class=\"inside\">{found}</div>"),
        ),
    }
}

fn finding(finding: &Finding) -> String {
    let sure = match finding.certainty {
        Certainty::Certain => "certain",
        Certainty::Likely => "likely",
        Certainty::Seen => "seen",
    };
    let quotes: String = finding.evidence.iter().map(quotation).collect();
    let advice: String = finding
        .remedies
        .iter()
        .map(|remedy| format!("<p>{}</p>", advice(remedy)))
        .collect();
    format!(
        "<div class=\"finding\"><p><span class=\"badge {}\">{sure}</span> {} <code>{}</code></p>\n{quotes}{advice}</div>\n",
        class(Some(finding.certainty)),
        sentence(&finding.sentence),
        line(finding.code)
    )
}
