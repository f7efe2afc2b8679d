//! GPUs that could not be handed to the container: the toolkit, the driver, the engine.

use super::{AGAIN, DOCTOR};
use crate::diagnosis::Missing;
use crate::diagnosis::judge::Case;
use crate::diagnosis::rules::{Figures, Found, Look, PLAIN, Rule, Try, log, run, said, tell};
use farrun_protocol::diagnostics::TOOLKIT as TOOLKIT_FILE;
use farrun_protocol::gpu::TroubleKind;

const TOOLKIT: Try = tell(
    "install the NVIDIA Container Toolkit on the host, then `sudo nvidia-ctk runtime configure --runtime=docker` and `sudo systemctl restart docker`",
);

/// Rows about it.
pub(in crate::diagnosis::rules) const RULES: &[Rule] = &[
    Rule {
        code: "gpu_toolkit_missing",
        when: "the engine has no way to hand out GPUs: the NVIDIA Container Toolkit is not installed, or Docker was not restarted since",
        looks: &[said(
            r#"could not select device driver \\?"\\?" with capabilities: \[\[?gpu"#,
        )],
        say: "Docker on `{host}` cannot hand out GPUs: {toolkit}",
        figures: toolkit,
        remedies: &[TOOLKIT, DOCTOR, AGAIN],
        ..PLAIN
    },
    Rule {
        code: "gpu_cdi_missing",
        when: "the engine does not know GPUs by CDI: it is off, without descriptions, or the engine is too old",
        looks: &[
            said(r#"could not select device driver \\?"cdi"#),
            said(r"unresolvable CDI devices|CDI device injection failed"),
        ],
        say: "Docker on `{host}` does not know GPUs by CDI: that is off, has no descriptions, or needs a newer engine (25 or later)",
        remedies: &[
            tell(
                "run `sudo nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml` on the host, or configure the `nvidia` runtime instead",
            ),
            DOCTOR,
        ],
        ..PLAIN
    },
    Rule {
        code: "gpu_runtime_missing",
        when: "the engine does not know the runtime `nvidia`",
        looks: &[said(
            r"(?i)unknown (?:or invalid )?runtime (?:specified|name)?:? ?[\x22']?(?P<name>[a-z0-9._-]+)",
        )],
        say: "Docker on `{host}` does not know the runtime `{name}`",
        remedies: &[TOOLKIT, DOCTOR],
        ..PLAIN
    },
    Rule {
        code: "gpu_driver_not_loaded",
        when: "the toolkit is there and the host's NVIDIA driver is not loaded",
        looks: &[
            said(r"nvidia-container-cli: .*(?:driver not loaded|nvml error: driver)"),
            said(
                r"nvidia-container-cli: .*driver rpc error|nvidia-container-cli: initialization error: (?:cuda|driver) error",
            ),
            log(r"^\s*NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver"),
            Look::Facts(|case| case.trouble_is(TroubleKind::DriverNotLoaded)),
        ],
        say: "the NVIDIA driver of `{host}` is not loaded",
        remedies: &[
            tell(
                "run `sudo modprobe nvidia` on the host; when that fails, install the driver for the running kernel (an update of the kernel is the usual reason)",
            ),
            DOCTOR,
            AGAIN,
        ],
        ..PLAIN
    },
    Rule {
        code: "gpu_driver_mismatch",
        when: "the driver's library and kernel module are of different versions: updated without a restart",
        looks: &[
            said(r"(?i)driver/library version mismatch"),
            log(r"Failed to initialize NVML: Driver/library version mismatch"),
            Look::Facts(|case| case.trouble_is(TroubleKind::DriverMismatch)),
        ],
        say: "the NVIDIA driver of `{host}` was updated without a restart: its library and its kernel module are of different versions",
        remedies: &[
            tell(
                "restart the host; `grep -A3 unattended-upgrade /var/log/apt/history.log` there tells whether it updates itself",
            ),
            AGAIN,
        ],
        ..PLAIN
    },
    Rule {
        code: "gpu_library_missing",
        when: "the host's NVIDIA driver is not installed, or its library is missing",
        looks: &[
            said(
                r"libnvidia-ml\.so(?:\.1)?: cannot open|nvidia-container-cli: .*(?:load library failed|ldcache error)",
            ),
            log(r"^\s*NVIDIA-SMI couldn't find libnvidia-ml\.so"),
            Look::Facts(|case| case.trouble_is(TroubleKind::LibraryMissing)),
        ],
        say: "the NVIDIA driver is not installed on `{host}`, or its library `libnvidia-ml` is missing",
        remedies: &[
            tell("install the driver on the host, library and kernel module of one version"),
            DOCTOR,
            AGAIN,
        ],
        ..PLAIN
    },
    Rule {
        code: "gpu_none_found",
        when: "the driver finds no GPU",
        looks: &[
            log(r"^\s*No devices were found\s*$"),
            said(
                r"nvidia-container-cli: .*(?:no devices? (?:found|detected)|device error: .*unknown device)",
            ),
            Look::Facts(|case| case.trouble_is(TroubleKind::NoDevices)),
        ],
        say: "the NVIDIA driver of `{host}` finds no such GPU",
        remedies: &[
            tell(
                "look at `lspci -d 10de:` and `sudo dmesg | grep -i nvrm` on the host; a GPU may have failed, or be given to a virtual machine",
            ),
            DOCTOR,
        ],
        ..PLAIN
    },
    Rule {
        code: "gpu_unsupported",
        when: "the driver does not support the GPUs that are there, or another driver holds them",
        looks: &[
            log(r"^\s*(?:NVIDIA-SMI has failed because )?No supported GPUs were found"),
            Look::Facts(|case| case.trouble_is(TroubleKind::Unsupported)),
        ],
        say: "the NVIDIA driver of `{host}` does not support the GPUs that are there, or another driver (nouveau, vfio) holds them",
        remedies: &[
            tell("look at `lspci -k -d 10de:` on the host and install a driver that supports them"),
            DOCTOR,
        ],
        ..PLAIN
    },
    Rule {
        code: "gpu_cuda_too_new",
        when: "the image demands a newer CUDA than the host's driver supports",
        looks: &[said(
            r"nvidia-container-cli: requirement error: unsatisfied condition: (?P<condition>[a-z]+[<>=]+[0-9.]+)",
        )],
        say: "the image needs a newer NVIDIA driver than the host's[ {driver}][ (CUDA {cuda})]: it demands {condition}",
        remedies: &[
            tell("update the driver of the host, or use an image for an older CUDA"),
            run("see what the host has", "farrun gpu {host}"),
        ],
        ..PLAIN
    },
    Rule {
        code: "gpu_hidden",
        when: "the container cannot see the GPU that it was given",
        looks: &[Look::Facts(|case| case.gpu_hidden())],
        say: "the engine of `{host}` did not hand the job its GPU[: {detail}]",
        remedies: &[TOOLKIT, DOCTOR],
        ..PLAIN
    },
    Rule {
        code: "gpu_no_such",
        when: "the host can never give the order its GPUs: too few of them, other models, too little memory",
        looks: &[said(r"the host has no such GPUs(?:: (?P<condition>.+?))?\s*$")],
        say: "`{host}` has no such GPUs[: {condition}]",
        remedies: &[
            run("see what it has", "farrun gpu {host}"),
            run("take whichever host has them", "farrun rerun {run} --host any"),
        ],
        ..PLAIN
    },
];

/// What the host's evidence says about the toolkit: which of the two ways to lack it this is.
fn toolkit(case: &Case<'_>, _: &Found) -> Figures {
    let evidence = case.evidence;
    let asked = |missing: &Missing| missing.file == TOOLKIT_FILE && missing.why.contains("is installed");
    let words = if evidence.missing.iter().any(asked) {
        "the NVIDIA Container Toolkit is not installed there"
    } else if evidence.documents.iter().any(|found| found.file == TOOLKIT_FILE) {
        "the NVIDIA Container Toolkit is installed there, but Docker was not restarted or configured since"
    } else {
        "the NVIDIA Container Toolkit is not installed there, or Docker was not restarted since"
    };
    [("toolkit", words.to_owned())].into()
}
