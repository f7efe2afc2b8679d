//! Runs in rows. On a narrow terminal what tells them apart stays, and what all have in common goes.

use crate::cli::outcome;
use crate::diagnosis::PROBABLY;
use crate::model::RunStatus;
use crate::store::RunSummary;
use crate::ui::{Table, format};
use chrono::Utc;
use farrun_protocol::verdict::Reason;
use unicode_width::UnicodeWidthStr as _;

const HEADERS: [&str; 8] = ["RUN", "NAME", "KIND", "HOST", "STATE", "ORDERED", "TOOK", "WHY"];
/// Those that go where all rows agree, in this order.
const MAY_GO: [&str; 2] = ["KIND", "HOST"];
/// Those that go where rows would otherwise lose what they are called by, the least telling first.
const GIVE_WAY: [&str; 2] = ["ORDERED", "TOOK"];
/// As much of a name as tells it from others.
const NAME: usize = 12;
/// Columns below which the end of a sentence is not worth its beginning.
const SENTENCE: usize = 40;
/// Spaces between two columns.
const GAP: usize = 2;

/// The runs in a table that fits `width`, where there is one: with a sentence for each that failed where there is room
/// for it, else with the stable code of its cause.
pub(super) fn table(runs: &[RunSummary], width: Option<usize>) -> Table {
    let mut columns: Vec<(&str, Vec<String>)> = HEADERS
        .into_iter()
        .map(|header| (header, runs.iter().map(|run| cell(header, run)).collect()))
        .collect();
    let mut is_brief = false;
    if let Some(width) = width {
        let longest = columns.last().map_or(0, |(_, cells)| widest(cells));
        let room = width.saturating_sub(used(&columns).saturating_sub(longest));
        is_brief = room < longest.min(SENTENCE);
        if let Some((_, cells)) = columns.last_mut().filter(|_| is_brief) {
            *cells = runs.iter().map(code).collect();
        }
        for name in MAY_GO {
            if is_brief && used(&columns) > width {
                columns.retain(|(header, cells)| *header != name || !are_equal(cells));
            }
        }
        for name in GIVE_WAY {
            if is_brief && needed(&columns) > width {
                columns.retain(|(header, _)| *header != name);
            }
        }
    }
    let mut table = Table::new(columns.iter().map(|(header, _)| *header));
    if is_brief {
        table = table.with_whole_last();
    }
    for row in 0..runs.len() {
        let cells = columns.iter().filter_map(|(_, cells)| cells.get(row));
        table.row(cells.map(String::as_str));
    }
    table
}

fn cell(header: &str, run: &RunSummary) -> String {
    match header {
        "RUN" => run.id.to_string(),
        "NAME" => run.name.clone(),
        "KIND" => run.operation.clone(),
        "HOST" => run.host.clone(),
        "STATE" => outcome::summary_state(run),
        "ORDERED" => format::age(run.created_at, Utc::now()),
        "TOOK" => outcome::took(run.started_at, run.ended_at, run.status).unwrap_or_else(|| "-".to_owned()),
        _ => sentence(run).unwrap_or_default(),
    }
}

/// What its evidence shows, else how it ended.
fn sentence(run: &RunSummary) -> Option<String> {
    let found = run.finding_text.as_deref().map(outcome::in_a_sentence);
    found.or_else(|| run.error_message.clone())
}

/// The same as a code: of the cause, behind a question mark where it is not certain, else of the way it ended.
fn code(run: &RunSummary) -> String {
    if let Some(finding) = &run.finding {
        let text = run.finding_text.as_deref().unwrap_or_default();
        let mark = if text.starts_with(PROBABLY) { "?" } else { "" };
        return format!("{mark}{finding}");
    }
    if !matches!(run.status, RunStatus::Failed | RunStatus::Cancelled) {
        return run.error_message.clone().unwrap_or_default();
    }
    match (run.reason, run.exit_code) {
        (Some(Reason::ExitCode), Some(code)) => format!("exit code {code}"),
        (Some(reason), _) => reason.code().to_owned(),
        (None, _) => run.error_message.clone().unwrap_or_default(),
    }
}

fn widest(cells: &[String]) -> usize {
    cells.iter().map(|cell| cell.width()).max().unwrap_or(0)
}

/// Columns of the terminal that all of them take.
fn used(columns: &[(&str, Vec<String>)]) -> usize {
    let of = |(header, cells): &(&str, Vec<String>)| widest(cells).max(header.width());
    let gaps = GAP * columns.len().saturating_sub(1);
    columns.iter().map(of).sum::<usize>() + gaps
}

/// The same when names are cut.
fn needed(columns: &[(&str, Vec<String>)]) -> usize {
    let names = columns.iter().find(|(header, _)| *header == "NAME");
    let longer = names.map_or(0, |(_, cells)| widest(cells).saturating_sub(NAME));
    used(columns).saturating_sub(longer)
}

fn are_equal(cells: &[String]) -> bool {
    cells
        .iter()
        .zip(cells.iter().skip(1))
        .all(|(one, next)| one == next)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A run of this kind.
    pub(in crate::cli::list) fn summary(id: &str, status: RunStatus, finding: Option<&str>) -> RunSummary {
        RunSummary {
            id: id.parse().unwrap(),
            name: "city".to_owned(),
            prompt_id: None,
            host: "gpu1".to_owned(),
            operation: "inference".to_owned(),
            status,
            reason: None,
            error_message: None,
            exit_code: None,
            finding: finding.map(str::to_owned),
            finding_text: None,
            gpus: String::new(),
            log_length: None,
            owner: None,
            created_at: Utc::now(),
            started_at: None,
            ended_at: None,
            confirmed_at: None,
        }
    }

    fn failed(id: &str, finding: &str, text: &str) -> RunSummary {
        RunSummary {
            finding_text: Some(text.to_owned()),
            started_at: Some(Utc::now()),
            ended_at: Some(Utc::now()),
            ..summary(id, RunStatus::Failed, Some(finding))
        }
    }

    fn shown(runs: &[RunSummary], width: Option<usize>) -> Vec<String> {
        let text = table(runs, width).render(width, false);
        text.lines().map(str::to_owned).collect()
    }

    fn two() -> Vec<RunSummary> {
        let sentence =
            "the container reached its limit of main memory of 48.0 MiB, and the kernel ended the job";
        vec![
            failed("rs_aaaaaaaaaaaa", "memory_limit", sentence),
            failed(
                "rs_bbbbbbbbbbbb",
                "python_exception",
                &format!("{PROBABLY}{sentence}"),
            ),
        ]
    }

    #[test]
    fn a_narrow_terminal_tells_causes_apart() {
        let lines = shown(&two(), Some(80));
        assert_eq!(lines[0].split_whitespace().last(), Some("WHY"));
        assert!(lines[1].ends_with("  memory_limit"), "{lines:#?}");
        assert!(lines[2].ends_with("  ?python_exception"), "{lines:#?}");
        assert!(!lines[0].contains("KIND"), "{lines:#?}");
        assert!(lines.iter().all(|line| line.width() <= 80), "{lines:#?}");
        // A column in which they differ stays.
        let mut runs = two();
        runs[1].operation = "upscale".to_owned();
        let lines = shown(&runs, Some(80));
        assert!(
            lines[0].contains("KIND") && !lines[0].contains("HOST"),
            "{lines:#?}"
        );
        assert!(lines[2].ends_with("  ?python_exception"), "{lines:#?}");
    }

    #[test]
    fn a_very_narrow_terminal_keeps_ids_and_causes() {
        let mut runs = two();
        runs[0].name = "a name that is longer than it needs to be".to_owned();
        for width in [80, 56] {
            let lines = shown(&runs, Some(width));
            assert_eq!(lines[0].contains("ORDERED"), width == 80, "{lines:#?}");
            assert!(lines[1].starts_with("rs_aaaaaaaaaaaa  "), "{lines:#?}");
            assert!(lines[2].ends_with("  ?python_exception"), "{lines:#?}");
            assert!(lines.iter().all(|line| line.width() <= width), "{lines:#?}");
        }
    }

    #[test]
    fn where_there_is_room_there_is_a_sentence() {
        for width in [None, Some(250)] {
            let lines = shown(&two(), width);
            assert!(
                lines[0].contains("KIND") && lines[0].contains("HOST"),
                "{lines:#?}"
            );
            assert!(lines[2].ends_with("probably the container reached its limit of main memory of 48.0 MiB, and the kernel ended the job"), "{lines:#?}");
        }
        // Nothing goes of what fits.
        let well = [summary("rs_aaaaaaaaaaaa", RunStatus::Completed, None)];
        assert!(shown(&well, Some(80))[0].contains("KIND"));
    }

    #[test]
    fn what_no_row_knows_is_told_by_its_end() {
        let mut run = summary("rs_aaaaaaaaaaaa", RunStatus::Failed, None);
        (run.reason, run.exit_code) = (Some(Reason::ExitCode), Some(3));
        run.error_message = Some("the job exited with code 3".repeat(4));
        assert!(shown(std::slice::from_ref(&run), Some(80))[1].ends_with("  exit code 3"));
        run.reason = Some(Reason::EngineRefused);
        assert!(shown(&[run], Some(80))[1].ends_with("  engine_refused"));
    }
}
