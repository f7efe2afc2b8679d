//! `farrun host doctor`

use super::Named;
use crate::cli::view::document;
use crate::cli::{Context, find};
use crate::error::{CommandError, Exit};
use crate::run::doctor::{Check, Examination, Verdict, examine};
use crate::ui::{Checklist, Tone};
use chrono::{DateTime, Utc};
use serde::Serialize;

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Report<'a> {
    /// Name of the host.
    host: &'a str,
    /// When it was looked at.
    checked_at: DateTime<Utc>,
    /// The worst of all verdicts.
    verdict: Verdict,
    /// Everything that was looked at.
    checks: &'a [Check],
}

pub(super) async fn doctor(args: Named, context: &Context) -> Result<Exit, CommandError> {
    let controller = context.controller().await?;
    let host = find::host(&controller, &args.name).await?;
    let examination = examine(&controller, &host).await?;
    if context.ui.is_json() {
        let report = Report {
            host: &host.name,
            checked_at: Utc::now(),
            verdict: examination.worst(),
            checks: &examination.checks,
        };
        context.ui.json(&document("farrun.doctor/1", report));
    } else {
        context.ui.checklist(&checklist(&examination.checks));
        context.ui.note(summary(&host.name, &examination));
    }
    match examination.obstacle {
        Some(error) => Err(error.into()),
        None if examination
            .checks
            .iter()
            .any(|check| check.verdict == Verdict::Broken) =>
        {
            Ok(Exit::RunFailed)
        }
        None => Ok(Exit::Completed),
    }
}

fn checklist(checks: &[Check]) -> Checklist {
    let mut list = Checklist::default();
    let mut group = None;
    for check in checks {
        if group != Some(check.group) {
            group = Some(check.group);
            list.section(check.group.heading());
        }
        let seen = check.evidence.as_deref().map(|text| ("seen", text));
        let remedy = check.remedy.as_deref().map(|text| ("do", text));
        let more: Vec<_> = seen.into_iter().chain(remedy).collect();
        list.entry(check.verdict.word(), tone(check.verdict), &check.text, &more);
    }
    list
}

fn tone(verdict: Verdict) -> Tone {
    match verdict {
        Verdict::Ok => Tone::Good,
        Verdict::Note => Tone::Plain,
        Verdict::Warning => Tone::Warning,
        Verdict::Broken => Tone::Bad,
        Verdict::Skipped => Tone::Dim,
    }
}

fn summary(host: &str, examination: &Examination) -> String {
    let count = |verdict| {
        let of = |check: &&Check| check.verdict == verdict;
        examination.checks.iter().filter(of).count()
    };
    let counts: Vec<String> = [Verdict::Broken, Verdict::Warning, Verdict::Note, Verdict::Skipped]
        .into_iter()
        .filter_map(|verdict| match (count(verdict), verdict) {
            (0, _) => None,
            (1, Verdict::Warning | Verdict::Note) => Some(format!("1 {}", verdict.word())),
            (number, Verdict::Warning | Verdict::Note) => Some(format!("{number} {}s", verdict.word())),
            (number, _) => Some(format!("{number} {}", verdict.word())),
        })
        .collect();
    if counts.is_empty() {
        format!("`{host}` is fine")
    } else {
        format!("`{host}`: {}", counts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::doctor::Group;

    #[test]
    fn the_summary_counts_what_is_not_fine() {
        let of = |checks: Vec<Check>| Examination {
            checks,
            obstacle: None,
        };
        let ok = Check::ok(Group::Ssh, "a", "b");
        let note = Check::note(Group::Ssh, "a", "b");
        let broken = Check::broken(Group::Host, "a", "b");
        assert_eq!(summary("gpu1", &of(vec![ok.clone()])), "`gpu1` is fine");
        let examination = of(vec![ok, note.clone(), note, broken]);
        assert_eq!(summary("gpu1", &examination), "`gpu1`: 1 broken, 2 notes");
        assert_eq!(examination.worst(), Verdict::Broken);
    }
}
