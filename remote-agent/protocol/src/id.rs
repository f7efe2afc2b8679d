//! Identifiers that cross the wire or become part of a path. Each validates itself when it is decoded.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// An identifier was not of the form its type demands.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {expected}")]
pub struct InvalidId {
    /// What was given, cut to 80 characters.
    pub text: String,
    /// What would have been accepted.
    pub expected: &'static str,
}

fn invalid(text: &str, expected: &'static str) -> InvalidId {
    InvalidId {
        text: text.chars().take(80).collect(),
        expected,
    }
}

fn tagged(text: &str, tag: &str) -> bool {
    text.strip_prefix(tag).is_some_and(|rest| {
        (8..=40).contains(&rest.len())
            && rest
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    })
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $expected:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The identifier as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                let check: fn(&str) -> bool = $check;
                if check(text) { Ok(Self(text.to_owned())) } else { Err(invalid(text, $expected)) }
            }
        }
        impl TryFrom<String> for $name {
            type Error = InvalidId;
            fn try_from(text: String) -> Result<Self, InvalidId> {
                text.parse()
            }
        }
        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }
        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

text_id!(
    /// Names one execution of one container: `rs_` and 8 to 40 lower-case letters or digits.
    RunId, "a run id (`rs_` and 8 to 40 lower-case letters or digits)", |text| tagged(text, "rs_")
);
text_id!(
    /// Names a prompt: `ps_` and 8 to 40 lower-case letters or digits.
    PromptId, "a prompt id (`ps_` and 8 to 40 lower-case letters or digits)", |text| tagged(text, "ps_")
);
text_id!(
    /// Names a controller's database: `co_` and 8 to 40 lower-case letters or digits.
    ControllerId, "a controller id (`co_` and 8 to 40 lower-case letters or digits)", |text| tagged(text, "co_")
);
text_id!(
    /// Names a machine, made once in its state folder: `ho_` and 8 to 40 lower-case letters or digits.
    HostId, "a host id (`ho_` and 8 to 40 lower-case letters or digits)", |text| tagged(text, "ho_")
);
text_id!(
    /// Names one life of a run log; a log that is made anew gets another one. 32 lower-case hex digits.
    Generation, "a log generation (32 lower-case hex digits)", |text| text.len() == 32 && lower_hex(text)
);

/// A hash as its 64 digits, in place: a manifest holds hundreds of thousands of them.
macro_rules! text_hash {
    ($(#[$doc:meta])* $name:ident, $expected:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name([u8; 64]);

        impl $name {
            /// The hash as text.
            pub fn as_str(&self) -> &str {
                // Only digits get in.
                std::str::from_utf8(&self.0).unwrap_or_default()
            }

            /// A finished 32-byte digest.
            pub fn from_bytes(bytes: [u8; 32]) -> Self {
                let mut digits = [b'0'; 64];
                // Twice as much room as there are bytes is what it takes.
                let _ = hex::encode_to_slice(bytes, &mut digits);
                Self(digits)
            }
        }
        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                match text.as_bytes().try_into() {
                    Ok(digits) if lower_hex(text) => Ok(Self(digits)),
                    _ => Err(invalid(text, $expected)),
                }
            }
        }
        impl TryFrom<String> for $name {
            type Error = InvalidId;
            fn try_from(text: String) -> Result<Self, InvalidId> {
                text.parse()
            }
        }
        impl From<$name> for String {
            fn from(hash: $name) -> Self {
                hash.as_str().to_owned()
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(self.as_str())
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.debug_tuple(stringify!($name)).field(&self.as_str()).finish()
            }
        }
        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                self.as_str()
            }
        }
    };
}

text_hash!(
    /// A SHA-256 as 64 lower-case hex digits.
    Sha256, "a SHA-256 (64 lower-case hex digits)"
);
text_hash!(
    /// The BLAKE3 of one block of a large file as 64 lower-case hex digits.
    BlockHash, "a BLAKE3 (64 lower-case hex digits)"
);

fn lower_hex(text: &str) -> bool {
    text.bytes()
        .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// Twelve characters of base 32 without look-alikes: 60 random bits, so that short prefixes are unambiguous.
fn random_suffix() -> String {
    const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
    let bits = uuid::Uuid::new_v4().as_u128();
    // The version and variant bits of a UUID are fixed; bits 0..60 hold none of them.
    (0..12)
        .filter_map(|index| ALPHABET.get(((bits >> (index * 5)) & 31) as usize))
        .map(|b| *b as char)
        .collect()
}

macro_rules! random_id {
    ($name:ident, $tag:literal) => {
        impl $name {
            /// Makes a new random identifier.
            pub fn random() -> Self {
                Self(format!(concat!($tag, "{}"), random_suffix()))
            }
        }
    };
}
random_id!(RunId, "rs_");
random_id!(PromptId, "ps_");
random_id!(ControllerId, "co_");
random_id!(HostId, "ho_");

impl Generation {
    /// Makes a new random generation.
    pub fn random() -> Self {
        Self(uuid::Uuid::new_v4().simple().to_string())
    }

    /// The generation as the 16 bytes that a log chunk carries.
    pub fn to_bytes(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        // The text was checked when the value was made, so decoding cannot fail.
        if hex::decode_to_slice(&self.0, &mut bytes).is_err() {
            return [0; 16];
        }
        bytes
    }

    /// The generation that a log chunk carries as 16 bytes.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(hex::encode(bytes))
    }
}

impl Sha256 {
    /// The hash of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        use sha2::Digest as _;
        Self::from_bytes(sha2::Sha256::digest(bytes).into())
    }
}

impl BlockHash {
    /// The hash of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self::from_bytes(blake3::hash(bytes).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_ids_parse_and_differ() {
        let (one, two) = (RunId::random(), RunId::random());
        assert_ne!(one, two);
        assert_eq!(one.as_str().parse::<RunId>().unwrap(), one);
        assert_eq!(one.as_str().len(), 15);
    }

    #[test]
    fn ids_that_could_leave_a_folder_are_refused() {
        for text in [
            "rs_",
            "rs_../../etc",
            "rs_abcdefgh/",
            "ps_abcdefgh",
            "rs_ABCDEFGH",
            "rs_abcdefg\0",
            "rs_a.b.c.d.e",
        ] {
            assert!(text.parse::<RunId>().is_err(), "{text}");
            assert!(serde_json::from_value::<RunId>(text.into()).is_err(), "{text}");
        }
    }

    #[test]
    fn generation_survives_bytes() {
        let generation = Generation::random();
        assert_eq!(Generation::from_bytes(generation.to_bytes()), generation);
    }

    #[test]
    fn hashes_are_64_lower_case_digits() {
        let hash = Sha256::of(b"x");
        assert_eq!(hash.as_str().parse::<Sha256>().unwrap(), hash);
        assert_eq!(serde_json::to_value(&hash).unwrap(), hash.as_str());
        assert_eq!(format!("{hash:?}"), format!("Sha256(\"{hash}\")"));
        for text in [
            "",
            "é",
            &"0".repeat(63),
            &"0".repeat(65),
            &"A".repeat(64),
            &"é".repeat(32),
        ] {
            assert!(text.parse::<Sha256>().is_err(), "{text}");
        }
    }

    #[test]
    fn blake3_of_nothing_is_the_known_value() {
        assert_eq!(
            BlockHash::of(b"").as_str(),
            "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
        );
    }

    #[test]
    fn sha256_of_nothing_is_the_known_value() {
        assert_eq!(
            Sha256::of(b"").as_str(),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
    }
}
