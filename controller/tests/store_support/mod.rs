//! What the store's tests share: a throw-away PostgreSQL cluster, and records to fill a database with.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test may fail by panicking, also in the functions that tests share"
)]
#![allow(dead_code, reason = "each test program uses its own part")]

/// Makes each story a test on SQLite and one on PostgreSQL.
#[allow(unused_macros, reason = "each test program uses its own part")]
macro_rules! on_both {
    ($($name:ident),* $(,)?) => {
        mod sqlite { $(#[tokio::test] async fn $name() { super::$name(super::Fixture::sqlite()).await; })* }
        mod postgres { $(#[tokio::test] async fn $name() { super::$name(super::Fixture::postgres()).await; })* }
    };
}

use chrono::Utc;
use farrun::model::{Host, HostSettings, Prompt, Run, RunStatus};
use farrun::store::{Location, Store};
use farrun_protocol::spec::{Gpus, RunSpec};
use farrun_protocol::{ControllerId, PromptId, RunId};
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A database of one kind that ends with the value.
pub(crate) enum Fixture {
    Sqlite(tempfile::TempDir),
    Postgres(Cluster),
}

impl Fixture {
    pub(crate) fn sqlite() -> Self {
        Self::Sqlite(tempfile::tempdir().unwrap())
    }

    pub(crate) fn postgres() -> Self {
        Self::Postgres(Cluster::start())
    }

    pub(crate) fn location(&self) -> Location {
        match self {
            Self::Sqlite(folder) => Location::Sqlite(folder.path().join("state/farrun.db")),
            Self::Postgres(cluster) => Location::parse(&cluster.url()).unwrap(),
        }
    }

    pub(crate) async fn open(&self) -> Store {
        self.open_as("laptop").await
    }

    pub(crate) async fn open_as(&self, machine: &str) -> Store {
        Store::open(&self.location(), machine).await.unwrap()
    }
}

/// A PostgreSQL of its own in a temporary folder, reachable only through a socket in it.
pub(crate) struct Cluster {
    folder: tempfile::TempDir,
    server: Child,
}

impl Cluster {
    pub(crate) fn start() -> Self {
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

    /// `postgres` exists in every new cluster.
    pub(crate) fn url(&self) -> String {
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

pub(crate) fn host(name: &str) -> Host {
    Host {
        name: name.to_owned(),
        settings: HostSettings {
            address: Some("me@[::1]:2222".to_owned()),
            docker_sudo: true,
            ..HostSettings::default()
        },
        host_id: None,
        platform: None,
        added_at: Utc::now(),
        last_seen: None,
    }
}

pub(crate) fn prompt(name: &str, text: &str) -> Prompt {
    Prompt {
        id: PromptId::random(),
        name: name.to_owned(),
        text: text.to_owned(),
        negative: Some("blur".to_owned()),
        inputs: [("video".to_owned(), "/in/ü.mp4".to_owned())].into(),
        parent: Some(PromptId::random()),
        made_by: Some(RunId::random()),
        created_at: Utc::now(),
    }
}

pub(crate) fn spec(run_id: &RunId, controller_id: &ControllerId) -> RunSpec {
    RunSpec {
        format: 1,
        run_id: run_id.clone(),
        prompt_id: None,
        controller_id: controller_id.clone(),
        operation: "inference".to_owned(),
        name: "neon_city".to_owned(),
        created_at: Utc::now(),
        recipe: None,
        parameters: Default::default(),
        image: "registry.example/team/image:1".to_owned(),
        pull: Default::default(),
        entrypoint: None,
        command: vec!["python".to_owned(), "a b".to_owned()],
        working_dir: Some("/workspace".to_owned()),
        user: None,
        env: [("A".to_owned(), "b\nc".to_owned())].into(),
        secret_names: vec!["TOKEN".to_owned()],
        mounts: Vec::new(),
        inputs: Vec::new(),
        inputs_target: "/in".to_owned(),
        outputs_target: "/out".to_owned(),
        required_outputs: vec!["output.mp4".to_owned()],
        gpus: Gpus::All,
        placement: Default::default(),
        shm_size: Some(1 << 34),
        ipc_host: true,
        memory_limit: None,
        network: None,
        time_limit: Some(3600),
        grace: 10,
        log_cap: 100_000_000,
        capture: Default::default(),
        result: None,
    }
}

pub(crate) fn run(store: &Store, prompt: Option<&PromptId>) -> Run {
    let id = RunId::random();
    Run {
        spec: spec(&id, store.controller_id()),
        id,
        prompt_id: prompt.cloned(),
        parent_run: None,
        host: "gpu1".to_owned(),
        controller_id: store.controller_id().clone(),
        operation: "inference".to_owned(),
        recipe: Some("demo".to_owned()),
        status: RunStatus::Pending,
        reason: None,
        error_message: None,
        exit_code: None,
        signal: None,
        finding: None,
        finding_text: None,
        diagnosed_at: None,
        log_path: Some("/outputs/neon_city/logs/run.log".to_owned()),
        outputs_path: Some("/outputs/neon_city/runs".to_owned()),
        diagnostics_path: None,
        log_length: None,
        log_sha256: None,
        log_complete: false,
        container_id: None,
        image_digest: None,
        gpus: "all".to_owned(),
        lease: None,
        gpu_summary: None,
        key: None,
        owner: Some("4711 boot 99".to_owned()),
        created_at: Utc::now(),
        launched_at: None,
        started_at: None,
        ended_at: None,
        confirmed_at: None,
        updated_at: Utc::now(),
    }
}
