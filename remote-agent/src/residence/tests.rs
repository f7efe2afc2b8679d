//! With stand-ins for the host's programs, which write down what they were asked.

use super::*;
use crate::gpu::ChildLimits;
use farrun_protocol::{Sha256, layout};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

/// A host: a state folder with two agents, a home, and programs.
struct Host {
    below: tempfile::TempDir,
}

impl Host {
    fn new() -> Self {
        let host = Self {
            below: tempfile::tempdir().unwrap(),
        };
        // The step between, without its limits.
        host.program("launcher", "shift 3\nexec \"$@\"");
        for version in ["one", "two"] {
            let folder = host.path("state").join(layout::agent_folder(&agent_of(version)));
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join(layout::AGENT), version).unwrap();
        }
        fs::create_dir(host.path("home")).unwrap();
        fs::create_dir_all(host.path("proc/7")).unwrap();
        host
    }

    fn path(&self, name: &str) -> PathBuf {
        self.below.path().canonicalize().unwrap().join(name)
    }

    /// A program that writes its arguments down, then does `script`.
    fn program(&self, name: &str, script: &str) {
        let path = self.path(name);
        let asked = self.path("asked");
        let note = if name == "launcher" {
            String::new()
        } else {
            format!("echo {name} \"$@\" >> {}\n", asked.display())
        };
        fs::write(&path, format!("#!/bin/sh\n{note}{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn with_systemd(self) -> Self {
        self.program("systemctl", "exit 0");
        let flag = self.path("lingers");
        let flag = flag.display();
        self.program(
            "loginctl",
            &format!(
                "case $1 in enable-linger) touch {flag};; disable-linger) rm {flag};; \
                 show-user) test -e {flag} && echo Linger=yes;; esac; exit 0"
            ),
        );
        self
    }

    fn with_crontab(self, content: impl AsRef<[u8]>, daemon: bool) -> Self {
        let tab = self.path("tab");
        if !content.as_ref().is_empty() {
            fs::write(&tab, content).unwrap();
        }
        let tab = tab.display();
        self.program(
            "crontab",
            &format!(
                "case $1 in -l) cat {tab} 2>/dev/null || {{ echo no crontab for ada >&2; exit 1; }};; \
                 -r) rm {tab};; *) cp \"$1\" {tab};; esac"
            ),
        );
        let name = if daemon { "cron\n" } else { "sshd\n" };
        fs::write(self.path("proc/7/comm"), name).unwrap();
        self
    }

    fn tab(&self) -> String {
        fs::read_to_string(self.path("tab")).unwrap_or_default()
    }

    fn asked(&self) -> String {
        fs::read_to_string(self.path("asked")).unwrap_or_default()
    }

    fn place(&self, version: &str, manager: bool) -> Place {
        let program = |name: &str| self.path(name).to_string_lossy().into_owned();
        Place {
            state: self.path("state"),
            agent_sha256: agent_of(version),
            launcher: self.path("launcher"),
            home: self.path("home"),
            account: "ada".into(),
            root: self.path(""),
            manager: if manager {
                vec![("XDG_RUNTIME_DIR", "/run/user/1000".into())]
            } else {
                Vec::new()
            },
            programs: ["systemctl", "loginctl", "crontab"].map(program),
            limits: ChildLimits {
                run: Duration::from_secs(5),
                terminate: Duration::from_millis(500),
                kill: Duration::from_millis(500),
            },
        }
    }
}

fn agent_of(version: &str) -> Sha256 {
    Sha256::of(version.as_bytes())
}

fn units(host: &Host) -> Vec<PathBuf> {
    let folder = host.path("home/.config/systemd/user");
    let entries = fs::read_dir(folder).into_iter().flatten();
    entries.filter_map(|entry| Some(entry.ok()?.path())).collect()
}

#[test]
fn a_unit_that_lingers_is_made_and_leaves_no_trace() {
    let host = Host::new().with_systemd().with_crontab("", true);
    let place = host.place("one", true);
    let environment = vec![("DOCKER_HOST".to_owned(), "unix:///x".to_owned())];
    assert_eq!(set(&place, environment.clone()).unwrap(), Residence::UserUnit);
    assert_eq!(installed(&place.state), Some(Residence::UserUnit));
    assert_eq!(super::environment(&place.state), environment);
    assert!(may_start(&place.state));
    let made = units(&host);
    let text = fs::read_to_string(&made[0]).unwrap();
    let link = place.state.join("resident/farrun-agent");
    let starts = format!(
        "ExecStart={} watch --boot {}\n",
        link.display(),
        place.state.display()
    );
    assert!(text.contains(&starts), "{text}");
    assert_eq!(fs::read_to_string(&link).unwrap(), "one");
    let name = made[0].file_name().unwrap().to_str().unwrap().to_owned();
    assert!(host.asked().contains(&format!("systemctl --user enable {name}")));
    assert!(host.path("lingers").exists() && host.tab().is_empty());
    // A second time changes nothing that matters.
    assert_eq!(set(&place, environment).unwrap(), Residence::UserUnit);
    assert!(start_unit(&place));
    unset(&place).unwrap();
    assert!(host.asked().contains(&format!("systemctl --user disable {name}")));
    assert!(units(&host).is_empty() && installed(&place.state).is_none());
    assert!(!host.path("lingers").exists() && !link.parent().unwrap().exists());
    unset(&place).unwrap();
}

#[test]
fn lingering_that_was_there_before_stays() {
    let host = Host::new().with_systemd();
    fs::create_dir_all(host.path("var/lib/systemd/linger")).unwrap();
    fs::write(host.path("var/lib/systemd/linger/ada"), "").unwrap();
    let place = host.place("one", true);
    set(&place, Vec::new()).unwrap();
    unset(&place).unwrap();
    assert!(!host.asked().contains("linger"), "{}", host.asked());
}

#[test]
fn a_crontab_serves_where_systemd_does_not_and_keeps_its_other_lines() {
    let others = "MAILTO=ada\n0 5 * * * /home/ada/backup\n";
    let host = Host::new().with_systemd().with_crontab(others, true);
    host.program("loginctl", "echo Access denied >&2; exit 1");
    let place = host.place("one", true);
    assert_eq!(set(&place, Vec::new()).unwrap(), Residence::Crontab);
    assert!(units(&host).is_empty());
    let tab = host.tab();
    assert!(tab.starts_with(others), "{tab}");
    let added = tab.strip_prefix(others).unwrap();
    assert!(
        added.starts_with("@reboot test -x ") && added.lines().count() == 1,
        "{added}"
    );
    assert!(added.contains("resident/farrun-agent watch --boot"));
    assert_eq!(installed(&place.state), Some(Residence::Crontab));
    set(&place, Vec::new()).unwrap();
    assert_eq!(host.tab(), tab);
    unset(&place).unwrap();
    assert_eq!(host.tab(), others);
    assert_eq!(installed(&place.state), None);
}

#[test]
fn what_others_wrote_into_a_crontab_stays_byte_for_byte() {
    let long = format!("# {}\n", "x".repeat(600 * 1024));
    let others = [
        &b"\n# caf\xe9\n0 5 * * * backup --at '50\\%'\r\n\n\t \n# farrun-watch-ffffffffffff \n"[..],
        long.as_bytes(),
    ]
    .concat();
    let host = Host::new().with_crontab(&others, true);
    let place = host.place("one", false);
    assert_eq!(set(&place, Vec::new()).unwrap(), Residence::Crontab);
    let with = fs::read(host.path("tab")).unwrap();
    assert!(with.strip_prefix(&others[..]).unwrap().starts_with(b"@reboot "));
    unset(&place).unwrap();
    assert!(fs::read(host.path("tab")).unwrap() == others);
    // One that ends in the middle of a line.
    fs::write(host.path("tab"), "MAILTO=ada").unwrap();
    set(&place, Vec::new()).unwrap();
    assert!(host.tab().starts_with("MAILTO=ada\n@reboot "), "{}", host.tab());
}

#[test]
fn a_crontab_of_ours_alone_goes_whole() {
    let host = Host::new().with_crontab("", true);
    let place = host.place("one", false);
    assert_eq!(set(&place, Vec::new()).unwrap(), Residence::Crontab);
    unset(&place).unwrap();
    assert!(!host.path("tab").exists());
}

#[test]
fn where_nothing_serves_every_reason_is_told_and_nothing_stays() {
    let host = Host::new().with_crontab("x\n", false);
    let place = host.place("one", false);
    let error = set(&place, Vec::new()).unwrap_err().to_string();
    assert!(error.contains("systemd: the account has no systemd"), "{error}");
    assert!(error.contains("crontab: no cron daemon runs"), "{error}");
    assert_eq!(host.tab(), "x\n");
    assert!(!place.state.join("resident").exists() && installed(&place.state).is_none());
    let host = Host::new();
    let error = set(&host.place("one", false), Vec::new())
        .unwrap_err()
        .to_string();
    assert!(error.contains("is installed"), "{error}");
}

#[test]
fn lingering_that_does_not_hold_is_taken_back() {
    let host = Host::new().with_systemd().with_crontab("", true);
    host.program("loginctl", "exit 0");
    let place = host.place("one", true);
    assert_eq!(set(&place, Vec::new()).unwrap(), Residence::Crontab);
    assert!(host.asked().contains("loginctl disable-linger ada"));
}

#[test]
fn lingering_that_is_granted_late_counts_and_is_taken_back() {
    let host = Host::new().with_systemd();
    let flag = host.path("lingers");
    let flag = flag.display();
    host.program(
        "loginctl",
        &format!(
            "case $1 in enable-linger) touch {flag}; exec sleep 60;; disable-linger) rm {flag};; \
             show-user) test -e {flag} && echo Linger=yes;; esac; exit 0"
        ),
    );
    let mut place = host.place("one", true);
    place.limits.run = Duration::from_millis(500);
    assert_eq!(set(&place, Vec::new()).unwrap(), Residence::UserUnit);
    unset(&place).unwrap();
    assert!(!host.path("lingers").exists());
    // Also where it cannot be seen that it was.
    let place = Place {
        programs: place
            .programs
            .map(|program| program.replace("systemctl", "nosuch")),
        ..host.place("one", true)
    };
    host.program(
        "loginctl",
        &format!("case $1 in enable-linger) touch {flag};; disable-linger) rm {flag};; *) exit 1;; esac"),
    );
    set(&place, Vec::new()).unwrap_err();
    assert!(!host.path("lingers").exists(), "{}", host.asked());
}

#[test]
fn a_unit_that_somebody_removed_starts_nothing() {
    let host = Host::new().with_systemd();
    let place = host.place("one", true);
    set(&place, Vec::new()).unwrap();
    fs::remove_file(&units(&host)[0]).unwrap();
    assert_eq!(installed(&place.state), None);
}

#[test]
fn the_agent_that_starts_is_named_and_followed() {
    let host = Host::new().with_systemd();
    let (one, two) = (host.place("one", true), host.place("two", true));
    follow_newer(&one).unwrap();
    assert_eq!(named_agent(&one.state), None);
    set(&one, Vec::new()).unwrap();
    // One of the same version stays away.
    follow_newer(&two).unwrap();
    assert_eq!(named_agent(&one.state), Some(agent_of("one")));
    let mut note = note::read(&one.state).unwrap().unwrap();
    note.version = "0.0.1".into();
    note::write(&one.state, &note).unwrap();
    follow_newer(&two).unwrap();
    assert_eq!(named_agent(&one.state), Some(agent_of("two")));
    // Where the one that is named is gone, whoever comes takes its place.
    fs::remove_dir_all(one.state.join(layout::agent_folder(&agent_of("two")))).unwrap();
    follow_newer(&one).unwrap();
    assert_eq!(named_agent(&one.state), Some(agent_of("one")));
    assert_eq!(
        fs::read_to_string(one.state.join("resident/farrun-agent")).unwrap(),
        "one"
    );
}

#[test]
fn a_path_that_needs_quoting_is_refused() {
    let host = Host::new().with_systemd();
    let mut place = host.place("one", true);
    place.state = host.path("a b");
    fs::create_dir(&place.state).unwrap();
    assert!(
        set(&place, Vec::new())
            .unwrap_err()
            .to_string()
            .contains("characters")
    );
}
