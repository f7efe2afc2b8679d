//! `[user@]host[:port]`.

use crate::ssh::SshError;
use std::str::FromStr;

/// An address as users write it; IPv6 in brackets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// The account, if given.
    pub user: Option<String>,
    /// Name or number, without brackets.
    pub host: String,
    /// The port, if given.
    pub port: Option<u16>,
}

impl FromStr for Address {
    type Err = SshError;

    fn from_str(text: &str) -> Result<Self, SshError> {
        parse(text).map_err(|reason| SshError::Address {
            text: text.escape_default().to_string(),
            reason,
        })
    }
}

fn parse(text: &str) -> Result<Address, &'static str> {
    // The last one, for account names may contain it.
    let (user, rest) = match text.rsplit_once('@') {
        Some((user, rest)) => (Some(user), rest),
        None => (None, text),
    };
    if user.is_some_and(|user| !is_user(user)) {
        return Err("the user before `@` is empty or has characters that no account has");
    }
    let (host, port) = split_port(rest)?;
    let is_host = |c: char| c.is_ascii_alphanumeric() || "._-:%".contains(c);
    if host.is_empty() || host.len() > 255 || host.starts_with('-') || !host.chars().all(is_host) {
        return Err("the host is empty or has characters that no host name has");
    }
    Ok(Address {
        user: user.map(str::to_owned),
        host: host.to_owned(),
        port,
    })
}

fn split_port(text: &str) -> Result<(&str, Option<u16>), &'static str> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or("the bracket is not closed")?;
        return match rest.strip_prefix(':') {
            Some(port) => Ok((host, Some(parse_port(port)?))),
            None if rest.is_empty() => Ok((host, None)),
            None => Err("after the bracket only a colon and a port may follow"),
        };
    }
    match text.split_once(':') {
        None => Ok((text, None)),
        Some((_, port)) if port.contains(':') => Err("an IPv6 address needs brackets"),
        Some((host, port)) => Ok((host, Some(parse_port(port)?))),
    }
}

/// Reads a port.
pub(super) fn parse_port(text: &str) -> Result<u16, &'static str> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(port) if port > 0 && digits => Ok(port),
        _ => Err("the port is not a number from 1 to 65535"),
    }
}

fn is_user(user: &str) -> bool {
    !user.is_empty()
        && user.len() <= 255
        && !user.starts_with('-')
        && user
            .chars()
            .all(|c| !c.is_control() && !c.is_whitespace() && !"'\"`$\\;&<>|(){}".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str) -> Option<(Option<String>, String, Option<u16>)> {
        text.parse::<Address>()
            .ok()
            .map(|address| (address.user, address.host, address.port))
    }

    #[test]
    fn addresses_are_taken_apart() {
        let some =
            |user: Option<&str>, host: &str, port| Some((user.map(str::to_owned), host.to_owned(), port));
        assert_eq!(parts("gpu1"), some(None, "gpu1", None));
        assert_eq!(
            parts("me@gpu1.lab:2222"),
            some(Some("me"), "gpu1.lab", Some(2222))
        );
        assert_eq!(parts("a@b@10.0.0.1"), some(Some("a@b"), "10.0.0.1", None));
        assert_eq!(parts("[::1]"), some(None, "::1", None));
        assert_eq!(
            parts("me@[fe80::1%eth0]:22"),
            some(Some("me"), "fe80::1%eth0", Some(22))
        );
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "",
            "@h",
            "h:",
            "h:0",
            "h:65536",
            "h:+22",
            "h:x",
            "::1",
            "[::1",
            "[::1]x",
            "[]",
            "-oProxyCommand=x",
            "a b",
            "me@",
            "h/x",
            "-l@h",
            "a;b@h",
            "h\n",
        ] {
            assert!(text.parse::<Address>().is_err(), "{text:?}");
        }
    }
}
