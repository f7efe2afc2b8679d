//! Keys that an ssh-agent holds.

use super::endpoint::{AgentSocket, Endpoint};
use super::keys;
use russh::keys::PublicKey;
use russh::keys::agent::AgentIdentity;
use russh::keys::agent::client::AgentClient;
use std::path::PathBuf;
use std::time::Duration;
use tokio::net::UnixStream;

const PATIENCE: Duration = Duration::from_secs(5);

/// An agent and those of its keys that may be offered, the likeliest first.
pub(super) struct Agent {
    pub(super) client: AgentClient<UnixStream>,
    pub(super) keys: Vec<(PublicKey, String)>,
}

/// Asks the agent for its keys. None if there is no agent, or why it is of no use.
pub(super) async fn open(endpoint: &Endpoint) -> Result<Option<Agent>, String> {
    let Some(path) = socket_path(endpoint) else {
        return Ok(None);
    };
    let asking = async {
        let mut client = AgentClient::connect_uds(&path).await?;
        let identities = client.request_identities().await?;
        Ok::<_, russh::keys::Error>((client, identities))
    };
    let (client, identities) = tokio::time::timeout(PATIENCE, asking)
        .await
        .map_err(|_| "it did not answer".to_owned())?
        .map_err(|error| error.to_string())?;
    let mut keys: Vec<(PublicKey, String)> = identities
        .into_iter()
        .filter_map(|identity| match identity {
            AgentIdentity::PublicKey { key, comment } => Some((key, comment)),
            AgentIdentity::Certificate { .. } => None,
        })
        .collect();
    // A server counts attempts, so the keys that were asked for by name come first.
    let wanted = keys::public_parts(&endpoint.identities);
    let is_wanted = |key: &PublicKey| wanted.iter().any(|other| other.key_data() == key.key_data());
    if endpoint.identities_only {
        keys.retain(|(key, _)| is_wanted(key));
    } else {
        keys.sort_by_key(|(key, _)| !is_wanted(key));
    }
    Ok(Some(Agent { client, keys }))
}

fn socket_path(endpoint: &Endpoint) -> Option<PathBuf> {
    match &endpoint.agent {
        AgentSocket::Nobody => None,
        AgentSocket::Path(path) => Some(path.clone()),
        AgentSocket::Environment => std::env::var_os("SSH_AUTH_SOCK")
            .filter(|path| !path.is_empty())
            .map(PathBuf::from),
    }
}
