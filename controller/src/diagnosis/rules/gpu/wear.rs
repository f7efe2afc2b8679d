//! What `nvidia-smi -q` tells of GPUs that wear out or are held back. It is never called the cause: a job may have run
//! well on such a GPU for weeks.
//!
//! Names as drivers from 361 to 595 have them. Clocks have `Throttle Reasons` before driver 535 and `Event Reasons` since,
//! with counters of microseconds below a heading of their own, which say nothing about now. Errors are counted by bits
//! (before Ampere), by kind, and since driver 550 uncorrectable ones of SRAM by two kinds; drivers since 575 also tell of
//! repairs that wait, in words such as `GPU requires reset`.

use crate::diagnosis::evidence::Query;
use crate::diagnosis::judge::Case;
use crate::diagnosis::rules::{Certainty, Found, Look, PLAIN, Rule, tell};
use farrun_protocol::diagnostics::SMI_TEXT;

/// Rows about it.
pub(in crate::diagnosis::rules) const RULES: &[Rule] = &[
    Rule {
        code: "gpu_memory_worn",
        when: "a GPU of the run has uncorrectable memory errors, or memory that its next reset takes out of use; by itself no cause",
        looks: &[Look::Facts(|case| told(case, worn))],
        say: "the run's GPU {which} has memory that fails: {what}",
        remedies: &[tell(
            "end what uses the GPU and run `sudo nvidia-smi --gpu-reset -i INDEX` on the host, or restart it; a GPU whose remapping failed, or whose memory cannot be repaired, should be replaced",
        )],
        ..PLAIN
    },
    Rule {
        code: "gpu_slowed",
        when: "a GPU of the run was slowed down by heat or for want of power when the evidence was collected; by itself no cause",
        looks: &[Look::Facts(|case| told(case, slowed))],
        say: "the run's GPU {which} was slowed down: {what}",
        remedies: &[tell(
            "look at the host's cooling and power supply; `nvidia-smi -q -d PERFORMANCE,TEMPERATURE` there shows both",
        )],
        ..PLAIN
    },
];

/// The first GPU of the run of which some field speaks, with words for those that do.
fn told(case: &Case<'_>, speaks: fn(&str, &str) -> Option<&'static str>) -> Option<Found> {
    let of = |query: &Query| -> Vec<(&'static str, String)> {
        let fields = query.fields.iter();
        let told =
            fields.filter_map(|(path, value)| Some((speaks(path, value)?, format!("{path}: {value}"))));
        told.collect()
    };
    let (query, fields) = case
        .evidence
        .queries
        .iter()
        .filter(|query| case.is_given(&query.uuid))
        .map(|query| (query, of(query)))
        .find(|(_, fields)| !fields.is_empty())?;
    let mut words: Vec<&str> = fields.iter().map(|(words, _)| *words).collect();
    words.dedup();
    let start = Found::with(Certainty::Seen)
        .figure("which", case.name_of(&query.uuid))
        .figure("what", words.join(", "));
    let quotes = fields.iter().take(4);
    Some(quotes.fold(start, |found, (_, line)| found.quoting(SMI_TEXT, line)))
}

fn worn(path: &str, value: &str) -> Option<&'static str> {
    let some = value.parse::<u64>().is_ok_and(|count| count > 0);
    match path {
        "Retired Pages/Pending Page Blacklist" | "Retired Pages/Pending" if value == "Yes" => {
            Some("pages wait to be retired")
        }
        "Remapped Rows/Pending" if value == "Yes" => Some("rows wait to be remapped"),
        "Remapped Rows/Remapping Failure Occurred" if value == "Yes" => Some("remapping of rows has failed"),
        _ => of_errors(path.split_once('/')?, value, some),
    }
}

fn of_errors((heading, path): (&str, &str), value: &str, some: bool) -> Option<&'static str> {
    // `Ecc` in older drivers.
    if !heading.eq_ignore_ascii_case("ECC Errors") {
        return None;
    }
    let uncorrectable = path.contains("Uncorrectable") || path.ends_with("Double Bit/Total");
    let waits = !matches!(value, "No" | "N/A");
    match path {
        // Counted since the driver was loaded; those of its whole life have been dealt with.
        _ if path.starts_with("Volatile/") && uncorrectable && some => {
            Some("errors that cannot be corrected")
        }
        _ if path.ends_with("SRAM Threshold Exceeded") && value == "Yes" => {
            Some("more errors in its SRAM than it may have")
        }
        _ if path.ends_with("Channel Repair Pending") && waits => Some("a repair waits for its reset"),
        _ if path.ends_with("TPC Repair Pending") && waits => Some("a repair waits for its reset"),
        _ if path.ends_with("Unrepairable Memory") && value == "Yes" => {
            Some("memory that cannot be repaired")
        }
        _ => None,
    }
}

fn slowed(path: &str, value: &str) -> Option<&'static str> {
    let (heading, reason) = path.split_once('/')?;
    if !matches!(heading, "Clocks Event Reasons" | "Clocks Throttle Reasons") || value != "Active" {
        return None;
    }
    match reason {
        "HW Slowdown/HW Thermal Slowdown" | "HW Thermal Slowdown" | "SW Thermal Slowdown" => Some("heat"),
        "HW Slowdown/HW Power Brake Slowdown" | "HW Power Brake Slowdown" => Some("its power brake"),
        _ => None,
    }
}
