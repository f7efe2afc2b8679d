//! A throw-away PostgreSQL, from the programs of Debian's package.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A PostgreSQL of its own in a temporary folder, reachable only through a socket in it.
#[derive(Debug)]
pub struct Cluster {
    folder: tempfile::TempDir,
    server: Child,
}

impl Cluster {
    /// Makes a cluster and waits until it answers.
    ///
    /// # Panics
    /// When PostgreSQL is not installed, or does not start.
    pub fn start() -> Self {
        let programs = programs();
        let folder = tempfile::Builder::new().prefix("pg").tempdir_in("/tmp").unwrap();
        let root = rustix::process::geteuid().is_root();
        if root {
            let (user, group) = account();
            chown(folder.path(), Some(user), Some(group)).unwrap();
        }
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let data = folder.path().join("data");
        let made = command(&programs.join("initdb"), folder.path())
            .args([
                "--username=farrun",
                "--auth=trust",
                "--no-sync",
                "--encoding=UTF8",
                "--locale=C.UTF-8",
            ])
            .arg(&data)
            .output()
            .unwrap();
        assert!(
            made.status.success(),
            "initdb: {}",
            String::from_utf8_lossy(&made.stderr)
        );
        let log = fs::File::create(folder.path().join("server.log")).unwrap();
        let server = command(&programs.join("postgres"), folder.path())
            .args([
                "-c",
                "listen_addresses=",
                "-c",
                "shared_buffers=16MB",
                "-c",
                "max_connections=80",
            ])
            .arg("-D")
            .arg(&data)
            .arg("-k")
            .arg(folder.path())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut cluster = Self { folder, server };
        cluster.wait(&programs);
        cluster
    }

    /// Its address. The database `postgres` exists in every new cluster.
    ///
    /// # Panics
    /// When its folder's name is no text.
    pub fn url(&self) -> String {
        let folder = self.folder.path().to_str().unwrap().replace('/', "%2F");
        format!("postgres://farrun@{folder}/postgres")
    }

    fn wait(&mut self, programs: &Path) {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let ready = command(&programs.join("pg_isready"), self.folder.path())
                .args(["-q", "-t", "5", "-d", "postgres", "-U", "farrun", "-h"])
                .arg(self.folder.path())
                .status()
                .unwrap();
            if ready.success() {
                return;
            }
            let log = fs::read_to_string(self.folder.path().join("server.log")).unwrap_or_default();
            let ended = self.server.try_wait().unwrap();
            assert!(
                ended.is_none() && Instant::now() < deadline,
                "PostgreSQL did not start: {log}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // SIGQUIT: stop at once, the data is thrown away.
        if let Some(pid) = rustix::process::Pid::from_raw(self.server.id().cast_signed()) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::QUIT);
        }
        let _ = self.server.wait();
    }
}

/// A program of PostgreSQL, as an account that it accepts.
fn command(program: &Path, folder: &Path) -> Command {
    let mut command = if rustix::process::geteuid().is_root() {
        let (user, group) = account();
        let mut command = Command::new("setpriv");
        command
            .arg(format!("--reuid={user}"))
            .arg(format!("--regid={group}"))
            // A test program that is killed takes its server along.
            .args(["--clear-groups", "--pdeathsig=QUIT", "--"])
            .arg(program);
        command
    } else {
        Command::new(program)
    };
    command.current_dir(folder).env_remove("PGDATA");
    command
}

/// PostgreSQL refuses to run as root; its package makes an account.
fn account() -> (u32, u32) {
    let accounts = fs::read_to_string("/etc/passwd").unwrap();
    let line = accounts
        .lines()
        .find(|line| line.starts_with("postgres:"))
        .expect("running as root, the tests need the account `postgres` that the package `postgresql` makes");
    let mut fields = line.split(':').skip(2).map(|field| field.parse().unwrap());
    (fields.next().unwrap(), fields.next().unwrap())
}

fn programs() -> PathBuf {
    if let Some(folder) = std::env::var_os("FARRUN_TEST_POSTGRES_BIN") {
        return folder.into();
    }
    let mut found: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().path().join("bin"))
        .filter(|folder| folder.join("initdb").exists())
        .collect();
    found.sort();
    found.pop().expect(
        "the store's tests need PostgreSQL: install the package `postgresql`, or name the folder of `initdb` in FARRUN_TEST_POSTGRES_BIN",
    )
}
