//! Private key files.

use super::SshError;
use russh::keys::{self, PrivateKey, PublicKey};
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Most bytes of a key file.
const LARGEST_KEY_FILE: u64 = 1024 * 1024;

/// A key file as it lies on the disk.
pub(super) enum KeyFile {
    /// There is none.
    Absent,
    /// It can be used as it is.
    Usable(Arc<PrivateKey>),
    /// It needs a passphrase. The public part is there if the file or the one beside it shows it.
    Encrypted(String),
}

/// Reads a private key file.
///
/// # Errors
///
/// [`SshError::KeyPermissions`] when others can read it, [`SshError::KeyUnreadable`] when it is no key.
pub(super) fn read(host: &str, path: &Path) -> Result<KeyFile, SshError> {
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(KeyFile::Absent),
        Err(error) => return Err(unreadable(host, path, error.to_string())),
    };
    // An identity may name a public key to choose one of the agent's; there is nothing private in it.
    if read_text(path).is_ok_and(|text| PublicKey::from_openssh(text.trim()).is_ok()) {
        return Ok(KeyFile::Absent);
    }
    let metadata = file
        .metadata()
        .map_err(|error| unreadable(host, path, error.to_string()))?;
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(SshError::KeyPermissions {
            host: host.to_owned(),
            path: path.to_owned(),
            mode,
        });
    }
    let mut text = String::new();
    file.take(LARGEST_KEY_FILE)
        .read_to_string(&mut text)
        .map_err(|error| unreadable(host, path, error.to_string()))?;
    match decode(&text, None) {
        Ok(key) => Ok(KeyFile::Usable(Arc::new(key))),
        Err(keys::Error::KeyIsEncrypted) => Ok(KeyFile::Encrypted(text)),
        Err(_) if looks_encrypted(&text) => Ok(KeyFile::Encrypted(text)),
        Err(error) => Err(unreadable(host, path, error.to_string())),
    }
}

/// Opens an encrypted key. None if the passphrase is wrong.
pub(super) fn unlock(text: &str, passphrase: &str) -> Option<Arc<PrivateKey>> {
    decode(text, Some(passphrase)).ok().map(Arc::new)
}

fn decode(text: &str, passphrase: Option<&str>) -> Result<PrivateKey, keys::Error> {
    keys::decode_secret_key(text, passphrase)
}

/// Old formats say so in a header, or by their name.
fn looks_encrypted(text: &str) -> bool {
    text.contains("Proc-Type: 4,ENCRYPTED") || text.contains("BEGIN ENCRYPTED PRIVATE KEY")
}

/// The public parts of identity files, to recognise them among an agent's keys.
pub(super) fn public_parts(identities: &[PathBuf]) -> Vec<PublicKey> {
    identities.iter().filter_map(|path| public_part(path)).collect()
}

fn public_part(path: &Path) -> Option<PublicKey> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".pub");
    // An identity may itself name a public key file, to choose one of the agent's keys.
    [PathBuf::from(beside), path.to_owned()].iter().find_map(|path| {
        let text = read_text(path).ok()?;
        PublicKey::from_openssh(text.trim()).ok().or_else(|| {
            PrivateKey::from_openssh(&text)
                .ok()
                .map(|key| key.public_key().clone())
        })
    })
}

fn read_text(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(path)?
        .take(LARGEST_KEY_FILE)
        .read_to_string(&mut text)?;
    Ok(text)
}

fn unreadable(host: &str, path: &Path, reason: String) -> SshError {
    SshError::KeyUnreadable {
        host: host.to_owned(),
        path: path.to_owned(),
        reason,
    }
}
