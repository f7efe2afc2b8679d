//! Programs, drivers and GPUs that do not fit one another.

use super::others::busy;
use super::{OTHER_HOST, SEE};
use crate::diagnosis::judge::Case;
use crate::diagnosis::rules::{Figures, Found, PLAIN, Rule, likely, log, program, run, tell};

/// Rows about it.
pub(in crate::diagnosis::rules) const RULES: &[Rule] = &[
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
        figures: program::line,
        remedies: &[
            tell("full GPU memory looks like this too: see how it grew"),
            run("see how its memory grew", "farrun gpu --run {run}"),
            tell("libraries of several CUDA versions in one image do not fit one another"),
        ],
        ..PLAIN
    },
];

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
    let mut figures = program::line(case, found);
    let now = case.facts.run.spec.shm_size.unwrap_or(64 << 20);
    if !case.facts.run.spec.ipc_host && now < 8 << 30 {
        figures.insert("more_shm", "8g".to_owned());
    }
    figures
}
