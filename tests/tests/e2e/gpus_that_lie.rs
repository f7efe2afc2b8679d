//! A driver that floods, hangs, prints garbage, dies or loses a GPU, and a toolkit that gives none: what the user sees of it, and
//! how soon.

use crate::SOON;
use crate::gpus::{Gpus, host_with, host_with_toolkit};
use farrun_tests::{NvidiaSmi, Outcome, Toolkit, wait_for};
use std::time::Duration;

/// An answer is due within a second of the link; the rest is a busy machine.
const PROMPT: Duration = Duration::from_secs(8);

impl Gpus {
    /// What `farrun VERB` prints, which must not take long whatever the driver does.
    fn prompt(&self, verb: &str) -> Outcome {
        let outcome = self.lab.home.farrun(&[verb]).ok();
        assert!(outcome.took < PROMPT, "{outcome}");
        let harmless = |c: char| c == '\n' || !c.is_control();
        assert!(outcome.text().chars().all(harmless), "{outcome}");
        outcome
    }

    /// Asks until the user is told this.
    fn until_told(&self, words: &str) -> Outcome {
        wait_for(&format!("`{words}`"), SOON, || {
            Some(self.prompt("gpu")).filter(|outcome| outcome.text().contains(words))
        })
    }
}

#[test]
fn what_cannot_be_read_is_told_and_the_last_figures_keep_their_age() {
    let host = host_with(1);
    assert!(host.until_told("33 °C").text().contains("free"));
    host.smi.flood(true);
    let told = host.until_told("printed something that cannot be read");
    // What was known is still shown, and not as if it were new.
    assert!(
        told.text().contains("33 °C") && told.text().contains("STALE"),
        "{told}"
    );
    assert!(host.prompt("status").text().contains("cannot be read"));
    host.smi.flood(false);
    for garbage in [
        &b"\0\0\0"[..],
        b"0, GPU-\xff\xfe\x1b[2J\x1b]0;owned\x07, x\n",
        b"",
        b"0, GPU-1\n, , , ,\n\xf0\x9f",
    ] {
        host.smi.print(garbage);
        let _ = host.until_told("printed something that cannot be read");
        host.smi.print_gpus();
        host.until_well();
    }
    host.smi.die(true);
    let told = host.until_told("trouble");
    assert!(told.text().contains("33 °C"), "{told}");
    host.smi.die(false);
    host.until_well();
    // And none of it is kept from those who need no GPU.
    host.smi.flood(true);
    assert_eq!(host.lab.shell(&[], "echo runs").ok().text(), "runs\n");
}

impl Gpus {
    fn until_well(&self) {
        wait_for("the trouble to pass", SOON, || {
            (!self.prompt("gpu").text().contains("trouble")).then_some(())
        });
    }
}

#[test]
fn a_gpu_that_is_lost_between_two_calls_is_shown_and_not_given() {
    let host = host_with(2);
    let _ = host.until_told("33 °C");
    let queries = host.smi.queries();
    host.smi.lose_from(queries + 1, 1);
    let told = host.until_told("unreadable");
    assert!(told.text().contains("GPU 1 is unreadable"), "{told}");
    let refused = host.lab.shell(&["--gpus", "2"], "true").expect_code(5);
    assert!(refused.errors().contains("GPU 1: it is unreadable"), "{refused}");
    let given = host
        .lab
        .shell(&["--gpus", "1"], "echo $NVIDIA_VISIBLE_DEVICES")
        .ok();
    assert_eq!(given.text(), format!("{}\n", NvidiaSmi::uuid(0)));
}

#[test]
fn a_slow_driver_delays_no_answer_and_its_figures_arrive() {
    let host = host_with(1);
    // Slower than an answer may be, and fast enough to end: one conversation begins what the next one shows.
    host.smi.take_seconds(3.0);
    let _ = host.lab.home.farrun(&["gpu", "--detect"]).ok();
    let told = host.until_told("33 °C");
    assert!(!told.text().contains("trouble"), "{told}");
    // Half a minute is longer than it is waited for.
    host.smi.take_seconds(30.0);
    let told = host.until_told("refresh running");
    assert!(told.text().contains("33 °C"), "{told}");
    let told = host.until_told("did not answer in time");
    assert!(
        told.text().contains("33 °C") && told.text().contains("persist") || told.text().contains("-pm 1"),
        "{told}"
    );
    assert!(host.smi.alive().len() <= 1, "{:?}", host.smi.alive());
    assert!(host.prompt("status").text().contains("did not answer in time"));
}

#[test]
fn a_toolkit_that_names_a_gpu_and_gives_none_ends_the_run() {
    let host = host_with_toolkit(1, Toolkit::GivesNothing);
    let job = host.lab.shell(&["--gpus", "1"], "echo ran").expect_code(1);
    assert_eq!(job.text(), "", "{job}");
    assert_eq!(host.lab.show("@last")["run"]["reason"], "gpu_unavailable");
    let why = host.lab.home.farrun(&["why"]);
    assert!(
        why.text().contains("did not hand the job its GPU") && why.text().contains("no device of a GPU"),
        "{why}"
    );
    // The GPU is not kept from others for it.
    let held = host.lab.home.farrun(&["gpu", "--json"]).ok().json();
    assert_eq!(
        held["hosts"][0]["gpus"]["leases"],
        serde_json::json!([]),
        "{held}"
    );
}
