//! Conversations with agents that are processes, so that they can be killed and belong to other accounts.

use super::{CONTROLLER, Peer};
use farrun_protocol::preamble;
use std::process::Stdio;
use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, Command};

/// A conversation with an agent process, which ends with it.
pub struct Talk {
    pub peer: Peer,
    pub process: Child,
}

impl Talk {
    /// Has this command serve; its preamble is read and nothing is said yet.
    pub async fn silent(command: &mut Command) -> Self {
        let nonce = "ab".repeat(32);
        let mut process = command
            .args(["serve", &nonce])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut stdout = process.stdout.take().unwrap();
        let mut seen = vec![0; preamble::line(&nonce).len()];
        stdout.read_exact(&mut seen).await.unwrap();
        assert_eq!(preamble::find(&seen, &nonce), Some(seen.len()));
        let peer = Peer::new(stdout, process.stdin.take().unwrap(), &[]);
        Self { peer, process }
    }

    /// The same, and greets it.
    pub async fn begun(command: &mut Command, docker_host: &str) -> Self {
        let mut talk = Self::silent(command).await;
        talk.peer.hello_as(CONTROLLER, docker_host).await;
        talk
    }
}
