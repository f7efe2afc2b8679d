//! Who else was on a GPU of the run.

use crate::diagnosis::judge::Case;
use crate::diagnosis::rules::{Certainty, Figures, Found, Look, PLAIN, Rule};
use crate::diagnosis::words::mebibytes;

/// Rows about it.
pub(in crate::diagnosis::rules) const RULES: &[Rule] = &[Rule {
    code: "gpu_intruder",
    when: "a process of somebody else was on a GPU of the run",
    looks: &[Look::Facts(intruders)],
    say: "somebody else was on the run's GPU[: {others}]",
    figures: busy,
    ..PLAIN
}];

fn intruders(case: &Case<'_>) -> Option<Found> {
    let told = case
        .facts
        .run
        .gpu_summary
        .as_ref()
        .is_some_and(|summary| summary.intruders);
    told.then(|| Found::with(Certainty::Seen))
}

/// Who else is on the run's GPUs.
pub(super) fn others(case: &Case<'_>) -> Option<(&'static str, String)> {
    let told: Vec<String> = case
        .others()
        .iter()
        .take(4)
        .map(|other| match other.memory {
            Some(memory) => format!("{} with {}", other.who, mebibytes(memory)),
            None => other.who.clone(),
        })
        .collect();
    (!told.is_empty()).then(|| ("others", told.join(", ")))
}

pub(super) fn busy(case: &Case<'_>, _: &Found) -> Figures {
    let mut figures: Figures = others(case).into_iter().collect();
    let mode = case.own_gpus().iter().find_map(|gpu| gpu.compute_mode.clone());
    figures.extend(mode.filter(|mode| mode != "Default").map(|mode| ("mode", mode)));
    figures
}
