//! Words for what hosts say of GPUs: one table from each code to a sentence and what to do about it.

use farrun_protocol::gpu::{Absence, GpuTrouble, Health, TroubleKind};
use farrun_protocol::lease::{GpuRefusal, Obstacle, QueuePlace};

/// What is wrong, and what to do about it on the host; no remedy where nothing is wrong or nobody knows.
pub fn trouble(kind: TroubleKind) -> (&'static str, Option<&'static str>) {
    use TroubleKind as K;
    match kind {
        K::NoGpu => ("there is no GPU", None),
        K::ToolMissing => (
            "a GPU device is there and `nvidia-smi` is not",
            Some("install the driver's utilities, or add the folder of `nvidia-smi` to the account's PATH"),
        ),
        K::LibraryMissing => (
            "the driver's library `libnvidia-ml` is missing or incomplete",
            Some("install the driver again, library and kernel module of one version"),
        ),
        K::DriverNotLoaded => (
            "the NVIDIA driver is not loaded",
            Some("run `sudo modprobe nvidia`; when that fails, install the driver for the running kernel"),
        ),
        K::DriverMismatch => (
            "the driver's library and kernel module are of different versions: it was updated without a restart",
            Some("restart the host, or unload and load the nvidia modules while nothing uses them"),
        ),
        K::NoDevices => (
            "the driver finds no GPU",
            Some("look at `lspci | grep -i nvidia` and `sudo dmesg | grep -i nvrm`"),
        ),
        K::Unsupported => (
            "the driver does not support the GPUs that are there",
            Some("install a driver that supports them; `sudo dmesg | grep -i nvrm` names it"),
        ),
        K::Denied => (
            "the account may not use the GPUs",
            Some("give the account the rights of /dev/nvidia*, often by the group `video` or `render`"),
        ),
        K::PowerCable => (
            "a GPU's power cable is missing",
            Some("have somebody at the machine plug it in"),
        ),
        K::Interrupt => (
            "the driver gets no interrupts from a GPU",
            Some("restart the host; when it returns, look at the BIOS and at `sudo dmesg | grep -i nvrm`"),
        ),
        K::InfoRom => (
            "a GPU's infoROM is corrupt",
            Some("ask the vendor; the GPU may have to be replaced"),
        ),
        K::GpuLost => (
            "a GPU has fallen off the bus",
            Some("restart the host; when it happens again, look at power, temperature and seating"),
        ),
        K::ResetRequired => (
            "a GPU must be reset",
            Some("end what uses it and run `sudo nvidia-smi --gpu-reset -i INDEX`, or restart the host"),
        ),
        K::Blocked => (
            "the operating system blocks the GPUs",
            Some("look at cgroup and container settings of the account, and at `sudo dmesg`"),
        ),
        K::Timeout => (
            "`nvidia-smi` did not answer in time and was ended",
            Some("wait a little; when it stays, `sudo nvidia-smi -pm 1` or a restart of the host helps"),
        ),
        K::Reading => (
            "`nvidia-smi` has not answered yet",
            Some("ask again in a moment; when it is always slow, `sudo nvidia-smi -pm 1` on the host helps"),
        ),
        K::Stuck => (
            "the GPU driver does not answer: `nvidia-smi` hangs and cannot be ended",
            Some("a restart of the host is usually needed"),
        ),
        K::Garbled => (
            "`nvidia-smi` printed something that cannot be read",
            Some("run `nvidia-smi` there and look"),
        ),
        K::CacheUnwritable => (
            "the figures cannot be kept: the folder `gpu` in the state folder cannot be written",
            Some("free disk space there, or mend the folder's rights"),
        ),
        K::Other => (
            "`nvidia-smi` failed in an unknown way",
            Some("run `nvidia-smi` there and look"),
        ),
    }
}

/// What is wrong with what was said, which process and for how long.
pub fn trouble_line(trouble: &GpuTrouble) -> String {
    let mut line = self::trouble(trouble.kind).0.to_owned();
    let mut more = Vec::new();
    more.extend(trouble.pid.map(|pid| format!("pid {pid}")));
    more.extend(trouble.for_ms.map(|ms| format!("for {}", short(ms))));
    if !more.is_empty() {
        line.push_str(&format!(" ({})", more.join(", ")));
    }
    if let Some(detail) = trouble.detail.as_deref().filter(|detail| !detail.is_empty()) {
        let said = detail.split_whitespace().collect::<Vec<_>>().join(" ");
        line.push_str(&format!(": {said}"));
    }
    line
}

/// A span in its largest unit: `12 s`, `6 min`, `3 h`, `2 d`.
pub fn short(ms: u64) -> String {
    match ms / 1000 {
        seconds @ 0..=89 => format!("{seconds} s"),
        seconds @ 90..=5399 => format!("{} min", seconds / 60),
        seconds @ 5400..=172_799 => format!("{} h", seconds / 3600),
        seconds => format!("{} d", seconds / 86_400),
    }
}

/// Why a value is not known.
pub fn absence(absence: Absence) -> &'static str {
    match absence {
        Absence::NotAvailable => "the GPU has no such thing, or its driver does not say",
        Absence::NotSupported => "the GPU does not support it",
        Absence::UnknownError => "the driver failed to read it",
        Absence::NoPermission => "the account may not read it",
        Absence::Deprecated => "the driver no longer tells it",
        Absence::FunctionNotFound => "the driver's library is too old for it",
        Absence::GpuLost => "the GPU has fallen off the bus",
        Absence::ResetRequired => "the GPU must be reset",
        Absence::UnknownField => "the driver does not know it",
        Absence::Garbled => "what the driver printed is no such value",
    }
}

/// Whether a GPU can be used, and the trouble that it is otherwise.
pub fn health(health: Health) -> (&'static str, Option<TroubleKind>) {
    match health {
        Health::Healthy => ("healthy", None),
        Health::Lost => ("lost", Some(TroubleKind::GpuLost)),
        Health::ResetRequired => ("needs a reset", Some(TroubleKind::ResetRequired)),
        Health::Unreadable => ("unreadable", Some(TroubleKind::GpuLost)),
    }
}

/// Why one GPU was not given.
pub fn obstacle(obstacle: &Obstacle) -> String {
    let by = |run: Option<&str>, user: Option<&str>| match (run, user) {
        (Some(run), _) => run.to_owned(),
        (None, Some(user)) => format!("a run of {user}"),
        (None, None) => "a run that does not say its name".to_owned(),
    };
    match obstacle {
        Obstacle::NotNamed => "the order names others".to_owned(),
        Obstacle::Leased { run_id, user, .. } => {
            let run = run_id.as_ref().map(AsRef::as_ref);
            format!("{} holds it", by(run, user.as_deref()))
        }
        Obstacle::Draining { run_id } => {
            let run = run_id.as_ref().map(AsRef::as_ref);
            format!("{} has ended and still holds memory", by(run, None))
        }
        Obstacle::Process {
            pid,
            user,
            command,
            container,
            memory,
        } => {
            let place = container
                .as_ref()
                .map(|name| format!(" in container {name}"))
                .unwrap_or_default();
            let size = memory
                .map(|mib| format!(", {}", mebibytes(mib)))
                .unwrap_or_default();
            format!("{user} uses it: {command}{place} (pid {pid}{size})")
        }
        Obstacle::MemoryInUse { used } => {
            format!("{} are in use and no process accounts for them", mebibytes(*used))
        }
        Obstacle::TooSmall {
            free: Some(free),
            wanted,
        } => {
            format!(
                "{} are free and {} are wanted",
                mebibytes(*free),
                mebibytes(*wanted)
            )
        }
        Obstacle::TooSmall { free: None, wanted } => {
            format!(
                "its free memory is not known and {} are wanted",
                mebibytes(*wanted)
            )
        }
        Obstacle::Unhealthy { health } => format!("it is {}", self::health(*health).0),
        Obstacle::Prohibited => "its compute mode forbids jobs".to_owned(),
        Obstacle::Divided => "it is divided; only its instances can be used".to_owned(),
        Obstacle::Reserved { run_id: Some(run) } => format!("it is kept for {run}"),
        Obstacle::Reserved { run_id: None } => "it is kept for a run of somebody else".to_owned(),
    }
}

/// `GPU 0: rs_… holds it; …`, with nothing against it where too few are free.
pub fn refusal(refusal: &GpuRefusal) -> String {
    let words: Vec<String> = refusal.obstacles.iter().map(obstacle).collect();
    match words.is_empty() {
        true => format!("GPU {}: free, and one alone is too few", refusal.index),
        false => format!("GPU {}: {}", refusal.index, words.join(", ")),
    }
}

/// One line for each GPU that was not given.
pub fn refusals(gpus: &[GpuRefusal]) -> Vec<String> {
    gpus.iter().map(refusal).collect()
}

/// Why a host can never serve an order: what the host says, and what speaks against each GPU. That the order names others
/// says nothing, and whether one is free does not matter.
pub fn no_such(why: &str, gpus: &[GpuRefusal]) -> Vec<String> {
    let against = |gpu: &&GpuRefusal| gpu.obstacles.iter().any(|one| *one != Obstacle::NotNamed);
    let why = Some(why).filter(|why| !why.is_empty()).map(str::to_owned);
    why.into_iter()
        .chain(gpus.iter().filter(against).map(refusal))
        .collect()
}

/// Why jobs have no GPU on a host, and what to do about it.
pub fn no_gpu(trouble: Option<&GpuTrouble>) -> String {
    let Some(trouble) = trouble else {
        return "there is no GPU".to_owned();
    };
    match self::trouble(trouble.kind).1 {
        Some(remedy) => format!("{}; {remedy}", trouble_line(trouble)),
        None => trouble_line(trouble),
    }
}

/// As [`no_gpu`], from the detail of a refusal: the kind of trouble, and after a colon what was said.
pub fn no_gpu_detail(detail: &str) -> String {
    if detail.is_empty() {
        return no_gpu(None);
    }
    let (kind, said) = detail.split_once(": ").unwrap_or((detail, ""));
    match serde_json::from_value(serde_json::Value::String(kind.to_owned())) {
        Ok(kind) => no_gpu(Some(&GpuTrouble {
            kind,
            detail: Some(said.to_owned()),
            pid: None,
            for_ms: None,
        })),
        Err(_) => detail.to_owned(),
    }
}

/// Memory in MiB as people read it: `512 MiB`, `40.0 GiB`.
pub fn mebibytes(memory: u64) -> String {
    if memory < 1024 {
        format!("{memory} MiB")
    } else {
        format!("{:.1} GiB", memory as f64 / 1024.0)
    }
}

/// Where a run stands in line, and what it waits for.
pub fn place(place: &QueuePlace) -> String {
    let mut line = format!("position {} in line", place.position);
    let ahead = place.ahead.len() + place.others_ahead as usize;
    if place.others_ahead > 0 {
        line.push_str(&format!(
            " ({ahead} before it, {} of other accounts)",
            place.others_ahead
        ));
    }
    if let Some(until) = place.until {
        line.push_str(&format!(", waits until {}", until.format("%H:%M:%S UTC")));
    }
    let held: Vec<String> = place.waits_for.iter().map(refusal).collect();
    if !held.is_empty() {
        line.push_str(&format!("; {}", held.join("; ")));
    }
    if !place.watched {
        line.push_str("; nothing on the host will start it before the next contact");
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const KINDS: [TroubleKind; 20] = {
        use TroubleKind as K;
        [
            K::NoGpu,
            K::ToolMissing,
            K::LibraryMissing,
            K::DriverNotLoaded,
            K::DriverMismatch,
            K::NoDevices,
            K::Unsupported,
            K::Denied,
            K::PowerCable,
            K::Interrupt,
            K::InfoRom,
            K::GpuLost,
            K::ResetRequired,
            K::Blocked,
            K::Timeout,
            K::Reading,
            K::Stuck,
            K::Garbled,
            K::CacheUnwritable,
            K::Other,
        ]
    };

    #[test]
    fn every_trouble_has_a_sentence_of_its_own_and_a_remedy() {
        let mut sentences: Vec<&str> = KINDS.iter().map(|kind| trouble(*kind).0).collect();
        sentences.sort_unstable();
        sentences.dedup();
        assert_eq!(sentences.len(), KINDS.len());
        for kind in KINDS {
            assert_eq!(trouble(kind).1.is_none(), kind == TroubleKind::NoGpu, "{kind:?}");
        }
    }

    #[test]
    fn trouble_names_the_process_the_time_and_what_was_said() {
        let stuck = GpuTrouble {
            kind: TroubleKind::Stuck,
            detail: Some("state\n D".to_owned()),
            pid: Some(935),
            for_ms: Some(6 * 60_000 + 5000),
        };
        assert_eq!(
            trouble_line(&stuck),
            "the GPU driver does not answer: `nvidia-smi` hangs and cannot be ended (pid 935, for 6 min): state D"
        );
    }

    #[test]
    fn a_host_without_usable_gpus_says_why_and_what_to_do() {
        assert_eq!(no_gpu(None), "there is no GPU");
        assert_eq!(
            no_gpu_detail("driver_not_loaded: it failed"),
            "the NVIDIA driver is not loaded: it failed; run `sudo modprobe nvidia`; when that fails, install the \
             driver for the running kernel"
        );
        assert_eq!(no_gpu_detail("no_gpu"), "there is no GPU");
        let going_on = no_gpu_detail("reading");
        assert!(
            going_on.starts_with("`nvidia-smi` has not answered yet; "),
            "{going_on}"
        );
        assert_eq!(
            no_gpu_detail("words: of a newer agent"),
            "words: of a newer agent"
        );
    }

    #[test]
    fn a_place_in_line_says_what_it_waits_for() {
        let place: QueuePlace = serde_json::from_value(json!({
            "position": 2, "since": "2026-03-01T10:00:00Z", "ahead": ["rs_aaaaaaaa"], "others_ahead": 1,
            "waits_for": [
                { "uuid": "GPU-a", "index": 0, "name": "H100", "obstacles": [{ "kind": "leased", "run_id": "rs_bbbbbbbb" }] },
                { "uuid": "GPU-b", "index": 1, "name": "H100",
                  "obstacles": [{ "kind": "process", "pid": 7, "user": "alice", "command": "python", "memory": 41000 }] },
            ],
            "watched": true,
        }))
        .unwrap();
        assert_eq!(
            super::place(&place),
            "position 2 in line (2 before it, 1 of other accounts); GPU 0: rs_bbbbbbbb holds it; \
             GPU 1: alice uses it: python (pid 7, 40.0 GiB)"
        );
    }

    #[test]
    fn spans_have_one_unit() {
        let shown = [0, 12_400, 89_000, 125_000, 7_200_000, 200_000_000].map(short);
        assert_eq!(shown, ["0 s", "12 s", "89 s", "2 min", "2 h", "2 d"]);
    }
}
