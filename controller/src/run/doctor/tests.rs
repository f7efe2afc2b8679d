//! Verdicts about hosts that no test machine is.

mod hosts;

use super::*;
use farrun_protocol::doctor::{
    AccountFacts, EngineCheckup, KernelLog, LoginFacts, OpenFolder, Seen, SpaceFacts, ToolkitFacts, Trial,
    Unseen, Why, Xid,
};
use farrun_protocol::{ErrorCode, Failure};
use hosts::{ROOM, absent, driver, engine, healthy, report, seen, state, trial, with_gpu};
use serde_json::json;

fn find(checkup: &Checkup, name: &str) -> Check {
    let checks = judge("gpu1", checkup);
    let found = checks.iter().filter(|check| check.name == name);
    found
        .max_by_key(|check| check.verdict)
        .unwrap_or_else(|| panic!("no `{name}` in {checks:#?}"))
        .clone()
}

/// The check has this verdict, its remedy these words, and no other check is worse than on a healthy host.
fn expect(checkup: &Checkup, name: &str, verdict: Verdict, remedy: &str) {
    let check = find(checkup, name);
    assert_eq!(check.verdict, verdict, "{check:?}");
    let offered = check.remedy.clone().unwrap_or_default();
    assert!(offered.contains(remedy), "{check:?}");
    for other in judge("gpu1", checkup) {
        assert!(other.name == name || other.verdict <= Verdict::Note, "{other:?}");
    }
}

#[test]
fn hosts_on_which_nothing_is_wrong_are_fine() {
    for checkup in [healthy(), with_gpu()] {
        for check in judge("gpu1", &checkup) {
            let fine = check.verdict == Verdict::Ok || check.name == "cards";
            assert!(fine, "{check:?}");
        }
    }
}

#[test]
fn every_fault_of_the_state_folder_has_a_remedy() {
    use Verdict::{Broken, Note, Warning};
    let network = state(|state| state.file_system = "nfs4".into());
    expect(&network, "file_system", Note, "");
    let unseen = Checkup {
        container: Err(Unseen::because(Why::Needs, "no image")),
        ..network
    };
    expect(&unseen, "file_system", Warning, "--state PATH");
    for (checkup, name, verdict, remedy) in [
        (
            state(|state| state.noexec = true),
            "file_system",
            Broken,
            "host set gpu1 --state",
        ),
        (
            state(|state| state.read_only = true),
            "file_system",
            Broken,
            "--state",
        ),
        (
            state(|state| state.file_system = "tmpfs".into()),
            "file_system",
            Warning,
            "--state",
        ),
        (
            state(|state| state.written = Err("quota".into())),
            "writing",
            Broken,
            "farrun gc --host gpu1",
        ),
        (state(|state| state.written = Ok(5000)), "writing", Warning, ""),
        (
            state(|state| state.space.free = 1 << 30),
            "space",
            Warning,
            "farrun gc",
        ),
        (
            state(|state| state.space.free = 1 << 20),
            "space",
            Broken,
            "farrun gc",
        ),
        (
            state(|state| state.space.inodes_free = 50),
            "inodes",
            Broken,
            "farrun gc",
        ),
        (
            state(|state| state.mode = 0o770),
            "permissions",
            Warning,
            "chmod 700",
        ),
        (
            state(|state| {
                state.open_parents = vec![OpenFolder {
                    path: "/home/ada".into(),
                    mode: 0o777,
                    uid: 1000,
                    foreign: false,
                }];
            }),
            "permissions",
            Warning,
            "chmod go-w /home/ada",
        ),
    ] {
        expect(&checkup, name, verdict, remedy);
    }
    let no_inodes = state(|state| (state.space.inodes, state.space.inodes_free) = (0, 0));
    assert_eq!(find(&no_inodes, "inodes").verdict, Verdict::Ok);
}

#[test]
fn an_engine_that_refuses_is_told_apart_from_one_that_is_away() {
    let without = |code, change: fn(&mut AccountFacts)| {
        let mut checkup = healthy();
        checkup.engine = Err(Failure::new(code, "the kernel's words"));
        checkup.container = Err(Unseen::because(Why::Needs, "no engine"));
        change(&mut checkup.account);
        checkup
    };
    for (checkup, remedy) in [
        (
            without(ErrorCode::DockerDenied, |account| account.in_docker_group = false),
            "log in anew",
        ),
        (
            without(ErrorCode::DockerDenied, |account| {
                account.listed_in_docker_group = false;
                account.sudo = Some(true);
            }),
            "farrun host set gpu1 --docker-sudo",
        ),
        (
            without(ErrorCode::DockerDenied, |account| {
                account.listed_in_docker_group = false
            }),
            "sudo usermod -aG docker ada",
        ),
        (
            without(ErrorCode::DockerUnreachable, |_| {}),
            "systemctl start docker",
        ),
        (without(ErrorCode::DockerTimeout, |_| {}), "journalctl -u docker"),
    ] {
        expect(&checkup, "engine", Verdict::Broken, remedy);
        assert_eq!(
            find(&checkup, "engine").evidence.as_deref(),
            Some("the kernel's words")
        );
        assert_eq!(find(&checkup, "shared_memory").verdict, Verdict::Skipped);
    }
}

#[test]
fn every_fault_of_the_engine_has_a_remedy() {
    use Verdict::{Broken, Note, Warning};
    for (checkup, name, verdict, remedy) in [
        (
            engine(|engine| engine.version = "19.03.1".into()),
            "engine",
            Warning,
            "update",
        ),
        (engine(|engine| engine.took_ms = 5000), "engine", Warning, "df -h"),
        (
            engine(|engine| engine.live_restore = false),
            "live_restore",
            Warning,
            "daemon.json",
        ),
        (
            engine(|engine| engine.runc = Some("1.1.15".into())),
            "runc",
            Warning,
            "1.3.3",
        ),
        (
            engine(|engine| engine.runc = Some("1.3.0".into())),
            "runc",
            Warning,
            "1.3.3",
        ),
        (
            engine(|engine| engine.runc = Some("1.1.5+ds1".into())),
            "runc",
            Note,
            "security",
        ),
        (
            engine(|engine| engine.storage = "vfs".into()),
            "images",
            Warning,
            "overlay2",
        ),
        (
            engine(|engine| {
                engine.space = Some(SpaceFacts {
                    free: 1 << 20,
                    ..ROOM
                })
            }),
            "images",
            Broken,
            "docker image prune",
        ),
    ] {
        expect(&checkup, name, verdict, remedy);
    }
    assert_eq!(
        find(&engine(|engine| engine.runc = Some("1.2.9".into())), "runc").verdict,
        Verdict::Ok
    );
    let hidden = engine(|engine| engine.space = None);
    assert_eq!(find(&hidden, "images").verdict, Verdict::Skipped);
    let refused = |change: fn(&mut EngineCheckup)| Checkup {
        container: Ok(Trial {
            image: "busybox".into(),
            problem: Some("permission denied".into()),
            ..Trial::default()
        }),
        ..engine(change)
    };
    expect(&refused(|_| {}), "container", Broken, "--state");
    expect(
        &refused(|engine| engine.selinux = true),
        "container",
        Broken,
        "chcon",
    );
    expect(
        &refused(|engine| engine.userns = true),
        "container",
        Broken,
        "chmod o+x",
    );
}

#[test]
fn every_fault_of_driver_and_toolkit_has_a_remedy() {
    use Verdict::{Broken, Note, Warning};
    let toolkit = |version: &str| Checkup {
        toolkit: Ok(ToolkitFacts {
            version: Some(version.into()),
            ..ToolkitFacts::default()
        }),
        ..with_gpu()
    };
    for (checkup, name, verdict, remedy) in [
        (
            driver(|driver| driver.installed = Some("560.1".into())),
            "driver",
            Broken,
            "reboot",
        ),
        (
            driver(|driver| driver.module = None),
            "driver",
            Broken,
            "modprobe nvidia",
        ),
        (
            driver(|driver| {
                (driver.module, driver.installed) = (None, None);
                driver.cards[0].driver = Some("nouveau".into());
            }),
            "driver",
            Broken,
            "install NVIDIA's driver",
        ),
        (
            driver(|driver| driver.reboot_required = true),
            "restart",
            Note,
            "reboot",
        ),
        (
            driver(|driver| driver.cards[0].lanes = Some((4, 16))),
            "pcie",
            Note,
            "slot",
        ),
        (
            driver(|driver| driver.unlinked = vec!["/dev/nvidia0".into()]),
            "daemon_reload",
            Warning,
            "create-dev-char-symlinks",
        ),
        (toolkit("1.14.3"), "toolkit", Warning, "1.17.8"),
        (toolkit("1.17.7"), "toolkit", Warning, "1.17.8"),
        (
            Checkup {
                toolkit: absent(),
                gpu_container: Err(Unseen::because(Why::Needs, "no image")),
                ..with_gpu()
            },
            "toolkit",
            Broken,
            "nvidia-ctk runtime configure",
        ),
    ] {
        expect(&checkup, name, verdict, remedy);
    }
    // Where a container has got one, nothing is broken.
    let elsewhere = Checkup {
        toolkit: absent(),
        ..with_gpu()
    };
    expect(&elsewhere, "toolkit", Note, "");
    assert!(find(&toolkit("1.16.1"), "toolkit").text.contains("CVE-2024-0132"));
    assert!(!find(&toolkit("1.17.0"), "toolkit").text.contains("CVE-2024-0132"));
    // With CDI, or another cgroup driver, a reload takes nothing away.
    let mut linked = driver(|driver| driver.unlinked = vec!["/dev/nvidia0".into()]);
    linked.engine.as_mut().unwrap().cdi_devices = 1;
    assert!(
        !judge("gpu1", &linked)
            .iter()
            .any(|check| check.name == "daemon_reload")
    );
}

#[test]
fn every_fault_of_a_gpu_has_a_remedy() {
    use Verdict::{Broken, Note, Warning};
    let gpu = |change: serde_json::Value| Checkup {
        gpus: Ok(report(change)),
        ..with_gpu()
    };
    let log = |code| Checkup {
        kernel_log: Ok(KernelLog {
            xids: vec![Xid {
                bus_id: "0000:01:00".into(),
                code,
                count: 2,
                age: 90,
                line: "NVRM: Xid".into(),
            }],
            lost: Vec::new(),
        }),
        ..with_gpu()
    };
    let inside = |seen: Seen| Checkup {
        gpu_container: trial(seen),
        ..with_gpu()
    };
    let mut slow = gpu(json!({"persistence": false}));
    slow.gpus.as_mut().unwrap().took_ms = Some(6000);
    let refused = Checkup {
        gpu_container: Ok(Trial {
            problem: Some("could not select device driver \"\" with capabilities: [[gpu]]".into()),
            ..Trial::default()
        }),
        ..with_gpu()
    };
    for (checkup, name, verdict, remedy) in [
        (gpu(json!({"health": "lost"})), "gpu", Broken, ""),
        (
            gpu(json!({"compute_mode": "Prohibited"})),
            "gpu",
            Broken,
            "-c DEFAULT",
        ),
        (
            gpu(json!({"ecc_errors": 3})),
            "gpu",
            Warning,
            "nvidia-smi -i 0 -r",
        ),
        (gpu(json!({"throttled": "hot"})), "gpu", Note, ""),
        (
            gpu(json!({"persistence": false})),
            "persistence",
            Note,
            "nvidia-smi -pm 1",
        ),
        (slow, "persistence", Warning, "nvidia-persistenced"),
        (log(79), "xid", Warning, "repair"),
        (log(31), "xid", Note, "program"),
        (refused, "gpu_container", Broken, "nvidia-ctk runtime configure"),
        (inside(seen()), "gpu_container", Broken, "nvidia-ctk"),
        (
            inside(Seen {
                device_files: vec!["nvidia0".into()],
                smi_code: Some(255),
                smi_said: "Failed to initialize NVML: Unknown Error".into(),
                ..seen()
            }),
            "gpu_container",
            Broken,
            "CDI",
        ),
        // Without a GPU it lists none and ends well.
        (
            inside(Seen {
                smi_code: Some(0),
                smi_said: "No devices found.\n".into(),
                ..seen()
            }),
            "gpu_container",
            Broken,
            "nvidia-ctk",
        ),
        (
            inside(Seen {
                device_files: vec!["nvidia0".into()],
                smi_code: Some(0),
                smi_said: "No devices found.\n".into(),
                ..seen()
            }),
            "gpu_container",
            Broken,
            "of one age",
        ),
    ] {
        expect(&checkup, name, verdict, remedy);
    }
    let denied = Checkup {
        kernel_log: Err(Unseen::new(Why::NotPermitted)),
        ..with_gpu()
    };
    expect(&denied, "kernel_log", Verdict::Skipped, "usermod -aG adm");
    let imageless = Checkup {
        gpu_container: Err(Unseen::because(Why::Needs, "no image")),
        ..with_gpu()
    };
    let check = find(&imageless, "gpu_container");
    assert!(
        check.verdict == Verdict::Skipped && check.text.ends_with("not checked: no image"),
        "{check:?}"
    );
}

#[test]
fn what_the_host_shares_and_keeps_is_judged() {
    use Verdict::{Broken, Note, Ok as Fine, Warning};
    let locks = |mode, problem: Option<&str>| {
        let mut checkup = healthy();
        let folder = checkup.locks.as_mut().unwrap();
        (folder.mode, folder.problem) = (mode, problem.map(str::to_owned));
        checkup
    };
    let login = |linger| Checkup {
        login: Ok(LoginFacts {
            systemd: true,
            in_session: true,
            kill_user_processes: Some(true),
            linger,
            user_manager: true,
            crontab: None,
        }),
        ..healthy()
    };
    let mut small = healthy();
    small.container = trial(Seen {
        shared_memory: 64 << 20,
        ..Seen::default()
    });
    for (checkup, name, verdict, remedy) in [
        (
            locks(0o755, None),
            "locks",
            Warning,
            "chmod 1777 /run/lock/farrun",
        ),
        (
            locks(0o1777, Some("denied")),
            "locks",
            Broken,
            "install -d -m 1777",
        ),
        (login(false), "observer", Warning, "enable-linger ada"),
        (login(true), "observer", Fine, ""),
        (small, "shared_memory", Note, "shm_size"),
        (
            Checkup {
                residence: None,
                ..healthy()
            },
            "residence",
            Note,
            "farrun host set gpu1 --resident",
        ),
    ] {
        expect(&checkup, name, verdict, remedy);
    }
}
