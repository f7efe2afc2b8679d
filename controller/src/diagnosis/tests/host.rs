//! What files about the host add to what the engine said.

use super::{Folder, certain};
use serde_json::json;

const NO_TOOLKIT: &str = "could not select device driver \"\" with capabilities: [[gpu]]";

fn toolkit(outcome: &serde_json::Value) -> serde_json::Value {
    json!({
        "format": 1, "run_id": "rs_abcdefgh", "host_id": "ho_abcdefghijkl", "host_name": "box", "agent_version": "0.1.0",
        "boot_id": "b", "trigger": "failure", "began_at": "2026-03-01T10:10:01Z", "ended_at": "2026-03-01T10:10:05Z",
        "items": [{ "file": "toolkit.txt", "outcome": outcome, "bytes": 0, "took_ms": 1 }],
    })
}

#[test]
fn a_toolkit_that_is_not_there_is_told_from_one_that_docker_does_not_know() {
    let said = |folder: Folder| certain(&folder.read()).sentence.clone();
    let refused = || Folder::new().said("gpu_unavailable", NO_TOOLKIT);
    let why = "neither nvidia-container-cli nor nvidia-ctk is installed";
    let missing = toolkit(&json!({ "outcome": "missing", "why": why }));
    let absent = said(refused().json("bundle.json", &missing));
    assert!(
        absent.ends_with("the NVIDIA Container Toolkit is not installed there"),
        "{absent}"
    );
    let there = toolkit(&json!({ "outcome": "collected" }));
    let there = said(
        refused()
            .json("bundle.json", &there)
            .with("toolkit.txt", "== nvidia-ctk cdi list ==\n"),
    );
    assert!(
        there.contains("is installed there, but Docker was not restarted"),
        "{there}"
    );
    let unknown = said(refused());
    assert!(
        unknown.ends_with("not installed there, or Docker was not restarted since"),
        "{unknown}"
    );
}

#[test]
fn whoever_was_given_the_gpu_is_named() {
    let lease = json!({ "format": 1, "since": "2026-03-01T10:00:00Z",
                        "gpus": [{ "uuid": "GPU-bbbb", "index": 1, "name": "H100" }] });
    let other = json!([{
        "run_id": "rs_zzzzzzzz", "controller_id": "co_abcdefgh", "phase": "unclear", "log_length": 0, "lease": lease,
        "spec_sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    }]);
    let taken = |detail: &str| {
        let folder = Folder::new()
            .said("gpu_taken", detail)
            .json("leases.json", &other);
        certain(&folder.read()).sentence.clone()
    };
    let told = taken("/run/lock/farrun/GPU-bbbb: another run holds it");
    assert!(told.ends_with("; rs_zzzzzzzz had it then"), "{told}");
    let another = taken("/run/lock/farrun/GPU-cccc: another run holds it");
    assert!(!another.contains("rs_zzzzzzzz"), "{another}");
}
