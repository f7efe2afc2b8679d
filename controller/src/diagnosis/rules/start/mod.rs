//! Jobs that could not be started: the image, the engine, its way to hand out GPUs, the command.

pub(super) mod container;
pub(super) mod gpu;
pub(super) mod image;

use super::{Certainty, Found, Look, PLAIN, Rule, Try, run};
use crate::diagnosis::judge::Case;
use farrun_protocol::verdict::Reason;

const DOCTOR: Try = run("look at the whole host", "farrun host doctor {host}");
const AGAIN: Try = run("then order it again", "farrun rerun {run}");

/// Rows about a start that failed for a reason that no other row knows.
pub(in crate::diagnosis::rules) const UNKNOWN: &[Rule] = &[
    Rule {
        code: "gpu_unavailable",
        when: "the engine could not hand out the GPUs, for another reason",
        looks: &[Look::Facts(engine_about_gpus)],
        say: "the container engine of `{host}` could not hand out the GPUs[: {detail}]",
        remedies: &[DOCTOR],
        last_resort: true,
        ..PLAIN
    },
    Rule {
        code: "image_pull",
        when: "the image could not be fetched, for another reason",
        looks: &[Look::Facts(|case| case.unexplained(Reason::ImagePull))],
        say: "the image `{image}` could not be fetched[: {detail}]",
        remedies: &[DOCTOR, AGAIN],
        last_resort: true,
        ..PLAIN
    },
    Rule {
        code: "engine_refused",
        when: "the engine refused to make or start the container, for another reason",
        looks: &[Look::Facts(|case| case.unexplained(Reason::EngineRefused))],
        say: "the container engine of `{host}` refused to start the job[: {detail}]",
        remedies: &[DOCTOR],
        last_resort: true,
        ..PLAIN
    },
];

fn engine_about_gpus(case: &Case<'_>) -> Option<Found> {
    let mut found = case.unexplained(Reason::GpuUnavailable)?;
    found.certainty = Some(Certainty::Certain);
    Some(found)
}
