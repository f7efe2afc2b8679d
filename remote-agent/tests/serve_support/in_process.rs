//! Conversations with an agent inside of the test's own process.

use crate::support::Peer;
use farrun_agent::gpu::Program;
use farrun_agent::serve::{Context, conversation};
use farrun_protocol::Sha256;
use std::path::Path;
use tokio::task::JoinHandle;

/// An agent of this home, without a GPU and without an observer; its state folder and its locks lie in the home.
pub(crate) fn context(home: &Path) -> Context {
    Context {
        state: home.join("state"),
        agent: env!("CARGO_BIN_EXE_farrun-agent").into(),
        agent_sha256: Sha256::of(b"agent"),
        home: home.to_owned(),
        docker_host: None,
        runtime_folder: None,
        locks: Some(home.join("locks")),
        nvidia_smi: Program::Absent,
        watch: false,
    }
}

/// A conversation in which nothing was said yet.
pub(crate) fn converse(context: Context) -> (Peer, JoinHandle<()>) {
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let (reader, writer) = tokio::io::split(theirs);
    let serving = tokio::spawn(async move {
        conversation(reader, writer, context).await.unwrap();
    });
    let (reader, writer) = tokio::io::split(ours);
    (Peer::new(reader, writer, &[]), serving)
}
