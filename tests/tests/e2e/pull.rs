//! Outputs come back verified.

use crate::SOON;
use farrun_tests::Lab;
use std::path::{Path, PathBuf};

/// Every file below a folder with its bytes, hidden work folders left out.
pub(crate) fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(&next).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push((path.clone(), std::fs::read(&path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

fn named(lab: &Lab, name: &str) -> Vec<u8> {
    let all = files(&lab.home.outputs());
    let found = all.iter().find(|(path, _)| path.ends_with(name));
    found
        .unwrap_or_else(|| {
            panic!(
                "no {name} in {:?}",
                all.iter().map(|(path, _)| path).collect::<Vec<_>>()
            )
        })
        .1
        .clone()
}

const WRITES: &str =
    "mkdir -p /output/deep; seq 1 100000 >/output/big.txt; printf tiny >/output/deep/tiny; : >/output/empty";

#[test]
fn attached_run_brings_its_outputs() {
    let lab = Lab::new();
    let _ = lab.shell(&["--output", "/output"], WRITES).ok();
    assert_eq!(named(&lab, "tiny"), b"tiny");
    assert_eq!(named(&lab, "empty"), b"");
    assert_eq!(named(&lab, "big.txt").len(), 588_895);
    assert_eq!(lab.status("@last"), "completed");
}

#[test]
fn detached_run_is_pulled_later_and_twice() {
    let lab = Lab::new();
    let run = lab.detached(&["--output", "/output"], WRITES);
    lab.wait_status(&run, &["downloading"], SOON);
    let _ = lab.home.farrun(&["pull", &run]).ok();
    assert_eq!(lab.status(&run), "completed");
    let before = files(&lab.home.outputs());
    let _ = lab.home.farrun(&["pull", &run]).ok();
    assert!(before == files(&lab.home.outputs()));
}

#[test]
fn outputs_of_a_failed_run_come_too() {
    let lab = Lab::new();
    let _ = lab
        .shell(&["--output", "/output"], "printf half >/output/half; exit 9")
        .expect_code(1);
    let _ = lab.home.farrun(&["pull", "@last"]);
    assert_eq!(named(&lab, "half"), b"half");
    assert_eq!(lab.status("@last"), "failed");
}

#[test]
fn links_out_of_the_folder_are_not_followed() {
    let lab = Lab::new();
    let script = "ln -s /etc/passwd /output/accounts; ln -s ../../.. /output/up; printf fine >/output/fine";
    let _ = lab.shell(&["--output", "/output"], script);
    let _ = lab.home.farrun(&["pull", "@last"]);
    assert_eq!(named(&lab, "fine"), b"fine");
    assert!(
        files(&lab.home.outputs())
            .iter()
            .all(|(_, bytes)| !bytes.starts_with(b"root:x:0:0"))
    );
}
