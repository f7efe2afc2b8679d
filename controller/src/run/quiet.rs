//! Runs that may hang: nothing printed for minutes and GPUs that do nothing. A warning and never a verdict: a job may load
//! a model from a slow disk, and only its user knows.

use farrun_protocol::record::RunFacts;

/// Seconds for which both must hold.
const LONG: u64 = 240;

/// What is to be warned of.
pub fn warning(facts: &RunFacts) -> Option<String> {
    let (silent, idle) = (facts.silent_seconds?, facts.gpu_idle_seconds?);
    if facts.settled.is_some() || silent < LONG || idle < LONG {
        return None;
    }
    let gpus = facts.lease.as_ref().map_or(1, |lease| lease.gpus.len());
    let gpu = if gpus > 1 { "its GPUs" } else { "its GPU" };
    Some(format!(
        "no output for {} min and {gpu} idle for {} min",
        silent / 60,
        idle / 60
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(silent: Option<u64>, idle: Option<u64>) -> RunFacts {
        serde_json::from_value(serde_json::json!({
            "run_id": "rs_aaaaaaaa", "controller_id": "co_aaaaaaaa", "spec_sha256": "0".repeat(64), "phase": "running",
            "log_length": 0, "silent_seconds": silent, "gpu_idle_seconds": idle,
        }))
        .unwrap()
    }

    #[test]
    fn silence_alone_and_idleness_alone_are_no_warning() {
        for (silent, idle) in [
            (None, None),
            (Some(9999), None),
            (Some(9999), Some(239)),
            (Some(239), Some(9999)),
            (None, Some(9999)),
        ] {
            assert_eq!(warning(&facts(silent, idle)), None, "{silent:?} {idle:?}");
        }
        assert_eq!(
            warning(&facts(Some(360), Some(245))).as_deref(),
            Some("no output for 6 min and its GPU idle for 4 min")
        );
    }
}
