//! What `farrun why` shows of a diagnosis.

use super::surroundings;
use crate::cli::outcome;
use crate::diagnosis::{Certainty, Diagnosis, Finding, LogLine, Quote, by_reason, steps};
use crate::run::why::Why;
use crate::ui::escape;
use crate::ui::format;
use crate::ui::wrap::{quoted, wrapped};
use farrun_protocol::verdict::Reason;

/// Most characters that are shown of a line that somebody else wrote.
const MOST: usize = 500;
/// Most characters of a name in the first column.
const NAME: usize = 24;

/// The text, broken at `width` where that is given.
pub(super) fn lines(why: &Why, diagnosis: &Diagnosis, width: Option<usize>) -> Vec<String> {
    let mut text = Text {
        lines: Vec::new(),
        width,
    };
    text.head(why, diagnosis);
    match &diagnosis.cause {
        Some(cause) => text.cause(cause),
        None => text.no_cause(),
    }
    text.its_log(diagnosis);
    text.try_this(why, diagnosis);
    text.section("WHAT SURROUNDED IT", surroundings::rows(&diagnosis.context));
    text.also(diagnosis);
    text.missing(why, diagnosis);
    if let Some(folder) = &why.folder {
        text.gap();
        // Never broken: it is there to be copied.
        let folder = escape::line(&folder.display().to_string());
        text.lines.push(format!("evidence: {folder}"));
    }
    text.lines
}

struct Text {
    lines: Vec<String>,
    width: Option<usize>,
}

impl Text {
    fn gap(&mut self) {
        if !self.lines.is_empty() {
            self.lines.push(String::new());
        }
    }

    /// Adds text behind a first word, further lines aligned below it.
    fn push(&mut self, first: &str, text: &str) {
        let next = " ".repeat(first.chars().count());
        self.lines.extend(wrapped(text, first, &next, self.width));
    }

    /// Adds a line that somebody else wrote, marked as such.
    fn quote(&mut self, mark: &str, text: &str) {
        let text: String = text.trim_end().chars().take(MOST).collect();
        let first = format!("  {mark} ");
        self.lines.extend(quoted(&text, &first, self.width));
    }

    fn section(&mut self, heading: &str, rows: Vec<(String, String)>) {
        if rows.is_empty() {
            return;
        }
        self.gap();
        self.lines.push(heading.to_owned());
        let rows: Vec<(String, String)> = rows
            .into_iter()
            .map(|(name, text)| (short(&name), text))
            .collect();
        let longest = rows
            .iter()
            .map(|(name, _)| name.chars().count())
            .max()
            .unwrap_or(0);
        for (name, text) in rows {
            self.push(&format!("  {name:<longest$}  "), &text);
        }
    }

    fn head(&mut self, why: &Why, diagnosis: &Diagnosis) {
        let run = &why.run;
        let took = outcome::elapsed(run)
            .map(|took| format!(" after {took}"))
            .unwrap_or_default();
        let head = format!(
            "{} ({}) {} on `{}`{took}",
            run.id, run.spec.name, run.status, run.host
        );
        self.push("", &head);
        let cause = diagnosis.cause.as_ref().map(|cause| cause.certainty);
        // Words for a reason would say once more what the cause says.
        let is_said = cause == Some(Certainty::Certain) && run.exit_code.is_none() && run.signal.is_none();
        let ending = if is_said { "" } else { diagnosis.ending.as_str() };
        // An exit code, a signal and a known cause need no second line that says the same in other words.
        let by_itself = matches!(run.reason, Some(Reason::ExitCode | Reason::Signal));
        let message = run.error_message.as_deref().filter(|message| {
            let is_repeated = by_itself && !diagnosis.ending.is_empty();
            cause != Some(Certainty::Certain) && !is_repeated && !ending.starts_with(message)
        });
        for text in message
            .into_iter()
            .chain([ending])
            .filter(|text| !text.is_empty())
        {
            self.push("", text);
        }
    }

    fn cause(&mut self, cause: &Finding) {
        self.gap();
        let first = match cause.certainty {
            Certainty::Certain => "CAUSE  ",
            Certainty::Likely | Certainty::Seen => "PROBABLY  ",
        };
        self.push(first, &cause.sentence);
        self.evidence(cause);
    }

    fn evidence(&mut self, finding: &Finding) {
        for quote in &finding.evidence {
            self.push("  ", &place(quote));
            for line in quote.text.lines() {
                self.quote("|", line);
            }
        }
    }

    fn no_cause(&mut self) {
        self.gap();
        self.push("", "No known cause fits what is here.");
    }

    /// The log where the cause was read from it, else its end: that tells what the job did last.
    fn its_log(&mut self, diagnosis: &Diagnosis) {
        if !diagnosis.around.is_empty() {
            self.log("ITS LOG THERE", &diagnosis.around);
        } else if !diagnosis.last_lines.is_empty() {
            self.log("THE LAST LINES OF ITS LOG", &diagnosis.last_lines);
        }
    }

    fn log(&mut self, heading: &str, lines: &[LogLine]) {
        self.gap();
        self.lines.push(heading.to_owned());
        for line in lines {
            self.quote(if line.cause { ">" } else { "|" }, &line.text);
        }
    }

    fn try_this(&mut self, why: &Why, diagnosis: &Diagnosis) {
        for (index, remedy) in steps(diagnosis, &why.run).iter().enumerate() {
            if index == 0 {
                self.gap();
                self.lines.push("WHAT TO TRY".to_owned());
            }
            self.push(&format!("  {}. ", index + 1), &remedy.text);
            if let Some(command) = &remedy.command {
                // Never broken: it is there to be copied.
                self.lines.push(format!("     {command}"));
            }
        }
    }

    fn also(&mut self, diagnosis: &Diagnosis) {
        if diagnosis.also.is_empty() {
            return;
        }
        self.gap();
        self.lines.push("ALSO SEEN".to_owned());
        for finding in &diagnosis.also {
            self.push("  - ", &finding.sentence);
            self.evidence(finding);
        }
    }

    fn missing(&mut self, why: &Why, diagnosis: &Diagnosis) {
        let mut rows = Vec::new();
        rows.extend(
            why.absent
                .iter()
                .map(|why| ("everything on the host".to_owned(), why.clone())),
        );
        let matters = diagnosis
            .missing
            .iter()
            .filter(|missing| missing.matters(&why.run));
        for (reason, partial, files) in by_reason(matters) {
            let part = if partial { "a part is there: " } else { "" };
            let also = match files.as_slice() {
                [_, also @ ..] if !also.is_empty() => format!(" (also {})", also.join(", ")),
                _ => String::new(),
            };
            let first = files.first().copied().unwrap_or_default();
            rows.push((first.to_owned(), format!("{part}{reason}{also}")));
        }
        self.section("MISSING", rows);
    }
}

/// A name of something, as short as a column of names allows.
fn short(name: &str) -> String {
    let name: String = name.split_whitespace().collect::<Vec<_>>().join(" ");
    escape::line(&name.chars().take(NAME).collect::<String>())
}

/// Where a quotation stands: `run.log at byte 1042 (1.0 KiB)`.
fn place(quote: &Quote) -> String {
    match quote.offset {
        Some(offset) if offset >= 1024 => {
            format!("{} at byte {offset} ({})", quote.file, format::bytes(offset))
        }
        Some(offset) => format!("{} at byte {offset}", quote.file),
        None => quote.file.clone(),
    }
}
