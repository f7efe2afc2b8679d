//! Runs with secrets whose log is here as the job printed it: nothing of it is told.

use super::{Folder, codes};
use crate::diagnosis::{Diagnosis, Facts, page::page, read, short};
use crate::model::Run;
use std::path::Path;

const VALUE: &str = "plain-words-of-no-shape";

/// A log whose traceback and last lines hold a value.
fn log() -> String {
    format!(
        "key {VALUE}\nTraceback (most recent call last):\n  File \"run.py\", line 1\n\
         FileNotFoundError: [Errno 2] No such file or directory: '/models/{VALUE}'\n"
    )
}

fn of_mirror(run: &mut Run, folder: Option<&Path>) -> (Diagnosis, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run.log");
    std::fs::write(&path, log()).unwrap();
    run.log_path = Some(path.to_string_lossy().into_owned());
    (read(folder, &Facts::of(run)).unwrap(), dir)
}

#[test]
fn a_value_that_the_job_printed_is_in_nothing_that_is_said_without_the_hosts_evidence() {
    let mut run = super::run();
    run.spec.secret_names = vec!["KEY".to_owned()];
    let (told, _dir) = of_mirror(&mut run, None);
    let cause = told.cause.as_ref().unwrap();
    assert!(
        !cause.sentence.is_empty() && !cause.evidence.is_empty(),
        "{cause:?}"
    );
    assert!(cause.evidence.iter().all(|quote| quote.text.is_empty()));
    assert!(told.last_lines.is_empty() && told.around.is_empty());
    let html = page(&told, &run, None);
    for text in [
        serde_json::to_string(&told).unwrap(),
        html,
        format!("{:?}", short(&told)),
    ] {
        assert!(!text.contains(VALUE), "{text}");
    }
    let missing = told.missing.iter().find(|missing| missing.file == "run.log");
    assert!(missing.unwrap().why.contains("farrun logs rs_abcdefgh --tail 50"));
}

#[test]
fn the_same_is_found_with_the_hosts_evidence_and_then_told() {
    let mut run = super::run();
    run.spec.secret_names = vec!["KEY".to_owned()];
    let (without, _dir) = of_mirror(&mut run, None);
    let redacted = log().replace(VALUE, "[redacted:KEY]");
    let folder = Folder::new().log(redacted);
    run.log_path = None;
    let with = read(Some(folder.dir.path()), &Facts::of(&run)).unwrap();
    assert_eq!(codes(&without), codes(&with));
    assert!(
        with.around
            .iter()
            .any(|line| line.text.contains("[redacted:KEY]"))
    );
}

#[test]
fn without_secrets_the_log_is_told() {
    let mut run = super::run();
    let (told, _dir) = of_mirror(&mut run, None);
    let said = serde_json::to_string(&told).unwrap();
    assert!(said.contains(VALUE), "{said}");
    assert!(told.missing.iter().all(|missing| missing.file != "run.log"));
}
