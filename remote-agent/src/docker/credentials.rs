//! Registry credentials of the account, as `docker login` left them.

use base64::Engine as _;
use bollard::auth::DockerCredentials;
use serde::Deserialize;
use std::collections::HashMap;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// How Docker Hub is named in configuration files.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";
const STORE_LIMIT: Duration = Duration::from_secs(10);
const STORE_SIZE: u64 = 64 * 1024;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Config {
    auths: HashMap<String, Auth>,
    cred_helpers: HashMap<String, String>,
    creds_store: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Auth {
    auth: Option<String>,
    identitytoken: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Stored {
    username: String,
    secret: String,
}

/// Credentials for the registry of `image`; none when the account has none for it.
pub(super) async fn for_image(home: &Path, image: &str) -> Option<DockerCredentials> {
    let folder = std::env::var_os("DOCKER_CONFIG").map_or_else(|| home.join(".docker"), Into::into);
    let bytes = crate::record::read_bounded(&folder.join("config.json"), 1024 * 1024).ok()??;
    let config: Config = serde_json::from_slice(&bytes).ok()?;
    let server = server_of(image);
    let store = config.cred_helpers.get(&server).or(config.creds_store.as_ref());
    if let Some(store) = store
        && let Some(found) = ask_store(store, &server).await
    {
        return Some(found);
    }
    let (_, auth) = config.auths.iter().find(|(name, _)| same_server(name, &server))?;
    from_auth(auth, &server)
}

/// The registry an image reference names, as configuration files call it.
fn server_of(image: &str) -> String {
    let first = image.split_once('/').map(|(first, _)| first);
    match first.filter(|first| first.contains(['.', ':']) || *first == "localhost") {
        Some("docker.io" | "index.docker.io" | "registry-1.docker.io") | None => DOCKER_HUB.to_owned(),
        Some(server) => server.to_owned(),
    }
}

fn same_server(name: &str, server: &str) -> bool {
    let host = |text: &str| {
        let text = text.split_once("://").map_or(text, |(_, rest)| rest);
        text.split('/').next().unwrap_or_default().to_owned()
    };
    let hub = |text: String| match text.as_str() {
        "docker.io" | "registry-1.docker.io" => "index.docker.io".to_owned(),
        _ => text,
    };
    hub(host(name)) == hub(host(server))
}

fn from_auth(auth: &Auth, server: &str) -> Option<DockerCredentials> {
    let pair = base64::engine::general_purpose::STANDARD
        .decode(auth.auth.as_deref().unwrap_or_default())
        .ok()?;
    let pair = String::from_utf8(pair).ok()?;
    let (username, password) = pair.split_once(':').unwrap_or((&pair, ""));
    let identitytoken = auth.identitytoken.clone().filter(|token| !token.is_empty());
    if username.is_empty() && identitytoken.is_none() {
        return None;
    }
    Some(DockerCredentials {
        username: Some(username.to_owned()),
        password: Some(password.trim_end_matches('\0').to_owned()),
        identitytoken,
        serveraddress: Some(server.to_owned()),
        ..DockerCredentials::default()
    })
}

async fn ask_store(store: &str, server: &str) -> Option<DockerCredentials> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_' || byte == b'.';
    if store.is_empty() || !store.bytes().all(plain) {
        return None;
    }
    let mut child = tokio::process::Command::new(format!("docker-credential-{store}"))
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .ok()?;
    let (mut stdin, stdout) = (child.stdin.take()?, child.stdout.take()?);
    let answer = async {
        stdin.write_all(server.as_bytes()).await.ok()?;
        drop(stdin);
        let mut bytes = Vec::new();
        stdout.take(STORE_SIZE).read_to_end(&mut bytes).await.ok()?;
        child.wait().await.ok().filter(|status| status.success())?;
        serde_json::from_slice::<Stored>(&bytes).ok()
    };
    let stored = tokio::time::timeout(STORE_LIMIT, answer).await.ok()??;
    let is_token = stored.username == "<token>";
    Some(DockerCredentials {
        username: (!is_token).then(|| stored.username.clone()),
        password: (!is_token).then(|| stored.secret.clone()),
        identitytoken: is_token.then_some(stored.secret),
        serveraddress: Some(server.to_owned()),
        ..DockerCredentials::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_are_told_from_users() {
        for (image, server) in [
            ("busybox", DOCKER_HUB),
            ("user/image:1", DOCKER_HUB),
            ("docker.io/library/busybox", DOCKER_HUB),
            ("nvcr.io/nvidia/cosmos:1", "nvcr.io"),
            ("localhost:5000/a/b", "localhost:5000"),
            ("localhost/a", "localhost"),
        ] {
            assert_eq!(server_of(image), server, "{image}");
        }
        assert!(same_server("https://index.docker.io/v1/", DOCKER_HUB));
        assert!(same_server("docker.io", DOCKER_HUB));
        assert!(same_server("https://nvcr.io", "nvcr.io"));
        assert!(!same_server("nvcr.io.evil", "nvcr.io"));
    }

    #[tokio::test]
    async fn a_login_is_read_from_the_account() {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join(".docker")).unwrap();
        std::fs::write(
            home.path().join(".docker/config.json"),
            r#"{"auths":{"nvcr.io":{"auth":"JG9hdXRodG9rZW46a2V5OnNlY3JldA=="}}}"#,
        )
        .unwrap();
        let found = for_image(home.path(), "nvcr.io/nvidia/cosmos:1").await.unwrap();
        assert_eq!(found.username.as_deref(), Some("$oauthtoken"));
        assert_eq!(found.password.as_deref(), Some("key:secret"));
        assert_eq!(for_image(home.path(), "busybox").await, None);
    }
}
