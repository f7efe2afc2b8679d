//! Which keys hosts are known by.
//!
//! The rules are OpenSSH's, or stricter. Only files are read here, never the network; a file that is there and
//! cannot be read is an error, because "unknown" would invite the user to trust whoever answers.

mod append;
mod line;
mod pattern;

pub use append::append;
pub use line::key_line;
pub(in crate::ssh) use pattern::matches as pattern_matches;

use super::endpoint::{Endpoint, KnownHostsFiles};
use super::error::{RecordedKey, SshError};
use super::fingerprint::fingerprint;
use line::{Line, Marker};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

/// Most bytes of one file of host keys.
const LARGEST_FILE: u64 = 64 * 1024 * 1024;

/// What the files say about a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// It is the host's recorded key.
    Known,
    /// No key of the host is recorded.
    Unknown,
    /// Another key of the host is recorded, and this one is not.
    Changed {
        /// What is recorded.
        recorded: Vec<RecordedKey>,
    },
    /// It is marked `@revoked`, which outweighs every other line of every file.
    Revoked {
        /// The file.
        file: PathBuf,
        /// The line in it.
        line: usize,
    },
    /// Only a certificate authority is recorded for the host.
    Certificate {
        /// The file.
        file: PathBuf,
        /// The line in it.
        line: usize,
    },
}

/// The names a host may be recorded under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostNames {
    /// `name`, `[name]:port` or the alias.
    pub name: String,
    /// The bare name of a host on another port than 22: as `ssh` does, a key recorded under it is accepted.
    pub without_port: Option<String>,
}

impl HostNames {
    /// The names of an endpoint.
    pub fn of(endpoint: &Endpoint) -> Self {
        let bare = endpoint.host_key_alias.is_none() && endpoint.port != 22;
        Self {
            name: endpoint.key_name(),
            without_port: bare.then(|| endpoint.host_name.to_ascii_lowercase()),
        }
    }
}

/// A line that speaks of the host.
#[derive(Debug, Clone)]
struct Entry {
    file: PathBuf,
    line: usize,
    marker: Marker,
    key_type: String,
    key: Vec<u8>,
}

/// Everything the files say about one host.
#[derive(Debug, Clone, Default)]
pub struct KnownHosts {
    entries: Vec<Entry>,
    without_port: Vec<Entry>,
}

impl KnownHosts {
    /// Reads what the files say about a host.
    ///
    /// # Errors
    ///
    /// [`SshError::KnownHosts`] when a file is there and cannot be read, or a line about the host makes no sense.
    pub fn read(host: &str, files: &KnownHostsFiles, names: &HostNames) -> Result<Self, SshError> {
        let mut known = Self::default();
        for path in files.user.iter().chain(&files.global) {
            known
                .read_file(path, names)
                .map_err(|reason| SshError::KnownHosts {
                    host: host.to_owned(),
                    path: path.clone(),
                    reason,
                })?;
        }
        Ok(known)
    }

    fn read_file(&mut self, path: &Path, names: &HostNames) -> Result<(), String> {
        let Some(content) = read_if_there(path).map_err(|error| error.to_string())? else {
            return Ok(());
        };
        for (index, text) in content.split(|byte| *byte == b'\n').enumerate() {
            let Some(line) = Line::parse(text) else { continue };
            let bare = names.without_port.as_deref();
            let (named, bare) = (line.names(&names.name), bare.is_some_and(|bare| line.names(bare)));
            if !named && !bare {
                continue;
            }
            let (marker, key_type, key) = line
                .key()
                .map_err(|reason| format!("line {}: {reason}", index + 1))?;
            let entry = Entry {
                file: path.to_owned(),
                line: index + 1,
                marker,
                key_type,
                key,
            };
            if bare {
                self.without_port.push(entry.clone());
            }
            if named {
                self.entries.push(entry);
            }
        }
        Ok(())
    }

    /// Types of the keys that are recorded for the host, so that no key of another type is asked for.
    pub fn recorded_types(&self) -> Vec<String> {
        let mut types: Vec<String> = Vec::new();
        for entry in self.entries.iter().filter(|entry| entry.marker == Marker::None) {
            if !types.contains(&entry.key_type) {
                types.push(entry.key_type.clone());
            }
        }
        types
    }

    /// What the files say about an encoded key that the host showed.
    pub fn check(&self, key: &[u8]) -> Decision {
        let all = || self.entries.iter().chain(&self.without_port);
        if let Some(entry) = all().find(|entry| entry.marker == Marker::Revoked && entry.key == key) {
            return Decision::Revoked {
                file: entry.file.clone(),
                line: entry.line,
            };
        }
        let plain = |entry: &&Entry| entry.marker == Marker::None;
        let recorded: Vec<&Entry> = self.entries.iter().filter(plain).collect();
        if recorded.iter().any(|entry| entry.key == key) {
            return Decision::Known;
        }
        if !recorded.is_empty() {
            return Decision::Changed {
                recorded: recorded.into_iter().map(Entry::recorded).collect(),
            };
        }
        if let Some(entry) = self
            .entries
            .iter()
            .find(|entry| entry.marker == Marker::Authority)
        {
            return Decision::Certificate {
                file: entry.file.clone(),
                line: entry.line,
            };
        }
        if self
            .without_port
            .iter()
            .filter(plain)
            .any(|entry| entry.key == key)
        {
            return Decision::Known;
        }
        Decision::Unknown
    }
}

impl Entry {
    fn recorded(&self) -> RecordedKey {
        RecordedKey {
            file: self.file.clone(),
            line: self.line,
            key_type: self.key_type.clone(),
            fingerprint: fingerprint(&self.key),
        }
    }
}

fn read_if_there(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut content = Vec::new();
    file.take(LARGEST_FILE + 1).read_to_end(&mut content)?;
    if content.len() as u64 > LARGEST_FILE {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            "it is larger than 64 MiB",
        ));
    }
    Ok(Some(content))
}
