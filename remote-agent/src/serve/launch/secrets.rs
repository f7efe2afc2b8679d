//! Secrets on their way to the job: one file that only the account reads, then PID 1's stdin.

use crate::docker::Engine;
use crate::record::{RecordError, RunFolder, read_bounded, write_atomically};
use crate::serve::look::Look;
use base64::Engine as _;
use farrun_protocol::message::Secret;
use farrun_protocol::{Failure, Sha256};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Largest file of secrets, in bytes.
const LIMIT: u64 = 1024 * 1024;
/// How often a delivery is repeated within one contact.
const ATTEMPTS: usize = 3;
/// How long PID 1 may take to claim the run once it has its secrets.
const IS_TAKEN: Duration = Duration::from_secs(1);
const LOOK_APART: Duration = Duration::from_millis(20);

/// Stores values until the run has succeeded, or its evidence was redacted by them.
pub(super) fn store(folder: &RunFolder, secrets: &BTreeMap<String, Secret>) -> Result<(), Failure> {
    if secrets.is_empty() {
        return Ok(());
    }
    let path = folder.secrets();
    let json = serde_json::to_vec(secrets).map_err(|_| RecordError::Damaged {
        path: path.clone(),
        detail: "cannot be written as JSON".to_owned(),
    })?;
    Ok(write_atomically(&path, &json, 0o600)?)
}

/// The line that PID 1 waits for. The newline before it ends whatever an interrupted attempt left.
fn line(json: &[u8]) -> Vec<u8> {
    let text = base64::engine::general_purpose::STANDARD.encode(json);
    let sha256 = Sha256::of(text.as_bytes());
    format!("\nsecrets:{text}:{sha256}\n").into_bytes()
}

/// Hands the secrets to PID 1 unless it has them, and sees that it took them: what is written to a stdin can be
/// lost on the way. A failure is left to the next contact.
pub(super) async fn deliver(engine: &Engine, folder: &RunFolder, container_id: &str) {
    let Ok(Some(json)) = read_bounded(&folder.secrets(), LIMIT) else {
        return;
    };
    for _ in 0..ATTEMPTS {
        if folder.claimed() || engine.write_stdin(container_id, &line(&json)).await.is_err() {
            return;
        }
        let deadline = Instant::now() + IS_TAKEN;
        while !folder.claimed() && Instant::now() < deadline {
            tokio::time::sleep(LOOK_APART).await;
        }
    }
}

/// As [`deliver`], on any later contact with a run whose container lives.
pub(crate) async fn deliver_again(engine: &Engine, folder: &RunFolder, look: &Look) {
    if let Some(found) = &look.container {
        deliver(engine, folder, &found.facts.id).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_frozen() {
        assert_eq!(
            String::from_utf8(line(b"{}")).unwrap(),
            format!("\nsecrets:e30=:{}\n", Sha256::of(b"e30="))
        );
    }
}
