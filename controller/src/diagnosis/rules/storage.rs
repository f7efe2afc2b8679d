//! Disks, /dev/shm, and rights on paths.

use super::{Certainty, Figures, Found, Look, PLAIN, Rule, likely, log, run, tell};
use crate::diagnosis::LAST_LINES;
use crate::diagnosis::judge::Case;
use crate::diagnosis::words::size;
use farrun_protocol::diagnostics::{DISKS, FileSystem};
use farrun_protocol::spec::Mount;

/// The size of `/dev/shm` that is tried next, at least.
const SHM: u64 = 8 << 30;

/// Rows about storage.
pub(super) const RULES: &[Rule] = &[
    Rule {
        code: "shm_full",
        when: "/dev/shm of the container was too small (the engine's default is 64 MiB)",
        looks: &[
            log(
                r"DataLoader worker \(pid(?:\(s\))? [0-9, ]+\) is killed by signal: Bus error|Unexpected bus error encountered in worker|It is possible that dataloader's workers are out of shared memory",
            ),
            log(
                r"(?:No space left on device|Errno 28|I/O error|Input/output error).*/dev/shm|/dev/shm.*(?:No space left on device|I/O error|Input/output error)",
            ),
            log(
                r"unable to (?:open|mmap|allocate|write to|resize) (?:shared memory object|file|[0-9]+ bytes from file) </?torch_[^>]*>.*(?:No space left|Cannot allocate|\(28\)|\(12\))",
            ),
            log(r"Error while creating shared memory segment /dev/shm/\S*"),
            log(
                r"posix_fallocate failed|Failed to (?:create|allocate) shared memory.*(?:No space left|not enough)",
            ),
            likely(r"^(?:.*: )?Bus error(?: \(core dumped\))?\s*$"),
            Look::Facts(|case| case.ended_by(7, Certainty::Likely)),
            Look::Facts(short_write),
        ],
        say: "/dev/shm of the container was too small[: it has {shm}]",
        figures: shm,
        remedies: &[
            run("give it more", "farrun rerun {run} --shm {more_shm}"),
            run(
                "use fewer data loader workers",
                "farrun rerun {run} --set {fewer_workers}",
            ),
        ],
        ..PLAIN
    },
    Rule {
        code: "quota_exceeded",
        when: "the account's disk quota was used up",
        looks: &[log(r"(?:\[Errno 122\]|: )\s*Disk quota exceeded")],
        say: "the disk quota of the account on `{host}` is used up[; it was about {path}]",
        figures: path_of_line,
        remedies: &[
            tell("see on the host what is big: `quota -s`, `du -xsh ~/* ~/.cache/*`"),
            run("give back what old runs left", "farrun gc {host}"),
        ],
        ..PLAIN
    },
    Rule {
        code: "inodes_full",
        when: "a file system has no inodes left, so no file can be made though there is space",
        looks: &[Look::Facts(inodes)],
        say: "no file can be made on {path} of `{host}`: it has {free} left, and no inodes",
        remedies: &[
            tell(
                "many small files are the reason, often caches: `du --inodes -xd2 PATH | sort -n | tail` on the host",
            ),
            run("give back what old runs left", "farrun gc {host}"),
        ],
        ..PLAIN
    },
    Rule {
        code: "disk_full",
        when: "a disk was full",
        looks: &[
            log(r"\[Errno 28\] No space left on device"),
            log(r"(?:^|[:\)] )(?:write error: )?No space left on device(?: \(os error 28\)|: |\s*$)"),
            log(r"\bENOSPC\b(?::|\)| )"),
            log(r"(?:PytorchStreamWriter failed writing file|enforce fail at inline_container\.cc)"),
            // The words of busybox for a write that was cut short.
            likely(r"^\S+: (?:standard output|write error|[^:]+): I/O error\s*$"),
            Look::Facts(full),
        ],
        say: "a disk of `{host}` was full[: {path} has {free} of {total} left][; it was about {file}][; {roomy} has {again} free again]",
        figures: fullest,
        remedies: &[
            run(
                "bring here what it wrote to {own_outputs} itself",
                "farrun pull {run}",
            ),
            run("then give back what it wrote to {own_outputs}", "farrun gc {run}"),
            run(
                "give back what old runs left below {state_folder}",
                "farrun gc {host}",
            ),
            tell("see on the host what is big: {big}"),
            tell(
                "or move farrun's folder, {state_folder}, to a larger disk: `farrun host set {host} --state PATH`",
            ),
            run("then order it again", "farrun rerun {run}"),
        ],
        ..PLAIN
    },
    Rule {
        code: "read_only",
        when: "a path is not there for writing",
        looks: &[
            log(r"\[Errno 30\] Read-only file system(?:: '(?P<path>[^']+)')?"),
            log(
                r"(?:can't create|cannot create|cannot touch|cannot open|cannot remove|unable to create)\b[^:]*?(?P<path>/[^\s:'’]+)['’]?(?: for writing)?: Read-only file system",
            ),
            log(r": Read-only file system(?: \(os error 30\))?\s*$"),
        ],
        say: "the job may not write[ to {path}]: it is there for reading only",
        remedies: &[
            tell(
                "jobs may write below their outputs folder and where a mount says so: give one with `--mount SOURCE:TARGET`, or let the program write to its outputs",
            ),
            run("see what is mounted", "farrun show {run}"),
        ],
        ..PLAIN
    },
    Rule {
        code: "permission_denied",
        when: "the job's user has no right to a path",
        looks: &[
            log(r"PermissionError: \[Errno 13\] Permission denied(?:: '(?P<path>[^']+)')?"),
            log(r"\bEACCES: permission denied(?:, \w+ '(?P<path>[^']+)')?"),
            log(r"\bPermission denied \(os error 13\)"),
            Look::Facts(refused),
        ],
        say: "the job's user[ ({user})] has no right to {what}[, which is {source} on `{host}`]",
        figures: rights,
        remedies: &[
            tell(
                "files of the account on the host have its user id, and the image's user has another: mount a folder that this user may write, or give the order another user",
            ),
            run("see user and mounts of the job", "farrun show {run}"),
        ],
        ..PLAIN
    },
    Rule {
        code: "too_many_files",
        when: "the job had too many files open",
        looks: &[log(
            r"\[Errno 24\] Too many open files|: Too many open files(?: \(os error 24\))?\s*$|received 0 items of ancdata",
        )],
        say: "the job had too many files open at once",
        remedies: &[
            run(
                "use fewer data loader workers",
                "farrun rerun {run} --set {fewer_workers}",
            ),
            tell(
                "raise the limit of the engine on the host: `\"default-ulimits\"` in /etc/docker/daemon.json",
            ),
        ],
        ..PLAIN
    },
    Rule {
        code: "disk_broken",
        when: "a disk failed to read or write",
        looks: &[
            Look::Facts(broken),
            log(r"\[Errno 5\] Input/output error|(?:^|: )Input/output error(?: \(os error 5\))?\s*$"),
        ],
        say: "a disk of `{host}` failed to read or write",
        remedies: &[tell(
            "look at `sudo dmesg -T | tail -50` and `sudo smartctl -a /dev/DISK` on the host, and save what is on it",
        )],
        ..PLAIN
    },
];

/// A path that a shell or a tool was refused, in the words that all of them use. Many a script goes on after that: it is
/// a cause only among the last lines, and when no Python program failed after it.
fn refused(case: &Case<'_>) -> Option<Found> {
    const WORDS: [&str; 3] = [
        r"(?:can't|cannot|could not|unable to|failed to) [a-z ]+ ['‘`\x22]?(?P<path>/[^:'’\x22]+?)['’\x22]?(?: for (?:reading|writing))?: Permission denied\s*$",
        r"(?:can't|cannot|could not|unable to|failed to) [a-z ]+ ['‘`\x22]?(?P<path>[^\s:'’\x22]+)['’\x22]?(?: for (?:reading|writing))?: Permission denied\s*$",
        r"^[^\s:]+: (?:line [0-9]+: |[0-9]+: )?(?P<path>/[^:]+|[^\s:'‘’\x22]+): Permission denied\s*$",
    ];
    let all = WORDS.iter().filter_map(|words| case.last_in_log(words));
    // Of one line the first of the patterns tells most.
    let later = |best: Found, next: Found| if next.lines > best.lines { next } else { best };
    let mut found = all.reduce(later)?;
    let lines = &case.evidence.log.lines;
    let behind = lines.get(found.lines.first()? + 1..).unwrap_or_default();
    let went_on = behind.len() > LAST_LINES
        || behind
            .iter()
            .any(|line| line.text.contains("Traceback (most recent call last):"));
    found.certainty = Some(if went_on {
        Certainty::Seen
    } else {
        Certainty::Likely
    });
    Some(found)
}

/// What it was about, and where that is on the host.
fn rights(case: &Case<'_>, found: &Found) -> Figures {
    let path = found.figures.get("path").map(String::as_str);
    let mut figures = Figures::new();
    figures.insert("what", path.unwrap_or("what it wanted to open").to_owned());
    let mount = path.and_then(|path| mount_of(case, path));
    figures.extend(mount.map(|(mount, rest)| {
        let source = mount.source.trim_end_matches('/');
        ("source", format!("{source}{rest}"))
    }));
    figures
}

/// The mount below which a path of the container lies, and what of the path is below it.
fn mount_of<'a, 'p>(case: &Case<'a>, path: &'p str) -> Option<(&'a Mount, &'p str)> {
    let mounts = case.facts.run.spec.mounts.iter();
    let below = mounts.filter_map(|mount| Some((mount, below(path, &mount.target)?)));
    below.max_by_key(|(mount, _)| mount.target.len())
}

/// What of a path lies below a folder: nothing, or something that begins with a slash.
fn below<'p>(path: &'p str, folder: &str) -> Option<&'p str> {
    let rest = path.strip_prefix(folder.trim_end_matches('/'))?;
    (rest.is_empty() || rest.starts_with('/')).then_some(rest)
}

/// A write that was cut short, by a job that uses /dev/shm or left it full.
fn short_write(case: &Case<'_>) -> Option<Found> {
    let full = |disk: &&FileSystem| disk.role == "shm" && disk.total > 0 && disk.free < disk.total / 50;
    let used = case
        .facts
        .run
        .spec
        .command
        .iter()
        .any(|word| word.contains("/dev/shm"));
    if !used && !case.evidence.disks.iter().any(|disk| full(&disk)) {
        return None;
    }
    let mut found = case.in_log(r"^\S+: (?:standard output|write error|[^:]+): I/O error\s*$")?;
    found.certainty = Some(Certainty::Likely);
    Some(found)
}

/// The file system with the least share of space left, when it is next to nothing.
fn fullest_of<'a>(case: &Case<'a>) -> Option<&'a FileSystem> {
    case.evidence
        .disks
        .iter()
        .filter(|disk| {
            disk.total > 0
                && disk.role != "shm"
                && disk.free < (disk.total / 100).max(64 << 20).min(disk.total)
        })
        .min_by_key(|disk| disk.free)
}

/// Which disk is full, and what it was about.
pub(super) fn fullest(case: &Case<'_>, found: &Found) -> Figures {
    let mut figures = path_of_line(case, found);
    if let Some(file) = figures.remove("path") {
        figures.insert("file", file);
    }
    let fullest = fullest_of(case);
    // Old runs lie on the disk of the state folder: what they give back helps no other one.
    let helps = |state: &&FileSystem| {
        fullest.is_none_or(|full| (full.total, full.inodes) == (state.total, state.inodes))
    };
    let state = case.evidence.disks.iter().find(|disk| disk.role == "state");
    figures.extend(
        state
            .filter(helps)
            .map(|state| ("state_folder", state.path.clone())),
    );
    let outputs = &case.facts.run.spec.outputs_target;
    let file = figures.get("file").cloned();
    let about = file.as_deref();
    if figures.contains_key("state_folder")
        && fullest.is_some()
        && about.is_some_and(|file| below(file, outputs).is_some())
    {
        figures.insert("own_outputs", outputs.clone());
    }
    if let (None, Some(disk)) = (fullest, about.and_then(|file| disk_of(case, file))) {
        figures.insert("roomy", disk.path.clone());
        figures.insert("again", size(disk.free));
    }
    // Nothing is looked for on another disk than the full one.
    let big = match fullest {
        None => "`docker system df`, `df -h`, `du -xsh ~/.cache/huggingface`".to_owned(),
        Some(disk) if disk.role == "engine" => "`docker system df`, `df -h`".to_owned(),
        Some(disk) => format!("`df -h`, and `du -xhd1` in {}", disk.path),
    };
    figures.insert("big", big);
    if let Some(disk) = fullest {
        figures.insert("path", disk.path.clone());
        figures.insert("free", size(disk.free));
        figures.insert("total", size(disk.total));
    }
    figures
}

/// The file system that a path of the container lies on, when it was looked at.
fn disk_of<'a>(case: &Case<'a>, path: &str) -> Option<&'a FileSystem> {
    let mut disks = case.evidence.disks.iter();
    if let Some((mount, _)) = mount_of(case, path) {
        return disks.find(|disk| disk.role == "mount" && disk.path == mount.source);
    }
    below(path, &case.facts.run.spec.outputs_target)?;
    disks.find(|disk| disk.role == "state")
}

/// The path in quotes that the line names.
fn path_of_line(_: &Case<'_>, found: &Found) -> Figures {
    let line = found
        .quotes
        .first()
        .map(|quote| quote.text.as_str())
        .unwrap_or_default();
    let quoted = line
        .split(['\'', '"'])
        .find(|part| part.starts_with('/') && !part.contains(' '));
    quoted.map(|path| ("path", path.to_owned())).into_iter().collect()
}

fn inodes(case: &Case<'_>) -> Option<Found> {
    let full = case
        .evidence
        .disks
        .iter()
        .find(|disk| disk.inodes > 0 && disk.inodes_free == 0)?;
    let mut found = case.in_log(r"No space left on device")?;
    found.certainty = Some(Certainty::Certain);
    let words = format!("{}: {} inodes, none left", full.path, full.inodes);
    let found = found.quoting(DISKS, &words);
    Some(
        found
            .figure("path", full.path.clone())
            .figure("free", size(full.free)),
    )
}

/// A job that failed beside a full disk, without a word about it.
fn full(case: &Case<'_>) -> Option<Found> {
    let disk = fullest_of(case).filter(|disk| disk.free == 0)?;
    let words = format!("{}: {} of {} left", disk.path, size(disk.free), size(disk.total));
    Some(Found::with(Certainty::Seen).quoting(DISKS, &words))
}

fn broken(case: &Case<'_>) -> Option<Found> {
    let line = case.kernel().find(|line| {
        [
            "I/O error, dev ",
            "EXT4-fs error",
            "blk_update_request: ",
            "XFS (",
            "BTRFS error",
        ]
        .iter()
        .any(|words| line.text.contains(words))
            && ["error", "corrupt"].iter().any(|word| line.text.contains(word))
    })?;
    Some(Found::with(Certainty::Likely).quoting(farrun_protocol::diagnostics::KERNEL, &line.text))
}

fn shm(case: &Case<'_>, _: &Found) -> Figures {
    let inspected = case.evidence.container.host_config.shm_size;
    let now = case
        .facts
        .run
        .spec
        .shm_size
        .or((inspected > 0).then_some(inspected))
        .unwrap_or(64 << 20);
    let mut figures = Figures::new();
    if !case.facts.run.spec.ipc_host {
        figures.insert("shm", size(now));
        figures.insert("more_shm", format!("{}g", (now.saturating_mul(2)).max(SHM) >> 30));
    }
    figures
}
