//! Which containers run, and which images there are.

use super::found_container::gpu_container;
use super::{Engine, EngineError, GpuContainer, LOOK};
use bollard::models::ContainerSummary;
use bollard::query_parameters::{
    ListContainersOptionsBuilder, ListImagesOptionsBuilder, RemoveImageOptionsBuilder,
};
use farrun_protocol::layout;
use std::collections::{HashMap, HashSet};
use std::time::Duration;

/// For the removal of an image.
const REMOVAL: Duration = Duration::from_secs(120);

/// A container as a listing shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedContainer {
    /// Its 64 hex digits.
    pub id: String,
    /// Its name.
    pub name: Option<String>,
    /// Its labels.
    pub labels: HashMap<String, String>,
    /// `created`, `running`, `exited`, …; empty when the engine does not say.
    pub status: String,
    /// The image it was made from, as it was named then.
    pub image: String,
}

impl ListedContainer {
    /// Whether it has run and runs no more.
    pub fn is_exited(&self) -> bool {
        self.status == "exited"
    }
}

/// An image as a listing shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedImage {
    /// `sha256:…`.
    pub id: String,
    /// Its first name, else its id.
    pub name: String,
    /// Bytes on disk, those shared with others included.
    pub size: u64,
}

impl Engine {
    /// Every image with this label.
    ///
    /// # Errors
    /// The engine's.
    pub async fn labelled_images(&self, label: &str) -> Result<Vec<ListedImage>, EngineError> {
        let filters = HashMap::from([("label", vec![label])]);
        let options = ListImagesOptionsBuilder::default().filters(&filters).build();
        let listing = self.docker.list_images(Some(options));
        let found = self.call("images", LOOK, listing).await?;
        let listed = found.into_iter().map(|image| ListedImage {
            name: image
                .repo_tags
                .into_iter()
                .next()
                .unwrap_or_else(|| image.id.clone()),
            id: image.id,
            size: u64::try_from(image.size).unwrap_or_default(),
        });
        Ok(listed.collect())
    }

    /// Ids of the images that containers were made from, whether they run or not.
    ///
    /// # Errors
    /// The engine's.
    pub async fn used_images(&self) -> Result<HashSet<String>, EngineError> {
        let options = ListContainersOptionsBuilder::default().all(true).build();
        let listing = self.docker.list_containers(Some(options));
        let found = self.call("list", LOOK, listing).await?;
        Ok(found
            .into_iter()
            .filter_map(|container| container.image_id)
            .collect())
    }

    /// Takes a name from an image, and the image with its last one. Never by force.
    ///
    /// # Errors
    /// The engine's; also when a container uses it.
    pub async fn remove_image(&self, name: &str) -> Result<(), EngineError> {
        let options = RemoveImageOptionsBuilder::default().force(false).build();
        let removal = self.docker.remove_image(name, Some(options), None);
        match self.call("image remove", REMOVAL, removal).await {
            Err(error) if error.is_missing() => Ok(()),
            other => other.map(|_| ()),
        }
    }

    /// Every container that runs, whoever started it.
    ///
    /// # Errors
    /// The engine's.
    pub async fn running(&self) -> Result<Vec<ListedContainer>, EngineError> {
        let options = ListContainersOptionsBuilder::default().all(false).build();
        let listing = self.docker.list_containers(Some(options));
        let found = self.call("list", LOOK, listing).await?;
        Ok(found.into_iter().filter_map(listed).collect())
    }

    /// Every container that carries the label, also ended ones.
    ///
    /// # Errors
    /// The engine's.
    pub async fn labelled(&self, label: &str) -> Result<Vec<ListedContainer>, EngineError> {
        let found = self.with_label(label).await?;
        Ok(found.into_iter().filter_map(listed).collect())
    }

    /// Every container that was made to have GPUs.
    ///
    /// # Errors
    /// The engine's.
    pub async fn gpu_containers(&self) -> Result<Vec<GpuContainer>, EngineError> {
        let found = self.with_label(layout::LABEL_GPUS).await?;
        Ok(found.into_iter().filter_map(gpu_container).collect())
    }

    async fn with_label(&self, label: &str) -> Result<Vec<ContainerSummary>, EngineError> {
        let filters = HashMap::from([("label".to_owned(), vec![label.to_owned()])]);
        let options = ListContainersOptionsBuilder::default()
            .all(true)
            .filters(&filters)
            .build();
        self.call("list", LOOK, self.docker.list_containers(Some(options)))
            .await
    }
}

fn listed(container: ContainerSummary) -> Option<ListedContainer> {
    let name = container.names.unwrap_or_default().into_iter().next();
    Some(ListedContainer {
        id: container.id?,
        name: name.map(|name| name.trim_start_matches('/').to_owned()),
        labels: container.labels.unwrap_or_default(),
        status: container.state.map(|state| state.to_string()).unwrap_or_default(),
        image: container.image.unwrap_or_default(),
    })
}
