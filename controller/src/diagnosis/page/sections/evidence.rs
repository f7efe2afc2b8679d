//! What happened when, the evidence itself, and what of it is missing.

use super::{details, moment, rows, section, to_the_tenth};
use crate::diagnosis::page::html::{block, line};
use crate::diagnosis::words::size;
use crate::diagnosis::{Diagnosis, Missing, by_reason};
use crate::model::Run;

/// What happened when.
pub(in crate::diagnosis::page) fn story(diagnosis: &Diagnosis, run: &Run) -> String {
    let items: String = diagnosis
        .moments
        .iter()
        .map(|told| {
            let end = if Some(told.at) == run.ended_at {
                " class=\"end\""
            } else {
                ""
            };
            format!(
                "<li{end}><time>{}</time>{}</li>\n",
                to_the_tenth(told.at),
                line(&told.what)
            )
        })
        .collect();
    match items.as_str() {
        "" => String::new(),
        items => section(
            "What happened when",
            &format!("<ol class=\"story\">\n{items}</ol>\n"),
        ),
    }
}

/// What could not be had.
pub(in crate::diagnosis::page) fn missing(diagnosis: &Diagnosis, run: &Run) -> String {
    let matters: Vec<&Missing> = diagnosis
        .missing
        .iter()
        .filter(|missing| missing.matters(run))
        .collect();
    if matters.is_empty() {
        return String::new();
    }
    let count = matters.len().to_string();
    let items: Vec<(String, Option<String>)> = by_reason(matters)
        .into_iter()
        .map(|(why, partial, files)| {
            let part = if partial { "only a part: " } else { "" };
            (files.join(", "), Some(format!("{part}{why}")))
        })
        .collect();
    let items: Vec<(&str, Option<String>)> = items
        .iter()
        .map(|(files, why)| (files.as_str(), why.clone()))
        .collect();
    details(
        "",
        "What is missing, and why",
        &count,
        &format!("<div class=\"inside\">{}</div>", rows(&items)),
    )
}

/// The evidence itself.
pub(in crate::diagnosis::page) fn documents(diagnosis: &Diagnosis) -> String {
    let all: String = diagnosis
        .documents
        .iter()
        .map(|document| {
            let size = size(document.text.len() as u64);
            let text = format!("<pre>{}</pre>", block(&document.text));
            details("document", &document.file, &size, &text)
        })
        .collect();
    match all.as_str() {
        "" => String::new(),
        // Not printed, so that its heading must not be either.
        all => format!("<section class=\"documents\">\n<h2>The evidence itself</h2>\n{all}</section>\n"),
    }
}

/// Where this comes from.
pub(in crate::diagnosis::page) fn foot(diagnosis: &Diagnosis) -> String {
    let collected = diagnosis
        .context
        .collected_at
        .map(|at| format!(" The host collected the evidence at {}.", moment(at)))
        .unwrap_or_default();
    format!(
        "<footer><p>Made by farrun {} from what the host recorded.{collected} What looks like a secret was replaced; read the \
         page before you send it on.</p></footer>\n",
        env!("CARGO_PKG_VERSION")
    )
}
