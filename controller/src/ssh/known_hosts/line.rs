//! One line of a file of host keys.

use super::pattern;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac as _};
use sha1::Sha1;

/// What a line says about its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Marker {
    /// The host has this key.
    None,
    /// Nobody may have this key.
    Revoked,
    /// Certificates of the host are signed with this key.
    Authority,
}

/// A line that is neither empty nor a comment.
pub(super) struct Line<'a> {
    marker: Option<&'a [u8]>,
    hosts: &'a [u8],
    rest: &'a [u8],
}

impl<'a> Line<'a> {
    /// Splits a line; none if it is empty or a comment.
    pub(super) fn parse(text: &'a [u8]) -> Option<Self> {
        // ssh reads lines as C strings.
        let text = text.split(|byte| *byte == 0).next().unwrap_or_default();
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        let (first, rest) = field(text);
        if first.is_empty() || first.starts_with(b"#") {
            return None;
        }
        if first.starts_with(b"@") {
            let (hosts, rest) = field(rest);
            return Some(Self {
                marker: Some(first),
                hosts,
                rest,
            });
        }
        Some(Self {
            marker: None,
            hosts: first,
            rest,
        })
    }

    /// Whether the line speaks of a host.
    pub(super) fn names(&self, host: &str) -> bool {
        if self.hosts.starts_with(b"|") {
            return hash_matches(self.hosts, host).unwrap_or(false);
        }
        pattern::list_matches(self.hosts.split(|byte| *byte == b','), host)
    }

    /// Marker, type and encoded key. A line that names a host and cannot be read may be the very one that revokes
    /// the key, so this is an error where `ssh` would pass over it.
    pub(super) fn key(&self) -> Result<(Marker, String, Vec<u8>), &'static str> {
        let marker = match self.marker {
            None => Marker::None,
            Some(b"@revoked") => Marker::Revoked,
            Some(b"@cert-authority") => Marker::Authority,
            Some(_) => return Err("it has a marker that is not known"),
        };
        let (key_type, rest) = field(self.rest);
        let (encoded, _comment) = field(rest);
        let key_type = std::str::from_utf8(key_type).map_err(|_| "it has no type of key")?;
        let key = STANDARD.decode(encoded).map_err(|_| "its key is not base64")?;
        if encoded_type(&key) != Some(key_type.as_bytes()) {
            return Err("its key is not of the type it names");
        }
        Ok((marker, key_type.to_owned(), key))
    }
}

/// The first field of a text and what follows it.
fn field(text: &[u8]) -> (&[u8], &[u8]) {
    let text = text.trim_ascii_start();
    let end = text
        .iter()
        .position(u8::is_ascii_whitespace)
        .unwrap_or(text.len());
    text.split_at(end)
}

/// The type that an encoded key carries inside.
fn encoded_type(key: &[u8]) -> Option<&[u8]> {
    let (length, rest) = key.split_first_chunk::<4>()?;
    rest.get(..usize::try_from(u32::from_be_bytes(*length)).ok()?)
}

fn hash_matches(hashed: &[u8], host: &str) -> Option<bool> {
    let fields = hashed.strip_prefix(b"|1|")?;
    let separator = fields.iter().position(|byte| *byte == b'|')?;
    let (salt, hash) = fields.split_at(separator);
    let salt = STANDARD.decode(salt).ok()?;
    let hash = STANDARD.decode(hash.get(1..)?).ok()?;
    Some(salt.len() == 20 && name_hash(&salt, host)? == hash)
}

/// The hash under which a name is recorded.
pub(super) fn name_hash(salt: &[u8], host: &str) -> Option<Vec<u8>> {
    let mut hash = Hmac::<Sha1>::new_from_slice(salt).ok()?;
    hash.update(host.to_ascii_lowercase().as_bytes());
    Some(hash.finalize().into_bytes().to_vec())
}

/// A line that records a key under a plain name.
pub fn key_line(key_name: &str, key_type: &str, key: &[u8]) -> String {
    format!("{key_name} {key_type} {}", STANDARD.encode(key))
}
