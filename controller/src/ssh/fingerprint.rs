//! The short form of a key that people compare.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use sha2::{Digest as _, Sha256};

/// The fingerprint of an encoded public key, as `ssh-keygen -l` prints it: `SHA256:` and base64 without padding.
pub fn fingerprint(key: &[u8]) -> String {
    format!("SHA256:{}", STANDARD_NO_PAD.encode(Sha256::digest(key)))
}
