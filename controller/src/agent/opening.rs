//! The search for the preamble.

use super::AgentError;
use farrun_protocol::preamble;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// Most bytes of foreign output that an error quotes.
const QUOTED: usize = 300;

/// Reads up to the preamble and answers with the bytes that were read behind it.
///
/// # Errors
/// [`AgentError::NoPreamble`] when the stream ends, says too much or nothing for `patience`;
/// [`AgentError::VersionMismatch`] when an agent of another protocol repeats the nonce.
pub async fn read_preamble<R: AsyncRead + Unpin>(
    stream: &mut R,
    nonce: &str,
    host: &str,
    patience: Duration,
) -> Result<Vec<u8>, AgentError> {
    let mut seen = Vec::new();
    let found = tokio::time::timeout(patience, search(stream, nonce, &mut seen)).await;
    match found {
        Ok(Some(end)) => Ok(seen.split_off(end.min(seen.len()))),
        Ok(None) | Err(_) => Err(match other_version(&seen, nonce) {
            Some(got) => AgentError::VersionMismatch {
                host: host.to_owned(),
                got,
            },
            None => AgentError::NoPreamble {
                host: host.to_owned(),
                printed: quote(&seen),
            },
        }),
    }
}

async fn search<R: AsyncRead + Unpin>(stream: &mut R, nonce: &str, seen: &mut Vec<u8>) -> Option<usize> {
    let line = preamble::line(nonce).len();
    let mut piece = [0; 4096];
    loop {
        let read = stream.read(&mut piece).await.ok().filter(|read| *read > 0)?;
        // A line may lie across two reads; what lies further back was searched before.
        let from = seen.len().saturating_sub(line);
        seen.extend_from_slice(piece.get(..read)?);
        if let Some(end) = preamble::find(seen.get(from..)?, nonce) {
            return (from + end <= preamble::LIMIT + line).then_some(from + end);
        }
        if seen.len() > preamble::LIMIT + line || other_version(seen.get(from..)?, nonce).is_some() {
            return None;
        }
    }
}

/// The version of an agent that repeats our nonce and is not of our protocol.
fn other_version(seen: &[u8], nonce: &str) -> Option<u32> {
    let end = seen
        .windows(nonce.len().max(1))
        .position(|window| window == nonce.as_bytes())?;
    let before = seen.get(..end)?.strip_suffix(b" ")?;
    let start = before
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |at| at + 1);
    let text = std::str::from_utf8(before.get(start..)?).ok()?;
    let version = text.strip_prefix("FARRUN-AGENT ")?.parse().ok()?;
    (version != farrun_protocol::PROTOCOL).then_some(version)
}

/// The first bytes with everything escaped that could reach a terminal as a command.
fn quote(seen: &[u8]) -> String {
    let mut text = String::new();
    for chunk in seen.get(..QUOTED.min(seen.len())).unwrap_or(seen).utf8_chunks() {
        text.extend(chunk.valid().chars().flat_map(char::escape_default));
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    const PATIENCE: Duration = Duration::from_millis(200);

    fn nonce() -> String {
        "ab".repeat(32)
    }

    #[tokio::test]
    async fn noise_is_skipped_and_what_follows_is_kept() {
        let mut wire = b"Welcome!\nlast login: yesterday".to_vec();
        wire.extend(preamble::line(&nonce()));
        wire.extend(b"frames");
        let rest = read_preamble(&mut wire.as_slice(), &nonce(), "gpu1", PATIENCE).await;
        assert_eq!(rest.unwrap(), b"frames");
    }

    #[tokio::test]
    async fn the_preamble_is_found_across_single_byte_reads() {
        let (mut far, mut near) = tokio::io::duplex(1);
        let mut wire = vec![b'x'; 3000];
        wire.extend(preamble::line(&nonce()));
        tokio::spawn(async move { tokio::io::AsyncWriteExt::write_all(&mut far, &wire).await });
        let rest = read_preamble(&mut near, &nonce(), "gpu1", Duration::from_secs(10)).await;
        assert_eq!(rest.unwrap(), b"");
    }

    #[tokio::test]
    async fn what_was_printed_instead_is_quoted_escaped() {
        let wire = b"bash: \x1b[31mnope\xff";
        let error = read_preamble(&mut &wire[..], &nonce(), "gpu1", PATIENCE)
            .await
            .unwrap_err();
        let AgentError::NoPreamble { printed, .. } = error else {
            panic!("{error}")
        };
        assert_eq!(printed, r"bash: \u{1b}[31mnope\xff");
    }

    #[tokio::test]
    async fn too_much_noise_ends_the_search() {
        let wire = vec![b'x'; 10 * preamble::LIMIT];
        let mut stream = wire.as_slice();
        let error = read_preamble(&mut stream, &nonce(), "gpu1", PATIENCE).await;
        assert!(matches!(error, Err(AgentError::NoPreamble { .. })));
        assert!(stream.len() > 8 * preamble::LIMIT, "it read far beyond the limit");
    }

    #[tokio::test]
    async fn silence_ends_the_search() {
        let (_far, mut near) = tokio::io::duplex(64);
        let error = read_preamble(&mut near, &nonce(), "gpu1", PATIENCE).await;
        assert!(matches!(error, Err(AgentError::NoPreamble { printed, .. }) if printed.is_empty()));
    }

    #[tokio::test]
    async fn another_protocol_is_named() {
        let wire = format!("\nFARRUN-AGENT 77 {}\n", nonce());
        let error = read_preamble(&mut wire.as_bytes(), &nonce(), "gpu1", PATIENCE).await;
        assert!(matches!(error, Err(AgentError::VersionMismatch { got: 77, .. })));
    }
}
