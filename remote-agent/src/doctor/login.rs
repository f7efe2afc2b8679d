//! What becomes of processes when their session ends, and what could start some after a boot.

use super::program::{self, LOOKS};
use farrun_protocol::doctor::{LoginFacts, Looked};
use std::path::Path;

/// Folders of logind's configuration, later ones over earlier ones.
const CONFIGURATION: &[&str] = &["usr/lib/systemd", "run/systemd", "etc/systemd"];

/// Looks at a host whose files lie below `root`.
pub(crate) fn facts(root: &Path, launcher: &Path, user_manager: bool) -> Looked<LoginFacts> {
    let systemd = root.join("run/systemd/system").is_dir();
    let cgroups = program::read(&root.join("proc/self/cgroup")).unwrap_or_default();
    Ok(LoginFacts {
        systemd,
        in_session: is_in_session(&cgroups),
        kill_user_processes: systemd.then(|| kills(root, launcher)).flatten(),
        linger: lingers(root, &crate::leases::account()),
        user_manager,
        crontab: program::find("crontab").map(|_| has_crontab(launcher)),
    })
}

/// Whether a process of these groups belongs to a session that logind made.
pub(crate) fn is_in_session(cgroups: &str) -> bool {
    cgroups
        .lines()
        .filter_map(|line| line.rsplit('/').next())
        .any(|group| group.starts_with("session-") && group.ends_with(".scope"))
}

/// Whether the account's own systemd outlives its sessions.
pub(crate) fn lingers(root: &Path, account: &str) -> bool {
    root.join("var/lib/systemd/linger").join(account).exists()
}

/// Whether logind ends all processes of a session with it: what its configuration says, else what it says itself, which
/// takes a program. Unknown where neither does.
pub(crate) fn kills(root: &Path, launcher: &Path) -> Option<bool> {
    configured(root).or_else(|| {
        let arguments = ["show-session", "--property=KillUserProcesses"];
        let said = program::run(launcher, "loginctl", &arguments, LOOKS).ok()?;
        word(&said.stdout)
    })
}

/// Whether the configuration below `root` says that sessions take their processes with them.
fn configured(root: &Path) -> Option<bool> {
    let mut found = None;
    for folder in CONFIGURATION {
        let folder = root.join(folder);
        let mut files = vec![folder.join("logind.conf")];
        let entries = std::fs::read_dir(folder.join("logind.conf.d"))
            .into_iter()
            .flatten();
        let mut more: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        more.sort();
        files.extend(more);
        for file in files {
            let text = program::read(&file).unwrap_or_default();
            found = text.lines().filter_map(word).next_back().or(found);
        }
    }
    found
}

/// `KillUserProcesses=yes`
fn word(text: &str) -> Option<bool> {
    let value = text.trim().strip_prefix("KillUserProcesses=")?;
    match value.trim() {
        "yes" | "true" | "1" | "on" => Some(true),
        "no" | "false" | "0" | "off" => Some(false),
        _ => None,
    }
}

fn has_crontab(launcher: &Path) -> bool {
    // Without one it ends with 1 and says that there is none; one who is not allowed is told so.
    program::run(launcher, "crontab", &["-l"], LOOKS)
        .is_ok_and(|said| said.code == 0 || said.stderr.contains("no crontab"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_configuration_counts() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        assert_eq!(configured(root.path()), None);
        write("etc/systemd/logind.conf", "[Login]\n#KillUserProcesses=no\n");
        assert_eq!(configured(root.path()), None);
        write("usr/lib/systemd/logind.conf.d/a.conf", "KillUserProcesses=no\n");
        assert_eq!(configured(root.path()), Some(false));
        write(
            "etc/systemd/logind.conf.d/b.conf",
            "[Login]\nKillUserProcesses=yes\n",
        );
        assert_eq!(configured(root.path()), Some(true));
    }

    #[test]
    fn a_session_is_told_by_its_scope() {
        let session = "1:name=systemd:/user.slice/user-1000.slice/session-3.scope\n";
        assert!(is_in_session(session));
        assert!(is_in_session("0::/user.slice/user-1000.slice/session-c1.scope"));
        assert!(!is_in_session(
            "0::/user.slice/user-1000.slice/user@1000.service/app.slice/x.scope"
        ));
        assert!(!is_in_session("0::/"));
    }
}
