//! What a run computes with, for people: its `DEVICE` and the GPUs it was given.

use crate::controller::{Controller, Event};
use crate::model::Run;
use farrun_protocol::lease::LeasedGpu;
use farrun_protocol::spec::{Gpus, RunSpec};

/// Variable that tells a job what to compute with.
const VARIABLE: &str = "DEVICE";
/// What is shown of a UUID: `GPU-` and its first eight digits.
const SHORT_UUID: usize = 12;

/// What the job finds as its `DEVICE`. It follows from the order alone, so it is known without its host.
pub fn of(spec: &RunSpec) -> &str {
    if spec.secret_names.iter().any(|name| name == VARIABLE) {
        return "device of a secret";
    }
    let usual = match spec.gpus {
        Gpus::None => "cpu",
        _ => "cuda",
    };
    spec.env.get(VARIABLE).map_or(usual, String::as_str)
}

/// Where a run is and what it computes with: ``on `gpu1`, cuda: GPU 0 H200 (GPU-1a2b3c4d)``.
pub fn place(run: &Run) -> String {
    let place = format!("on `{}`, {}", run.host, of(&run.spec));
    let gpus: Vec<String> = run.lease.iter().flat_map(|lease| &lease.gpus).map(gpu).collect();
    if gpus.is_empty() {
        return place;
    }
    format!("{place}: {}", gpus.join(", "))
}

/// Tells that a run's job runs, where and with what: the head of its log, which itself holds the job's bytes alone.
pub fn tell_running(controller: &Controller, run: &Run) {
    controller.tell(&Event::Running {
        run: run.id.as_str(),
        place: &place(run),
    });
}

fn gpu(gpu: &LeasedGpu) -> String {
    let uuid: String = gpu.uuid.chars().take(SHORT_UUID).collect();
    format!("GPU {} {} ({uuid})", gpu.index, gpu.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn run(gpus: Value, more: Value) -> Run {
        let mut spec = json!({
            "format": 1, "run_id": "rs_abcdefgh", "controller_id": "co_abcdefgh", "operation": "run", "name": "x",
            "created_at": "2026-01-02T03:04:05Z", "image": "demo:1", "inputs_target": "/i", "outputs_target": "/o",
            "gpus": gpus,
        });
        let (spec_fields, more) = (spec.as_object_mut().unwrap(), more.as_object().unwrap());
        spec_fields.extend(more.clone());
        serde_json::from_value(json!({
            "id": "rs_abcdefgh", "host": "gpu1", "controller_id": "co_abcdefgh", "operation": "run",
            "status": "running", "log_complete": false, "gpus": "none", "spec": spec,
            "created_at": "2026-01-02T03:04:05Z", "updated_at": "2026-01-02T03:04:05Z",
        }))
        .unwrap()
    }

    #[test]
    fn a_run_computes_with_what_its_order_says() {
        assert_eq!(of(&run(json!("none"), json!({})).spec), "cpu");
        assert_eq!(of(&run(json!("all"), json!({})).spec), "cuda");
        let own = json!({ "env": { "DEVICE": "tpu:3" } });
        assert_eq!(of(&run(json!("all"), own).spec), "tpu:3");
        let secret = json!({ "secret_names": ["DEVICE"] });
        assert_eq!(of(&run(json!("none"), secret).spec), "device of a secret");
    }

    #[test]
    fn its_gpus_are_named_once_it_has_them() {
        let mut run = run(json!("all"), json!({}));
        assert_eq!(place(&run), "on `gpu1`, cuda");
        run.lease = serde_json::from_value(json!({
            "format": 1, "since": "2026-01-02T03:04:06Z",
            "gpus": [
                { "uuid": "GPU-1a2b3c4d-feed-4000-8000-00000000c0de", "index": 0, "name": "NVIDIA H200" },
                { "uuid": "GPU-b", "index": 5, "name": "Tesla T4" },
            ],
        }))
        .unwrap();
        assert_eq!(
            place(&run),
            "on `gpu1`, cuda: GPU 0 NVIDIA H200 (GPU-1a2b3c4d), GPU 5 Tesla T4 (GPU-b)"
        );
    }
}
