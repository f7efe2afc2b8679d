//! Hosts that go on by themselves after a boot. There is no boot here: what a boot would start is started by hand.

use crate::SOON;
use farrun_tests::{Engine, Lab, SshdOptions, temporary_folder, wait_until};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Command};

/// A stand-in for `crontab`, and a process that has the name of its daemon.
struct Cron {
    folder: tempfile::TempDir,
    daemon: Child,
}

impl Cron {
    fn new() -> Self {
        let folder = temporary_folder();
        let tab = folder.path().join("tab");
        let tab = tab.display();
        let script = format!(
            "#!/bin/sh\ncase $1 in\n\
             -l) cat {tab} 2>/dev/null || {{ echo no crontab for you >&2; exit 1; }};;\n\
             -r) rm {tab};;\n\
             *) cp \"$1\" {tab};;\nesac\n"
        );
        let program = folder.path().join("crontab");
        std::fs::write(&program, script).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let daemon = folder.path().join("cron");
        std::fs::copy("/bin/sleep", &daemon).unwrap();
        let daemon = Command::new(daemon).arg("600").spawn().unwrap();
        Self { folder, daemon }
    }

    fn host(&self) -> Lab {
        let path = std::env::var("PATH").unwrap();
        let environment = vec![
            (
                "PATH".to_owned(),
                format!("{}:{path}", self.folder.path().display()),
            ),
            // No conversation starts an observer; only what a boot starts does.
            ("FARRUN_WATCH".to_owned(), "off".to_owned()),
            // Without the account's own systemd.
            ("XDG_RUNTIME_DIR".to_owned(), "/nonexistent".to_owned()),
        ];
        let options = SshdOptions {
            environment,
            ..SshdOptions::default()
        };
        Lab::with(Engine::shared(), &options)
    }

    fn tab(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("tab")).unwrap_or_default()
    }
}

impl Drop for Cron {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

#[test]
fn what_ended_is_settled_after_a_boot_without_a_contact() {
    let cron = Cron::new();
    let lab = cron.host();
    let set = lab
        .home
        .farrun(&["host", "set", "lab", "--resident", "--json"])
        .ok();
    assert_eq!(set.json()["settings"]["resident"], "crontab", "{set}");
    let shown = lab.home.farrun(&["host", "show", "lab"]).ok();
    assert!(shown.text().contains("crontab starts what waits"), "{shown}");
    let status = lab.home.farrun(&["status"]).ok();
    assert!(status.text().contains("crontab starts what waits"), "{status}");
    let run = lab.detached(&[], "sleep 1; echo done");
    let record = lab.run_folder(&run).join("record/exit.json");
    wait_until("the end of the job", SOON, || {
        std::fs::read(&record).is_ok_and(|bytes| bytes.starts_with(b"FARRUN-EXIT"))
    });
    let settled = lab.run_folder(&run).join("settled.json");
    assert!(!settled.exists());
    // Cron takes the line from behind `@reboot`.
    let line = cron.tab();
    let command = line.trim().strip_prefix("@reboot ").unwrap().to_owned();
    let mut boot = Command::new("/bin/sh").args(["-c", &command]).spawn().unwrap();
    wait_until("the run to be settled", SOON, || settled.exists());
    // Nothing is left to do, so it ends, and well.
    let mut ended = None;
    wait_until("the observer to end", SOON, || {
        ended = boot.try_wait().unwrap();
        ended.is_some()
    });
    assert!(ended.unwrap().success());
    // The agent that starts stays, whatever is tidied up.
    let link = lab.state().join("resident/farrun-agent");
    let _ = lab.home.farrun(&["gc", "--host", "lab", "--yes"]).ok();
    assert!(std::fs::metadata(&link).unwrap().is_file());
    // Unfinished business here keeps the host; afterwards nothing of it stays there.
    let _ = lab.home.farrun(&["pull", &run]).ok();
    let removed = lab.home.farrun(&["host", "remove", "lab"]).ok();
    assert!(removed.errors().contains("nothing starts there"), "{removed}");
    assert_eq!(cron.tab(), "");
    assert!(!lab.state().join("resident").exists() && !lab.state().join("resident.json").exists());
}

#[test]
fn residence_is_taken_back_when_it_is_not_wanted_any_more() {
    let cron = Cron::new();
    std::fs::write(cron.folder.path().join("tab"), "0 5 * * * backup\n").unwrap();
    let lab = cron.host();
    let _ = lab.home.farrun(&["host", "set", "lab", "--resident"]).ok();
    assert_eq!(cron.tab().lines().count(), 2);
    // Its unit or line names the state folder.
    let moved = ["host", "set", "lab", "--state", "elsewhere"];
    let _ = lab
        .home
        .farrun(&moved)
        .expect_code(5)
        .expect_error("--no-resident");
    let set = lab
        .home
        .farrun(&["host", "set", "lab", "--no-resident", "--json"])
        .ok();
    assert_eq!(set.json()["settings"].get("resident"), None, "{set}");
    assert_eq!(cron.tab(), "0 5 * * * backup\n");
}

#[test]
fn a_host_that_offers_no_way_says_what_was_tried() {
    let cron = Cron::new();
    let program = cron.folder.path().join("crontab");
    std::fs::write(&program, "#!/bin/sh\necho you are not allowed to >&2\nexit 1\n").unwrap();
    let lab = cron.host();
    let refused = lab
        .home
        .farrun(&["host", "set", "lab", "--resident"])
        .expect_code(5);
    let refused = refused.expect_error("no systemd of its own");
    let _ = refused.expect_error("crontab: you are not allowed to");
    let shown = lab.home.farrun(&["host", "show", "lab", "--json"]).ok();
    assert_eq!(shown.json()["settings"].get("resident"), None, "{shown}");
    assert!(!lab.state().join("resident").exists());
}
