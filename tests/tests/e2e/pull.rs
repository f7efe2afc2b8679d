//! Outputs come back verified.

use crate::SOON;
use farrun_tests::{Home, Lab};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
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

/// The one file of this name among the outputs.
pub(crate) fn named(lab: &Lab, name: &str) -> Vec<u8> {
    named_in(&lab.home, name)
}

pub(crate) fn named_in(home: &Home, name: &str) -> Vec<u8> {
    let all = files(&home.outputs());
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
    "cd /farrun/outputs; mkdir -p deep; seq 1 100000 >big.txt; printf tiny >deep/tiny; : >empty";

#[test]
fn attached_run_brings_its_outputs() {
    let lab = Lab::new();
    let _ = lab.shell(&[], WRITES).ok();
    assert_eq!(named(&lab, "tiny"), b"tiny");
    assert_eq!(named(&lab, "empty"), b"");
    assert_eq!(named(&lab, "big.txt").len(), 588_895);
    assert_eq!(lab.status("@last"), "completed");
}

#[test]
fn detached_run_is_pulled_later_and_twice() {
    let lab = Lab::new();
    let run = lab.detached(&[], WRITES);
    lab.wait_status(&run, &["downloading"], SOON);
    let _ = lab.home.farrun(&["pull", &run]).ok();
    assert_eq!(lab.status(&run), "completed");
    let before = files(&lab.home.outputs());
    let _ = lab.home.farrun(&["pull", &run]).ok();
    assert!(before == files(&lab.home.outputs()));
}

#[test]
fn outputs_are_listed_with_nobody_connected_and_listed_once() {
    let lab = Lab::new();
    let run = lab.detached(&[], &format!("{WRITES}; sleep 1"));
    let manifest = lab.run_folder(&run).join("manifest.json");
    farrun_tests::wait_until("the host's list of outputs", SOON, || manifest.exists());
    let written = || {
        let facts = std::fs::metadata(&manifest).unwrap();
        (facts.ino(), facts.mtime(), facts.mtime_nsec())
    };
    let before = written();
    let _ = lab.home.farrun(&["pull", &run]).ok();
    assert_eq!(named(&lab, "tiny"), b"tiny");
    assert_eq!(written(), before);
}

#[test]
fn outputs_of_a_failed_run_come_too() {
    let lab = Lab::new();
    let _ = lab
        .shell(&[], "printf half >/farrun/outputs/half; exit 9")
        .expect_code(1);
    let _ = lab.home.farrun(&["pull", "@last"]);
    assert_eq!(named(&lab, "half"), b"half");
    assert_eq!(lab.status("@last"), "failed");
}

#[test]
fn links_out_of_the_folder_are_not_followed() {
    let lab = Lab::new();
    let script = "ln -s /etc/passwd /farrun/outputs/accounts; ln -s ../../.. /farrun/outputs/up; printf fine >/farrun/outputs/fine";
    let _ = lab.shell(&[], script);
    let _ = lab.home.farrun(&["pull", "@last"]);
    assert_eq!(named(&lab, "fine"), b"fine");
    assert!(
        files(&lab.home.outputs())
            .iter()
            .all(|(_, bytes)| !bytes.starts_with(b"root:x:0:0"))
    );
}

#[test]
fn nested_strange_and_empty_names_come_back() {
    let lab = Lab::new();
    let script = "cd /farrun/outputs; mkdir -p a/b/c/d/e 'with blank' void; printf deep >a/b/c/d/e/deep; \
                  printf 1 >'with blank/it'\\''s'; printf 2 >-rf; printf 3 >'🎬 日本.mp4'; printf 4 >.hidden; \
                  printf 5 >'semi;colon$(x)`y`'; mkdir aux; printf 6 >aux/CON";
    let _ = lab.shell(&[], script).ok();
    for (name, content) in [
        ("a/b/c/d/e/deep", "deep"),
        ("with blank/it's", "1"),
        ("-rf", "2"),
        ("🎬 日本.mp4", "3"),
        (".hidden", "4"),
        ("semi;colon$(x)`y`", "5"),
        ("aux/CON", "6"),
    ] {
        assert_eq!(named(&lab, name), content.as_bytes(), "{name}");
    }
    assert_eq!(lab.status("@last"), "completed");
}

#[test]
fn names_that_no_file_here_should_have_are_skipped_and_said() {
    let lab = Lab::new();
    let script = "cd /farrun/outputs; printf x >\"$(printf 'new\\nline')\"; printf x >\"$(printf 'esc\\033[2J')\"; \
                  printf x >\"$(printf 'bad\\377utf')\"; printf fine >fine";
    let outcome = lab.shell(&[], script);
    assert_eq!(named(&lab, "fine"), b"fine");
    assert!(!outcome.stderr.contains(&0x1b), "{outcome}");
    assert_eq!(lab.status("@last"), "completed");
}

#[test]
fn devices_and_pipes_are_left_alone() {
    let lab = Lab::new();
    let _ = lab
        .shell(&[], "cd /farrun/outputs; mkfifo pipe; printf fine >fine")
        .ok();
    assert_eq!(named(&lab, "fine"), b"fine");
}

#[test]
fn active_run_is_not_pulled() {
    let lab = Lab::new();
    let run = lab.detached(&[], "exec sleep 600");
    let _ = lab
        .home
        .farrun(&["pull", &run])
        .expect_code(5)
        .expect_error("has not ended");
}

#[test]
fn damaged_copy_here_is_repaired() {
    let lab = Lab::new();
    let _ = lab.shell(&[], WRITES).ok();
    let all = files(&lab.home.outputs());
    let (big, _) = all.iter().find(|(path, _)| path.ends_with("big.txt")).unwrap();
    std::fs::write(big, "damaged").unwrap();
    let _ = lab.home.farrun(&["pull", "@last"]).ok();
    assert_eq!(named(&lab, "big.txt").len(), 588_895);
}

#[test]
fn large_output_is_known_by_its_blocks_and_a_hidden_change_is_repaired() {
    use sha2::Digest as _;
    let lab = Lab::new();
    let _ = lab
        .shell(&[], "cd /farrun/outputs; seq 1 1500000 >large; seq 1 9 >small")
        .ok();
    let content = named(&lab, "large");
    assert!(content.len() > 2 * 4 * 1024 * 1024, "several blocks");
    for (index, name) in ["large", "small"].into_iter().enumerate() {
        let output = &lab.show("@last")["outputs"][index];
        assert_eq!(output["path"], name);
        let hashed = format!("{:x}", sha2::Sha256::digest(named(&lab, name)));
        // That of a large one is taken when something needs it.
        match name {
            "small" => assert_eq!(output["sha256"], hashed),
            _ => assert!(
                output["sha256"].is_null() && output["blocks"].is_string(),
                "{output}"
            ),
        }
        assert!(output["pulled_at"].is_string(), "{output}");
    }
    let all = files(&lab.home.outputs());
    let (large, _) = all.iter().find(|(path, _)| path.ends_with("large")).unwrap();
    let facts = || large.metadata().unwrap();
    let before = (facts().modified().unwrap(), facts().ino());
    let _ = lab.home.farrun(&["pull", "@last"]).ok();
    assert_eq!((facts().modified().unwrap(), facts().ino()), before, "left alone");
    // One byte is another, and size and time are what they were.
    let file = std::fs::File::options().write(true).open(large).unwrap();
    file.write_all_at(b"x", 5_000_000).unwrap();
    file.set_modified(before.0).unwrap();
    drop(file);
    let _ = lab.home.farrun(&["pull", "@last"]).ok();
    assert!(named(&lab, "large") == content);
}
