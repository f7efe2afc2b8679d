//! Which algorithms we agree to.

use russh::keys::{Algorithm, EcdsaCurve, HashAlg};
use russh::{Preferred, cipher, compression, kex, mac};
use std::borrow::Cow;

const KEX: &[kex::Name] = &[
    kex::MLKEM768X25519_SHA256,
    kex::CURVE25519,
    kex::CURVE25519_PRE_RFC_8731,
    kex::DH_G16_SHA512,
    kex::DH_G18_SHA512,
    kex::EXTENSION_SUPPORT_AS_CLIENT,
    kex::EXTENSION_OPENSSH_STRICT_KEX_AS_CLIENT,
];

// No SHA-1 variant of RSA: russh's own default list still has it.
const HOST_KEYS: &[Algorithm] = &[
    Algorithm::Ed25519,
    Algorithm::Ecdsa {
        curve: EcdsaCurve::NistP256,
    },
    Algorithm::Ecdsa {
        curve: EcdsaCurve::NistP384,
    },
    Algorithm::Ecdsa {
        curve: EcdsaCurve::NistP521,
    },
    Algorithm::Rsa {
        hash: Some(HashAlg::Sha512),
    },
    Algorithm::Rsa {
        hash: Some(HashAlg::Sha256),
    },
];

// AES-GCM is the fastest of them and needs no strict key exchange; ChaCha20 does, which the handler checks.
const CIPHERS: &[cipher::Name] = &[
    cipher::AES_128_GCM,
    cipher::AES_256_GCM,
    cipher::CHACHA20_POLY1305,
];

const MACS: &[mac::Name] = &[mac::HMAC_SHA512_ETM, mac::HMAC_SHA256_ETM];

/// The algorithms to offer to a host whose recorded keys have these types: a host that is known by one type of key
/// is asked for that one, so that a stranger's key of another type is never mistaken for a first meeting.
pub(super) fn preferred(recorded_types: &[String]) -> Preferred {
    let recorded: Vec<Algorithm> = HOST_KEYS
        .iter()
        .filter(|algorithm| recorded_types.iter().any(|name| name == key_type(algorithm)))
        .cloned()
        .collect();
    Preferred {
        kex: Cow::Borrowed(KEX),
        key: if recorded.is_empty() {
            Cow::Borrowed(HOST_KEYS)
        } else {
            Cow::Owned(recorded)
        },
        host_key_certificates: Cow::Borrowed(&[]),
        cipher: Cow::Borrowed(CIPHERS),
        mac: Cow::Borrowed(MACS),
        compression: Cow::Borrowed(&[compression::NONE]),
    }
}

/// The name a key has in `known_hosts`; for RSA it says nothing about the hash.
fn key_type(algorithm: &Algorithm) -> &str {
    match algorithm {
        Algorithm::Rsa { .. } => "ssh-rsa",
        other => other.as_str(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recorded_type_is_the_only_one_offered() {
        let rsa = preferred(&["ssh-rsa".to_owned()]);
        assert_eq!(rsa.key.len(), 2);
        assert!(
            rsa.key
                .iter()
                .all(|algorithm| matches!(algorithm, Algorithm::Rsa { .. }))
        );
        let ed25519 = preferred(&["ssh-ed25519".to_owned()]);
        assert_eq!(ed25519.key.as_ref(), [Algorithm::Ed25519]);
    }

    #[test]
    fn nothing_weak_is_offered() {
        let offered = preferred(&[]);
        assert!(!offered.key.contains(&Algorithm::Rsa { hash: None }));
        assert_eq!(offered.compression.as_ref(), [compression::NONE]);
        assert!(offered.host_key_certificates.is_empty());
    }

    #[test]
    fn a_type_we_cannot_check_leaves_the_offer_whole() {
        assert_eq!(preferred(&["ssh-dss".to_owned()]).key.len(), HOST_KEYS.len());
    }
}
