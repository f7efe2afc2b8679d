//! Whose a process on a GPU is: the driver names process ids of the host, the kernel names their container and
//! account. Which run a container is, only the engine knows; that is added when a report is made.

use super::apps::App;
use super::process;
use super::store::KnownHolder;
use super::text::{bounded, clean};
use farrun_protocol::gpu::{GpuProcess, Holder};
use rustix::process::{Pid, test_kill_process};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// Longest name of a program.
const LONGEST_COMMAND: usize = 200;

/// Whose these processes are; `known` holds what was found out before and is replaced by what is known now.
pub(super) fn identify(root: &Path, apps: &[App], known: &mut Vec<KnownHolder>) -> Vec<GpuProcess> {
    let mut now: Vec<KnownHolder> = Vec::new();
    let mut processes = Vec::new();
    for app in apps {
        let found = process::find(root, app.pid).filter(|found| !found.ended);
        let holder = match found {
            Some(found) => {
                let same = |one: &&KnownHolder| one.pid == app.pid && one.start == found.start;
                let holder = now.iter().chain(known.iter()).find(same);
                let holder = holder.map_or_else(|| look(root, app), |known| known.holder.clone());
                if !now.iter().any(|one| one.pid == app.pid) {
                    now.push(KnownHolder {
                        pid: app.pid,
                        start: found.start,
                        holder: holder.clone(),
                    });
                }
                holder
            }
            None => unseen(app),
        };
        processes.push(GpuProcess {
            gpu_uuid: app.gpu_uuid.clone(),
            pid: app.pid,
            memory: app.memory,
            holder,
        });
    }
    *known = now;
    processes
}

fn look(root: &Path, app: &App) -> Holder {
    let folder = root.join(format!("proc/{}", app.pid));
    let user = std::fs::metadata(&folder).map_or_else(|_| "?".to_owned(), |found| account(root, found.uid()));
    let command = std::fs::read(folder.join("comm"))
        .ok()
        .map(|name| clean(&String::from_utf8_lossy(&name)).trim().to_owned())
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| driver_name(app));
    let command = bounded(&command, LONGEST_COMMAND);
    let groups = std::fs::read(folder.join("cgroup")).unwrap_or_default();
    match container(&String::from_utf8_lossy(&groups)) {
        Some(id) => Holder::Container {
            id,
            name: None,
            user,
            command,
        },
        None => Holder::Process { user, command },
    }
}

/// A process that is not listed: gone, or hidden from this account.
fn unseen(app: &App) -> Holder {
    let pid = i32::try_from(app.pid).ok().and_then(Pid::from_raw);
    match pid.map(test_kill_process) {
        Some(Err(rustix::io::Errno::PERM)) => Holder::Process {
            user: "?".to_owned(),
            command: driver_name(app),
        },
        _ => Holder::Dead,
    }
}

/// The program's name as the driver prints it, without its folder and arguments.
fn driver_name(app: &App) -> String {
    let name = app.name.as_deref().unwrap_or("?");
    let program = name.split_whitespace().next().unwrap_or("?");
    bounded(program.rsplit('/').next().unwrap_or(program), LONGEST_COMMAND)
}

/// The id of the container that a process is in, from its control groups, of either version and of any engine.
fn container(groups: &str) -> Option<String> {
    groups.lines().find_map(|line| {
        let (_, path) = line.split_once(':')?;
        path.split('/').rev().find_map(|part| {
            let part = part.strip_suffix(".scope").unwrap_or(part);
            let id = ["docker-", "libpod-", "cri-containerd-", "crio-"]
                .iter()
                .find_map(|prefix| part.strip_prefix(prefix))
                .unwrap_or(part);
            let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
            (id.len() == 64 && id.bytes().all(hex)).then(|| id.to_owned())
        })
    })
}

/// Name of an account of the host; its number when the host does not say.
fn account(root: &Path, uid: u32) -> String {
    let accounts = std::fs::read(root.join("etc/passwd")).unwrap_or_default();
    let accounts = String::from_utf8_lossy(&accounts);
    let name = accounts.lines().find_map(|line| {
        let mut words = line.split(':');
        let name = words.next()?;
        (words.nth(1)?.parse() == Ok(uid)).then(|| bounded(&clean(name), 64))
    });
    name.unwrap_or_else(|| uid.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use farrun_protocol::gpu::Reading;

    fn app(pid: u32) -> App {
        App {
            gpu_uuid: "GPU-aa01".into(),
            pid,
            name: Some("/opt/bin/train --x".into()),
            memory: Reading::Value(5),
        }
    }

    struct Host(tempfile::TempDir);

    impl Host {
        fn new() -> Self {
            let host = Self(tempfile::tempdir().unwrap());
            let uid = rustix::process::getuid().as_raw();
            std::fs::create_dir_all(host.0.path().join("etc")).unwrap();
            let accounts = format!("x:x:4294967294:1::/:/bin/sh\nalice:x:{uid}:1::/:/bin/sh\n");
            std::fs::write(host.0.path().join("etc/passwd"), accounts).unwrap();
            host
        }

        fn process(&self, pid: u32, name: &str, start: u64, groups: &str) {
            let folder = self.0.path().join(format!("proc/{pid}"));
            std::fs::create_dir_all(&folder).unwrap();
            let stat = format!("{pid} ({name}) S {} {start} 0 0\n", "0 ".repeat(18).trim_end());
            std::fs::write(folder.join("stat"), stat).unwrap();
            std::fs::write(folder.join("comm"), format!("{name}\n")).unwrap();
            std::fs::write(folder.join("cgroup"), groups).unwrap();
        }

        fn identify(&self, pids: &[u32], known: &mut Vec<KnownHolder>) -> Vec<Holder> {
            let apps: Vec<App> = pids.iter().map(|pid| app(*pid)).collect();
            let processes = identify(self.0.path(), &apps, known);
            processes.into_iter().map(|process| process.holder).collect()
        }
    }

    #[test]
    fn a_container_is_found_in_control_groups_of_any_kind() {
        let id = "0123456789abcdef".repeat(4);
        for groups in [
            format!("12:cpuset:/\n9:name=systemd:/docker/{id}\n"),
            format!("0::/system.slice/docker-{id}.scope\n"),
            format!(
                "0::/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{id}.scope/container\n"
            ),
            format!("0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-{id}.scope"),
            format!("4:memory:/kubepods/burstable/pod77/{id}"),
        ] {
            assert_eq!(container(&groups), Some(id.clone()), "{groups}");
        }
        for groups in [
            "0::/user.slice/user-1000.slice/session-3.scope\n".to_owned(),
            format!("0::/docker/{}\n", &id[..63]),
            format!("0::/docker/{}\n", id.to_uppercase()),
            String::new(),
            "nonsense".to_owned(),
        ] {
            assert_eq!(container(&groups), None, "{groups}");
        }
    }

    #[test]
    fn holders_are_told_apart() {
        let host = Host::new();
        let id = "ab".repeat(32);
        host.process(11, "python3", 5, "0::/user.slice\n");
        host.process(12, "a (b) c", 6, &format!("0::/system.slice/docker-{id}.scope\n"));
        let gone = 4_194_303;
        let holders = host.identify(&[11, 12, gone], &mut Vec::new());
        assert_eq!(
            holders,
            [
                Holder::Process {
                    user: "alice".into(),
                    command: "python3".into()
                },
                Holder::Container {
                    id,
                    name: None,
                    user: "alice".into(),
                    command: "a (b) c".into()
                },
                Holder::Dead,
            ]
        );
    }

    #[test]
    fn a_holder_is_looked_up_once_for_the_life_of_its_process() {
        let host = Host::new();
        let mut known = Vec::new();
        host.process(11, "first", 5, "");
        let first = host.identify(&[11, 11], &mut known);
        assert_eq!(known.len(), 1);
        std::fs::write(host.0.path().join("proc/11/comm"), "renamed\n").unwrap();
        assert_eq!(host.identify(&[11], &mut known), first[..1]);
        // The same number, another process.
        host.process(11, "second", 6, "");
        let second = host.identify(&[11], &mut known);
        assert!(matches!(&second[0], Holder::Process { command, .. } if command == "second"));
        host.identify(&[], &mut known);
        assert!(known.is_empty());
    }

    #[test]
    fn control_characters_of_a_name_do_not_travel() {
        let host = Host::new();
        host.process(11, "x\u{1b}[31my", 5, "");
        let holders = host.identify(&[11], &mut Vec::new());
        assert!(matches!(&holders[0], Holder::Process { command, .. } if command == "xy"));
    }
}
