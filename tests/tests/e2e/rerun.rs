//! An order that is given again, on another host.

use crate::recipes::{lab, last, prompt};
use farrun_tests::{BUSYBOX, Lab};
use std::path::Path;

/// Adds the same machine as another host: with a state folder of its own it has none of the inputs.
fn add(lab: &Lab, name: &str, state: &Path) {
    let mut arguments = lab.host_arguments(name, lab.sshd.port());
    let at = arguments.iter().position(|word| word == "--state").unwrap();
    arguments[at + 1] = state.display().to_string();
    let _ = lab.home.farrun(&arguments).ok();
}

fn inputs_below(state: &Path) -> usize {
    crate::pull::files(&state.join("blobs")).len()
}

#[test]
fn inputs_are_sent_from_the_files_they_were_as_long_as_they_are_the_same() {
    let lab = Lab::new();
    let (second, third) = (farrun_tests::temporary_folder(), farrun_tests::temporary_folder());
    add(&lab, "second", second.path());
    add(&lab, "third", third.path());
    let (clip, notes) = (lab.home.write("clip", "video"), lab.home.write("notes", "words"));
    let inputs = [
        format!("clip={}", clip.display()),
        format!("notes={}", notes.display()),
    ];
    let options = ["--input", &inputs[0], "--input", &inputs[1]];
    let script = "cat /farrun/inputs/clip /farrun/inputs/notes";
    let arguments = lab.shell_arguments(BUSYBOX, &options, script);
    assert_eq!(lab.home.farrun(&arguments).ok().text(), "videowords");
    let first = crate::trouble::last_id(&lab);
    let again = |run: &str, host: &str| lab.home.farrun(&["rerun", run, "--host", host]);
    assert_eq!(again(&first, "second").ok().text(), "videowords");
    assert_eq!(inputs_below(second.path()), 2);
    let rerun = crate::trouble::last_id(&lab);

    // Of the same length, so only its content tells.
    std::fs::write(&notes, "WORDS").unwrap();
    let _ = again(&first, "third")
        .expect_code(2)
        .expect_error(&format!("input `{}` has changed", notes.display()));
    std::fs::remove_file(&notes).unwrap();
    // Also of a run that was itself ordered again.
    let _ = again(&rerun, "third")
        .expect_code(1)
        .expect_error("input `notes`")
        .expect_error(&format!("`{}` does not exist", notes.display()));
    let shown = lab.show("@last");
    assert_eq!(shown["run"]["status"], "failed", "{shown}");
    assert_eq!(inputs_below(third.path()), 0, "something was sent");
    // A host that has the content needs no file.
    assert_eq!(again(&first, "lab").ok().text(), "videowords");
    std::fs::write(&notes, "words").unwrap();
    assert_eq!(again(&first, "third").ok().text(), "videowords");
}

#[test]
fn rerun_changes_only_what_is_said() {
    let lab = lab();
    prompt(&lab, "city", "a city");
    let _ = lab
        .home
        .farrun(&["inference", "city", "--set", "steps=4", "--set", "look=ink"])
        .ok();
    let first = last(&lab);
    let _ = lab.home.farrun(&["rerun", "@last", "--set", "steps=5"]).ok();
    let second = last(&lab);
    assert_ne!(first["run"]["id"], second["run"]["id"]);
    assert_eq!(
        second["spec"]["parameters"],
        serde_json::json!({ "steps": 5, "look": "ink" })
    );
    let _ = lab
        .home
        .farrun(&["rerun", "@last", "--set", "steps=50"])
        .expect_code(2);
}

#[test]
fn rerun_of_an_image_sends_nothing_again() {
    let lab = lab();
    let clip = lab.home.write("clip", "the clip");
    let arguments = lab.shell_arguments(
        BUSYBOX,
        &["--input", clip.to_str().unwrap()],
        "cat /farrun/inputs/clip",
    );
    assert_eq!(lab.home.farrun(&arguments).ok().text(), "the clip");
    std::fs::remove_file(&clip).unwrap();
    assert_eq!(lab.home.farrun(&["rerun", "@last"]).ok().text(), "the clip");
    let _ = lab
        .home
        .farrun(&["rerun", "@last", "--set", "steps=1"])
        .expect_code(2);
}
