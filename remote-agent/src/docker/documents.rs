//! What the engine says about a container, an image and itself, whole: for the evidence of a run that failed.

use super::{Engine, EngineError, LOOK};
use bollard::query_parameters::{EventsOptionsBuilder, InspectContainerOptions};
use chrono::{DateTime, Utc};
use futures_util::StreamExt as _;
use serde_json::Value;
use std::collections::HashMap;

impl Engine {
    /// `GET /containers/ID/json`, or `None` when there is no such container.
    ///
    /// # Errors
    /// The engine's.
    pub async fn container_document(&self, id: &str) -> Result<Option<Value>, EngineError> {
        let call = self.docker.inspect_container(id, None::<InspectContainerOptions>);
        document(self.call("inspect", LOOK, call).await)
    }

    /// `GET /images/NAME/json`, or `None` when there is no such image.
    ///
    /// # Errors
    /// The engine's.
    pub async fn image_document(&self, reference: &str) -> Result<Option<Value>, EngineError> {
        let call = self.docker.inspect_image(reference);
        document(self.call("image inspect", LOOK, call).await)
    }

    /// `GET /info`.
    ///
    /// # Errors
    /// The engine's.
    pub async fn info_document(&self) -> Result<Value, EngineError> {
        let info = self.call("info", LOOK, self.docker.info()).await?;
        Ok(serde_json::to_value(info).unwrap_or_default())
    }

    /// `GET /version`.
    ///
    /// # Errors
    /// The engine's.
    pub async fn version_document(&self) -> Result<Value, EngineError> {
        let version = self.call("version", LOOK, self.docker.version()).await?;
        Ok(serde_json::to_value(version).unwrap_or_default())
    }

    /// Events about a container, oldest first. `until` lies not in the future, where the engine would wait for it.
    ///
    /// # Errors
    /// The engine's.
    pub async fn events(
        &self,
        container: &str,
        from: DateTime<Utc>,
        until: DateTime<Utc>,
        most: usize,
    ) -> Result<Vec<Value>, EngineError> {
        let filters = HashMap::from([("container", vec![container])]);
        let options = EventsOptionsBuilder::default()
            .since(&from.timestamp().to_string())
            // To the nanosecond: what happened within this second is what matters most.
            .until(&until.format("%s.%f").to_string())
            .filters(&filters)
            .build();
        let call = async {
            let mut events = Vec::new();
            let stream = self.docker.events(Some(options));
            let mut stream = std::pin::pin!(stream.take(most));
            while let Some(event) = stream.next().await {
                events.push(serde_json::to_value(event?).unwrap_or_default());
            }
            Ok(events)
        };
        self.call("events", LOOK, call).await
    }
}

fn document<T: serde::Serialize>(answer: Result<T, EngineError>) -> Result<Option<Value>, EngineError> {
    match answer {
        Ok(answer) => Ok(Some(serde_json::to_value(answer).unwrap_or_default())),
        Err(error) if error.is_missing() => Ok(None),
        Err(error) => Err(error),
    }
}
