//! `%h` and its like, and `~`.

use std::path::{Path, PathBuf};

/// What tokens stand for.
pub(super) struct Tokens<'a> {
    pub(super) home: &'a Path,
    pub(super) local_user: &'a str,
    pub(super) host_name: &'a str,
    pub(super) typed: &'a str,
    pub(super) port: u16,
    pub(super) user: &'a str,
    pub(super) key_alias: Option<&'a str>,
}

/// Replaces `%h` in a host name.
pub(super) fn host_name(text: &str, typed: &str) -> Result<String, String> {
    replace(text, |token| (token == 'h').then(|| typed.to_owned()))
}

impl Tokens<'_> {
    /// Replaces the tokens of a path and a leading `~/`.
    pub(super) fn path(&self, text: &str) -> Result<PathBuf, String> {
        if text.contains("${") {
            return Err("environment variables are not supported in paths".to_owned());
        }
        let text = replace(text, |token| {
            Some(match token {
                'd' => self.home.to_string_lossy().into_owned(),
                'h' => self.host_name.to_owned(),
                'i' => rustix::process::getuid().as_raw().to_string(),
                'k' => self.key_alias.unwrap_or(self.typed).to_owned(),
                'n' => self.typed.to_owned(),
                'p' => self.port.to_string(),
                'r' => self.user.to_owned(),
                'u' => self.local_user.to_owned(),
                _ => return None,
            })
        })?;
        match text.strip_prefix('~') {
            None => Ok(PathBuf::from(text)),
            Some("") => Ok(self.home.to_owned()),
            Some(rest) => match rest.strip_prefix('/') {
                Some(rest) => Ok(self.home.join(rest.trim_start_matches('/'))),
                None => Err("the home folder of another user is not supported in paths".to_owned()),
            },
        }
    }
}

fn replace(text: &str, value: impl Fn(char) -> Option<String>) -> Result<String, String> {
    let mut replaced = String::new();
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match c {
            '%' => match rest.next() {
                Some('%') => replaced.push('%'),
                Some(token) => {
                    replaced.push_str(
                        &value(token).ok_or_else(|| format!("the token `%{token}` is not supported"))?,
                    );
                }
                None => return Err("a `%` stands alone at the end".to_owned()),
            },
            c => replaced.push(c),
        }
    }
    Ok(replaced)
}
