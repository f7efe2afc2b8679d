//! The parts of the page, in its order. A part with nothing to say is empty.

use super::class;
use super::html::{block, line, sentence};
use crate::diagnosis::words::{mebibytes, redacted, size};
use crate::diagnosis::{Certainty, Diagnosis, Finding, GpuContext, LogLine, Quote, Remedy};
use crate::model::Run;
use crate::ui::plot::Plot;
use crate::ui::{format, svg};
use chrono::{DateTime, Utc};

/// A moment for somebody whose clock is another.
fn moment(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M:%S UTC").to_string()
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

/// What failed, of what, and how sure that is.
pub(super) fn head(diagnosis: &Diagnosis, run: &Run) -> String {
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
pub(super) fn tries(diagnosis: &Diagnosis) -> String {
    let remedies = diagnosis.cause.iter().flat_map(|cause| &cause.remedies);
    let items: String = remedies
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
pub(super) fn log(diagnosis: &Diagnosis) -> String {
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

fn rows(rows: &[(&str, Option<String>)]) -> String {
    let shown: String = rows
        .iter()
        .filter_map(|(name, value)| Some((name, value.as_ref()?)))
        .map(|(name, value)| format!("<dt>{}</dt><dd><bdi>{}</bdi></dd>\n", line(name), line(value)))
        .collect();
    format!("<dl>\n{shown}</dl>\n")
}

/// The run, and the host around it.
pub(super) fn facts(diagnosis: &Diagnosis, run: &Run) -> String {
    let spec = &run.spec;
    let took = run
        .started_at
        .zip(run.ended_at)
        .and_then(|(from, to)| (to - from).to_std().ok());
    let parameters: Vec<String> = spec
        .parameters
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let text = |text: &str| (!text.is_empty()).then(|| redacted(text));
    let run_rows = rows(&[
        ("Operation", text(&run.operation)),
        ("Recipe", run.recipe.as_deref().and_then(text)),
        ("Parameters", text(&parameters.join(" "))),
        ("Image", text(&spec.image)),
        ("Digest", run.image_digest.as_deref().and_then(text)),
        ("Command", text(&format::words(&spec.command))),
        ("GPUs", gpus_of(run)),
        ("Started", run.started_at.map(moment)),
        ("Ended", run.ended_at.map(moment)),
        ("Ran", took.map(format::duration)),
        ("Exit code", run.exit_code.map(|code| code.to_string())),
        ("Reason", run.reason.map(|reason| reason.code().to_owned())),
        ("Memory limit", spec.memory_limit.map(size)),
        ("/dev/shm", spec.shm_size.map(size)),
    ]);
    let context = &diagnosis.context;
    let memory = &context.memory;
    let driver = context.driver.as_ref().map(|driver| match &context.cuda {
        Some(cuda) => format!("{driver}, up to CUDA {cuda}"),
        None => driver.clone(),
    });
    let left = memory.total.map(|total| match memory.available {
        Some(available) => format!("{} of {} left", size(available), size(total)),
        None => size(total),
    });
    let mut host = vec![
        ("Host", Some(run.host.clone())),
        ("Machine", context.machine.clone()),
        ("Driver", driver),
        ("Engine", context.engine.clone()),
        ("Memory", left),
        ("Container's peak", memory.peak.map(size)),
    ];
    let disks: Vec<(String, String)> = context
        .disks
        .iter()
        .map(|disk| {
            let left = format!("{} of {} left, {}", size(disk.free), size(disk.total), disk.path);
            (format!("Disk ({})", disk.role), left)
        })
        .collect();
    host.extend(
        disks
            .iter()
            .map(|(name, left)| (name.as_str(), Some(left.clone()))),
    );
    section(
        "The run and its host",
        &format!(
            "<div class=\"columns\">\n<div class=\"card\">{run_rows}</div>\n<div class=\"card\">{}</div>\n</div>\n",
            rows(&host)
        ),
    )
}

fn gpus_of(run: &Run) -> Option<String> {
    match &run.lease {
        Some(lease) => {
            let names: Vec<String> = lease
                .gpus
                .iter()
                .map(|gpu| format!("{} ({})", gpu.index, gpu.name))
                .collect();
            Some(redacted(&names.join(", ")))
        }
        None => Some(run.gpus.clone()).filter(|gpus| !gpus.is_empty()),
    }
}

/// Who was on the GPUs.
pub(super) fn gpus(diagnosis: &Diagnosis) -> String {
    let cards: String = diagnosis.context.gpus.iter().map(card).collect();
    let title = match diagnosis.context.gpus.iter().any(|gpu| gpu.of_the_run) {
        true => "Its GPUs when the evidence was collected",
        false => "GPUs of the host when the evidence was collected",
    };
    match cards.as_str() {
        "" => String::new(),
        cards => section(title, &format!("<div class=\"columns\">\n{cards}</div>\n")),
    }
}

fn card(gpu: &GpuContext) -> String {
    let mut out = format!(
        "<div class=\"card\"><h3>GPU {} · <bdi>{}</bdi></h3>\n",
        gpu.index,
        line(&gpu.name)
    );
    if let Some(trouble) = &gpu.trouble {
        out.push_str(&format!(
            "<p><span class=\"badge\">{}</span></p>\n",
            line(trouble)
        ));
    }
    if let (Some(used), Some(total)) = (gpu.memory_used, gpu.memory_total) {
        let share = used
            .saturating_mul(1000)
            .checked_div(total)
            .unwrap_or(0)
            .min(1000);
        let fill = if share > 900 { "full" } else { "used" };
        out.push_str(&format!(
            "<svg class=\"bar\" viewBox=\"0 0 1000 10\" preserveAspectRatio=\"none\" aria-hidden=\"true\">\
             <rect class=\"all\" width=\"1000\" height=\"10\"/><rect class=\"{fill}\" width=\"{share}\" height=\"10\"/></svg>\n\
             <p>{} of {} in use</p>\n",
            mebibytes(used),
            mebibytes(total)
        ));
    }
    if let Some(before) = gpu.memory_before {
        out.push_str(&format!(
            "<p class=\"soft\">{} at the run's first sample</p>\n",
            mebibytes(before)
        ));
    }
    let others: String = gpu
        .others
        .iter()
        .map(|other| {
            let memory = other
                .memory
                .map(|memory| format!(": {}", mebibytes(memory)))
                .unwrap_or_default();
            format!("<li><bdi>{}</bdi>{memory}</li>\n", line(&other.who))
        })
        .collect();
    out.push_str(&match others.as_str() {
        "" => "<p class=\"soft\">nobody else was on it</p>\n".to_owned(),
        others => format!("<p>also on it:</p><ul class=\"others\">\n{others}</ul>\n"),
    });
    out.push_str("</div>\n");
    out
}

/// What its GPUs did, with the moment of its end.
pub(super) fn plots(diagnosis: &Diagnosis, run: &Run, plot: Option<&Plot>) -> String {
    let Some(plot) = plot.filter(|plot| !plot.series.is_empty()) else {
        return String::new();
    };
    let first = diagnosis.samples.first().map(|sample| sample.at);
    let end = first
        .zip(run.ended_at)
        .map(|(first, end)| (end - first).num_milliseconds() as f64 / 1000.0);
    let drawn = svg::inline(plot, end.map(|end| (end, "ended")));
    section(
        "What its GPUs did",
        &format!("<div class=\"card plots\">{drawn}</div>\n"),
    )
}

/// What happened when.
pub(super) fn story(diagnosis: &Diagnosis, run: &Run) -> String {
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
                moment(told.at),
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

/// What else was seen.
pub(super) fn also(diagnosis: &Diagnosis) -> String {
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

/// What could not be had.
pub(super) fn missing(diagnosis: &Diagnosis) -> String {
    let items: Vec<(&str, Option<String>)> = diagnosis
        .missing
        .iter()
        .map(|missing| {
            let part = if missing.partial { "only a part: " } else { "" };
            (missing.file.as_str(), Some(format!("{part}{}", missing.why)))
        })
        .collect();
    match items.len() {
        0 => String::new(),
        count => details(
            "",
            "What is missing, and why",
            &count.to_string(),
            &format!("<div class=\"inside\">{}</div>", rows(&items)),
        ),
    }
}

/// The evidence itself.
pub(super) fn documents(diagnosis: &Diagnosis) -> String {
    let all: String = diagnosis
        .documents
        .iter()
        .map(|document| {
            let size = size(document.text.len() as u64);
            let text = format!("<pre>{}</pre>", block(&document.text));
            details("document", &document.file, &size, &text)
        })
        .collect();
    section("The evidence itself", &all)
}

/// Where this comes from.
pub(super) fn foot(diagnosis: &Diagnosis) -> String {
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
