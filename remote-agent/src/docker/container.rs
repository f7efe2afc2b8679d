//! Containers: making, starting, looking at, ending and removing them.

use super::found_container::{FoundContainer, found};
use super::new_container::{NewContainer, body};
use super::{Engine, EngineError, LOOK};
use bollard::query_parameters::{
    AttachContainerOptionsBuilder, CreateContainerOptionsBuilder, InspectContainerOptions,
    KillContainerOptionsBuilder, LogsOptionsBuilder, RemoveContainerOptionsBuilder, StartContainerOptions,
    StopContainerOptionsBuilder,
};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;

const CREATE: Duration = Duration::from_secs(60);

/// Hooks that set up GPUs take seconds, on a busy machine many.
const START: Duration = Duration::from_secs(120);

const SIGNAL: Duration = Duration::from_secs(20);

const REMOVE: Duration = Duration::from_secs(60);

/// How long bytes for a container's stdin may be on their way.
const PASSES_ON: Duration = Duration::from_millis(300);

impl Engine {
    /// Makes a container and answers with its id.
    ///
    /// # Errors
    /// The engine's.
    pub async fn create(&self, new: &NewContainer) -> Result<String, EngineError> {
        let options = CreateContainerOptionsBuilder::default().name(&new.name).build();
        let call = self.docker.create_container(Some(options), body(new));
        Ok(self.call("create", CREATE, call).await?.id)
    }

    /// Starts a container.
    ///
    /// # Errors
    /// The engine's.
    pub async fn start(&self, id: &str) -> Result<(), EngineError> {
        let call = self.docker.start_container(id, None::<StartContainerOptions>);
        self.call("start", START, call).await
    }

    /// The container with this id or name, or `None`.
    ///
    /// # Errors
    /// The engine's.
    pub async fn container(&self, id: &str) -> Result<Option<FoundContainer>, EngineError> {
        let call = self.docker.inspect_container(id, None::<InspectContainerOptions>);
        match self.call("inspect", LOOK, call).await {
            Ok(answer) => Ok(Some(found(answer))),
            Err(error) if error.is_missing() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Sends SIGKILL.
    ///
    /// # Errors
    /// The engine's, except that the container does not run.
    pub async fn kill(&self, id: &str) -> Result<(), EngineError> {
        let options = KillContainerOptionsBuilder::default().signal("SIGKILL").build();
        let call = self.docker.kill_container(id, Some(options));
        match self.call("kill", SIGNAL, call).await {
            Err(error) if error.is_missing() || error.is_conflict() => Ok(()),
            other => other,
        }
    }

    /// Has the engine send SIGTERM and, after `grace`, SIGKILL; it does so even when we are gone.
    ///
    /// # Errors
    /// The engine's, except that there is no such container.
    pub async fn stop(&self, id: &str, grace: u64) -> Result<(), EngineError> {
        let seconds = i32::try_from(grace).unwrap_or(i32::MAX);
        let options = StopContainerOptionsBuilder::default().t(seconds).build();
        let limit = SIGNAL.saturating_add(Duration::from_secs(grace));
        match self
            .call("stop", limit, self.docker.stop_container(id, Some(options)))
            .await
        {
            Err(error) if error.is_missing() => Ok(()),
            other => other,
        }
    }

    /// Removes a container that does not run, with its anonymous volumes.
    ///
    /// # Errors
    /// The engine's, except that there is no such container.
    pub async fn remove(&self, id: &str) -> Result<(), EngineError> {
        let options = RemoveContainerOptionsBuilder::default()
            .v(true)
            .force(false)
            .build();
        match self
            .call("remove", REMOVE, self.docker.remove_container(id, Some(options)))
            .await
        {
            Err(error) if error.is_missing() => Ok(()),
            other => other,
        }
    }

    /// Writes to a container's stdin and lets go of it.
    ///
    /// # Errors
    /// The engine's.
    pub async fn write_stdin(&self, id: &str, bytes: &[u8]) -> Result<(), EngineError> {
        let options = AttachContainerOptionsBuilder::default()
            .stdin(true)
            .stream(true)
            .build();
        let call = async {
            let mut attached = self.docker.attach_container(id, Some(options)).await?;
            attached.input.write_all(bytes).await?;
            attached.input.flush().await?;
            // Half-closing ends the copy on the engine's side after the last byte. A program in between still has
            // that byte to pass on, so the connection is kept until the other side lets go of it, or a moment.
            attached.input.shutdown().await?;
            let closed = async { while attached.output.next().await.is_some() {} };
            let _ = tokio::time::timeout(PASSES_ON, closed).await;
            Ok(())
        };
        self.call("attach", LOOK, call).await
    }

    /// What the engine kept of a container's output, in the order it arrived; with `follow` also what comes, up to the
    /// container's end.
    pub fn output(
        &self,
        id: &str,
        follow: bool,
    ) -> impl Stream<Item = Result<Bytes, EngineError>> + Send + Unpin + use<> {
        let options = LogsOptionsBuilder::default()
            .stdout(true)
            .stderr(true)
            .tail("all")
            .follow(follow)
            .build();
        let address = self.address.clone();
        Box::pin(self.docker.logs(id, Some(options)).map(move |piece| {
            piece
                .map(bollard::container::LogOutput::into_bytes)
                .map_err(|error| EngineError::from_client(&address, "logs", error))
        }))
    }
}
