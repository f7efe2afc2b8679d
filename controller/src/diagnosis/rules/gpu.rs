//! GPUs: their memory, their hardware, and what does not fit them.

use super::{Certainty, Figures, Found, Look, PLAIN, Rule, likely, log, run, seen, tell};
use crate::diagnosis::evidence::kernel;
use crate::diagnosis::judge::Case;
use crate::diagnosis::words::{mebibytes, read_size, size};
use farrun_protocol::diagnostics::{GPUS, KERNEL};
use farrun_protocol::gpu::Health;

const SEE: super::Try = run("see the host's GPUs", "farrun gpu {host}");
const OTHER_HOST: super::Try = run("order it on another host", "farrun rerun {run} --host any");

/// Rows about a GPU's memory.
pub(super) const MEMORY: &[Rule] = &[Rule {
    code: "gpu_out_of_memory",
    when: "the memory of a GPU was full",
    looks: &[
        log(
            r"CUDA out of memory\. Tried to allocate (?P<need>[0-9.]+ [KMGT]?i?B)(?:\. GPU (?P<gpu>[0-9]+) has a total capa?c?i?ty of (?P<total>[0-9.]+ [KMGT]?i?B)(?: of which (?P<free>[0-9.]+ (?:[KMGT]?i?B|bytes)) is free)?| \(GPU (?P<gpu2>[0-9]+); (?P<total2>[0-9.]+ [KMGT]?i?B) total capa?c?i?ty; (?P<own2>[0-9.]+ [KMGT]?i?B) already allocated; (?P<free2>[0-9.]+ (?:[KMGT]?i?B|bytes)) free; (?P<reserved2>[0-9.]+ [KMGT]?i?B) reserved)?",
        ),
        log(r"\btorch\.(?:cuda\.)?OutOfMemoryError: "),
        log(r"(?:RuntimeError|AcceleratorError): CUDA error: out of memory"),
        log(r"\bcupy\.cuda\.memory\.OutOfMemoryError: Out of memory allocating (?P<bytes>[0-9,]+) bytes"),
        log(
            r"RESOURCE_EXHAUSTED: (?:Out of memory|OOM)(?: while trying to allocate (?P<bytes>[0-9]+) bytes| when allocating tensor)?|ResourceExhaustedError: .*OOM when allocating tensor",
        ),
        log(r"Failed to allocate memory for requested buffer of size (?P<bytes>[0-9]+)"),
        log(
            r"(?:cudaMalloc failed: out of memory|CUDA_ERROR_OUT_OF_MEMORY: |cudaErrorMemoryAllocation\b|CUDNN_STATUS_ALLOC_FAILED|CUBLAS_STATUS_ALLOC_FAILED)",
        ),
        log(
            r"ValueError: (?:No available memory for the cache blocks|Free memory on device .* is less than desired GPU memory utilization)",
        ),
        seen(r"torch\.(?:cuda\.)?OutOfMemoryError|CUDA out of memory"),
    ],
    say: "the GPU's memory was full[: the job asked for {need} more][; GPU {gpu} has {total}][, {free} of it free][; {own} were the job's own][; {unused} were reserved and not used, so the memory was fragmented][; others on it: {others}]",
    figures: memory,
    remedies: &[
        run(
            "wait until the GPU is free of others: {others}",
            "farrun rerun {run} --wait --min-free {min_free}",
        ),
        run(
            "let PyTorch use memory that it has reserved: {unused} were",
            "farrun rerun {run} --env PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True",
        ),
        run("make the job smaller", "farrun rerun {run} --set {smaller}"),
        run(
            "use a larger GPU",
            "farrun rerun {run} --host any --min-free {larger}",
        ),
        run(
            "use more GPUs, when the program can share its work among them",
            "farrun rerun {run} --gpus {twice_gpus}",
        ),
        run("see how its memory grew", "farrun gpu --run {run}"),
    ],
    ..PLAIN
}];

/// Rows about everything else of a GPU.
pub(super) const RULES: &[Rule] = &[
    Rule {
        code: "gpu_devices_lost",
        when: "the container lost its GPUs while it ran, usually by `systemctl daemon-reload` on the host",
        looks: &[log(r"Failed to initialize NVML: Unknown Error")],
        say: "the container lost its GPUs while it ran: on `{host}` they are well, and `systemctl daemon-reload` there does this",
        remedies: &[
            run("start it again", "farrun rerun {run}"),
            tell(
                "for good: configure Docker on the host for CDI, or make its devices known with `sudo nvidia-ctk system create-dev-char-symlinks --create-all`",
            ),
        ],
        ..PLAIN
    },
    Rule {
        code: "gpu_lost",
        when: "a GPU of the run has fallen off the bus (Xid 79): hardware, power or PCIe",
        looks: &[
            Look::Facts(|case| of_xids(case, &[79], Certainty::Certain)),
            Look::Facts(lost),
        ],
        say: "the run's GPU[ {which}] has fallen off the bus: hardware, power or PCIe, not the job",
        remedies: &[
            tell(
                "restart the host; when it happens again, look at power supply, temperature and seating of the GPU",
            ),
            OTHER_HOST,
        ],
        ..PLAIN
    },
    Rule {
        code: "gpu_needs_reset",
        when: "a GPU of the run must be reset: uncorrectable memory, NVLink or firmware errors (Xid 48, 62, 64, 74, 95, 119, 120, 140, 143, 158)",
        looks: &[
            Look::Facts(|case| {
                of_xids(
                    case,
                    &[48, 62, 64, 74, 95, 119, 120, 140, 143, 158],
                    Certainty::Certain,
                )
            }),
            Look::Facts(reset),
        ],
        say: "the run's GPU[ {which}] failed and must be reset[ ({meaning})]; the job is not at fault",
        remedies: &[
            tell(
                "end what uses the GPU and run `sudo nvidia-smi --gpu-reset -i INDEX` on the host, or restart it",
            ),
            OTHER_HOST,
        ],
        ..PLAIN
    },
    Rule {
        code: "gpu_program_fault",
        when: "the program did something illegal on the GPU (Xid 13, 31, 32, 69)",
        looks: &[
            Look::Facts(|case| of_xids(case, &[13, 31, 32, 69], Certainty::Certain)),
            log(
                r"CUDA error: (?:an illegal memory access was encountered|misaligned address|an illegal instruction was encountered|device-side assert triggered|unspecified launch failure)",
            ),
            log(r"CUDA_ERROR_(?:ILLEGAL_ADDRESS|LAUNCH_FAILED|ILLEGAL_INSTRUCTION|ASSERT)\b"),
        ],
        say: "the program did something illegal on the GPU[ ({meaning})]: a defect of it or of a library, seldom of the hardware",
        remedies: &[
            run(
                "have CUDA tell where",
                "farrun rerun {run} --env CUDA_LAUNCH_BLOCKING=1",
            ),
            tell(
                "an index out of range (a token, a class, a size that does not fit the model) is the most frequent reason",
            ),
        ],
        ..PLAIN
    },
    Rule {
        code: "gpu_memory_contained",
        when: "a GPU had a memory error that ended only the program which used that memory (Xid 94)",
        looks: &[Look::Facts(|case| of_xids(case, &[94], Certainty::Certain))],
        say: "the run's GPU[ {which}] had a memory error that was contained: only the program that used this memory had to end",
        remedies: &[
            run("order it again", "farrun rerun {run}"),
            tell("when it happens again, reset the GPU: it then takes that memory out of use"),
        ],
        ..PLAIN
    },
    Rule {
        code: "gpu_architecture",
        when: "the image's CUDA code was not built for this GPU",
        looks: &[
            log(r"(?:CUDA error: )?no kernel image is available for execution on the device"),
            log(
                r"with CUDA capability (?P<capability>sm_[0-9a-z]+) is not compatible with the current PyTorch installation",
            ),
            log(
                r"cudaErrorNoKernelImageForDevice|CUDA_ERROR_NO_BINARY_FOR_GPU|the provided PTX was compiled with an unsupported toolchain",
            ),
        ],
        say: "the image's CUDA code was not built for this GPU[: {model}][ (compute capability {compute})]",
        figures: architecture,
        remedies: &[
            tell(
                "use an image whose PyTorch or CUDA was built for this GPU: newer GPUs need newer ones, very old ones need older",
            ),
            OTHER_HOST,
        ],
        ..PLAIN
    },
    Rule {
        code: "gpu_driver_too_old",
        when: "the host's driver is too old for the CUDA of the image",
        looks: &[
            log(r"CUDA driver version is insufficient for CUDA runtime version"),
            log(r"The NVIDIA driver on your system is too old \(found version [0-9]+\)"),
            log(r"forward compatibility was attempted on non supported HW"),
            log(
                r"cudaErrorInsufficientDriver|CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE|CUDA_ERROR_SYSTEM_DRIVER_MISMATCH",
            ),
            log(r"unsupported display driver / cuda driver combination"),
        ],
        say: "the NVIDIA driver of `{host}` is too old for the CUDA in the image[: driver {driver}][, which supports CUDA {cuda} at most]",
        figures: driver,
        remedies: &[
            tell("update the driver of the host, or use an image for an older CUDA"),
            SEE,
            OTHER_HOST,
        ],
        ..PLAIN
    },
    Rule {
        code: "gpu_busy",
        when: "the GPU lets no second program in (exclusive mode), or a process of the past still holds it",
        looks: &[log(
            r"CUDA-capable device\(s\) is/are busy or unavailable|cudaErrorDevicesUnavailable|CUDA_ERROR_DEVICE_UNAVAILABLE",
        )],
        say: "the GPU lets no other program in[: its compute mode is {mode}][; on it: {others}]",
        figures: busy,
        remedies: &[
            tell("end the process that holds it, or run `sudo nvidia-smi -c DEFAULT` on the host"),
            SEE,
        ],
        ..PLAIN
    },
    Rule {
        code: "gpu_not_seen",
        when: "the program sees no GPU, or fewer than it wants",
        looks: &[
            log(
                r"RuntimeError: No CUDA GPUs are available|RuntimeError: Found no NVIDIA driver on your system|CUDA error: no CUDA-capable device is detected|cudaErrorNoDevice\b|CUDA_ERROR_NO_DEVICE\b",
            ),
            log(
                r"Attempting to deserialize object on a CUDA device but torch\.cuda\.is_available\(\) is False",
            ),
            log(r"AssertionError: Torch not compiled with CUDA enabled"),
            log(r"CUDA error: invalid device ordinal|CUDA_ERROR_INVALID_DEVICE\b"),
        ],
        say: "the program found no GPU for what it wanted; the order gave it {gpus_given}",
        remedies: &[
            run("give it GPUs", "farrun rerun {run} --gpus {more_gpus}"),
            tell(
                "a PyTorch without CUDA in the image, or a CUDA_VISIBLE_DEVICES that names a GPU it does not have, look the same",
            ),
        ],
        ..PLAIN
    },
    Rule {
        code: "nccl",
        when: "GPUs of the run could not speak to one another (NCCL)",
        looks: &[
            log(
                r"NCCL (?:error|WARN).*unhandled (?P<kind>system|cuda) error|ncclUnhandled(?:System|Cuda)Error|ncclSystemError|ncclRemoteError|ncclInternalError",
            ),
            log(
                r"(?:Watchdog caught collective operation timeout|NCCL (?:watchdog|communicator|operation).*(?:timeout|timed out))",
            ),
            likely(r"\[c10d\].*(?:timed out|Connection (?:refused|reset))|DistBackendError"),
        ],
        say: "the processes of the run could not speak to one another (NCCL)[: {said}]",
        remedies: &[
            run(
                "give them more /dev/shm, which they use",
                "farrun rerun {run} --shm {more_shm}",
            ),
            run("have NCCL tell why", "farrun rerun {run} --env NCCL_DEBUG=INFO"),
            tell("when one process failed first, its error stands before: the others then wait in vain"),
        ],
        figures: nccl,
        ..PLAIN
    },
    Rule {
        code: "gpu_library",
        when: "a CUDA library could not be started or found",
        looks: &[
            log(
                r"(?:CUBLAS_STATUS_(?:NOT_INITIALIZED|EXECUTION_FAILED|INTERNAL_ERROR|NOT_SUPPORTED|ARCH_MISMATCH)|CUDNN_STATUS_(?:NOT_INITIALIZED|EXECUTION_FAILED|INTERNAL_ERROR|NOT_SUPPORTED|VERSION_MISMATCH|SUBLIBRARY_[A-Z_]+)|CUFFT_[A-Z_]*(?:FAILED|ERROR))\b",
            ),
            log(r"Could not load (?:dynamic )?library [`'\x22]?lib(?:cu|nv)[a-z0-9_]+\.so"),
        ],
        say: "a CUDA library failed in the job[: {said}]",
        figures: super::program::line,
        remedies: &[
            tell("full GPU memory looks like this too: see how it grew"),
            run("see how its memory grew", "farrun gpu --run {run}"),
            tell("libraries of several CUDA versions in one image do not fit one another"),
        ],
        ..PLAIN
    },
    Rule {
        code: "gpu_follow_up",
        when: "the driver tells of a follow-up of another error (Xid 43, 45)",
        looks: &[Look::Facts(|case| of_xids(case, &[43, 45], Certainty::Seen))],
        say: "the driver ended what was on the run's GPU[ {which}], as it does after another error",
        ..PLAIN
    },
    Rule {
        code: "gpu_information",
        when: "the driver tells of repaired memory (Xid 63, 92, 93)",
        looks: &[Look::Facts(|case| of_xids(case, &[63, 92, 93], Certainty::Seen))],
        say: "the driver told about repaired memory of the run's GPU[ {which}]",
        ..PLAIN
    },
    Rule {
        code: "gpu_error",
        when: "the driver tells of another error of a GPU of the run (any other Xid)",
        looks: &[Look::Facts(other_xids)],
        say: "the driver told of an error of the run's GPU[ {which}][ ({meaning})]",
        remedies: &[tell("NVIDIA's page on Xid errors says what the number means")],
        ..PLAIN
    },
    Rule {
        code: "gpu_intruder",
        when: "a process of somebody else was on a GPU of the run",
        looks: &[Look::Facts(intruders)],
        say: "somebody else was on the run's GPU[: {others}]",
        figures: busy,
        ..PLAIN
    },
];

/// Every Xid that some row speaks about.
const TOLD: [u32; 21] = [
    79, 48, 62, 64, 74, 95, 119, 120, 140, 143, 158, 13, 31, 32, 69, 94, 43, 45, 63, 92, 93,
];

fn meaning(xid: u32) -> &'static str {
    match xid {
        13 => "graphics engine exception, often an index out of range",
        31 => "memory page fault",
        32 => "corrupted push buffer",
        48 => "double-bit memory error",
        62 => "internal micro-controller halted",
        64 => "row remapping failed",
        69 => "graphics engine class error",
        74 => "NVLink error",
        95 => "uncontained memory error",
        119 | 120 => "the GPU's firmware does not answer",
        140 => "unrecovered memory error",
        143 => "GPU initialisation failed",
        158 => "GPU fatal timeout",
        _ => "",
    }
}

fn xids<'a>(case: &Case<'a>) -> Vec<(u32, &'a str, String)> {
    let mut found = Vec::new();
    for line in case.kernel() {
        let Some((bus, number)) = kernel::xid(&line.text) else {
            continue;
        };
        if let Some(name) = case.own_gpu_at(bus) {
            found.push((number, line.text.as_str(), name));
        }
    }
    found
}

fn from_xids(found: Vec<(u32, &str, String)>, certainty: Certainty) -> Option<Found> {
    let (number, _, name) = found.first()?;
    let words = match meaning(*number) {
        "" => format!("Xid {number}"),
        words => format!("Xid {number}: {words}"),
    };
    let start = Found::with(certainty)
        .figure("which", name.clone())
        .figure("meaning", words);
    Some(
        found
            .iter()
            .take(3)
            .fold(start, |found, (_, line, _)| found.quoting(KERNEL, line)),
    )
}

fn of_xids(case: &Case<'_>, numbers: &[u32], certainty: Certainty) -> Option<Found> {
    let mut found = xids(case);
    found.retain(|(number, ..)| numbers.contains(number));
    from_xids(found, certainty)
}

fn other_xids(case: &Case<'_>) -> Option<Found> {
    let mut found = xids(case);
    found.retain(|(number, ..)| !TOLD.contains(number));
    from_xids(found, Certainty::Seen)
}

fn unwell(case: &Case<'_>, health: Health) -> Option<Found> {
    let report = case.evidence.gpus.as_ref()?;
    let gpu = report
        .gpus
        .iter()
        .find(|gpu| gpu.health == health && case.is_own(gpu))?;
    let words = format!(
        "GPU {} ({}): {}",
        gpu.index,
        gpu.name,
        crate::model::gpu_words::health(health).0
    );
    Some(
        Found::certain()
            .quoting(GPUS, &words)
            .figure("which", format!("{} ({})", gpu.index, gpu.name)),
    )
}

fn lost(case: &Case<'_>) -> Option<Found> {
    unwell(case, Health::Lost)
}

fn reset(case: &Case<'_>) -> Option<Found> {
    unwell(case, Health::ResetRequired)
}

fn intruders(case: &Case<'_>) -> Option<Found> {
    let told = case
        .facts
        .run
        .gpu_summary
        .as_ref()
        .is_some_and(|summary| summary.intruders);
    told.then(|| Found::with(Certainty::Seen))
}

fn memory(case: &Case<'_>, found: &Found) -> Figures {
    let mut figures = Figures::new();
    let said = |names: [&'static str; 2]| names.iter().find_map(|name| found.figures.get(name)).cloned();
    for (name, names) in [
        ("gpu", ["gpu", "gpu2"]),
        ("total", ["total", "total2"]),
        ("free", ["free", "free2"]),
        ("own", ["own", "own2"]),
    ] {
        figures.extend(said(names).map(|value| (name, value)));
    }
    if let Some(bytes) = found.figures.get("bytes") {
        let digits: String = bytes.chars().filter(char::is_ascii_digit).collect();
        figures.extend(digits.parse().ok().map(|bytes| ("need", size(bytes))));
    }
    let line = found
        .quotes
        .first()
        .map(|quote| quote.text.as_str())
        .unwrap_or_default();
    if let Some(own) = between(line, "this process has ", " memory in use") {
        figures.insert("own", own.to_owned());
    }
    // What is reserved and not used is told only when it is much: a tenth of the GPU.
    let bytes = |name: &str| found.figures.get(name).and_then(|text| read_size(text));
    let total = figures.get("total").and_then(|text| read_size(text));
    let told = between(
        line,
        "by PyTorch, and ",
        " is reserved by PyTorch but unallocated",
    )
    .and_then(read_size);
    let unused = told.or_else(|| Some(bytes("reserved2")?.saturating_sub(bytes("own2")?)));
    if let (Some(total), Some(unused)) = (total, unused)
        && unused > total / 10
    {
        figures.insert("unused", size(unused));
    }
    figures.extend(others(case));
    let own = case
        .own_gpus()
        .into_iter()
        .filter_map(|gpu| gpu.memory_total.value())
        .min();
    if let Some(mebibytes) = own.or_else(|| total.map(|total| total >> 20)) {
        figures.insert("min_free", format!("{}g", mebibytes * 9 / 10 / 1024));
        figures.insert("larger", format!("{}g", mebibytes.div_ceil(1024) + 1));
        figures
            .entry("total")
            .or_insert_with(|| super::super::words::mebibytes(mebibytes));
    }
    if !figures.contains_key("gpu") && case.own_gpus().len() == 1 {
        figures.insert("gpu", "0".to_owned());
    }
    figures
}

/// What stands between two pieces of text, when it is short.
fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(before)?;
    let (found, _) = rest.split_once(after)?;
    (found.len() < 30).then_some(found)
}

/// Who else is on the run's GPUs.
fn others(case: &Case<'_>) -> Option<(&'static str, String)> {
    let told: Vec<String> = case
        .others()
        .iter()
        .take(4)
        .map(|other| match other.memory {
            Some(memory) => format!("{} with {}", other.who, mebibytes(memory)),
            None => other.who.clone(),
        })
        .collect();
    (!told.is_empty()).then(|| ("others", told.join(", ")))
}

fn busy(case: &Case<'_>, _: &Found) -> Figures {
    let mut figures: Figures = others(case).into_iter().collect();
    let mode = case.own_gpus().iter().find_map(|gpu| gpu.compute_mode.clone());
    figures.extend(mode.filter(|mode| mode != "Default").map(|mode| ("mode", mode)));
    figures
}

fn architecture(case: &Case<'_>, _: &Found) -> Figures {
    let mut figures = Figures::new();
    if let Some(gpu) = case.own_gpus().first() {
        figures.insert("model", gpu.name.clone());
        figures.extend(gpu.compute_capability.clone().map(|compute| ("compute", compute)));
    }
    figures
}

fn driver(case: &Case<'_>, _: &Found) -> Figures {
    let driver = case
        .evidence
        .gpus
        .as_ref()
        .and_then(|report| report.driver.clone());
    let mut figures = Figures::new();
    if let Some(driver) = driver {
        figures.insert("driver", driver.version);
        figures.extend(driver.cuda.map(|cuda| ("cuda", cuda)));
    }
    figures
}

fn nccl(case: &Case<'_>, found: &Found) -> Figures {
    let mut figures = super::program::line(case, found);
    let now = case.facts.run.spec.shm_size.unwrap_or(64 << 20);
    if !case.facts.run.spec.ipc_host && now < 8 << 30 {
        figures.insert("more_shm", "8g".to_owned());
    }
    figures
}
