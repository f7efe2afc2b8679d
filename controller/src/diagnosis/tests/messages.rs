//! Real messages: each maps to its row and to no other.

use super::{Folder, codes};
use crate::diagnosis::rules::RULES;
use crate::diagnosis::{Certainty, Diagnosis};
use std::collections::BTreeSet;

/// Lines of a run log. A `\n` makes several of one.
const LOG: &[(&str, &str)] = &[
    (
        "gpu_out_of_memory",
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.15 GiB of which 1.25 GiB is free. Including non-PyTorch memory, this process has 77.88 GiB memory in use. Of the allocated memory 75.02 GiB is allocated by PyTorch, and 1.94 GiB is reserved by PyTorch but unallocated. If reserved but unallocated memory is large try setting PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True to avoid fragmentation.",
    ),
    (
        "gpu_out_of_memory",
        "torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacty of 23.69 GiB of which 10.81 MiB is free. Process 4711 has 23.66 GiB memory in use.",
    ),
    (
        "gpu_out_of_memory",
        "RuntimeError: CUDA out of memory. Tried to allocate 144.00 MiB (GPU 0; 6.00 GiB total capacity; 4.41 GiB already allocated; 0 bytes free; 4.75 GiB reserved in total by PyTorch) If reserved memory is >> allocated memory try setting max_split_size_mb to avoid fragmentation.",
    ),
    (
        "gpu_out_of_memory",
        "[rank3]: torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 1.50 GiB. GPU 3 has a total capacity of 44.53 GiB of which 832.00 MiB is free.",
    ),
    ("gpu_out_of_memory", "RuntimeError: CUDA error: out of memory"),
    (
        "gpu_out_of_memory",
        "torch.AcceleratorError: CUDA error: out of memory",
    ),
    (
        "gpu_out_of_memory",
        "jaxlib.xla_extension.XlaRuntimeError: RESOURCE_EXHAUSTED: Out of memory while trying to allocate 8589934592 bytes.",
    ),
    (
        "gpu_out_of_memory",
        "cupy.cuda.memory.OutOfMemoryError: Out of memory allocating 4,294,967,296 bytes (allocated so far: 20 bytes).",
    ),
    (
        "gpu_out_of_memory",
        "ggml_backend_cuda_buffer_type_alloc_buffer: allocating 9216.00 MiB on device 0: cudaMalloc failed: out of memory",
    ),
    (
        "gpu_out_of_memory",
        "ValueError: No available memory for the cache blocks. Try increasing `gpu_memory_utilization` when initializing the engine.",
    ),
    ("gpu_devices_lost", "Failed to initialize NVML: Unknown Error"),
    (
        "gpu_driver_not_loaded",
        "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure that the latest NVIDIA driver is installed and running.",
    ),
    (
        "gpu_driver_mismatch",
        "Failed to initialize NVML: Driver/library version mismatch",
    ),
    (
        "gpu_library_missing",
        "NVIDIA-SMI couldn't find libnvidia-ml.so library in your system. Please make sure that the NVIDIA Display Driver is properly installed and present in your system.",
    ),
    ("gpu_none_found", "No devices were found"),
    ("gpu_unsupported", "No supported GPUs were found"),
    (
        "gpu_program_fault",
        "RuntimeError: CUDA error: an illegal memory access was encountered",
    ),
    (
        "gpu_program_fault",
        "RuntimeError: CUDA error: device-side assert triggered",
    ),
    (
        "gpu_architecture",
        "RuntimeError: CUDA error: no kernel image is available for execution on the device",
    ),
    (
        "gpu_architecture",
        "NVIDIA GeForce RTX 5090 with CUDA capability sm_120 is not compatible with the current PyTorch installation.",
    ),
    (
        "gpu_driver_too_old",
        "RuntimeError: cuda runtime error (35) : CUDA driver version is insufficient for CUDA runtime version at /opt/conda/x.cpp:50",
    ),
    (
        "gpu_driver_too_old",
        "RuntimeError: The NVIDIA driver on your system is too old (found version 11040). Please update your GPU driver",
    ),
    (
        "gpu_driver_too_old",
        "RuntimeError: Unexpected error from cudaGetDeviceCount(). Error 804: forward compatibility was attempted on non supported HW",
    ),
    (
        "gpu_busy",
        "RuntimeError: CUDA error: CUDA-capable device(s) is/are busy or unavailable",
    ),
    ("gpu_not_seen", "RuntimeError: No CUDA GPUs are available"),
    (
        "gpu_not_seen",
        "RuntimeError: Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU",
    ),
    ("gpu_not_seen", "RuntimeError: CUDA error: invalid device ordinal"),
    (
        "gpu_not_seen",
        "AssertionError: Torch not compiled with CUDA enabled",
    ),
    (
        "nccl",
        "torch.distributed.DistBackendError: NCCL error in: ../torch/csrc/distributed/c10d/ProcessGroupNCCL.cpp:1970, unhandled system error (run with NCCL_DEBUG=INFO for details), NCCL version 2.20.5",
    ),
    (
        "nccl",
        "RuntimeError: NCCL error in: /pytorch/torch/lib/c10d/ProcessGroupNCCL.cpp:911, unhandled cuda error, NCCL version 2.7.8",
    ),
    (
        "nccl",
        "[rank0]:[E ProcessGroupNCCL.cpp:616] [Rank 0] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=12, OpType=ALLREDUCE) ran for 600021 milliseconds before timing out.",
    ),
    (
        "gpu_library",
        "RuntimeError: cuDNN error: CUDNN_STATUS_NOT_INITIALIZED",
    ),
    (
        "gpu_library",
        "RuntimeError: CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`",
    ),
    (
        "shm_full",
        "ERROR: Unexpected bus error encountered in worker. This might be caused by insufficient shared memory (shm).\nRuntimeError: DataLoader worker (pid 277) is killed by signal: Bus error. It is possible that dataloader's workers are out of shared memory. Please try to raise your shared memory limit.",
    ),
    (
        "shm_full",
        "OSError: [Errno 28] No space left on device: '/dev/shm/torch_42_1'",
    ),
    (
        "shm_full",
        "RuntimeError: unable to write to file </torch_118_2860912833_3>: No space left on device (28)",
    ),
    (
        "disk_full",
        "OSError: [Errno 28] No space left on device: '/root/.cache/huggingface/hub/x.incomplete'",
    ),
    (
        "disk_full",
        "tar: checkpoint/model.bin: Cannot write: No space left on device",
    ),
    ("disk_full", "Error: No space left on device (os error 28)"),
    (
        "disk_full",
        "RuntimeError: [enforce fail at inline_container.cc:603] . unexpected pos 1856 vs 1750",
    ),
    (
        "quota_exceeded",
        "OSError: [Errno 122] Disk quota exceeded: '/home/ada/x'",
    ),
    ("read_only", "/bin/sh: can't create /x/f: Read-only file system"),
    ("read_only", "OSError: [Errno 30] Read-only file system: '/app'"),
    (
        "permission_denied",
        "PermissionError: [Errno 13] Permission denied: '/farrun/outputs/video.mp4'",
    ),
    (
        "permission_denied",
        "Error: EACCES: permission denied, open '/data/x'",
    ),
    ("permission_denied", "Error: Permission denied (os error 13)"),
    (
        "too_many_files",
        "OSError: [Errno 24] Too many open files: '/data/1.png'",
    ),
    ("disk_broken", "OSError: [Errno 5] Input/output error"),
    (
        "model_gated",
        "huggingface_hub.errors.GatedRepoError: 401 Client Error. (Request ID: Root=1-6655)",
    ),
    (
        "model_gated",
        "Cannot access gated repo for url https://huggingface.co/meta-llama/Llama-3.1-8B/resolve/main/config.json.",
    ),
    (
        "model_denied",
        "requests.exceptions.HTTPError: 401 Client Error: Unauthorized for url: https://huggingface.co/api/models/org/name",
    ),
    (
        "model_denied",
        "huggingface_hub.errors.HfHubHTTPError: 403 Client Error: Forbidden for url: https://huggingface.co/api/models/org/name",
    ),
    (
        "model_unknown",
        "huggingface_hub.errors.RepositoryNotFoundError: 404 Client Error. (Request ID: Root=1-66)",
    ),
    (
        "model_unknown",
        "OSError: org/nonesuch is not a local folder and is not a valid model identifier listed on 'https://huggingface.co/models'",
    ),
    (
        "model_not_cached",
        "huggingface_hub.errors.LocalEntryNotFoundError: Cannot find an appropriate cached snapshot folder for the specified revision on the local disk and outgoing traffic has been disabled.",
    ),
    (
        "model_not_cached",
        "huggingface_hub.errors.IncompleteSnapshotError: 3 files are missing",
    ),
    (
        "model_not_cached",
        "huggingface_hub.errors.OfflineModeIsEnabled: Cannot reach https://huggingface.co/api/models/gpt2: offline mode is enabled. To disable it, please unset the `HF_HUB_OFFLINE` environment variable.",
    ),
    (
        "model_not_cached",
        "OSError: We couldn't connect to 'https://huggingface.co' to load this file, couldn't find it in the cached files",
    ),
    (
        "model_rate_limit",
        "huggingface_hub.errors.HfHubHTTPError: 429 Client Error: Too Many Requests for url: https://huggingface.co/api/models",
    ),
    (
        "model_damaged",
        "safetensors_rust.SafetensorError: Error while deserializing header: HeaderTooLarge",
    ),
    ("model_damaged", "_pickle.UnpicklingError: invalid load key, 'v'."),
    (
        "model_damaged",
        "RuntimeError: PytorchStreamReader failed reading zip archive: failed finding central directory",
    ),
    (
        "model_mismatch",
        "RuntimeError: Error(s) in loading state_dict for UNet2DConditionModel:",
    ),
    (
        "name_unknown",
        "requests.exceptions.ConnectionError: HTTPSConnectionPool(host='huggingface.co', port=443): Max retries exceeded with url: /api (Caused by NameResolutionError(\"Failed to resolve 'huggingface.co' ([Errno -3] Temporary failure in name resolution)\"))",
    ),
    ("name_unknown", "curl: (6) Could not resolve host: example.org"),
    (
        "certificate",
        "requests.exceptions.SSLError: HTTPSConnectionPool(host='x', port=443): Max retries exceeded with url: / (Caused by SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed certificate')))",
    ),
    ("address_in_use", "OSError: [Errno 98] Address already in use"),
    (
        "unreachable",
        "ConnectionRefusedError: [Errno 111] Connection refused",
    ),
    (
        "unreachable",
        "requests.exceptions.ConnectTimeout: HTTPSConnectionPool(host='10.0.0.1', port=443): Max retries exceeded with url: / (Caused by ConnectTimeoutError)",
    ),
    ("unreachable", "OSError: [Errno 101] Network is unreachable"),
    (
        "library_too_new",
        "ImportError: /lib/x86_64-linux-gnu/libc.so.6: version `GLIBC_2.34' not found (required by /app/lib/libfoo.so)",
    ),
    (
        "library_missing",
        "ImportError: libGL.so.1: cannot open shared object file: No such file or directory",
    ),
    (
        "library_missing",
        "./main: error while loading shared libraries: libcudart.so.12: cannot open shared object file: No such file or directory",
    ),
    ("module_missing", "ModuleNotFoundError: No module named 'einops'"),
    (
        "module_missing",
        "/usr/bin/python3: No module named farm\nModuleNotFoundError: No module named 'farm.core'",
    ),
    (
        "import_failed",
        "ImportError: cannot import name 'cached_download' from 'huggingface_hub' (/usr/lib/python3/site-packages/huggingface_hub/__init__.py)",
    ),
    (
        "import_failed",
        "ImportError: /usr/lib/flash_attn.so: undefined symbol: _ZN3c104cuda9SetDeviceEi",
    ),
    (
        "file_missing",
        "FileNotFoundError: [Errno 2] No such file or directory: '/farrun/inputs/video.mp4'",
    ),
    (
        "file_missing",
        "python: can't open file '/app/run.py': [Errno 2] No such file or directory",
    ),
    (
        "arguments_wrong",
        "run.py: error: unrecognized arguments: --stpes 20",
    ),
    (
        "media_broken",
        "/farrun/inputs/a.mp4: Invalid data found when processing input",
    ),
    ("media_broken", "[vost#0:0 @ 0x55] Unknown encoder 'libx264'"),
    (
        "media_broken",
        "PIL.UnidentifiedImageError: cannot identify image file '/farrun/inputs/a.png'",
    ),
    ("threads_refused", "RuntimeError: can't start new thread"),
    (
        "threads_refused",
        "OpenBLAS blas_thread_init: pthread_create failed for thread 12 of 64: Operation not permitted",
    ),
    ("python_memory", "MemoryError"),
    (
        "python_memory",
        "numpy.core._exceptions._ArrayMemoryError: Unable to allocate 14.9 GiB for an array with shape (2000, 1000, 1000)",
    ),
    (
        "python_memory",
        "RuntimeError: [enforce fail at alloc_cpu.cpp:75] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 103079215104 bytes. Error code 12 (Cannot allocate memory)",
    ),
    ("wrong_architecture", "/bin/sh: 1: /app/tool: Exec format error"),
];

/// What engines and registries say about a start that failed: reason of the verdict, and the text.
const SAID: &[(&str, &str, &str)] = &[
    (
        "gpu_toolkit_missing",
        "gpu_unavailable",
        "could not select device driver \"\" with capabilities: [[gpu]]",
    ),
    (
        "gpu_cdi_missing",
        "gpu_unavailable",
        "could not select device driver \"cdi\" with capabilities: []",
    ),
    (
        "gpu_cdi_missing",
        "engine_refused",
        "CDI device injection failed: unresolvable CDI devices nvidia.com/gpu=GPU-1",
    ),
    (
        "gpu_runtime_missing",
        "engine_refused",
        "Unknown runtime specified nvidia",
    ),
    (
        "gpu_runtime_missing",
        "engine_refused",
        "unknown or invalid runtime name: nvidia",
    ),
    (
        "gpu_driver_not_loaded",
        "engine_refused",
        "failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: error during container init: error running hook #0: error running hook: exit status 1, stdout: , stderr: nvidia-container-cli: initialization error: nvml error: driver not loaded: unknown",
    ),
    (
        "gpu_library_missing",
        "engine_refused",
        "OCI runtime create failed: error running prestart hook #0: exit status 1, stdout: , stderr: nvidia-container-cli: initialization error: load library failed: libnvidia-ml.so.1: cannot open shared object file: no such file or directory: unknown",
    ),
    (
        "gpu_driver_mismatch",
        "engine_refused",
        "stderr: nvidia-container-cli: initialization error: nvml error: Driver/library version mismatch: unknown",
    ),
    (
        "gpu_none_found",
        "engine_refused",
        "stderr: nvidia-container-cli: device error: GPU-1234: unknown device: unknown",
    ),
    (
        "gpu_cuda_too_new",
        "engine_refused",
        "stderr: nvidia-container-cli: requirement error: unsatisfied condition: cuda>=12.4, please update your driver to a newer version, or use an earlier cuda container: unknown",
    ),
    (
        "device_missing",
        "engine_refused",
        "error gathering device information while adding custom device \"/dev/nvidia0\": no such file or directory",
    ),
    (
        "command_not_found",
        "engine_refused",
        "failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: exec: \"/bin/nosuch\": stat /bin/nosuch: no such file or directory: unknown",
    ),
    (
        "command_not_found",
        "engine_refused",
        "OCI runtime create failed: runc create failed: unable to start container process: exec: \"python4\": executable file not found in $PATH: unknown",
    ),
    (
        "command_not_executable",
        "engine_refused",
        "failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: exec: \"/tmp\": permission denied: unknown",
    ),
    ("command_not_found", "command_not_found", "python4"),
    (
        "command_not_executable",
        "command_not_executable",
        "/app: Permission denied (os error 13)",
    ),
    (
        "wrong_architecture",
        "command_not_executable",
        "/app/tool: Exec format error (os error 8)",
    ),
    (
        "working_directory",
        "working_directory",
        "/workspace: No such file or directory (os error 2)",
    ),
    (
        "registry_unreachable",
        "image_pull",
        "Get \"http://localhost:9/v2/\": dial tcp 127.0.0.1:9: connect: connection refused",
    ),
    (
        "registry_unreachable",
        "image_pull",
        "Get \"https://registry-1.docker.io/v2/\": net/http: request canceled while waiting for connection (Client.Timeout exceeded while awaiting headers)",
    ),
    (
        "registry_name_unknown",
        "image_pull",
        "Get \"https://registry.example.invalid/v2/\": dial tcp: lookup registry.example.invalid on 10.0.0.53:53: no such host",
    ),
    (
        "registry_certificate",
        "image_pull",
        "Get \"https://registry.lan:5000/v2/\": tls: failed to verify certificate: x509: certificate signed by unknown authority",
    ),
    (
        "image_denied",
        "image_denied",
        "pull access denied for org/secret, repository does not exist or may require 'docker login': denied: requested access to the resource is denied",
    ),
    (
        "image_denied",
        "image_denied",
        "Head \"https://nvcr.io/v2/nvidia/x/manifests/1\": unauthorized: authentication required",
    ),
    (
        "image_tag_missing",
        "image_missing",
        "manifest for python:nonesuch not found: manifest unknown: manifest unknown",
    ),
    ("image_tag_missing", "image_missing", "No such image: demo:1"),
    (
        "image_rate_limit",
        "image_pull",
        "toomanyrequests: You have reached your pull rate limit. You may increase the limit by authenticating and upgrading: https://www.docker.com/increase-rate-limit",
    ),
    (
        "image_platform",
        "image_pull",
        "no matching manifest for linux/arm64/v8 in the manifest list entries",
    ),
    (
        "mount_missing",
        "engine_refused",
        "invalid mount config for type \"bind\": bind source path does not exist: /nope/does/not/exist",
    ),
    (
        "gpu_no_such",
        "gpu_refused",
        "the host has no such GPUs: no GPU is named by `H200`",
    ),
    (
        "mount_missing",
        "engine_refused",
        "a folder to mount does not exist on the host: /data/not here",
    ),
    (
        "engine_unreachable",
        "not_launched",
        "no container engine answers on the host: unix:///var/run/docker.sock: No such file or directory (os error 2)",
    ),
    (
        "engine_unreachable",
        "not_launched",
        "the order did not reach the host: unix:///var/run/docker.sock: No such file or directory (os error 2)",
    ),
    (
        "engine_denied",
        "not_launched",
        "the account may not use Docker on the host: unix:///var/run/docker.sock: Permission denied (os error 13)",
    ),
    (
        "mount_refused",
        "engine_refused",
        "failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: error during container init: error mounting \"/home/ada/x\" to rootfs at \"/x\": mount /home/ada/x:/x: permission denied: unknown",
    ),
    (
        "mount_refused",
        "engine_refused",
        "OCI runtime create failed: runc create failed: unable to start container process: exec: \"/.farrun/farrun-agent\": permission denied: unknown",
    ),
    (
        "disk_full_image",
        "image_pull",
        "failed to register layer: write /usr/lib/libtorch_cuda.so: no space left on device",
    ),
    ("image_denied", "image_denied", "words of another registry"),
    ("image_pull", "image_pull", "words of another registry"),
    ("image_tag_missing", "image_missing", "words of another registry"),
    ("engine_refused", "engine_refused", "words of another engine"),
    ("gpu_unavailable", "gpu_unavailable", "words of another engine"),
];

/// What is wrong with how one message is told; nothing when all is well.
fn wrong(diagnosis: &Diagnosis, code: &str) -> Option<String> {
    let found = codes(diagnosis);
    let cause = diagnosis.cause.as_ref();
    let sure = cause.is_some_and(|cause| cause.certainty == Certainty::Certain);
    let filled = cause.is_some_and(|cause| !cause.sentence.contains(['{', '}']));
    let well = found == [code] && sure && filled;
    (!well).then(|| {
        format!(
            "expected {code}, found {found:?}: {:?}",
            cause.map(|cause| &cause.sentence)
        )
    })
}

fn all_well(wrong: &[String]) {
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_message_of_a_job_maps_to_its_row_and_to_no_other() {
    let told = LOG.iter().filter_map(|(code, text)| {
        let around = format!("Loading checkpoint shards: 100%\nstep 1/20\n{text}\n");
        let diagnosis = Folder::new().log(&around).read();
        if let Some(wrong) = wrong(&diagnosis, code) {
            return Some(format!("{wrong}\n    {text}"));
        }
        let quote = diagnosis
            .cause
            .as_ref()
            .and_then(|cause| cause.evidence.first())
            .unwrap();
        let offset = usize::try_from(quote.offset.unwrap()).unwrap();
        assert!(
            around[offset..].starts_with(quote.text.split_whitespace().next().unwrap()),
            "{quote:?}"
        );
        assert_eq!(diagnosis.around.iter().filter(|line| line.cause).count(), 1);
        None
    });
    all_well(&told.collect::<Vec<_>>());
}

#[test]
fn every_message_of_an_engine_maps_to_its_row_and_to_no_other() {
    let texts = SAID.iter().flat_map(|(code, reason, text)| {
        let daemon = format!("docker: Error response from daemon: {text}");
        [(*code, *reason, (*text).to_owned()), (*code, *reason, daemon)]
    });
    let told = texts.filter_map(|(code, reason, text)| {
        let diagnosis = Folder::new().said(reason, &text).read();
        wrong(&diagnosis, code).map(|wrong| format!("{wrong}\n    {text}"))
    });
    all_well(&told.collect::<Vec<_>>());
}

#[test]
fn colours_progress_bars_and_line_ends_hide_nothing() {
    let mut told = Vec::new();
    for (code, text) in LOG {
        let plain = text.replace('\n', "\r\n");
        for dressed in [
            format!("{plain}\r\n"),
            format!(" 40%|####      | 8/20\r 45%|####5     | 9/20\r{plain}\n"),
            format!("\x1b[31;1m{text}\x1b[0m\n"),
            format!("\x1b]0;title\x07{text}\n\n\n"),
            (*text).to_owned(),
        ] {
            let diagnosis = Folder::new().log(&dressed).read();
            told.extend(wrong(&diagnosis, code).map(|wrong| format!("{wrong}\n    {dressed:?}")));
        }
    }
    all_well(&told);
}

#[test]
fn every_row_about_words_has_a_message() {
    use crate::diagnosis::rules::Look;
    let tested: BTreeSet<&str> = LOG
        .iter()
        .map(|(code, _)| *code)
        .chain(SAID.iter().map(|(code, ..)| *code))
        .collect();
    let untested: Vec<&str> = RULES
        .iter()
        .filter(|rule| !rule.last_resort && rule.looks.iter().any(|look| !matches!(look, Look::Facts(_))))
        .map(|rule| rule.code)
        .filter(|code| !tested.contains(code))
        .collect();
    assert_eq!(untested, Vec::<&str>::new());
}

#[test]
fn codes_are_unique_and_every_remedy_can_be_read() {
    let mut codes: Vec<&str> = RULES.iter().map(|rule| rule.code).collect();
    codes.sort_unstable();
    let all = codes.len();
    codes.dedup();
    assert_eq!(codes.len(), all);
    for rule in RULES.iter() {
        assert!(
            !rule.when.is_empty() && !rule.say.is_empty() && !rule.looks.is_empty(),
            "{}",
            rule.code
        );
        assert!(
            rule.code.chars().all(|c| c.is_ascii_lowercase() || c == '_'),
            "{}",
            rule.code
        );
    }
}
