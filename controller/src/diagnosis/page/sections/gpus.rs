//! The run's GPUs: who was on them and what they did.

use super::section;
use crate::diagnosis::page::html::line;
use crate::diagnosis::words::mebibytes;
use crate::diagnosis::{Diagnosis, GpuContext};
use crate::model::Run;
use crate::ui::plot::Plot;
use crate::ui::svg;

/// Who was on the GPUs.
pub(in crate::diagnosis::page) fn gpus(diagnosis: &Diagnosis) -> String {
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
pub(in crate::diagnosis::page) fn plots(diagnosis: &Diagnosis, run: &Run, plot: Option<&Plot>) -> String {
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
