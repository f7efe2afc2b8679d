use crate::model::Run;

/// A run that failed with exit code 1.
pub(super) fn run() -> Run {
    serde_json::from_value(serde_json::json!({
        "id": "rs_abcdefgh", "host": "gpu1", "controller_id": "co_abcdefgh", "operation": "inference", "status": "failed",
        "reason": "exit_code", "exit_code": 1, "log_complete": true, "gpus": "GPU-aaaa", "container_id": "c0ffee".repeat(10) + "abcd",
        "created_at": "2026-03-01T09:59:00Z", "updated_at": "2026-03-01T10:10:00Z",
        "started_at": "2026-03-01T10:00:00Z", "ended_at": "2026-03-01T10:10:00Z",
        "lease": { "format": 1, "since": "2026-03-01T10:00:00Z",
                   "gpus": [{ "uuid": "GPU-aaaa", "index": 0, "name": "H100", "memory_total": 81559 }] },
        "spec": {
            "format": 1, "run_id": "rs_abcdefgh", "controller_id": "co_abcdefgh", "operation": "inference", "name": "city",
            "created_at": "2026-03-01T09:59:00Z", "image": "nvcr.io/nvidia/pytorch:24.05-py3", "inputs_target": "/farrun/inputs",
            "outputs_target": "/farrun/outputs", "gpus": { "count": 1 }, "parameters": { "batch_size": 4, "num_workers": 8 },
        },
    }))
    .unwrap()
}
