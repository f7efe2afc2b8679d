//! Containers that could not be made or could not execute their command.

use super::{AGAIN, DOCTOR};
use crate::diagnosis::judge::Case;
use crate::diagnosis::rules::{Figures, Found, Look, PLAIN, Rule, log, run, said, storage, tell};
use farrun_protocol::spec::Mount;
use farrun_protocol::verdict::Reason;

/// Rows about it.
pub(in crate::diagnosis::rules) const RULES: &[Rule] = &[
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
        looks: &[
            said(r"bind source path does not exist: (?P<path>\S+)"),
            said(r"a folder to mount does not exist on the host: (?P<path>/.+?)\s*$"),
        ],
        say: "the folder {path}, to be mounted[ at {target}], is not on `{host}`",
        figures: target,
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
        figures: storage::fullest,
        remedies: &[
            run("see what farrun itself can give back", "farrun gc {host}"),
            tell("see on the host what is big: `docker system df`, `df -h`"),
            AGAIN,
        ],
        ..PLAIN
    },
];

/// Where a folder of the host should have been seen.
fn target(case: &Case<'_>, found: &Found) -> Figures {
    let source = found.figures.get("path").map(String::as_str).unwrap_or_default();
    // The host tells a path below the account's home in full.
    let is_it = |mount: &&Mount| match mount.source.strip_prefix('~') {
        Some(rest) => source.ends_with(rest) && !rest.is_empty(),
        None => mount.source.trim_end_matches('/') == source.trim_end_matches('/'),
    };
    let mount = case.facts.run.spec.mounts.iter().find(is_it);
    mount
        .map(|mount| ("target", mount.target.clone()))
        .into_iter()
        .collect()
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
