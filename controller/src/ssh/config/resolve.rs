//! From what the files say to an endpoint.

use super::address::{Address, parse_port};
use super::read::{self, Found, Values};
use super::token::{self, Tokens};
use super::{ConfigFiles, Resolved};
use crate::model::HostSettings;
use crate::ssh::SshError;
use crate::ssh::endpoint::{AgentSocket, CONNECT_TIMEOUT, Endpoint, IpFamily, KnownHostsFiles};
use std::path::PathBuf;
use std::time::Duration;

const MOST_JUMPS: usize = 8;
const DEFAULT_KEYS: &[&str] = &["id_rsa", "id_ecdsa", "id_ed25519"];
const METHODS: &[(&str, &str)] = &[
    ("publickey", "pubkeyauthentication"),
    ("keyboard-interactive", "kbdinteractiveauthentication"),
    ("password", "passwordauthentication"),
];

/// Finds out how to reach a host.
///
/// # Errors
///
/// [`SshError::Address`], [`SshError::Config`] or [`SshError::ConfigUnreadable`].
pub fn resolve(name: &str, settings: &HostSettings, files: &ConfigFiles) -> Result<Resolved, SshError> {
    let typed = match &settings.address {
        Some(address) => address.parse()?,
        None => Address {
            user: None,
            host: name.to_owned(),
            port: None,
        },
    };
    let mut warnings = Vec::new();
    let mut endpoint = find(&typed, Way::AsConfigured, files, 0, &mut warnings)?;
    name.clone_into(&mut endpoint.name);
    if let Some(identity) = &settings.identity {
        let path = identity
            .strip_prefix("~/")
            .map_or_else(|| PathBuf::from(identity), |rest| files.home.join(rest));
        endpoint.identities = vec![path];
        endpoint.identities_named = true;
    }
    Ok(Resolved { endpoint, warnings })
}

/// Through which hosts.
enum Way<'a> {
    /// Those the configuration names.
    AsConfigured,
    /// These, because they stood in a chain before the host.
    Through(&'a [Address], &'a Found),
}

fn find(
    typed: &Address,
    way: Way<'_>,
    files: &ConfigFiles,
    depth: usize,
    warnings: &mut Vec<String>,
) -> Result<Endpoint, SshError> {
    let values = read::read(&typed.host, files)?;
    warnings.extend(
        values
            .warnings
            .iter()
            .filter(|warning| !warnings.contains(warning))
            .cloned()
            .collect::<Vec<_>>(),
    );
    let mut endpoint = direct(typed, &values, files)?;
    endpoint.jumps = match (way, values.get("proxy")) {
        (Way::Through(chain, found), _) => jumps(chain, found, files, depth, warnings)?,
        (Way::AsConfigured, None) => Vec::new(),
        (Way::AsConfigured, Some(found)) => {
            let chain = chain(found)?;
            // `Host *` with a jump host would otherwise send the jump host through itself.
            let itself = chain
                .last()
                .is_some_and(|last| last.host.eq_ignore_ascii_case(&typed.host));
            if itself {
                Vec::new()
            } else {
                jumps(&chain, found, files, depth, warnings)?
            }
        }
    };
    Ok(endpoint)
}

/// The hosts of a chain, each found by its own name; what stands before a host replaces its own configured way.
fn jumps(
    chain: &[Address],
    found: &Found,
    files: &ConfigFiles,
    depth: usize,
    warnings: &mut Vec<String>,
) -> Result<Vec<Endpoint>, SshError> {
    let Some((last, before)) = chain.split_last() else {
        return Ok(Vec::new());
    };
    if depth >= MOST_JUMPS {
        return Err(found.error("too many jump hosts, or they go in a circle"));
    }
    let way = if before.is_empty() {
        Way::AsConfigured
    } else {
        Way::Through(before, found)
    };
    let mut last = find(last, way, files, depth + 1, warnings)?;
    let mut hops = std::mem::take(&mut last.jumps);
    hops.push(last);
    Ok(hops)
}

fn chain(found: &Found) -> Result<Vec<Address>, SshError> {
    let value = found.first();
    if value.eq_ignore_ascii_case("none") && found.arguments.len() == 1 {
        return Ok(Vec::new());
    }
    if found.is("proxycommand") {
        return Err(found.error("it is not supported; use ProxyJump"));
    }
    value
        .split(',')
        .map(|hop| {
            let hop = hop.trim();
            let hop = hop
                .strip_prefix("ssh://")
                .map_or(hop, |hop| hop.trim_end_matches('/'));
            hop.parse()
                .map_err(|error: SshError| found.error(error.to_string()))
        })
        .collect()
}

fn direct(typed: &Address, values: &Values, files: &ConfigFiles) -> Result<Endpoint, SshError> {
    let host_name = match values.get("hostname") {
        Some(found) => token::host_name(found.first(), &typed.host).map_err(|reason| found.error(reason))?,
        None => typed.host.clone(),
    };
    let port = match (typed.port, values.get("port")) {
        (Some(port), _) => port,
        (None, Some(found)) => parse_port(found.first()).map_err(|reason| found.error(reason))?,
        (None, None) => 22,
    };
    let configured = values.get("user").map(|found| found.first().to_owned());
    let user = typed
        .user
        .clone()
        .or(configured)
        .unwrap_or_else(|| files.local_user.clone());
    let host_key_alias = values.get("hostkeyalias").map(|found| found.first().to_owned());
    let tokens = Tokens {
        home: &files.home,
        local_user: &files.local_user,
        host_name: &host_name,
        typed: &typed.host,
        port,
        user: &user,
        key_alias: host_key_alias.as_deref(),
    };
    let strict = values.get("stricthostkeychecking").is_some_and(Found::yes);
    Ok(Endpoint {
        name: typed.host.clone(),
        identities: identities(values, &tokens)?,
        identities_named: !values.identities.is_empty(),
        identities_only: values.get("identitiesonly").is_some_and(Found::yes),
        agent: agent(values, &tokens)?,
        known_hosts: known_hosts(values, &tokens)?,
        hash_known_hosts: values.get("hashknownhosts").is_some_and(Found::yes),
        ask_about_new_key: !strict && !values.get("batchmode").is_some_and(Found::yes),
        family: family(values),
        methods: methods(values),
        connect_timeout: connect_timeout(values),
        jumps: Vec::new(),
        host_key_alias,
        host_name: host_name.clone(),
        port,
        user: user.clone(),
    })
}

fn identities(values: &Values, tokens: &Tokens<'_>) -> Result<Vec<PathBuf>, SshError> {
    if values.identities.is_empty() {
        return Ok(DEFAULT_KEYS
            .iter()
            .map(|name| tokens.home.join(".ssh").join(name))
            .collect());
    }
    let named = values
        .identities
        .iter()
        .filter(|found| !found.first().eq_ignore_ascii_case("none"));
    named
        .map(|found| tokens.path(found.first()).map_err(|reason| found.error(reason)))
        .collect()
}

fn agent(values: &Values, tokens: &Tokens<'_>) -> Result<AgentSocket, SshError> {
    match values.get("identityagent") {
        None => Ok(AgentSocket::Environment),
        Some(found) if found.first() == "SSH_AUTH_SOCK" => Ok(AgentSocket::Environment),
        Some(found) if found.first().eq_ignore_ascii_case("none") => Ok(AgentSocket::Nobody),
        Some(found) if found.first().starts_with('$') => {
            Err(found.error("another environment variable than SSH_AUTH_SOCK is not supported"))
        }
        Some(found) => tokens
            .path(found.first())
            .map(AgentSocket::Path)
            .map_err(|reason| found.error(reason)),
    }
}

fn known_hosts(values: &Values, tokens: &Tokens<'_>) -> Result<KnownHostsFiles, SshError> {
    let paths = |keyword: &str, default: [PathBuf; 2]| match values.get(keyword) {
        None => Ok(default.to_vec()),
        Some(found) if found.first().eq_ignore_ascii_case("none") => Ok(Vec::new()),
        Some(found) => found
            .arguments
            .iter()
            .map(|path| tokens.path(path).map_err(|reason| found.error(reason)))
            .collect(),
    };
    let (home, global) = (tokens.home.join(".ssh"), PathBuf::from("/etc/ssh"));
    Ok(KnownHostsFiles {
        user: paths(
            "userknownhostsfile",
            ["known_hosts", "known_hosts2"].map(|name| home.join(name)),
        )?,
        global: paths(
            "globalknownhostsfile",
            ["ssh_known_hosts", "ssh_known_hosts2"].map(|name| global.join(name)),
        )?,
    })
}

fn family(values: &Values) -> IpFamily {
    match values
        .get("addressfamily")
        .map(|found| found.first().to_ascii_lowercase())
        .as_deref()
    {
        Some("inet") => IpFamily::V4,
        Some("inet6") => IpFamily::V6,
        _ => IpFamily::Any,
    }
}

fn methods(values: &Values) -> Option<Vec<String>> {
    let no = |keyword: &str| values.get(keyword).is_some_and(|found| !found.yes());
    let batch = values.get("batchmode").is_some_and(Found::yes);
    let preferred = values.get("preferredauthentications");
    let allowed = METHODS
        .iter()
        .filter(|(method, _)| {
            preferred.is_none_or(|found| found.first().split(',').any(|name| name == *method))
        })
        .filter(|(method, switch)| {
            let off = *method == "publickey" && values.get(switch).is_some_and(|found| found.first() == "no");
            let refused = if *method == "publickey" {
                off
            } else {
                no(switch) || batch
            };
            !refused
        })
        .map(|(method, _)| (*method).to_owned())
        .collect::<Vec<_>>();
    (allowed.len() < METHODS.len()).then_some(allowed)
}

fn connect_timeout(values: &Values) -> Duration {
    let seconds = values
        .get("connecttimeout")
        .and_then(|found| found.first().parse().ok());
    // No wait without an end, whatever the file says.
    seconds
        .filter(|seconds| (1..=600).contains(seconds))
        .map_or(CONNECT_TIMEOUT, Duration::from_secs)
}
