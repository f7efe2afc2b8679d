//! `~/.ssh/config`, read as `ssh` reads it.
//!
//! The first value of a directive wins, identity files add up. A directive that would change where or how `ssh`
//! connects and that is not supported is an error that names it; one that loosens the check of host keys gets a
//! warning and no obedience; everything else is ignored.
//!
//! A host whose settings have an address is looked up by that address, as if it had been typed after `ssh`: `Host`
//! blocks that match the address apply, the user and the port in it win. Without one it is looked up by its name.

mod address;
mod directive;
mod include;
mod lex;
mod read;
mod resolve;
mod token;

pub use address::Address;
pub use resolve::resolve;

use super::endpoint::Endpoint;
use std::ffi::OsString;
use std::path::PathBuf;

/// Where configuration is read from, and who reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigFiles {
    /// The user's file.
    pub user: PathBuf,
    /// The machine's file.
    pub global: PathBuf,
    /// The user's home folder.
    pub home: PathBuf,
    /// The user's name here, also the default there.
    pub local_user: String,
}

impl ConfigFiles {
    /// The files of the user who runs this program: `~/.ssh/config` and `/etc/ssh/ssh_config`.
    pub fn of_user() -> Self {
        let text = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let home = std::env::var_os("HOME").unwrap_or_else(|| OsString::from("/root"));
        let home = PathBuf::from(home);
        Self {
            user: home.join(".ssh/config"),
            global: PathBuf::from("/etc/ssh/ssh_config"),
            home,
            local_user: text("USER")
                .or_else(|| text("LOGNAME"))
                .unwrap_or_else(|| "root".to_owned()),
        }
    }
}

/// An endpoint, and what should be said about the way it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// Where and how to connect.
    pub endpoint: Endpoint,
    /// Directives that were not obeyed, each a sentence with file and line.
    pub warnings: Vec<String>,
}
