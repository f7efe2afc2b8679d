//! Running a hook, for as long as it may take.

use super::{Call, LIMIT, Outcome};
use rustix::process::{Pid, Signal, kill_process_group};
use std::io::{Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// What a hook keeps of our environment: enough to find programs, the session and a proxy, and nothing that is ours.
const KEPT: [&str; 14] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "LANG",
    "XDG_RUNTIME_DIR",
    "DBUS_SESSION_BUS_ADDRESS",
    "DISPLAY",
    "WAYLAND_DISPLAY",
    "https_proxy",
    "HTTPS_PROXY",
    "http_proxy",
    "no_proxy",
    "NO_PROXY",
];
/// Most of its output that is read.
const PRINTED: u64 = 100;
/// Time between two looks whether it has ended.
const LOOK_APART: Duration = Duration::from_millis(20);

/// Runs it to its end, or ends it after [`LIMIT`]. Blocks.
pub fn carry_out(call: &Call) -> Outcome {
    within(call, LIMIT)
}

fn within(call: &Call, limit: Duration) -> Outcome {
    let mut command = Command::new(&call.program);
    command.args(&call.arguments).env_clear();
    for name in KEPT {
        command.envs(std::env::var_os(name).map(|value| (name, value)));
    }
    command.envs(call.environment.iter().map(|(name, value)| (name, value)));
    command.stdin(Stdio::piped()).stderr(Stdio::null());
    command.stdout(if call.is_curl {
        Stdio::piped()
    } else {
        Stdio::null()
    });
    // Its children end with it when it takes too long.
    let mut child = match command.process_group(0).spawn() {
        Ok(child) => child,
        Err(error) => {
            return Outcome::NotStarted {
                program: call.program.clone(),
                error: error.to_string(),
            };
        }
    };
    if let Some(mut stdin) = child.stdin.take() {
        let text = call.stdin.clone();
        // A hook that reads nothing must not hold anybody up.
        std::thread::spawn(move || stdin.write_all(text.as_bytes()));
    }
    let printed = printed(&mut child);
    let deadline = Instant::now() + limit;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => {
                let printed = printed.recv_timeout(Duration::from_secs(1)).unwrap_or_default();
                return Outcome::of(call, status.code(), &printed);
            }
            Ok(None) if Instant::now() < deadline => std::thread::sleep(LOOK_APART),
            Ok(None) | Err(_) => {
                if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
                    let _ = kill_process_group(group, Signal::KILL);
                }
                let _ = child.wait();
                return Outcome::TimedOut;
            }
        }
    }
}

/// The beginning of what it prints, once that is all there; at once nothing when nobody listens.
fn printed(child: &mut Child) -> mpsc::Receiver<String> {
    let (told, printed) = mpsc::channel();
    if let Some(stdout) = child.stdout.take() {
        std::thread::spawn(move || {
            let mut text = String::new();
            let _ = stdout.take(PRINTED).read_to_string(&mut text);
            let _ = told.send(text);
        });
    }
    printed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Call {
        Call {
            program: "sh".into(),
            arguments: vec!["-c".into(), script.into()],
            environment: vec![("FARRUN_STATUS".into(), "failed".into())],
            stdin: "{}\n".into(),
            is_curl: false,
        }
    }

    #[test]
    fn a_hook_gets_its_facts_and_nothing_of_ours() {
        let folder = tempfile::tempdir().unwrap();
        let told = folder.path().join("told");
        let script = format!(
            "cat > {0}; env >> {0}; test \"$FARRUN_STATUS\" = failed",
            told.display()
        );
        assert_eq!(carry_out(&shell(&script)), Outcome::Done);
        let told = std::fs::read_to_string(told).unwrap();
        assert!(told.starts_with("{}\n") && told.contains("PATH="), "{told}");
        assert!(!told.contains("CARGO"), "{told}");
    }

    #[test]
    fn a_hook_that_hangs_ends_with_its_children() {
        let folder = tempfile::tempdir().unwrap();
        let pid = folder.path().join("pid");
        let script = format!("sleep 600 & echo $! > {}; wait", pid.display());
        let begun = Instant::now();
        assert_eq!(
            within(&shell(&script), Duration::from_millis(500)),
            Outcome::TimedOut
        );
        assert!(begun.elapsed() < Duration::from_secs(20));
        let pid = std::fs::read_to_string(pid).unwrap();
        let stat = format!("/proc/{}/stat", pid.trim());
        let deadline = Instant::now() + Duration::from_secs(20);
        while std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z ")) {
            assert!(Instant::now() < deadline, "its child lives");
            std::thread::sleep(LOOK_APART);
        }
    }

    #[test]
    fn what_goes_wrong_is_told_apart() {
        assert_eq!(
            carry_out(&shell("exit 4")),
            Outcome::Failed {
                code: Some(4),
                http_status: None
            }
        );
        let missing = Call {
            program: "/no/such/hook".into(),
            ..shell("")
        };
        assert!(
            matches!(carry_out(&missing), Outcome::NotStarted { program, .. } if program == "/no/such/hook")
        );
        // Behaves as curl does when the other side refuses.
        let curl = Call {
            is_curl: true,
            ..shell("printf 503; exit 22")
        };
        assert_eq!(
            carry_out(&curl),
            Outcome::Failed {
                code: Some(22),
                http_status: Some(503)
            }
        );
    }

    #[test]
    fn a_hook_that_reads_nothing_is_no_trouble() {
        let call = Call {
            stdin: "x".repeat(1 << 20),
            ..shell("exec 0<&-; exit 0")
        };
        assert_eq!(carry_out(&call), Outcome::Done);
    }
}
