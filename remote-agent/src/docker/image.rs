//! Images: looking them up and fetching them.

use super::{Engine, EngineError, LOOK, credentials};
use bollard::models::CreateImageInfo;
use bollard::query_parameters::CreateImageOptionsBuilder;
use futures_util::StreamExt as _;
use std::collections::HashMap;
use std::time::Duration;

/// Longest silence while an image is fetched; unpacking a large layer takes a while.
const PULL_SILENCE: Duration = Duration::from_secs(300);

/// What a container inherits from an image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageFacts {
    /// `sha256:…`.
    pub id: String,
    /// Its entrypoint; empty when it has none.
    pub entrypoint: Vec<String>,
    /// Its command; empty when it has none.
    pub command: Vec<String>,
    /// Its working directory.
    pub working_dir: Option<String>,
    /// Its names with digests, as registries gave them.
    pub digests: Vec<String>,
}

impl ImageFacts {
    /// The digest under the repository that `reference` names, else any.
    pub fn digest_for(&self, reference: &str) -> Option<&String> {
        let repository = reference.split('@').next().unwrap_or(reference);
        let repository = match repository.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => name,
            _ => repository,
        };
        let named = |digest: &&String| digest.split('@').next() == Some(repository);
        self.digests.iter().find(named).or_else(|| self.digests.first())
    }
}

/// How far a fetch is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PullProgress {
    /// Layers that are complete.
    pub layers_done: u64,
    /// Layers known so far.
    pub layers: u64,
    /// Bytes fetched.
    pub bytes_done: u64,
    /// Bytes known so far.
    pub bytes: u64,
}

/// `reference` with the tag `latest` when it has neither tag nor digest; an engine would fetch every tag.
pub fn with_tag(reference: &str) -> String {
    let name = reference.rsplit('/').next().unwrap_or(reference);
    if name.contains([':', '@']) {
        reference.to_owned()
    } else {
        format!("{reference}:latest")
    }
}

impl Engine {
    /// The image, or `None` when the host does not have it.
    ///
    /// # Errors
    /// The engine's.
    pub async fn image(&self, reference: &str) -> Result<Option<ImageFacts>, EngineError> {
        let found = self
            .call("image inspect", LOOK, self.docker.inspect_image(reference))
            .await;
        let image = match found {
            Ok(image) => image,
            Err(error) if error.is_missing() => return Ok(None),
            Err(error) => return Err(error),
        };
        let config = image.config.unwrap_or_default();
        Ok(Some(ImageFacts {
            id: image.id.unwrap_or_default(),
            entrypoint: config.entrypoint.unwrap_or_default(),
            command: config.cmd.unwrap_or_default(),
            working_dir: config.working_dir.filter(|folder| !folder.is_empty()),
            digests: image.repo_digests.unwrap_or_default(),
        }))
    }

    /// Fetches an image with the account's credentials; `report` hears of every change, `say` the engine's words.
    ///
    /// # Errors
    /// The engine's or the registry's refusal, or silence.
    pub async fn pull(
        &self,
        reference: &str,
        mut report: impl FnMut(PullProgress),
        mut say: impl FnMut(&str),
    ) -> Result<(), EngineError> {
        self.agree().await?;
        let credentials = credentials::for_image(&self.home, reference).await;
        let reference = with_tag(reference);
        let options = CreateImageOptionsBuilder::default()
            .from_image(&reference)
            .build();
        let mut events = std::pin::pin!(self.docker.create_image(Some(options), None, credentials));
        let mut layers = Layers::default();
        loop {
            match tokio::time::timeout(PULL_SILENCE, events.next()).await {
                Ok(None) => return Ok(()),
                Ok(Some(Ok(event))) => {
                    layers.note(&event);
                    if let Some(words) = words(&event) {
                        say(&words);
                    }
                    report(layers.progress());
                }
                Ok(Some(Err(error))) => return Err(EngineError::from_client(&self.address, "pull", error)),
                Err(_) => {
                    return Err(EngineError::Timeout {
                        call: "pull",
                        seconds: PULL_SILENCE.as_secs(),
                    });
                }
            }
        }
    }
}

/// What is worth keeping of a message: not how far a layer is.
fn words(event: &CreateImageInfo) -> Option<String> {
    let status = event.status.as_deref()?;
    if matches!(status, "Waiting" | "Downloading" | "Extracting") {
        return None;
    }
    Some(match &event.id {
        Some(id) => format!("{id}: {status}"),
        None => status.to_owned(),
    })
}

#[derive(Debug, Default)]
struct Layers(HashMap<String, Layer>);

#[derive(Debug, Default)]
struct Layer {
    fetched: u64,
    size: u64,
    done: bool,
}

impl Layer {
    /// An engine that takes up a layer after a broken connection counts only what was left of it.
    fn downloading(&mut self, current: u64, total: u64) {
        self.size = self.size.max(total);
        let before = if total > 0 { self.size - total } else { 0 };
        self.fetched = before.saturating_add(current);
    }
}

impl Layers {
    fn note(&mut self, event: &CreateImageInfo) {
        /// No image has more; an engine that names more is not believed.
        const MOST_LAYERS: usize = 2000;
        let (Some(id), Some(status)) = (&event.id, event.status.as_deref()) else {
            return;
        };
        let known = [
            "Pulling fs layer",
            "Waiting",
            "Downloading",
            "Verifying Checksum",
            "Download complete",
            "Extracting",
            "Pull complete",
            "Already exists",
        ];
        if !known.contains(&status) || (self.0.len() >= MOST_LAYERS && !self.0.contains_key(id)) {
            return;
        }
        let layer = self.0.entry(id.clone()).or_default();
        if let ("Downloading", Some(detail)) = (status, &event.progress_detail) {
            let current = detail.current.unwrap_or_default().try_into().unwrap_or_default();
            let total = detail.total.unwrap_or_default().try_into().unwrap_or_default();
            layer.downloading(current, total);
        }
        if matches!(
            status,
            "Verifying Checksum" | "Download complete" | "Extracting" | "Pull complete"
        ) {
            layer.fetched = layer.size;
        }
        layer.done |= matches!(status, "Pull complete" | "Already exists");
    }

    fn progress(&self) -> PullProgress {
        self.0
            .values()
            .fold(PullProgress::default(), |sum, layer| PullProgress {
                layers_done: sum.layers_done + u64::from(layer.done),
                layers: sum.layers + 1,
                bytes_done: sum.bytes_done.saturating_add(layer.fetched),
                bytes: sum.bytes.saturating_add(layer.size),
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_tag_means_latest() {
        assert_eq!(with_tag("a"), "a:latest");
        assert_eq!(with_tag("h:5000/a"), "h:5000/a:latest");
        assert_eq!(with_tag("h:5000/a:1"), "h:5000/a:1");
        assert_eq!(with_tag("a@sha256:0"), "a@sha256:0");
    }

    #[test]
    fn the_digest_of_the_named_repository_is_chosen() {
        let image = ImageFacts {
            digests: vec!["other@sha256:1".into(), "h:5000/a@sha256:2".into()],
            ..ImageFacts::default()
        };
        assert_eq!(image.digest_for("h:5000/a:tag").unwrap(), "h:5000/a@sha256:2");
        assert_eq!(image.digest_for("local").unwrap(), "other@sha256:1");
    }

    #[test]
    fn a_layer_that_is_taken_up_again_keeps_what_it_had() {
        let mut layers = Layers::default();
        for (current, total, done) in [(4, 10, 4), (1, 6, 5), (6, 6, 10)] {
            let event = format!(
                r#"{{"status":"Downloading","progressDetail":{{"current":{current},"total":{total}}},"id":"aa"}}"#
            );
            layers.note(&serde_json::from_str(&event).unwrap());
            let progress = layers.progress();
            assert_eq!((progress.bytes_done, progress.bytes), (done, 10));
        }
    }

    #[test]
    fn steps_are_worth_keeping_and_progress_is_not() {
        let said = |event: &str| words(&serde_json::from_str(event).unwrap());
        assert_eq!(
            said(r#"{"status":"Pull complete","id":"aa"}"#).unwrap(),
            "aa: Pull complete"
        );
        assert_eq!(
            said(r#"{"status":"Status: Downloaded"}"#).unwrap(),
            "Status: Downloaded"
        );
        assert_eq!(said(r#"{"status":"Downloading","id":"aa"}"#), None);
    }

    #[test]
    fn layers_are_counted() {
        let mut layers = Layers::default();
        for event in [
            r#"{"status":"Pulling from library/a","id":"latest"}"#,
            r#"{"status":"Pulling fs layer","id":"aa"}"#,
            r#"{"status":"Already exists","id":"bb"}"#,
            r#"{"status":"Downloading","progressDetail":{"current":5,"total":10},"id":"aa"}"#,
        ] {
            layers.note(&serde_json::from_str(event).unwrap());
        }
        assert_eq!(
            layers.progress(),
            PullProgress {
                layers_done: 1,
                layers: 2,
                bytes_done: 5,
                bytes: 10
            }
        );
    }
}
