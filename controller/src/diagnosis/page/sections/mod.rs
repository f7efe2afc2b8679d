//! The parts of the page, in its order. A part with nothing to say is empty.

mod evidence;
mod facts;
mod findings;
mod gpus;

pub(super) use evidence::{documents, foot, missing, story};
pub(super) use facts::facts;
pub(super) use findings::{also, head, log, tries};
pub(super) use gpus::{gpus, plots};

use super::html::line;
use chrono::{DateTime, Utc};

/// A moment for somebody whose clock is another.
fn moment(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// The same to a tenth of a second, which tells apart what follows closely; what is known to the second stays so, with
/// blanks as wide as a point and a digit in the place of them, so that a column of both is aligned.
fn to_the_tenth(at: DateTime<Utc>) -> String {
    let seconds = at.format("%Y-%m-%d %H:%M:%S");
    match at.timestamp_subsec_millis() / 100 {
        0 if at.timestamp_subsec_nanos() == 0 => format!("{seconds}\u{2008}\u{2007} UTC"),
        tenth => format!("{seconds}.{tenth} UTC"),
    }
}

fn section(title: &str, inside: &str) -> String {
    match inside {
        "" => String::new(),
        inside => format!("<section>\n<h2>{}</h2>\n{inside}</section>\n", line(title)),
    }
}

fn details(class: &str, title: &str, more: &str, inside: &str) -> String {
    format!(
        "<details class=\"{class}\"><summary>{} <span class=\"soft\">{}</span></summary>{inside}</details>\n",
        line(title),
        line(more)
    )
}

fn rows(rows: &[(&str, Option<String>)]) -> String {
    let shown: String = rows
        .iter()
        .filter_map(|(name, value)| Some((name, value.as_ref()?)))
        .map(|(name, value)| format!("<dt>{}</dt><dd><bdi>{}</bdi></dd>\n", line(name), line(value)))
        .collect();
    format!("<dl>\n{shown}</dl>\n")
}
