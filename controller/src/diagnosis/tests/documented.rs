//! `docs/diagnosis.md` says what the table says.

use crate::diagnosis::rules::{RULES, Rule};
use std::path::Path;

/// A template as people read it: figures in capitals, parts that may be missing left in.
fn shown(template: &str) -> String {
    let mut out = String::new();
    for (at, part) in template.split(['{', '}']).enumerate() {
        match (at % 2, part) {
            (1, "state_folder") => out.push_str("the host's `~/.local/share/farrun`"),
            (1, "own_outputs") => out.push_str("its outputs"),
            (1, "big") => out.push_str("`df -h`, `docker system df`, `du -xsh ~/.cache/huggingface`"),
            (1, "still_down") => out.push_str("when the evidence was collected"),
            (1, "no_gpus") => out.push_str("none"),
            (1, "grew") => out.push_str("grew"),
            (1, name) => out.push_str(&name.to_uppercase()),
            (_, text) => out.push_str(&text.replace(['[', ']'], "")),
        }
    }
    out.replace('|', "\\|")
}

/// A command as people read it: figures that follow from the run are shown by an example that could be one.
fn example(command: &str) -> String {
    let parts = command.split(['{', '}']).enumerate();
    parts
        .map(|(at, part)| match (at % 2, part) {
            (1, "min_free" | "larger") => "40g".to_owned(),
            (1, "more_memory" | "host_share") => "24g".to_owned(),
            (1, "more_shm") => "8g".to_owned(),
            (1, "more_gpus" | "twice_gpus") => "2".to_owned(),
            (1, "more_time") => "4h".to_owned(),
            (1, "smaller") => "batch_size=1".to_owned(),
            (1, "fewer_workers") => "num_workers=2".to_owned(),
            (1, "fetch") => "missing".to_owned(),
            (1, name) => name.to_uppercase(),
            (_, text) => text.replace(['[', ']'], "").replace('|', "\\|"),
        })
        .collect()
}

fn row(rule: &Rule) -> String {
    let advice: Vec<String> = rule
        .remedies
        .iter()
        .map(|advice| match advice.command {
            "" => shown(advice.text),
            command => format!("{}: `{}`", shown(advice.text), example(command)),
        })
        .collect();
    format!(
        "| `{}` | {} | {} |\n",
        rule.code,
        shown(rule.when),
        advice.join("<br>")
    )
}

#[test]
fn the_documentation_lists_every_finding() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/diagnosis.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let rows: String = RULES.iter().map(|rule| row(rule)).collect();
    let table = format!("| code | when | what to try |\n|---|---|---|\n{rows}");
    let (before, _) = text.split_once("In order of precedence.\n\n").unwrap();
    let wanted = format!("{before}In order of precedence.\n\n{table}");
    if std::env::var_os("FARRUN_WRITE_DOCS").is_some() {
        std::fs::write(&path, &wanted).unwrap();
        return;
    }
    assert!(
        text == wanted,
        "docs/diagnosis.md is not what the table says; FARRUN_WRITE_DOCS=1 writes it"
    );
}
