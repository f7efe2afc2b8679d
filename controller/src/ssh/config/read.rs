//! Reading the files: blocks, patterns, includes, and the first value of everything.

use super::address::parse_port;
use super::directive::{Treatment, treatment};
use super::{ConfigFiles, include, lex};
use crate::ssh::SshError;
use crate::ssh::known_hosts::pattern_matches;
use std::collections::HashMap;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

const DEEPEST_INCLUDE: usize = 16;
const LARGEST_FILE: u64 = 4 * 1024 * 1024;

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) arguments: Vec<String>,
    file: PathBuf,
    line: usize,
    keyword: String,
}

impl Found {
    /// The first argument.
    pub(super) fn first(&self) -> &str {
        self.arguments.first().map_or("", String::as_str)
    }

    /// Whether this directive set it.
    pub(super) fn is(&self, keyword: &str) -> bool {
        self.keyword == keyword
    }

    /// Whether it says yes.
    pub(super) fn yes(&self) -> bool {
        matches!(self.first().to_ascii_lowercase().as_str(), "yes" | "true")
    }

    /// An error about it.
    pub(super) fn error(&self, reason: impl Into<String>) -> SshError {
        SshError::Config {
            file: self.file.clone(),
            line: self.line,
            directive: self.keyword.clone(),
            reason: reason.into(),
        }
    }

    fn warning(&self, reason: &str) -> String {
        format!(
            "{}:{}: {} is not obeyed: {reason}",
            self.file.display(),
            self.line,
            self.keyword
        )
    }
}

/// What the files say about one host.
#[derive(Debug, Default)]
pub(super) struct Values {
    single: HashMap<String, Found>,
    pub(super) identities: Vec<Found>,
    pub(super) warnings: Vec<String>,
    ignore_unknown: Vec<String>,
}

impl Values {
    /// The first value of a directive.
    pub(super) fn get(&self, keyword: &str) -> Option<&Found> {
        self.single.get(keyword)
    }
}

/// Reads what the files say about a host, by the name that was typed.
pub(super) fn read(typed: &str, files: &ConfigFiles) -> Result<Values, SshError> {
    let mut reader = Reader {
        typed,
        files,
        values: Values::default(),
    };
    reader.file(&files.user, true, true, 0)?;
    reader.file(&files.global, false, true, 0)?;
    Ok(reader.values)
}

struct Reader<'a> {
    typed: &'a str,
    files: &'a ConfigFiles,
    values: Values,
}

impl Reader<'_> {
    /// Reads one file. In a file that a block without a match includes, no block matches.
    fn file(&mut self, path: &Path, by_user: bool, may_match: bool, depth: usize) -> Result<(), SshError> {
        let Some(text) = read_if_there(path, by_user).map_err(|source| SshError::ConfigUnreadable {
            path: path.to_owned(),
            source,
        })?
        else {
            return Ok(());
        };
        let mut active = may_match;
        for (index, line) in text.lines().enumerate() {
            let mut found = Found {
                arguments: Vec::new(),
                file: path.to_owned(),
                line: index + 1,
                keyword: String::new(),
            };
            let Some((keyword, arguments)) = lex::split(line).map_err(|reason| found.error(reason))? else {
                continue;
            };
            found.keyword.clone_from(&keyword);
            found.arguments = arguments;
            if found.arguments.iter().all(String::is_empty) {
                return Err(found.error("its argument is missing"));
            }
            match keyword.as_str() {
                "host" => active = may_match && self.host_matches(&found.arguments),
                "match" => active = may_match && match_all(&found)?,
                "include" => self.include(&found, by_user, active, depth)?,
                _ => self.directive(found, active)?,
            }
        }
        Ok(())
    }

    fn host_matches(&self, patterns: &[String]) -> bool {
        let mut matched = false;
        for pattern in patterns {
            match pattern.strip_prefix('!') {
                Some(negated) if pattern_matches(negated.as_bytes(), self.typed.as_bytes()) => return false,
                Some(_) => {}
                None => matched |= pattern_matches(pattern.as_bytes(), self.typed.as_bytes()),
            }
        }
        matched
    }

    fn include(&mut self, found: &Found, by_user: bool, active: bool, depth: usize) -> Result<(), SshError> {
        if depth >= DEEPEST_INCLUDE {
            return Err(found.error("includes are nested too deeply"));
        }
        for pattern in &found.arguments {
            let path = match pattern.strip_prefix("~/") {
                Some(rest) if by_user => self.files.home.join(rest),
                None if pattern.starts_with('/') => PathBuf::from(pattern),
                None if !pattern.starts_with('~') => {
                    let base = if by_user {
                        self.files.home.join(".ssh")
                    } else {
                        PathBuf::from("/etc/ssh")
                    };
                    base.join(pattern)
                }
                _ => return Err(found.error("this use of `~` is not supported")),
            };
            for path in include::expand(&path).map_err(|reason| found.error(reason))? {
                self.file(&path, by_user, active, depth + 1)?;
            }
        }
        Ok(())
    }

    fn directive(&mut self, found: Found, active: bool) -> Result<(), SshError> {
        let treatment = treatment(&found.keyword);
        if treatment == Treatment::Unknown && !self.may_ignore(&found.keyword) {
            return Err(found.error("it is not a directive of ssh"));
        }
        if !active {
            return Ok(());
        }
        match treatment {
            Treatment::Obeyed => self.keep(found)?,
            Treatment::Warned(reason) => self.warn_once(&found, reason),
            Treatment::Refused(harmless, reason) => {
                let value = found.first().to_ascii_lowercase();
                // As everywhere, a value counts only if it is the first.
                let first = !self.values.single.contains_key(&found.keyword);
                if first && !harmless.contains(&value.as_str()) {
                    return Err(found.error(reason));
                }
                self.values.single.entry(found.keyword.clone()).or_insert(found);
            }
            Treatment::Ignored | Treatment::Unknown => {}
        }
        Ok(())
    }

    fn keep(&mut self, found: Found) -> Result<(), SshError> {
        check(&found)?;
        match found.keyword.as_str() {
            "identityfile" => {
                let known = self
                    .values
                    .identities
                    .iter()
                    .any(|other| other.arguments == found.arguments);
                if !known {
                    self.values.identities.push(found);
                }
                return Ok(());
            }
            "ignoreunknown" if self.values.ignore_unknown.is_empty() => {
                let patterns = found.arguments.iter().flat_map(|list| list.split(','));
                self.values.ignore_unknown = patterns.map(str::to_ascii_lowercase).collect();
            }
            "stricthostkeychecking" if matches!(found.first(), "no" | "off" | "accept-new") => {
                self.warn_once(&found, "host keys are always checked");
            }
            _ => {}
        }
        // The one that comes first decides how to get there, whichever it is.
        let slot = match found.keyword.as_str() {
            "proxycommand" | "proxyjump" => "proxy",
            "challengeresponseauthentication" => "kbdinteractiveauthentication",
            other => other,
        };
        self.values.single.entry(slot.to_owned()).or_insert(found);
        Ok(())
    }

    fn warn_once(&mut self, found: &Found, reason: &str) {
        if !self.values.single.contains_key(&found.keyword) {
            self.values.warnings.push(found.warning(reason));
            self.values.single.insert(found.keyword.clone(), found.clone());
        }
    }

    fn may_ignore(&self, keyword: &str) -> bool {
        let patterns = &self.values.ignore_unknown;
        patterns
            .iter()
            .any(|pattern| pattern_matches(pattern.as_bytes(), keyword.as_bytes()))
    }
}

/// Values that make no sense are errors where they stand, used or not.
fn check(found: &Found) -> Result<(), SshError> {
    let lists = [
        "globalknownhostsfile",
        "userknownhostsfile",
        "ignoreunknown",
        "identityfile",
    ];
    if found.arguments.len() > 1
        && !lists.contains(&found.keyword.as_str())
        && found.keyword != "proxycommand"
    {
        return Err(found.error("it has more than one argument"));
    }
    let value = found.first().to_ascii_lowercase();
    let one_of = |words: &[&str]| words.contains(&value.as_str());
    let right = match found.keyword.as_str() {
        "port" => parse_port(found.first()).is_ok(),
        "addressfamily" => one_of(&["any", "inet", "inet6"]),
        "connecttimeout" => value == "none" || value.parse::<u32>().is_ok(),
        "stricthostkeychecking" => one_of(&["yes", "no", "ask", "off", "accept-new", "true", "false"]),
        "identitiesonly" | "hashknownhosts" | "passwordauthentication" | "batchmode" => {
            one_of(&["yes", "no", "true", "false"])
        }
        _ => true,
    };
    if right {
        Ok(())
    } else {
        Err(found.error(format!("`{}` makes no sense here", found.first())))
    }
}

fn match_all(found: &Found) -> Result<bool, SshError> {
    if found.arguments.len() == 1 && found.first().eq_ignore_ascii_case("all") {
        return Ok(true);
    }
    Err(found.error("only `Match all` is supported; use `Host` with patterns"))
}

fn read_if_there(path: &Path, by_user: bool) -> io::Result<Option<String>> {
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let metadata = file.metadata()?;
    if by_user {
        let ours = [0, rustix::process::getuid().as_raw()].contains(&metadata.uid());
        if !ours || metadata.mode() & 0o022 != 0 {
            let reason = "others could have written it: wrong owner, or writable for group or all";
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, reason));
        }
    }
    let mut bytes = Vec::new();
    file.take(LARGEST_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LARGEST_FILE {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            "it is larger than 4 MiB",
        ));
    }
    String::from_utf8(bytes)
        .map(Some)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}
