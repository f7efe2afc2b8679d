//! Hosts that go on after a boot by way of a crontab: the real program and its real daemon, in mounts of their own, so
//! that no crontab of this machine is touched and none of its jobs runs.

use crate::SOON;
use farrun_tests::{Engine, Lab, SshdOptions, TEST_ACCOUNT, skipped, test_account, wait_until};
use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

/// `/etc` is a copy: nobody else has jobs, and PAM asks for nothing that a container may not do.
const MOUNTS: &str = "\
mount -t tmpfs tmpfs /mnt
cp -a /etc /mnt/etc
mount --bind /mnt/etc /etc
rm -f /etc/crontab /etc/cron.d/* /etc/cron.allow /etc/cron.deny /etc/anacrontab
printf '%s\\n' 'auth required pam_permit.so' 'account required pam_permit.so' 'session required pam_permit.so' >/etc/pam.d/cron
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/sshd /run/lock
chmod 1777 /run/lock
mount -t tmpfs -o mode=1730,gid=$(stat -c %g /var/spool/cron/crontabs) tmpfs /var/spool/cron/crontabs";

/// No carriage return: Debian's `crontab -l` shows one as two other characters, so nobody gets it back by asking.
const OTHERS: &[u8] = b"# mine, caf\xe9\n\nMAILTO=\"\"\n0 5 * * * \tbackup --at '50\\%' \n#\n";

struct Cron {
    lab: Lab,
    daemon: Child,
    account: String,
}

impl Cron {
    /// None where this machine or account cannot have one.
    fn new() -> Option<Self> {
        let installed = Path::new("/usr/sbin/cron").exists() && Path::new("/usr/bin/crontab").exists();
        if !installed || !rustix::process::geteuid().is_root() || test_account().is_none() {
            skipped("it needs root, the test account and the package cron");
            return None;
        }
        let options = SshdOptions {
            account: Some(TEST_ACCOUNT.to_owned()),
            mounts: Some(MOUNTS.to_owned()),
            environment: vec![
                // No conversation starts an observer; only what a boot starts does.
                ("FARRUN_WATCH".to_owned(), "off".to_owned()),
                // Without the account's own systemd.
                ("XDG_RUNTIME_DIR".to_owned(), "/nonexistent".to_owned()),
            ],
            ..SshdOptions::default()
        };
        let lab = Lab::with(Engine::shared(), &options);
        Some(Self {
            daemon: start_daemon(&lab),
            lab,
            account: TEST_ACCOUNT.to_owned(),
        })
    }

    fn crontab(&self, arguments: &[&str], input: &[u8]) -> Output {
        let mut child = self
            .lab
            .sshd
            .beside("crontab")
            .args(["-u", &self.account])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        child.wait_with_output().unwrap()
    }

    fn tab(&self) -> Vec<u8> {
        let listed = self.crontab(&["-l"], b"");
        if listed.status.success() {
            return listed.stdout;
        }
        let said = String::from_utf8_lossy(&listed.stderr).into_owned();
        assert!(said.contains("no crontab for"), "{said}");
        Vec::new()
    }

    /// The daemon ends and starts as it does with a host.
    fn boot(&mut self) {
        self.end();
        let forgotten = self.lab.sshd.beside("rm").arg("/run/crond.reboot").status();
        assert!(forgotten.unwrap().success());
        self.daemon = start_daemon(&self.lab);
    }

    fn end(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

impl Drop for Cron {
    fn drop(&mut self) {
        self.end();
    }
}

fn start_daemon(lab: &Lab) -> Child {
    let mut command: Command = lab.sshd.beside("cron");
    let daemon = command.arg("-f").stdin(Stdio::null()).spawn().unwrap();
    wait_until("cron to have begun", SOON, || {
        let marked = lab.sshd.beside("test").args(["-e", "/run/crond.reboot"]).status();
        marked.unwrap().success()
    });
    daemon
}

#[test]
fn the_daemon_starts_what_waits_after_a_boot() {
    let Some(mut cron) = Cron::new() else { return };
    assert!(cron.crontab(&["-"], OTHERS).status.success());
    assert_eq!(cron.tab(), OTHERS);
    let set = ["host", "set", "lab", "--resident", "--json"];
    let set = cron.lab.home.farrun(&set).ok();
    assert_eq!(set.json()["settings"]["resident"], "crontab", "{set}");
    let tab = cron.tab();
    let line = tab.strip_prefix(OTHERS).unwrap();
    assert!(line.starts_with(b"@reboot test -x "), "{line:?}");
    let run = cron.lab.detached(&[], "sleep 2; echo done");
    crate::wait_until_settled(&cron.lab, &run);
    let settled = cron.lab.run_folder(&run).join("settled.json");
    assert!(!settled.exists());
    cron.boot();
    wait_until("the run to be settled", SOON, || settled.exists());
    let set = ["host", "set", "lab", "--no-resident", "--json"];
    let set = cron.lab.home.farrun(&set).ok();
    assert_eq!(set.json()["settings"].get("resident"), None, "{set}");
    assert_eq!(cron.tab(), OTHERS);
    cron.lab.end_observer();
}

#[test]
fn an_account_that_may_have_no_crontab_is_told_so() {
    let Some(cron) = Cron::new() else { return };
    let deny = format!("echo {TEST_ACCOUNT} >/etc/cron.deny");
    let denied = cron.lab.sshd.beside("sh").args(["-c", &deny]).status();
    assert!(denied.unwrap().success());
    let refused = cron.lab.home.farrun(&["host", "set", "lab", "--resident"]);
    let refused = refused.expect_code(5);
    let _ = refused.expect_error("crontab: You (farrun-test) are not allowed to use this program");
    let shown = cron.lab.home.farrun(&["host", "show", "lab", "--json"]).ok();
    assert_eq!(shown.json()["settings"].get("resident"), None, "{shown}");
    assert!(!cron.lab.state().join("resident").exists());
    let allowed = cron.lab.sshd.beside("rm").arg("/etc/cron.deny").status();
    assert!(allowed.unwrap().success());
    assert_eq!(cron.tab(), b"");
}

#[test]
fn a_crontab_of_ours_alone_is_gone_afterwards() {
    let Some(cron) = Cron::new() else { return };
    let _ = cron.lab.home.farrun(&["host", "set", "lab", "--resident"]).ok();
    assert!(cron.tab().starts_with(b"@reboot "));
    let removed = cron.lab.home.farrun(&["host", "remove", "lab"]).ok();
    assert!(removed.errors().contains("nothing starts there"), "{removed}");
    assert!(!cron.crontab(&["-l"], b"").status.success());
}
