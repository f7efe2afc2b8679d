//! A bundle in words, for people who open its folder.

use super::scene::Scene;
use chrono::{DateTime, Utc};
use farrun_protocol::diagnostics::{Bundle, Outcome};

/// The bundle in words.
pub(super) fn summary(bundle: &Bundle, scene: &Scene) -> String {
    let at = |time: DateTime<Utc>| time.to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
    let about = bundle
        .run_id
        .as_ref()
        .map_or_else(|| "the host".to_owned(), ToString::to_string);
    let mut lines = vec![
        format!("Evidence of {about}"),
        format!(
            "host {} ({}), boot {}",
            bundle.host_name, bundle.host_id, bundle.boot_id
        ),
        format!("agent {}", bundle.agent_version),
        format!(
            "collected from {} to {}",
            at(bundle.began_at),
            at(bundle.ended_at)
        ),
    ];
    if let Some(settled) = &scene.settled {
        let verdict = &settled.verdict;
        let code = verdict
            .exit_code
            .map(|code| format!(", exit code {code}"))
            .unwrap_or_default();
        let detail = verdict
            .detail
            .as_deref()
            .map(|detail| format!(": {}", scene.redactor.text(detail)));
        lines.push(format!(
            "ended as {}{code}{}",
            verdict.reason.code(),
            detail.unwrap_or_default()
        ));
    }
    lines.push(String::new());
    for item in &bundle.items {
        let (word, why) = match &item.outcome {
            Outcome::Collected => ("there", String::new()),
            Outcome::Partial { why } => ("part", format!("  {why}")),
            Outcome::Missing { why } => ("missing", format!("  {why}")),
        };
        lines.push(format!(
            "{word:<8}{:<20}{:>9} B {:>6} ms{why}",
            item.file, item.bytes, item.took_ms
        ));
    }
    if !bundle.redactions.is_empty() {
        lines.push(String::new());
        lines.extend(
            bundle
                .redactions
                .iter()
                .map(|(name, count)| format!("redacted {count} times: {name}")),
        );
    }
    lines.push(String::new());
    lines.join("\n")
}
