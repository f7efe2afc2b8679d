//! A page to read, print and send: one file of HTML that needs no other and runs no script.
//!
//! Everything in it that is not our own wording is escaped, and redacted before it came here. A policy inside forbids
//! the browser to load or run anything, so that not even a mistake in the escaping could.

mod html;
mod sections;
#[cfg(test)]
mod tests;

use super::{Certainty, Diagnosis};
use crate::model::Run;
use crate::ui::plot::Plot;
use base64::Engine as _;
use sha2::{Digest as _, Sha256};

const STYLE: &str = include_str!("style.css");

/// The page about a run that did not succeed; `plot` is what its GPUs did, from [`Diagnosis::samples`].
///
/// A caller that knows more of the run's history may add to [`Diagnosis::moments`] before.
pub fn page(diagnosis: &Diagnosis, run: &Run, plot: Option<&Plot>) -> String {
    let title = match &diagnosis.cause {
        Some(cause) => format!("{}: {}", run.id, cause.sentence),
        None => format!("{}: no known cause", run.id),
    };
    let body = [
        sections::head(diagnosis, run),
        sections::tries(diagnosis, run),
        sections::log(diagnosis),
        sections::facts(diagnosis, run),
        sections::gpus(diagnosis),
        sections::plots(diagnosis, run, plot),
        sections::story(diagnosis, run),
        sections::also(diagnosis),
        sections::missing(diagnosis, run),
        sections::documents(diagnosis),
        sections::foot(diagnosis),
    ]
    .concat();
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{}\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<meta name=\"referrer\" content=\"no-referrer\">\n\
         <title>{}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n{body}</main>\n</body>\n</html>\n",
        policy(),
        html::line(&super::words::cut(&title, 160)),
    )
}

/// Nothing is loaded and nothing runs; of styles only ours counts.
fn policy() -> String {
    let digest = base64::engine::general_purpose::STANDARD.encode(Sha256::digest(STYLE));
    format!("default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'")
}

/// The class of an element that shows how sure something is.
fn class(certainty: Option<Certainty>) -> &'static str {
    match certainty {
        Some(Certainty::Certain) => "certain",
        Some(Certainty::Likely) => "likely",
        Some(Certainty::Seen) => "seen",
        None => "unknown",
    }
}
