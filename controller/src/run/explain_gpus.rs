//! What GPUs stand in the way of a run, and what can be done about a host whose GPUs cannot be used.

use farrun_protocol::gpu::{GpuTrouble, Health, TroubleKind};
use farrun_protocol::lease::{GpuRefusal, Obstacle, QueuePlace};

/// One line for each GPU that was not given.
pub fn refusals(gpus: &[GpuRefusal]) -> Vec<String> {
    gpus.iter()
        .map(|gpu| {
            let obstacles: Vec<String> = gpu.obstacles.iter().map(obstacle).collect();
            let why = if obstacles.is_empty() {
                "free, and too few of them are".to_owned()
            } else {
                obstacles.join(", ")
            };
            format!("GPU {} {}: {why}", gpu.index, gpu.name)
        })
        .collect()
}

/// Memory in MiB as people read it.
pub fn mebibytes(memory: u64) -> String {
    if memory < 1024 {
        format!("{memory} MiB")
    } else {
        format!("{:.1} GiB", memory as f64 / 1024.0)
    }
}

fn obstacle(obstacle: &Obstacle) -> String {
    match obstacle {
        Obstacle::NotNamed => "not asked for".to_owned(),
        Obstacle::Leased { run_id, user, .. } => {
            let run = run_id
                .as_ref()
                .map_or_else(|| "a run".to_owned(), ToString::to_string);
            let of = user
                .as_ref()
                .map(|user| format!(" of {user}"))
                .unwrap_or_default();
            format!("held by {run}{of}")
        }
        Obstacle::Draining { run_id } => {
            let run = run_id
                .as_ref()
                .map_or_else(|| "a run".to_owned(), ToString::to_string);
            format!("{run} has ended and its memory is not free yet")
        }
        Obstacle::Process {
            pid,
            user,
            command,
            container,
            memory,
        } => {
            let within = container
                .as_ref()
                .map(|container| format!(" in container {}", container.chars().take(40).collect::<String>()))
                .unwrap_or_default();
            let memory = memory
                .map(|memory| format!(", {}", mebibytes(memory)))
                .unwrap_or_default();
            format!("used by pid {pid} {user} {command}{within}{memory}")
        }
        Obstacle::MemoryInUse { used } => format!("{} in use by nobody that can be seen", mebibytes(*used)),
        Obstacle::TooSmall { free, wanted } => {
            let free = free.map_or_else(|| "unknown memory".to_owned(), mebibytes);
            format!("{free} free, {} wanted", mebibytes(*wanted))
        }
        Obstacle::Unhealthy { health } => match health {
            Health::Healthy => "healthy".to_owned(),
            Health::Lost => "fallen off the bus; the host must be restarted".to_owned(),
            Health::ResetRequired => "must be reset".to_owned(),
            Health::Unreadable => "cannot be read".to_owned(),
        },
        Obstacle::Prohibited => "its compute mode forbids jobs".to_owned(),
        Obstacle::Divided => "divided into instances; ask for one of them".to_owned(),
        Obstacle::Reserved { run_id } => {
            let run = run_id
                .as_ref()
                .map_or_else(|| "another account's run".to_owned(), ToString::to_string);
            format!("kept for {run}, which is before it in line")
        }
    }
}

/// `2nd in line on gpu1; waits for: …`.
pub fn place_in_line(place: &QueuePlace) -> String {
    let ahead = match place.position {
        0 | 1 => "next in line".to_owned(),
        position => format!("number {position} in line"),
    };
    let unwatched = if place.watched {
        ""
    } else {
        "; nobody on the host watches the line, so it moves when a command asks"
    };
    let why = refusals(&place.waits_for);
    let why = if why.is_empty() {
        String::new()
    } else {
        format!(" ({})", why.join("; "))
    };
    format!("{ahead}{why}{unwatched}")
}

/// Why a host's GPUs cannot be used, and what to do, in a sentence.
pub fn no_gpu(trouble: Option<&GpuTrouble>) -> String {
    let Some(trouble) = trouble else {
        return "it has no GPU".to_owned();
    };
    let said = trouble
        .detail
        .as_ref()
        .map(|detail| format!(" ({detail})"))
        .unwrap_or_default();
    format!("{}{said}", cause(trouble.kind))
}

/// Cause and remedy of a kind of trouble.
pub fn cause(kind: TroubleKind) -> &'static str {
    match kind {
        TroubleKind::NoGpu => "it has no GPU",
        TroubleKind::ToolMissing => "a GPU is there and `nvidia-smi` is not: install the NVIDIA driver",
        TroubleKind::LibraryMissing => "the NVIDIA driver's library is missing: install the driver again",
        TroubleKind::DriverNotLoaded => {
            "the NVIDIA driver is not loaded: `sudo modprobe nvidia`, or restart the host after an update"
        }
        TroubleKind::DriverMismatch => {
            "the NVIDIA driver was updated while it was in use: restart the host, or unload and load its modules"
        }
        TroubleKind::NoDevices => "the NVIDIA driver finds no GPU: look at `lspci` and the kernel log there",
        TroubleKind::Unsupported => {
            "the NVIDIA driver does not support the GPU: install the one for its model"
        }
        TroubleKind::Denied => "the account may not use the GPUs: add it to the groups `video` and `render`",
        TroubleKind::PowerCable => "a GPU's power cable is missing",
        TroubleKind::Interrupt => "a GPU's interrupt does not work: restart the host",
        TroubleKind::InfoRom => "a GPU's infoROM is corrupt",
        TroubleKind::GpuLost => "a GPU has fallen off the bus: restart the host",
        TroubleKind::ResetRequired => {
            "a GPU must be reset: `sudo nvidia-smi --gpu-reset`, or restart the host"
        }
        TroubleKind::Blocked => "the operating system blocks the GPUs",
        TroubleKind::Timeout => "`nvidia-smi` does not answer in time",
        TroubleKind::Stuck => "the GPU driver hangs: the host usually needs a restart",
        TroubleKind::Garbled => "`nvidia-smi` printed something that cannot be read",
        TroubleKind::CacheUnwritable => {
            "the agent's folder for GPU figures cannot be written: look at its disk"
        }
        TroubleKind::Other => "`nvidia-smi` failed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_gpu_is_explained() {
        let gpu = |index, obstacles| GpuRefusal {
            uuid: format!("GPU-{index}"),
            index,
            name: "NVIDIA L40S".to_owned(),
            obstacles,
        };
        let lines = refusals(&[
            gpu(
                0,
                vec![Obstacle::Process {
                    pid: 4711,
                    user: "alice".into(),
                    command: "python".into(),
                    container: None,
                    memory: Some(20_582),
                }],
            ),
            gpu(
                1,
                vec![
                    Obstacle::Leased {
                        run_id: Some("rs_abcdefgh".parse().unwrap()),
                        user: Some("bob".into()),
                        since: None,
                    },
                    Obstacle::TooSmall {
                        free: Some(1024),
                        wanted: 40_960,
                    },
                ],
            ),
            gpu(2, vec![]),
        ]);
        assert_eq!(
            lines,
            [
                "GPU 0 NVIDIA L40S: used by pid 4711 alice python, 20.1 GiB",
                "GPU 1 NVIDIA L40S: held by rs_abcdefgh of bob, 1.0 GiB free, 40.0 GiB wanted",
                "GPU 2 NVIDIA L40S: free, and too few of them are",
            ]
        );
    }
}
