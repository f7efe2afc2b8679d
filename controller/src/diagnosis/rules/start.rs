//! Jobs that could not be started: the image, the engine, its way to hand out GPUs, the command.

use super::{Certainty, Figures, Found, Look, PLAIN, Rule, log, run, said, tell};
use crate::diagnosis::judge::Case;
use farrun_protocol::spec::PullPolicy;
use farrun_protocol::verdict::Reason;

const TOOLKIT: super::Try = tell(
    "install the NVIDIA Container Toolkit on the host, then `sudo nvidia-ctk runtime configure --runtime=docker` and `sudo systemctl restart docker`",
);
const DOCTOR: super::Try = run("look at the whole host", "farrun host doctor {host}");
const AGAIN: super::Try = run("then order it again", "farrun rerun {run}");

/// Rows about the start.
pub(super) const RULES: &[Rule] = &[
    Rule {
        code: "image_denied",
        when: "the registry refuses the image: nobody is logged in there, or the name is wrong",
        looks: &[
            said(r"pull access denied for (?P<repository>[^\s,]+)"),
            said(
                r"(?i)\b(?:unauthorized: |denied: requested access|access forbidden|no basic auth credentials|authentication required|insufficient_scope)",
            ),
            Look::Facts(|case| case.unexplained(Reason::ImageDenied)),
        ],
        say: "the registry `{registry}` refused the image `{image}`: nobody is logged in there from `{host}`, or there is no such image",
        remedies: &[
            run("log in, on the host", "docker login {registry}"),
            tell("compare the name of the image with that on the registry's page"),
            AGAIN,
        ],
        ..PLAIN
    },
    Rule {
        code: "image_rate_limit",
        when: "the registry has had too many requests from the host",
        looks: &[said(
            r"(?i)\btoomanyrequests\b|You have reached your (?:unauthenticated )?pull rate limit",
        )],
        say: "the registry `{registry}` has had too many requests from the address of `{host}`",
        remedies: &[
            run(
                "log in, on the host: accounts have a limit of their own",
                "docker login {registry}",
            ),
            tell("wait: limits of Docker Hub are counted over six hours"),
            AGAIN,
        ],
        ..PLAIN
    },
    Rule {
        code: "image_platform",
        when: "the image has no variant for the host's processor",
        looks: &[
            said(r"no matching manifest for (?P<platform>[a-z0-9/]+)"),
            said(
                r"image with reference \S+ was found but (?:its platform|does not match the specified platform|does not provide the specified platform)",
            ),
        ],
        say: "the image `{image}` has no variant for the host's processor[ ({platform})]",
        remedies: &[tell(
            "use an image that was built for this processor, or a host with another one",
        )],
        ..PLAIN
    },
    Rule {
        code: "image_tag_missing",
        when: "the registry has no such image or tag",
        looks: &[
            said(
                r"(?i)manifest(?: for \S+)?(?: not found:)? ?(?:manifest )?unknown|manifest for \S+ not found",
            ),
            said(r"(?i)repository \S+ not found|name unknown|NAME_UNKNOWN"),
            said(r"(?i)No such image:|invalid reference format"),
            Look::Facts(|case| case.unexplained(Reason::ImageMissing)),
        ],
        say: "the image `{image}` does not exist: not on `{host}`, and {elsewhere}",
        figures: elsewhere,
        remedies: &[
            run("have it fetched", "farrun rerun {run} --pull-image {fetch}"),
            tell(
                "compare name and tag with the registry's page; an image of your own must be built or loaded on the host first",
            ),
            AGAIN,
        ],
        ..PLAIN
    },
    Rule {
        code: "registry_name_unknown",
        when: "the host cannot resolve the registry's name",
        looks: &[said(
            r"(?:dial tcp: )?lookup (?P<name>[^\s:]+).*(?:no such host|server misbehaving|i/o timeout|Temporary failure)",
        )],
        say: "`{host}` cannot resolve the name of the registry `{registry}`[ (`{name}`)]",
        remedies: &[
            tell("check the spelling of the image's name, and the host's DNS (`getent hosts NAME` there)"),
            DOCTOR,
        ],
        ..PLAIN
    },
    Rule {
        code: "registry_certificate",
        when: "the registry's certificate is not trusted by the host",
        looks: &[said(
            r"x509: |tls: failed to verify certificate|http: server gave HTTP response to HTTPS client",
        )],
        say: "`{host}` does not trust the certificate of the registry `{registry}`[: {said}]",
        remedies: &[
            tell(
                "put the registry's certificate into /etc/docker/certs.d/REGISTRY/ca.crt on the host, and check the host's clock",
            ),
            AGAIN,
        ],
        ..PLAIN
    },
    Rule {
        code: "registry_unreachable",
        when: "the registry does not answer the host",
        looks: &[said(
            r#"(?:Get|Head|Post) "?https?://[^"\s]+"?: .*(?:connection refused|i/o timeout|connection reset|no route to host|network is unreachable|Client\.Timeout|context deadline exceeded|TLS handshake timeout|EOF)"#,
        )],
        say: "the registry `{registry}` does not answer `{host}`[: {said}]",
        remedies: &[
            tell("look whether the host reaches the internet, and whether Docker needs a proxy there"),
            DOCTOR,
            AGAIN,
        ],
        ..PLAIN
    },
    Rule {
        code: "gpu_toolkit_missing",
        when: "the engine has no way to hand out GPUs: the NVIDIA Container Toolkit is not installed, or Docker was not restarted since",
        looks: &[said(
            r#"could not select device driver \\?"\\?" with capabilities: \[\[?gpu"#,
        )],
        say: "Docker on `{host}` cannot hand out GPUs: the NVIDIA Container Toolkit is not installed there, or Docker was not restarted since",
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
            Look::Facts(|case| case.trouble_is(farrun_protocol::gpu::TroubleKind::DriverNotLoaded)),
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
            Look::Facts(|case| case.trouble_is(farrun_protocol::gpu::TroubleKind::DriverMismatch)),
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
            Look::Facts(|case| case.trouble_is(farrun_protocol::gpu::TroubleKind::LibraryMissing)),
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
            Look::Facts(|case| case.trouble_is(farrun_protocol::gpu::TroubleKind::NoDevices)),
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
            Look::Facts(|case| case.trouble_is(farrun_protocol::gpu::TroubleKind::Unsupported)),
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
        code: "device_missing",
        when: "a device that the container should have is not on the host",
        looks: &[said(
            r#"error gathering device information while adding custom device "?(?P<device>[^"\s]+)"#,
        )],
        say: "`{host}` has no device `{device}`",
        remedies: &[DOCTOR],
        ..PLAIN
    },
    Rule {
        code: "mount_missing",
        when: "a folder that the container should see is not on the host",
        looks: &[said(r"bind source path does not exist: (?P<path>\S+)")],
        say: "`{host}` has no folder `{path}`, which the job should see",
        remedies: &[
            tell("make it on the host, or give another one with `--mount SOURCE:TARGET`"),
            AGAIN,
        ],
        ..PLAIN
    },
    Rule {
        code: "mount_refused",
        when: "a folder could not be made visible in the container, or what farrun put there not be used in it",
        looks: &[
            said(r"(?:error mounting|failed to mount|mounts denied|invalid mount config)\b.*"),
            // With `init` the engine executes our own program, which lies among the account's files.
            said(r#"exec: "?/\.farrun/farrun-agent"?: .*[Pp]ermission denied"#),
            said(r"error while creating mount source path .*[Pp]ermission denied"),
        ],
        say: "a folder of `{host}` could not be made visible in the container[: {said}]",
        remedies: &[
            tell(
                "the kernel kept the container from the account's files: SELinux without a label (`ls -Z`, `ausearch -m avc`), an engine that maps users (userns-remap, rootless), an NFS home with `root_squash`, or a mount with `noexec`",
            ),
            tell("or move farrun's folder to a local disk: `farrun host set NAME --state PATH`"),
            DOCTOR,
        ],
        ..PLAIN
    },
    Rule {
        code: "wrong_architecture",
        when: "a program was built for another processor",
        looks: &[
            said(r"(?i)exec format error"),
            log(r"(?:^|: )(?:cannot execute binary file: )?[Ee]xec format error\s*$"),
        ],
        say: "a program of the image was built for another processor than the host's[: the image is for {image_architecture}][, the host is {host_architecture}]",
        remedies: &[tell(
            "use an image for this processor, or a host with the other one; a script without `#!` in its first line gives the same error",
        )],
        ..PLAIN
    },
    Rule {
        code: "working_directory",
        when: "the working directory cannot be entered",
        looks: &[
            Look::Facts(|case| case.unexplained(Reason::WorkingDirectory)),
            said(r#"(?:chdir to cwd|OCI runtime .*chdir)"#),
        ],
        say: "the working directory cannot be entered[: {detail}]",
        remedies: &[tell("give one that the image has")],
        ..PLAIN
    },
    Rule {
        code: "command_not_executable",
        when: "the program exists and cannot be executed (exit code 126)",
        looks: &[
            Look::Facts(|case| case.unexplained(Reason::CommandNotExecutable)),
            said(r#"exec: "?(?P<program>[^"\s]+)"?: .*[Pp]ermission denied"#),
            Look::Facts(|case| {
                case.of_the_shell(
                    126,
                    r"(?P<program>\S+): (?:Permission denied|cannot execute|Is a directory)",
                )
            }),
        ],
        say: "the program[ `{program}`] cannot be executed[: {detail}]",
        remedies: &[tell(
            "it is a folder, or has no right to be executed: `chmod +x` it when the image is built",
        )],
        ..PLAIN
    },
    Rule {
        code: "command_not_found",
        when: "the program does not exist in the image (exit code 127)",
        looks: &[
            Look::Facts(|case| case.unexplained(Reason::CommandNotFound)),
            said(r#"exec: "?(?P<program>[^"\s]+)"?: (?:stat \S+: no such file|executable file not found)"#),
            said(r"OCI runtime create failed: .*no such file or directory"),
            Look::Facts(|case| {
                case.of_the_shell(127, r"(?P<program>[^\s:]+): (?:command )?not found\s*$|(?:^|: )(?P<other>[^\s:]+): No such file or directory\s*$")
            }),
        ],
        say: "the image has no program[ `{program}`]",
        figures: program,
        remedies: &[
            tell(
                "look at the spelling, and whether it is in the PATH of the image; a script whose first line names a missing interpreter gives the same error",
            ),
            run("see what was to be executed", "farrun show {run}"),
        ],
        ..PLAIN
    },
    Rule {
        code: "disk_full_image",
        when: "the disk of the engine is full, so the image could not be unpacked",
        looks: &[said(
            r"(?i)failed to register layer: .*no space left|no space left on device",
        )],
        say: "the disk of `{host}` was full when the image was fetched or the job was started[: {path} has {free} of {total} left]",
        figures: super::storage::fullest,
        remedies: &[
            run("see what farrun itself can give back", "farrun gc {host}"),
            tell("see on the host what is big: `docker system df`, `df -h`"),
            AGAIN,
        ],
        ..PLAIN
    },
    Rule {
        code: "gpu_unavailable",
        when: "the engine could not hand out the GPUs, for another reason",
        looks: &[Look::Facts(engine_about_gpus)],
        say: "the container engine of `{host}` could not hand out the GPUs[: {detail}]",
        remedies: &[DOCTOR],
        last_resort: true,
        ..PLAIN
    },
    Rule {
        code: "image_pull",
        when: "the image could not be fetched, for another reason",
        looks: &[Look::Facts(|case| case.unexplained(Reason::ImagePull))],
        say: "the image `{image}` could not be fetched[: {detail}]",
        remedies: &[DOCTOR, AGAIN],
        last_resort: true,
        ..PLAIN
    },
    Rule {
        code: "engine_refused",
        when: "the engine refused to make or start the container, for another reason",
        looks: &[Look::Facts(|case| case.unexplained(Reason::EngineRefused))],
        say: "the container engine of `{host}` refused to start the job[: {detail}]",
        remedies: &[DOCTOR],
        last_resort: true,
        ..PLAIN
    },
];

fn engine_about_gpus(case: &Case<'_>) -> Option<super::Found> {
    let mut found = case.unexplained(Reason::GpuUnavailable)?;
    found.certainty = Some(Certainty::Certain);
    Some(found)
}

/// The program that the verdict names, where nothing that was said names one.
fn program(case: &Case<'_>, found: &Found) -> Figures {
    let mut figures = Figures::new();
    let settled = case.evidence.settled.as_ref();
    let verdict = settled
        .map(|settled| &settled.verdict)
        .filter(|verdict| verdict.reason == Reason::CommandNotFound);
    let detail = verdict.and_then(|verdict| verdict.detail.clone());
    // An engine's own words are a sentence, and no name.
    let name = detail.filter(|detail| !detail.is_empty() && !detail.contains(char::is_whitespace));
    if !found.figures.contains_key("program") {
        figures.extend(name.map(|name| ("program", name)));
    }
    figures
}

/// Where else an image was looked for.
fn elsewhere(case: &Case<'_>, _: &Found) -> Figures {
    if case.facts.run.spec.pull == PullPolicy::Never {
        return Figures::from([
            ("elsewhere", "the order forbids to fetch it".to_owned()),
            ("fetch", "missing".to_owned()),
        ]);
    }
    Figures::from([("elsewhere", "its registry has no such name or tag".to_owned())])
}
