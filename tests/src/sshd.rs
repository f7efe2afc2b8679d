//! Throw-away OpenSSH servers.

use crate::place::{free_port, temporary_folder};
use crate::process::{children, descendants, kill_group, run, signal};
use crate::wait::wait_until;
use rustix::process::Signal;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// What a server is asked for.
#[derive(Debug, Clone, Default)]
pub struct SshdOptions {
    /// The account to log in as; the one that runs the tests when none is named.
    pub account: Option<String>,
    /// Lines for `sshd_config`, such as `MaxSessions 1`. They come first, so they win.
    pub lines: Vec<String>,
    /// A shell script that stands between sshd and the account's command, which it finds in
    /// `SSH_ORIGINAL_COMMAND`: start-up files that print, other shells, refusals.
    pub front: Option<String>,
    /// Variables that sessions get, such as a PATH that leads elsewhere.
    pub environment: Vec<(String, String)>,
    /// A shell script that mounts what the server and its sessions see and nobody else does. Needs root.
    pub mounts: Option<String>,
}

/// An OpenSSH server on a loopback port, with host keys and one accepted key of its own.
#[derive(Debug)]
pub struct Sshd {
    folder: tempfile::TempDir,
    port: u16,
    account: String,
    mounts: Option<String>,
    child: Option<Child>,
}

impl Sshd {
    /// Starts a server with nothing special.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn start() -> Self {
        Self::with(&SshdOptions::default())
    }

    /// Starts a server.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn with(options: &SshdOptions) -> Self {
        let folder = temporary_folder();
        for name in ["host_key", "identity", "other_identity"] {
            make_key(&folder.path().join(name));
        }
        let accepted = folder.path().join("authorized_keys");
        std::fs::copy(folder.path().join("identity.pub"), &accepted).expect("accepted keys");
        let account = options.account.clone().unwrap_or_else(own_account);
        let mut server = Self {
            folder,
            port: free_port(),
            account,
            mounts: options.mounts.clone(),
            child: None,
        };
        server.write_settings(options);
        server.launch();
        server
    }

    /// A program that sees what the server sees. Needs root.
    ///
    /// # Panics
    /// When the server was stopped.
    pub fn beside(&self, program: &str) -> Command {
        let server = self.child.as_ref().expect("a server that runs");
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--mount=/proc/{}/ns/mnt", server.id()))
            .arg(program);
        command
    }

    /// The port it listens on, on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where it listens.
    pub fn socket_address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// The account it lets in.
    pub fn account(&self) -> &str {
        &self.account
    }

    /// `account@127.0.0.1:port`, as `farrun host add --address` takes it.
    pub fn address(&self) -> String {
        self.address_by(self.port)
    }

    /// The same by way of another port, such as a proxy's.
    pub fn address_by(&self, port: u16) -> String {
        format!("{}@127.0.0.1:{port}", self.account)
    }

    /// The private key that it accepts.
    pub fn identity(&self) -> PathBuf {
        self.folder.path().join("identity")
    }

    /// A private key that it does not accept.
    pub fn wrong_identity(&self) -> PathBuf {
        self.folder.path().join("other_identity")
    }

    /// Its lines for a `known_hosts` file, under the name of a port: its own or a proxy's.
    pub fn known_hosts(&self, port: u16) -> String {
        let key = std::fs::read_to_string(self.folder.path().join("host_key.pub")).expect("host key");
        format!("[127.0.0.1]:{port} {}\n", key.trim())
    }

    /// Process ids of its sessions.
    pub fn sessions(&self) -> Vec<u32> {
        self.child
            .as_ref()
            .map(|child| children(child.id()))
            .unwrap_or_default()
    }

    /// Kills every session; the server itself goes on. What runs in the sessions loses its channel.
    pub fn kill_sessions(&self) {
        for session in self.sessions() {
            for process in frozen_family(session) {
                signal(process, Signal::KILL);
            }
        }
    }

    /// Freezes (or thaws) the server and its sessions: connections stay up and nobody answers.
    pub fn freeze(&self, frozen: bool) {
        let Some(child) = &self.child else { return };
        let what = if frozen { Signal::STOP } else { Signal::CONT };
        signal(child.id(), what);
        for process in descendants(child.id()).into_iter().filter(|pid| is_sshd(*pid)) {
            signal(process, what);
        }
    }

    /// Ends the server and its sessions; the port refuses then.
    pub fn stop(&mut self) {
        let Some(mut child) = self.child.take() else {
            return;
        };
        let below = descendants(child.id());
        for process in below.into_iter().filter(|pid| is_sshd(*pid)) {
            signal(process, Signal::KILL);
        }
        kill_group(child.id());
        let _ = child.wait();
    }

    /// Starts it again on the same port with the same keys.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn start_again(&mut self) {
        self.stop();
        self.launch();
    }

    /// Starts it again with another host key, as an attacker or a reinstalled machine would have.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn change_host_key(&mut self) {
        self.stop();
        for name in ["host_key", "host_key.pub"] {
            std::fs::remove_file(self.folder.path().join(name)).expect("old host key");
        }
        make_key(&self.folder.path().join("host_key"));
        self.launch();
    }

    /// What the server wrote about its connections.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    fn write_settings(&self, options: &SshdOptions) {
        let root = self.folder.path().display();
        let mut lines = options.lines.clone();
        if let Some(script) = &options.front {
            let front = self.folder.path().join("front");
            std::fs::write(&front, format!("#!/bin/sh\n{script}\n")).expect("front script");
            std::fs::set_permissions(&front, std::fs::Permissions::from_mode(0o755))
                .expect("mode of the front script");
            lines.push(format!("ForceCommand {root}/front"));
        }
        if !options.environment.is_empty() {
            let pairs: Vec<String> = options
                .environment
                .iter()
                .map(|(name, value)| format!("\"{name}={value}\""))
                .collect();
            lines.push(format!("SetEnv {}", pairs.join(" ")));
        }
        lines.extend([
            format!("Port {}", self.port),
            "ListenAddress 127.0.0.1".to_owned(),
            format!("HostKey {root}/host_key"),
            format!("AuthorizedKeysFile {root}/authorized_keys"),
            format!("PidFile {root}/pid"),
            // An external program, so that a front script can run it like any other command.
            format!("Subsystem sftp {}", sftp_server().display()),
        ]);
        for line in [
            "StrictModes no",
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
            "PermitRootLogin prohibit-password",
            "UsePAM no",
            "PrintMotd no",
            "MaxStartups 100:30:200",
            "LogLevel VERBOSE",
        ] {
            lines.push(line.to_owned());
        }
        std::fs::write(self.folder.path().join("config"), lines.join("\n") + "\n").expect("settings of sshd");
    }

    fn launch(&mut self) {
        // Debian's sshd wants this folder even when no session uses it; a container image lacks it.
        if rustix::process::geteuid().is_root() {
            let _ = std::fs::create_dir_all("/run/sshd");
        }
        let mut command = match &self.mounts {
            None => Command::new("/usr/sbin/sshd"),
            Some(script) => {
                let mut command = Command::new("unshare");
                let script = format!("set -e\n{script}\nexec /usr/sbin/sshd \"$@\"");
                command.args(["--mount", "sh", "-c", &script, "sshd"]);
                command
            }
        };
        command.arg("-D").arg("-f").arg(self.folder.path().join("config"));
        command.arg("-E").arg(self.folder.path().join("log"));
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::inherit());
        let mut child = command
            .process_group(0)
            .spawn()
            .expect("/usr/sbin/sshd does not start");
        let address = self.socket_address();
        wait_until("sshd's port", Duration::from_secs(20), || {
            let ended = child.try_wait().expect("state of sshd");
            assert!(ended.is_none(), "sshd ended: {}", self.log());
            std::net::TcpStream::connect(address).is_ok()
        });
        self.child = Some(child);
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A session and its sshd processes, stopped first: one that forks while it is being killed would leave a child
/// that keeps the connection.
fn frozen_family(session: u32) -> Vec<u32> {
    let mut family = vec![session];
    signal(session, Signal::STOP);
    loop {
        let new: Vec<u32> = descendants(session)
            .into_iter()
            .filter(|pid| is_sshd(*pid) && !family.contains(pid))
            .collect();
        if new.is_empty() {
            return family;
        }
        for process in &new {
            signal(*process, Signal::STOP);
        }
        family.extend(new);
    }
}

fn is_sshd(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.starts_with("sshd"))
}

/// Makes a key pair without a passphrase.
pub(crate) fn make_key(path: &Path) {
    let mut command = Command::new("ssh-keygen");
    command
        .args(["-q", "-t", "ed25519", "-N", "", "-C", "farrun-test", "-f"])
        .arg(path);
    let _ = run(command, Duration::from_secs(20)).ok();
}

fn own_account() -> String {
    let mut command = Command::new("id");
    command.arg("-un");
    run(command, Duration::from_secs(10))
        .ok()
        .text()
        .trim()
        .to_owned()
}

fn sftp_server() -> PathBuf {
    let places = [
        "/usr/lib/openssh/sftp-server",
        "/usr/libexec/openssh/sftp-server",
        "/usr/lib/ssh/sftp-server",
    ];
    let found = places.iter().map(PathBuf::from).find(|path| path.is_file());
    found.expect("sftp-server is missing: install the package openssh-sftp-server")
}
