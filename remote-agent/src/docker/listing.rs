//! Which containers run.

use super::{Engine, EngineError, LOOK};
use bollard::query_parameters::ListContainersOptionsBuilder;
use std::collections::HashMap;

/// A container as a listing shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedContainer {
    /// Its 64 hex digits.
    pub id: String,
    /// Its name.
    pub name: Option<String>,
    /// Its labels.
    pub labels: HashMap<String, String>,
}

impl Engine {
    /// Every container that runs, whoever started it.
    ///
    /// # Errors
    /// The engine's.
    pub async fn running(&self) -> Result<Vec<ListedContainer>, EngineError> {
        let options = ListContainersOptionsBuilder::default().all(false).build();
        let listing = self.docker.list_containers(Some(options));
        let found = self.call("list", LOOK, listing).await?;
        let listed = found.into_iter().filter_map(|container| {
            let name = container.names.unwrap_or_default().into_iter().next();
            Some(ListedContainer {
                id: container.id?,
                name: name.map(|name| name.trim_start_matches('/').to_owned()),
                labels: container.labels.unwrap_or_default(),
            })
        });
        Ok(listed.collect())
    }
}
