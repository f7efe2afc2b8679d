//! What the documentation says can be typed, can be typed; what it says can be configured, can be configured.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot read the documents has failed"
)]

use clap::Parser as _;
use farrun::cli::Cli;
use farrun::config::Config;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every document for users.
fn documents() -> Vec<PathBuf> {
    let mut found = vec![root().join("README.md")];
    for folder in ["docs", "deploy"] {
        walk(&root().join(folder), "md", &mut found);
    }
    found
}

fn walk(folder: &Path, kind: &str, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(&path, kind, found);
        } else if path.extension().is_some_and(|extension| extension == kind) {
            found.push(path);
        }
    }
}

/// Command lines of `farrun`: in code spans, and in blocks at the start of a line or behind a prompt or a pipe.
fn command_lines(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut fenced = false;
    let joined = text.replace("\\\n", " ");
    for line in joined.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
            continue;
        }
        if fenced || line.starts_with("    ") {
            // Captured output quotes commands as well.
            lines.extend(
                line.split('`')
                    .skip(1)
                    .step_by(2)
                    .filter(|span| span.starts_with("farrun "))
                    .map(str::to_owned),
            );
            let typed = line.trim_start().trim_start_matches("$ ");
            for part in split_pipeline(typed) {
                let part = part.trim().trim_start_matches("id=$(");
                if part.starts_with("farrun ") {
                    lines.push(part.to_owned());
                }
            }
        } else {
            lines.extend(
                line.split('`')
                    .skip(1)
                    .step_by(2)
                    .filter(|span| span.starts_with("farrun "))
                    .map(str::to_owned),
            );
        }
    }
    lines
}

/// Splits at `|`, `&&`, `;` and before redirections and comments, outside quotes.
fn split_pipeline(line: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut quote = None;
    let mut before = ' ';
    for c in line.chars() {
        match (quote, c) {
            (Some(open), _) if c == open => quote = None,
            (None, '\'' | '"') => quote = Some(c),
            (None, '|' | '&' | ';') => {
                parts.push(String::new());
                before = c;
                continue;
            }
            (None, '#') if before == ' ' => break,
            (None, '>' | '<') => break,
            _ => {}
        }
        before = c;
        parts.last_mut().unwrap().push(c);
    }
    parts
}

/// Words as a shell makes them, as far as documents use one.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for c in line.chars() {
        match (quote, c) {
            (Some(open), _) if c == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, ' ') => words.extend(word.take()),
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// Whether clap would take the line. A verb alone or with a gap (`…`) is a mention, not a command: it must exist.
fn problem(line: &str) -> Option<String> {
    let words: Vec<String> = words(line.trim_end_matches(')'))
        .into_iter()
        .filter(|word| word != "…")
        .collect();
    let Err(error) = Cli::try_parse_from(&words) else {
        return None;
    };
    use clap::error::ErrorKind::{
        DisplayHelp, DisplayHelpOnMissingArgumentOrSubcommand, DisplayVersion, MissingRequiredArgument,
        MissingSubcommand,
    };
    match error.kind() {
        DisplayHelp
        | DisplayVersion
        | MissingRequiredArgument
        | MissingSubcommand
        | DisplayHelpOnMissingArgumentOrSubcommand => None,
        _ => Some(error.to_string()),
    }
}

#[test]
fn every_command_in_the_documents_is_understood() {
    let mut wrong = Vec::new();
    let mut count = 0;
    for path in documents() {
        for line in command_lines(&std::fs::read_to_string(&path).unwrap()) {
            count += 1;
            if let Some(problem) = problem(&line) {
                wrong.push(format!("{}: {line}\n{problem}", path.display()));
            }
        }
    }
    assert!(count > 50, "only {count} command lines were found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_hint_and_example_of_the_help_is_understood() {
    fn check(command: &clap::Command, wrong: &mut Vec<String>) {
        let help = command
            .get_after_help()
            .map(ToString::to_string)
            .unwrap_or_default();
        for line in help
            .lines()
            .map(str::trim)
            .filter(|line| line.starts_with("farrun "))
        {
            // An explanation stands behind several spaces.
            let typed = line.split("   ").next().unwrap_or(line);
            for part in split_pipeline(typed)
                .iter()
                .filter(|part| part.trim().starts_with("farrun "))
            {
                wrong.extend(problem(part.trim()).map(|problem| format!("{line}\n{problem}")));
            }
        }
        command.get_subcommands().for_each(|verb| check(verb, wrong));
    }
    let mut wrong = Vec::new();
    check(&<Cli as clap::CommandFactory>::command(), &mut wrong);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_verb_shows_how_it_is_typed() {
    fn check(command: &clap::Command, above: &str, silent: &mut Vec<String>) {
        let name = format!("{above} {}", command.get_name());
        let verbs = command.get_subcommands().filter(|verb| !verb.is_hide_set());
        verbs.for_each(|verb| check(verb, &name, silent));
        let help = command.get_after_help().map(ToString::to_string);
        if !command.has_subcommands() && !help.is_some_and(|help| help.contains("farrun ")) {
            silent.push(name);
        }
    }
    let mut silent = Vec::new();
    check(&<Cli as clap::CommandFactory>::command(), "", &mut silent);
    assert!(silent.is_empty(), "without an example: {silent:?}");
}

#[test]
fn every_verb_is_in_the_readme() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let command = <Cli as clap::CommandFactory>::command();
    // What the program starts itself with is nobody else's.
    for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set()) {
        assert!(
            readme.contains(&format!("`farrun {}", verb.get_name())),
            "{}",
            verb.get_name()
        );
    }
}

#[test]
fn the_example_configuration_is_one_also_with_every_line_in_force() {
    let text = std::fs::read_to_string(root().join("deploy/config.toml")).unwrap();
    let in_force: String = text
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(setting)
                if setting
                    .split_once(" = ")
                    .is_some_and(|(key, _)| key.chars().all(|c| c.is_ascii_lowercase() || c == '_')) =>
            {
                format!("{setting}\n")
            }
            _ => format!("{line}\n"),
        })
        .collect();
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in [("as-it-is.toml", &text), ("in-force.toml", &in_force)] {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        let config = Config::load(Some(&path), &|name| {
            (name == "HOME").then(|| "/home/ada".to_owned())
        });
        assert!(config.is_ok(), "{name}: {config:?}");
    }
    for key in [
        "outputs",
        "database",
        "host",
        "recipe",
        "telemetry_days",
        "log_cap",
    ] {
        assert!(
            in_force
                .lines()
                .any(|line| line.starts_with(&format!("{key} = "))),
            "{key}"
        );
    }
}

#[test]
fn the_documents_name_every_schema_and_exit_code() {
    let json = std::fs::read_to_string(root().join("docs/json.md")).unwrap();
    let sources = root().join("controller/src/cli");
    let mut files = Vec::new();
    walk(&sources, "rs", &mut files);
    assert!(files.iter().any(|file| file.ends_with("status/mod.rs")));
    for file in files {
        let text = std::fs::read_to_string(file).unwrap();
        for schema in text
            .split("document(\"")
            .skip(1)
            .filter_map(|rest| rest.split('"').next())
        {
            assert!(json.contains(&format!("`{schema}`")), "{schema}");
        }
    }
    for reason in farrun_protocol::verdict::Reason::ALL {
        assert!(
            json.contains(&format!("`{}`", reason.code())),
            "{}",
            reason.code()
        );
    }
}

#[test]
fn links_between_documents_lead_somewhere() {
    for path in documents() {
        let text = std::fs::read_to_string(&path).unwrap();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = target.split('#').next().unwrap_or_default();
            if file.is_empty()
                || file.contains("://")
                || file == "ARCHITECTURE.md"
                || file == "../ARCHITECTURE.md"
            {
                continue;
            }
            assert!(
                path.parent().unwrap().join(file).exists(),
                "{}: {target}",
                path.display()
            );
        }
    }
}
