//! What a host's refusal of an order means: for the run, and for people.

use super::gpu_words;
use farrun_protocol::verdict::Reason;
use farrun_protocol::{ErrorCode, Failure};

/// Why a run has failed that was refused with this code.
pub(super) fn reason(code: ErrorCode) -> Reason {
    match code {
        ErrorCode::NoFreeGpu | ErrorCode::NoSuchGpu | ErrorCode::NoGpu | ErrorCode::LocksUnusable => {
            Reason::GpuRefused
        }
        ErrorCode::DockerRefused | ErrorCode::MountMissing => Reason::EngineRefused,
        _ => Reason::NotLaunched,
    }
}

/// Whether a host that could not carry out an order may be able to later.
pub(super) fn is_passing(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::DiskFull
            | ErrorCode::Io
            | ErrorCode::DockerTimeout
            | ErrorCode::Internal
            | ErrorCode::Cancelled
    )
}

/// What a failure says for people.
pub(super) fn detail(failure: &Failure) -> Option<String> {
    let gpus = gpu_words::refusals(&failure.gpus);
    match (&failure.detail, failure.code) {
        _ if !gpus.is_empty() => Some(gpus.join("; ")),
        (Some(detail), ErrorCode::NoGpu) => Some(gpu_words::no_gpu_detail(detail)),
        (detail, _) => detail.clone(),
    }
}

/// What a failure is called where the words of its reason would be untrue: the host was reached, and no engine refused
/// anything. The diagnosis knows these words.
pub(super) fn own_words(failure: &Failure) -> Option<String> {
    let said = failure.detail.clone().unwrap_or_default();
    let (words, said) = match failure.code {
        ErrorCode::MountMissing => ("a folder to mount does not exist on the host", said),
        ErrorCode::DockerUnreachable => ("no container engine answers on the host", said),
        ErrorCode::DockerDenied => ("the account may not use Docker on the host", said),
        ErrorCode::NoSuchGpu => (
            "the host has no such GPUs",
            gpu_words::no_such(&said, &failure.gpus).join("; "),
        ),
        _ => return None,
    };
    Some(match said.is_empty() {
        false => format!("{words}: {said}"),
        true => words.to_owned(),
    })
}

/// The refusal for people, in one line.
pub(super) fn words(failure: &Failure) -> String {
    own_words(failure)
        .or_else(|| detail(failure))
        .unwrap_or_else(|| failure.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use farrun_protocol::lease::{GpuRefusal, Obstacle};

    #[test]
    fn what_no_engine_refused_is_not_called_so() {
        let missing = Failure::new(ErrorCode::MountMissing, "/srv/nothere");
        assert_eq!(
            own_words(&missing).as_deref(),
            Some("a folder to mount does not exist on the host: /srv/nothere")
        );
        let away = Failure::new(ErrorCode::DockerUnreachable, "unix:///run/docker.sock: gone");
        assert_eq!(
            own_words(&away).as_deref(),
            Some("no container engine answers on the host: unix:///run/docker.sock: gone")
        );
        assert_eq!(
            own_words(&Failure::new(ErrorCode::DockerRefused, "no such user")),
            None
        );
    }

    #[test]
    fn what_can_never_be_is_not_called_busy() {
        let gpu = |index, obstacles| GpuRefusal {
            uuid: format!("GPU-{index}"),
            index,
            name: "L40S".to_owned(),
            obstacles,
        };
        let small = Obstacle::TooSmall {
            free: Some(24_576),
            wanted: 40_960,
        };
        let failure = Failure {
            gpus: vec![
                gpu(0, Vec::new()),
                gpu(1, vec![Obstacle::NotNamed]),
                gpu(2, vec![small]),
            ],
            ..Failure::new(ErrorCode::NoSuchGpu, "3 are wanted and 2 are there")
        };
        assert_eq!(
            words(&failure),
            "the host has no such GPUs: 3 are wanted and 2 are there; GPU 2: 24.0 GiB are free and 40.0 GiB are wanted"
        );
    }
}
