//! A throw-away OpenSSH server on a loopback port.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    dead_code,
    reason = "tests fail by panicking"
)]

use farrun::ssh::Endpoint;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

const SERVER: &str = "/usr/sbin/sshd";

/// Configuration of a server without SFTP.
pub(crate) const NO_SFTP: &str = "# no sftp";

/// A running server, its keys and the files of its client; all gone when dropped.
pub(crate) struct Sshd {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) port: u16,
    child: Child,
}

impl Sshd {
    /// Starts a server with these additional lines of configuration.
    pub(crate) fn start(extra: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        make_key(&folder.path().join("host_key"), "ed25519", "");
        make_key(&folder.path().join("user_key"), "ed25519", "");
        fs::copy(
            folder.path().join("user_key.pub"),
            folder.path().join("authorized_keys"),
        )
        .unwrap();
        Self::start_in(folder, extra)
    }

    /// Starts a server in a folder that has its keys.
    pub(crate) fn start_in(folder: tempfile::TempDir, extra: &str) -> Self {
        // The server insists on the folder when it runs as root, and cannot make it itself.
        let _ = fs::create_dir_all("/run/sshd");
        for _ in 0..20 {
            let port = free_port();
            if let Some(child) = spawn(folder.path(), port, extra) {
                return Self { folder, port, child };
            }
        }
        panic!("no port for a server");
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The line that records the server's key.
    pub(crate) fn known_hosts_line(&self) -> String {
        let key = fs::read_to_string(self.path("host_key.pub")).unwrap();
        format!("[127.0.0.1]:{} {key}", self.port)
    }

    /// An endpoint that knows the server's key and has a key of its own.
    pub(crate) fn endpoint(&self) -> Endpoint {
        fs::write(self.path("known_hosts"), self.known_hosts_line()).unwrap();
        let mut endpoint = self.stranger();
        endpoint.identities = vec![self.path("user_key")];
        endpoint
    }

    /// An endpoint with the files as they are, and no key.
    pub(crate) fn stranger(&self) -> Endpoint {
        let mut endpoint = Endpoint::plain("127.0.0.1", self.port, user_name(), self.path("known_hosts"));
        endpoint.name = "gpu1".to_owned();
        endpoint
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(folder: &Path, port: u16, extra: &str) -> Option<Child> {
    let at = folder.display();
    let configuration = format!(
        "{extra}\nListenAddress 127.0.0.1\nPort {port}\nHostKey {at}/host_key\nAuthorizedKeysFile {at}/authorized_keys\n\
         PidFile none\nStrictModes no\nUsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n\
         PermitRootLogin yes\nMaxStartups 100\nPrintMotd no\n{}",
        if extra.contains(NO_SFTP) {
            ""
        } else {
            "Subsystem sftp internal-sftp\n"
        }
    );
    let file = folder.join(format!("sshd_config.{port}"));
    fs::write(&file, configuration).unwrap();
    let mut child = Command::new(SERVER)
        .args(["-D", "-e", "-f"])
        .arg(&file)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
    let mut said = Vec::new();
    while let Ok(line) = receiver.recv_timeout(Duration::from_secs(20)) {
        if line.contains("Server listening on") {
            return Some(child);
        }
        said.push(line);
    }
    let _ = child.kill();
    let _ = child.wait();
    assert!(
        said.iter().any(|line| line.contains("in use")),
        "the server did not start: {said:?}"
    );
    None
}

/// Makes a key pair without a question.
pub(crate) fn make_key(path: &Path, kind: &str, passphrase: &str) {
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", kind, "-N", passphrase, "-C", "test", "-f"])
        .arg(path)
        .status()
        .unwrap();
    assert!(made.success());
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

pub(crate) fn user_name() -> String {
    let output = Command::new("id").arg("-un").output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}
