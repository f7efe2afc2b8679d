//! What the store's tests share: a database of either kind, and records to fill it with.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test may fail by panicking, also in the functions that tests share"
)]
#![allow(dead_code, reason = "each test program uses its own part")]

#[path = "../../../tests/src/postgres.rs"]
#[allow(unreachable_pub, reason = "the end-to-end suites share it")]
mod postgres;

/// Makes each story a test on SQLite and one on PostgreSQL.
macro_rules! on_both {
    ($($name:ident),* $(,)?) => {
        mod sqlite { $(#[tokio::test] async fn $name() { super::$name(super::Fixture::sqlite()).await; })* }
        mod postgres { $(#[tokio::test] async fn $name() { super::$name(super::Fixture::postgres()).await; })* }
    };
}

#[allow(unused_imports, reason = "each test program uses its own part")]
pub(crate) use on_both;
pub(crate) use postgres::Cluster;

use chrono::Utc;
use farrun::model::{Host, HostSettings, Prompt, Run, RunStatus};
use farrun::store::{Location, Store};
use farrun_protocol::spec::{Gpus, RunSpec};
use farrun_protocol::{ControllerId, PromptId, RunId};
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
