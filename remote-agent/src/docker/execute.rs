//! A program beside the one that a container runs.

use super::{Engine, EngineError};
use bollard::exec::StartExecResults;
use bollard::models::ExecConfig;
use futures_util::StreamExt as _;
use std::time::Duration;

/// Most that is read of what it prints.
const MOST: usize = 64 * 1024;

impl Engine {
    /// Executes a program in a container that lives, as its user, and answers what it printed on stdout.
    ///
    /// # Errors
    /// The engine's, also where the container has ended or the program does not end within `limit`.
    pub async fn execute(&self, id: &str, argv: &[&str], limit: Duration) -> Result<Vec<u8>, EngineError> {
        let wanted = ExecConfig {
            attach_stdout: Some(true),
            cmd: Some(argv.iter().map(|word| (*word).to_owned()).collect()),
            ..ExecConfig::default()
        };
        let call = async {
            let made = self.docker.create_exec(id, wanted).await?;
            let mut said = Vec::new();
            if let StartExecResults::Attached { mut output, .. } =
                self.docker.start_exec(&made.id, None).await?
            {
                while let Some(piece) = output.next().await {
                    said.extend_from_slice(&piece?.into_bytes());
                    if said.len() > MOST {
                        break;
                    }
                }
            }
            Ok(said)
        };
        self.call("exec", limit, call).await
    }
}
