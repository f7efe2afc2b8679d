//! Recording a newly trusted key.

use super::line::name_hash;
use crate::ssh::endpoint::Endpoint;
use crate::ssh::error::{ShownKey, SshError};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustix::fs::{FlockOperation, flock};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// Records a key for an endpoint in the first of the user's files.
///
/// # Errors
///
/// [`SshError::KnownHostsWrite`] when it cannot be written; the key must not be used then.
pub fn append(endpoint: &Endpoint, shown: &ShownKey) -> Result<(), SshError> {
    let path = endpoint.known_hosts.user.first().cloned().unwrap_or_default();
    // The line begins with the plain name, which the user may want to see only hashed.
    let key = shown.key_line.strip_prefix(&shown.key_name).unwrap_or_default();
    let line = format!("{}{key}", recorded_name(endpoint));
    write_line(&path, &line).map_err(|source| SshError::KnownHostsWrite {
        host: endpoint.name.clone(),
        path: PathBuf::from(&path),
        source,
    })
}

fn recorded_name(endpoint: &Endpoint) -> String {
    let name = endpoint.key_name();
    if !endpoint.hash_known_hosts {
        return name;
    }
    let salt: [u8; 20] = rand::random();
    match name_hash(&salt, &name) {
        Some(hash) => format!("|1|{}|{}", STANDARD.encode(salt), STANDARD.encode(hash)),
        None => name,
    }
}

fn write_line(path: &Path, line: &str) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let mut file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)?;
    flock(&file, FlockOperation::LockExclusive)?;
    let newline = if ends_within_a_line(&mut file)? { "\n" } else { "" };
    // One write under the lock: a reader sees the whole line or nothing of it.
    file.write_all(format!("{newline}{line}\n").as_bytes())?;
    file.sync_all()
}

fn ends_within_a_line(file: &mut File) -> io::Result<bool> {
    if file.seek(SeekFrom::End(0))? == 0 {
        return Ok(false);
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last != *b"\n")
}
