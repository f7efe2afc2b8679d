//! The cells that need nothing of their engine but that it works.

use crate::cell::Step::{self, *};
use crate::cell::{Cell, fails, stopped, succeeds};
use farrun_protocol::spec::{Capture, Mount, PullPolicy, RunSpec};
use farrun_protocol::verdict::Reason;

/// A job that does what it is not asked to stop.
const WAITS: &str = "echo up; exec sleep 600";
/// A job that tidies up when it is asked to end.
const OBEYS: &str = "trap 'exit 0' TERM INT; echo up; while :; do sleep 0.05; done";
const OBEYS_WITH_7: &str = "trap 'exit 7' TERM; echo up; while :; do sleep 0.05; done";
/// A job that does not want to end.
const IGNORES: &str = "trap '' TERM INT; echo up; while :; do sleep 0.05; done";

/// Jobs that end when they are told to, so that nobody has seen their end before what happens next.
const ENDS_WITH_0: &str = "echo up; until [ -e /farrun/outputs/go ]; do sleep 0.05; done; exit 0";
const ENDS_WITH_3: &str = "echo up; until [ -e /farrun/outputs/go ]; do sleep 0.05; done; exit 3";

const KILLED: &str = "somebody else killed or stopped the container with SIGKILL";
const REMOVED: &str = "somebody removed the container before the job's end was recorded";
const LIMIT: &str = "the job was ended by its time limit of 1 s";
pub(crate) const MEMORY: &str = "the kernel ended the job: it needed more memory than its limit of 24.0 MiB";
const REFUSED: &str = "the container engine refused to start the job: …";

pub(crate) fn little_memory(spec: &mut RunSpec) {
    spec.memory_limit = Some(24 << 20);
}

fn one_second(spec: &mut RunSpec) {
    spec.time_limit = Some(1);
}

fn captured(spec: &mut RunSpec) {
    spec.capture = Capture::Docker;
}

fn captured_with_little_memory(spec: &mut RunSpec) {
    captured(spec);
    little_memory(spec);
}

/// Its argv is this program alone.
fn program(spec: &mut RunSpec, program: &str) {
    spec.command = vec![program.into()];
}

fn mounted(spec: &mut RunSpec, source: std::path::PathBuf) {
    spec.mounts.push(Mount {
        source: source.to_string_lossy().into_owned(),
        target: "/mounted".into(),
        read_only: true,
        create: false,
    });
}

/// A program of another kind of machine: what `exec` finds is an ELF file that says so.
fn foreign_program(spec: &mut RunSpec) {
    mounted(spec, crate::foreign::folder());
    program(spec, "/mounted/foreign");
}

fn damaged_program(spec: &mut RunSpec) {
    mounted(spec, crate::foreign::folder());
    program(spec, "/mounted/damaged");
}

fn script_without_its_interpreter(spec: &mut RunSpec) {
    mounted(spec, crate::foreign::folder());
    program(spec, "/mounted/script");
}

/// Every cell of this kind.
pub(crate) fn all() -> Vec<Cell> {
    [
        exit_codes(),
        signals(),
        memory(),
        time_limits(),
        stops(),
        others(),
        containers_that_go(),
        programs(),
        refusals(),
        boots(),
        engine_captures(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn exit_codes() -> Vec<Cell> {
    let code = |name, script, says| fails(name, script, &[], Reason::ExitCode, says);
    vec![
        succeeds("exit code 0", "exit 0", &[]),
        code("exit code 1", "exit 1", "the job exited with code 1"),
        code("exit code 2", "exit 2", "the job exited with code 2"),
        code("exit code 3", "exit 3", "the job exited with code 3"),
        code("exit code 125", "exit 125", "the job exited with code 125"),
        code(
            "exit code 126",
            "exit 126",
            "the job exited with code 126 (a command could not be executed)",
        ),
        code(
            "exit code 127",
            "exit 127",
            "the job exited with code 127 (a command was not found)",
        ),
        code("exit code 128", "exit 128", "the job exited with code 128"),
        code(
            "exit code 137 by the job itself",
            "exit 137",
            "the job exited with code 137 (128 + SIGKILL: a process of the job was killed)",
        ),
        code(
            "exit code 139: a child crashed",
            "sh -c 'kill -SEGV $$'; exit $?",
            "the job exited with code 139 (128 + SIGSEGV: a process of the job crashed)",
        ),
        code(
            "exit code 143 by the job itself",
            "exit 143",
            "the job exited with code 143 (128 + SIGTERM: a process of the job was asked to end)",
        ),
        code("exit code 255", "exit 255", "the job exited with code 255"),
        succeeds("exit code 0 while a child lives on", "sleep 600 & exit 0", &[]),
    ]
}

fn signals() -> Vec<Cell> {
    let signal = |name, script, says| fails(name, script, &[], Reason::Signal, says);
    vec![
        signal(
            "SIGTERM by itself",
            "kill -TERM $$",
            "the job was ended by SIGTERM",
        ),
        signal("SIGINT by itself", "kill -INT $$", "the job was ended by SIGINT"),
        signal("SIGSEGV", "kill -SEGV $$", "the job was ended by SIGSEGV"),
        signal("SIGABRT", "kill -ABRT $$", "the job was ended by SIGABRT"),
        signal("SIGBUS", "kill -BUS $$", "the job was ended by SIGBUS"),
        signal(
            "SIGKILL by itself",
            "kill -KILL $$",
            "the job was ended by SIGKILL",
        ),
        signal("SIGFPE", "kill -FPE $$", "the job was ended by SIGFPE"),
        signal(
            "a signal without a name",
            "kill -40 $$",
            "the job was ended by signal 40",
        ),
    ]
}

fn memory() -> Vec<Cell> {
    let starved = |name, script| fails(name, script, &[], Reason::OutOfMemory, MEMORY).with(little_memory);
    vec![
        starved("out of memory in the main process", "exec tail /dev/zero"),
        starved(
            "out of memory in a child, then exit code 3",
            "tail /dev/zero; exit 3",
        ),
        starved(
            "out of memory in a child whose code is passed on",
            "tail /dev/zero; exit $?",
        ),
        succeeds(
            "out of memory in a child only, exit code 0",
            "tail /dev/zero; exit 0",
            &[],
        )
        .with(little_memory),
    ]
}

fn time_limits() -> Vec<Cell> {
    let late = |name, script| fails(name, script, &[], Reason::TimeLimit, LIMIT).with(one_second);
    vec![
        late("time limit, the job has no handler", "exec sleep 600"),
        late("time limit, the job ignores SIGTERM", IGNORES),
        late("time limit, the job exits with 0", OBEYS),
        late("time limit, the job exits with 7", OBEYS_WITH_7),
        succeeds("ended before its time limit", "exit 0", &[]).with(one_second),
    ]
}

fn stops() -> Vec<Cell> {
    const STOP: &[Step] = &[Up, Stop];
    vec![
        stopped("our stop, the job has no handler", WAITS, STOP),
        stopped("our stop, the job ignores it", IGNORES, STOP),
        stopped("our stop, the job exits with 0", OBEYS, STOP),
        stopped("our stop, the job exits with 7", OBEYS_WITH_7, STOP),
        stopped("our stop --kill", WAITS, &[Up, Kill]),
        stopped("our stop --kill, the job would exit with 0", OBEYS, &[Up, Kill]),
        succeeds("our stop after exit code 0", ENDS_WITH_0, &[Up, Go, Ended, Stop]),
        fails(
            "our stop after exit code 3",
            ENDS_WITH_3,
            &[Up, Go, Ended, Stop],
            Reason::ExitCode,
            "the job exited with code 3",
        ),
        fails(
            "our stop after somebody else's docker kill",
            WAITS,
            &[Up, Docker(&["kill", "{}"]), Ended, Stop],
            Reason::KilledByOther,
            KILLED,
        ),
    ]
}

fn others() -> Vec<Cell> {
    let other = |name, script, steps, says| fails(name, script, steps, Reason::KilledByOther, says);
    vec![
        other("docker kill", WAITS, &[Up, Docker(&["kill", "{}"])], KILLED),
        other(
            "docker kill, the job would exit with 0",
            OBEYS,
            &[Up, Docker(&["kill", "{}"])],
            KILLED,
        ),
        other(
            "docker kill -s TERM, the job has no handler",
            WAITS,
            &[Up, Docker(&["kill", "-s", "TERM", "{}"])],
            "somebody else killed or stopped the container with SIGTERM",
        ),
        other(
            "docker kill -s TERM, the job exits with 0",
            OBEYS,
            &[Up, Docker(&["kill", "-s", "TERM", "{}"])],
            "somebody else killed or stopped the container; the job then exited with code 0",
        ),
        other(
            "docker kill -s INT, the job has no handler",
            WAITS,
            &[Up, Docker(&["kill", "-s", "INT", "{}"])],
            "somebody else killed or stopped the container with SIGINT",
        ),
        other(
            "docker kill -s USR1, the job has no handler",
            WAITS,
            &[Up, Docker(&["kill", "-s", "USR1", "{}"])],
            "somebody else killed or stopped the container with SIGUSR1",
        ),
        succeeds(
            "docker kill -s USR1, the job works with it",
            "trap 'exit 0' USR1; echo up; while :; do sleep 0.05; done",
            &[Up, Docker(&["kill", "-s", "USR1", "{}"])],
        ),
        fails(
            "docker kill -s HUP, the job fails later by itself",
            "trap 'exit 3' HUP; echo up; while :; do sleep 0.05; done",
            &[Up, Docker(&["kill", "-s", "HUP", "{}"])],
            Reason::ExitCode,
            "the job exited with code 3",
        ),
        other(
            "docker stop, the job exits with 0",
            OBEYS,
            &[Up, Docker(&["stop", "{}"])],
            "somebody else killed or stopped the container; the job then exited with code 0",
        ),
        other(
            "docker stop, the job exits with 7",
            OBEYS_WITH_7,
            &[Up, Docker(&["stop", "{}"])],
            "somebody else killed or stopped the container; the job then exited with code 7",
        ),
        other(
            "docker stop, the job ignores it",
            IGNORES,
            &[Up, Docker(&["stop", "-t", "1", "{}"])],
            KILLED,
        ),
        other(
            "docker restart, nothing is executed again",
            OBEYS,
            &[Up, Docker(&["restart", "{}"])],
            "somebody else killed or stopped the container; the job then exited with code 0",
        ),
        succeeds(
            "docker pause and unpause",
            "echo up; sleep 0.5; exit 0",
            &[Up, Docker(&["pause", "{}"]), Docker(&["unpause", "{}"])],
        ),
        other("kill -9 of PID 1 from the host", WAITS, &[Up, KillPid1], KILLED),
        fails(
            "kill -9 of the main process from the host",
            WAITS,
            &[Up, KillJob],
            Reason::Signal,
            "the job was ended by SIGKILL",
        ),
    ]
}

fn containers_that_go() -> Vec<Cell> {
    const REMOVE: Step = Docker(&["rm", "{}"]);
    vec![
        fails(
            "docker rm -f while it runs",
            WAITS,
            &[Up, Docker(&["rm", "-f", "{}"])],
            Reason::ContainerRemoved,
            REMOVED,
        ),
        succeeds(
            "docker rm after exit code 0, before anybody looked",
            ENDS_WITH_0,
            &[Up, Go, Ended, REMOVE],
        ),
        fails(
            "docker rm after exit code 3, before anybody looked",
            ENDS_WITH_3,
            &[Up, Go, Ended, REMOVE],
            Reason::ExitCode,
            "the job exited with code 3",
        ),
        fails(
            "docker rm after the end, engine captures",
            ENDS_WITH_0,
            &[Up, Go, Ended, REMOVE],
            Reason::ContainerRemoved,
            REMOVED,
        )
        .with(captured),
        fails(
            "record of the end damaged, exit code 0",
            ENDS_WITH_0,
            &[Up, Go, Ended, DamageRecord],
            Reason::RecordDamaged,
            "the record of the job's end is missing or damaged",
        ),
    ]
}

fn programs() -> Vec<Cell> {
    let lacks = |name, says, with| fails(name, "", &[], Reason::CommandNotFound, says).with(with);
    let cannot = |name, says, with| fails(name, "", &[], Reason::CommandNotExecutable, says).with(with);
    vec![
        lacks(
            "program missing",
            "the image has no program `/bin/no-such-program`",
            |spec| program(spec, "/bin/no-such-program"),
        ),
        lacks(
            "entrypoint missing",
            "the image has no program `/no-such-entrypoint`",
            |spec| spec.entrypoint = Some(vec!["/no-such-entrypoint".into()]),
        ),
        cannot(
            "interpreter of a script missing",
            "the program cannot be executed: /mounted/script: No such file or directory…",
            script_without_its_interpreter,
        ),
        cannot(
            "file that is not executable",
            "the program cannot be executed: /etc/passwd: …ermission denied…",
            |spec| program(spec, "/etc/passwd"),
        ),
        cannot(
            "program of another architecture",
            "the program cannot be executed: /mounted/foreign: Exec format error…",
            foreign_program,
        ),
        cannot(
            "program that is damaged",
            "the program cannot be executed: /mounted/damaged: …",
            damaged_program,
        ),
        fails(
            "working directory that is a file",
            "exit 0",
            &[],
            Reason::WorkingDirectory,
            "the working directory cannot be entered: /etc/passwd: …",
        )
        .with(|spec| spec.working_dir = Some("/etc/passwd".into())),
    ]
}

fn refusals() -> Vec<Cell> {
    let refused = |name, with| fails(name, "exit 0", &[], Reason::EngineRefused, REFUSED).with(with);
    vec![
        refused("engine refuses the user", |spec| {
            spec.user = Some("no-such-user".into());
        }),
        refused("engine refuses the network", |spec| {
            spec.network = Some("no-such-network".into());
        }),
        refused("engine refuses the memory limit", |spec| {
            spec.memory_limit = Some(1 << 20);
        }),
        refused("engine refuses the user, engine captures", |spec| {
            captured(spec);
            spec.user = Some("no-such-user".into());
        }),
        fails(
            "image that is not there",
            "exit 0",
            &[],
            Reason::ImageMissing,
            "the image `farrun-test-nosuch:1` does not exist…",
        )
        .with(|spec| spec.image = "farrun-test-nosuch:1".into()),
        fails(
            "registry that does not answer",
            "exit 0",
            &[],
            Reason::ImagePull,
            "the image `127.0.0.1:9/nosuch:1` could not be fetched: …",
        )
        .with(|spec| {
            spec.image = "127.0.0.1:9/nosuch:1".into();
            spec.pull = PullPolicy::Missing;
        }),
    ]
}

fn boots() -> Vec<Cell> {
    let reboot = |name, script, steps| {
        fails(
            name,
            script,
            steps,
            Reason::HostReboot,
            "the host was restarted under the job",
        )
    };
    vec![
        reboot(
            "host restarted, no record of the end",
            WAITS,
            &[Up, KillPid1, Ended, OtherBoot],
        ),
        reboot(
            "host restarted, container gone",
            WAITS,
            &[Up, Docker(&["rm", "-f", "{}"]), OtherBoot],
        ),
        reboot(
            "host restarted, its shutdown let the job exit with 0",
            OBEYS,
            &[Up, Docker(&["stop", "{}"]), Ended, OtherBoot],
        ),
        reboot(
            "host restarted, engine captures and names code 0",
            ENDS_WITH_0,
            &[Up, Go, Ended, OtherBoot],
        )
        .with(captured),
        succeeds(
            "host restarted after exit code 0",
            ENDS_WITH_0,
            &[Up, Go, Ended, OtherBoot],
        ),
        fails(
            "host restarted after exit code 3",
            ENDS_WITH_3,
            &[Up, Go, Ended, OtherBoot],
            Reason::ExitCode,
            "the job exited with code 3",
        ),
    ]
}

fn engine_captures() -> Vec<Cell> {
    let code = |name, script, says| fails(name, script, &[], Reason::ExitCode, says).with(captured);
    vec![
        succeeds("exit code 0, engine captures", "exit 0", &[]).with(captured),
        code(
            "exit code 1, engine captures",
            "exit 1",
            "the job exited with code 1",
        ),
        code(
            "exit code 127, engine captures",
            "exit 127",
            "the job exited with code 127 (a command was not found)",
        ),
        code(
            "exit code 255, engine captures",
            "exit 255",
            "the job exited with code 255",
        ),
        fails(
            "child that crashed, engine captures",
            "sh -c 'kill -SEGV $$'; exit $?",
            &[],
            Reason::Signal,
            "the job was ended by SIGSEGV",
        )
        .with(captured),
        fails(
            "docker kill, engine captures",
            WAITS,
            &[Up, Docker(&["kill", "{}"])],
            Reason::KilledByOther,
            KILLED,
        )
        .with(captured),
        stopped(
            "our stop, the job exits with 0, engine captures",
            OBEYS,
            &[Up, Stop],
        )
        .with(captured),
        stopped(
            "our stop, the job ignores it, engine captures",
            IGNORES,
            &[Up, Stop],
        )
        .with(captured),
        fails(
            "out of memory in the main process, engine captures",
            "exec tail /dev/zero",
            &[],
            Reason::OutOfMemory,
            MEMORY,
        )
        .with(captured_with_little_memory),
        succeeds(
            "out of memory in a child only, exit code 0, engine captures",
            "tail /dev/zero; exit 0",
            &[],
        )
        .with(captured_with_little_memory),
        fails(
            "program missing, engine captures",
            "",
            &[],
            Reason::CommandNotFound,
            "the image has no program `…`",
        )
        .with(|spec| {
            captured(spec);
            program(spec, "/bin/no-such-program");
        }),
        fails(
            "file that is not executable, engine captures",
            "",
            &[],
            Reason::CommandNotExecutable,
            "the program cannot be executed: …ermission denied…",
        )
        .with(|spec| {
            captured(spec);
            program(spec, "/etc/passwd");
        }),
        fails(
            // The engine has started it by then; what its runtime said is in the log.
            "program of another architecture, engine captures",
            "",
            &[],
            Reason::ExitCode,
            "the job exited with code 1",
        )
        .with(|spec| {
            captured(spec);
            foreign_program(spec);
        }),
        fails(
            "working directory that is a file, engine captures",
            "exit 0",
            &[],
            Reason::WorkingDirectory,
            "the working directory cannot be entered: …",
        )
        .with(|spec| {
            captured(spec);
            spec.working_dir = Some("/etc/passwd".into());
        }),
    ]
}
