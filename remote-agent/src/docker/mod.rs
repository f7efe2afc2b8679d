//! The container engine. Nothing else in the agent knows how it is spoken to; every call has its own time limit.

mod checkup;
mod container;
mod credentials;
mod documents;
mod error;
mod execute;
mod found_container;
mod image;
mod known;
mod listing;
mod new_container;
mod process;
mod transport;

pub use error::EngineError;
pub use found_container::{FoundContainer, GpuContainer};
pub use image::{ImageFacts, PullProgress, with_tag};
pub use listing::{ListedContainer, ListedImage};
pub use new_container::{BindMount, LogBudget, NewContainer};
pub use transport::Address;

use bollard::Docker;
use farrun_protocol::message::EngineFacts;
use known::Settings;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OnceCell;

/// For calls that only look something up.
const LOOK: Duration = Duration::from_secs(10);
/// Newest API version whose answers were tried.
const NEWEST_API: (u32, u32) = (1, 47);

/// A way to an engine. Cheap to clone; connects anew for every call.
#[derive(Debug, Clone)]
pub struct Engine {
    docker: Docker,
    address: Address,
    api: Arc<OnceCell<String>>,
    heard: transport::Heard,
    home: PathBuf,
}

impl Engine {
    /// An engine at `address`; nothing is sent yet. `home` holds the account's registry credentials.
    ///
    /// # Errors
    /// The client could not be built.
    pub fn new(address: Address, home: PathBuf) -> Result<Self, EngineError> {
        let api = Arc::new(OnceCell::new());
        let heard = transport::Heard::default();
        let docker = transport::client(&address, Arc::clone(&api), heard.clone())?;
        Ok(Self {
            docker,
            address,
            api,
            heard,
            home,
        })
    }

    /// Where it is.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Runs one call within `limit`, after the API version was agreed on.
    async fn call<T>(
        &self,
        name: &'static str,
        limit: Duration,
        call: impl Future<Output = Result<T, bollard::errors::Error>>,
    ) -> Result<T, EngineError> {
        self.agree().await?;
        self.bounded(name, limit, call).await
    }

    async fn bounded<T>(
        &self,
        name: &'static str,
        limit: Duration,
        call: impl Future<Output = Result<T, bollard::errors::Error>>,
    ) -> Result<T, EngineError> {
        match tokio::time::timeout(limit, call).await {
            Ok(answer) => answer.map_err(|error| EngineError::from_client(&self.address, name, error)),
            Err(_) => Err(EngineError::Timeout {
                call: name,
                seconds: limit.as_secs(),
            }),
        }
    }

    /// Agrees on an API version once per conversation: the engine's own, or the newest that was tried. Whoever comes
    /// while that is going on waits for it.
    ///
    /// # Errors
    /// The engine does not answer.
    pub async fn agree(&self) -> Result<(), EngineError> {
        let asking = || async {
            let theirs = self.greet().await?.api;
            let (major, minor) = parse_api(&theirs).unwrap_or((1, 41)).min(NEWEST_API);
            Ok(format!("/v{major}.{minor}"))
        };
        self.api.get_or_try_init(asking).await.map(|_| ())
    }

    /// Agrees while nobody waits for it: the first request that needs the engine finds it done. Not through a program
    /// in between, which would be started for every conversation.
    pub fn agree_ahead(&self) {
        if self.address == Address::Sudo {
            return;
        }
        let engine = self.clone();
        // Whoever needs the engine learns what is wrong with it.
        tokio::spawn(async move { engine.agree().await.ok() });
    }

    /// Which engine answers. One says so at the head of every answer; only one that does not is asked for it, because
    /// an engine that is asked for its version starts other programs for theirs.
    async fn greet(&self) -> Result<transport::Greeting, EngineError> {
        self.bounded("ping", LOOK, self.docker.ping()).await?;
        if let Some(greeting) = self.heard.greeting() {
            return Ok(greeting);
        }
        let version = self.bounded("version", LOOK, self.docker.version()).await?;
        Ok(transport::Greeting {
            version: version.version.unwrap_or_default(),
            api: version.api_version.unwrap_or_default(),
        })
    }

    /// What the engine is. Its settings are kept in `file` and asked for again when another process is the engine, and
    /// after a while.
    ///
    /// # Errors
    /// The engine's.
    pub async fn facts(&self, file: &Path) -> Result<EngineFacts, EngineError> {
        self.agree().await?;
        let greeting = self.greet().await?;
        let settings = self.settings(file).await?;
        Ok(EngineFacts {
            version: greeting.version,
            api: greeting.api,
            address: self.address.to_string(),
            live_restore: settings.live_restore,
            gpus: settings.gpus || process::has_gpu_hook(),
            root: settings.root,
        })
    }

    async fn settings(&self, file: &Path) -> Result<Settings, EngineError> {
        let address = self.address.to_string();
        let process = process::engine_process(&self.address);
        let known = process
            .as_ref()
            .and_then(|process| known::recall(file, &address, process, chrono::Utc::now()));
        if let Some(known) = known {
            return Ok(known);
        }
        let info = self.call("info", LOOK, self.docker.info()).await?;
        let runtimes = info.runtimes.unwrap_or_default();
        let devices = info.discovered_devices.unwrap_or_default();
        let cdi = devices.iter().any(|device| {
            device
                .id
                .as_deref()
                .is_some_and(|id| id.starts_with("nvidia.com/gpu"))
        });
        let settings = Settings {
            live_restore: info.live_restore_enabled.unwrap_or_default(),
            gpus: cdi || runtimes.contains_key("nvidia"),
            root: info.docker_root_dir.unwrap_or_default(),
        };
        // Only when no other process took its place meanwhile.
        if let Some(process) =
            process.filter(|before| process::engine_process(&self.address).as_ref() == Some(before))
        {
            known::keep(file, &address, process, &settings);
        }
        Ok(settings)
    }

    /// Whether containers live on while the engine is away.
    ///
    /// # Errors
    /// The engine's.
    pub async fn live_restore(&self) -> Result<bool, EngineError> {
        let info = self.call("info", LOOK, self.docker.info()).await?;
        Ok(info.live_restore_enabled.unwrap_or_default())
    }

    /// As [`Self::live_restore`], of an engine that does not answer: what it said last. `file` is that of [`Self::facts`].
    pub fn last_known_live_restore(&self, file: &Path) -> bool {
        known::last(file, &self.address.to_string()).is_some_and(|settings| settings.live_restore)
    }

    /// When the engine's process was started, as far as that can be told from outside.
    pub fn started_at(&self) -> Option<chrono::DateTime<chrono::Utc>> {
        process::engine_started_at(&self.address)
    }
}

fn parse_api(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_older_side_decides_the_version() {
        assert_eq!(parse_api("1.41").unwrap().min(NEWEST_API), (1, 41));
        assert_eq!(parse_api("1.53").unwrap().min(NEWEST_API), (1, 47));
        assert_eq!(parse_api("new"), None);
    }
}
