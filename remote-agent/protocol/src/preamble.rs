//! The line with which an agent announces itself behind whatever a login shell printed.

/// How many bytes a reader skips before it gives up looking for the line.
pub const LIMIT: usize = 64 * 1024;

/// Length of the nonce: 32 random bytes as lower-case hex digits.
pub const NONCE_LENGTH: usize = 64;

/// The exact bytes the agent writes first. They start with a newline, because a shell may have left a line open.
pub fn line(nonce: &str) -> Vec<u8> {
    format!("\nFARRUN-AGENT {} {nonce}\n", crate::PROTOCOL).into_bytes()
}

/// Whether `text` may be used as a nonce.
pub fn is_nonce(text: &str) -> bool {
    text.len() == NONCE_LENGTH
        && text
            .bytes()
            .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// Looks for the preamble in what has been read so far; answers with the index of the first byte behind it.
pub fn find(seen: &[u8], nonce: &str) -> Option<usize> {
    let line = line(nonce);
    seen.windows(line.len())
        .position(|window| window == line)
        .map(|start| start + line.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_found_behind_noise_and_only_with_its_own_nonce() {
        let nonce = "ab".repeat(32);
        let mut seen = b"Welcome to gpu1!\nlast login: yesterday".to_vec();
        seen.extend(line(&"cd".repeat(32)));
        assert_eq!(find(&seen, &nonce), None);
        seen.extend(line(&nonce));
        let end = seen.len();
        seen.extend(b"frames");
        assert_eq!(find(&seen, &nonce), Some(end));
    }
}
