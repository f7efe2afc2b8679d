//! A short container of an image that is there: whether the engine can start our program in one, and give it a GPU.

use crate::docker::{BindMount, Engine, EngineError, NewContainer};
use farrun_protocol::doctor::{Looked, Trial, Unseen, Why};
use farrun_protocol::layout;
use futures_util::StreamExt as _;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

/// Label of these containers; they are nobody's runs.
const LABEL: &str = "farrun.tries";
/// How long one may take.
const LIMIT: Duration = Duration::from_secs(25);
/// Most that is read of what it said.
const MOST: usize = 64 * 1024;

/// What is wanted of a trial.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wanted {
    /// Image that is there.
    pub(crate) image: String,
    /// GPUs, by UUID.
    pub(crate) gpus: Vec<String>,
}

/// Makes a container, has the agent look around in it, and removes it.
pub(crate) async fn run(engine: &Engine, agent: &Path, wanted: &Wanted) -> Looked<Trial> {
    let begun = Instant::now();
    let new = NewContainer {
        name: format!("farrun-try-{}", uuid::Uuid::new_v4().simple()),
        image: wanted.image.clone(),
        labels: BTreeMap::from([(LABEL.to_owned(), std::process::id().to_string())]),
        // As the toolkit's images say it; with another one a GPU would come without its programs.
        env: vec!["NVIDIA_DRIVER_CAPABILITIES=compute,utility".to_owned()],
        user: Some("0".to_owned()),
        argv: vec![layout::CONTAINER_AGENT.to_owned(), super::INSIDE_ROLE.to_owned()],
        mounts: vec![BindMount {
            source: agent.to_string_lossy().into_owned(),
            target: layout::CONTAINER_AGENT.to_owned(),
            read_only: true,
        }],
        gpus: wanted.gpus.clone(),
        network: Some("none".to_owned()),
        ..NewContainer::default()
    };
    let mut trial = Trial {
        image: wanted.image.clone(),
        ..Trial::default()
    };
    match engine.create(&new).await {
        Ok(id) => {
            let finished = tokio::time::timeout(LIMIT, finish(engine, &id)).await;
            remove(engine, &id).await;
            match finished {
                Ok(Ok(said)) => match serde_json::from_str(said.trim()) {
                    Ok(seen) => trial.seen = Some(seen),
                    Err(_) => trial.problem = Some(cut(&said)),
                },
                Ok(Err(error)) => trial.problem = Some(cut(&error.to_string())),
                Err(_) => return Err(Unseen::because(Why::Late, format!("{} s", LIMIT.as_secs()))),
            }
        }
        Err(error @ EngineError::Refused { .. }) => trial.problem = Some(cut(&error.to_string())),
        Err(error) => return Err(Unseen::because(Why::Failed, error)),
    }
    trial.took_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(trial)
}

fn cut(text: &str) -> String {
    text.chars().take(1000).collect()
}

async fn finish(engine: &Engine, id: &str) -> Result<String, EngineError> {
    engine.start(id).await?;
    let mut said = Vec::new();
    let mut output = std::pin::pin!(engine.output(id, true));
    while let Some(piece) = output.next().await {
        said.extend_from_slice(&piece?);
        if said.len() > MOST {
            break;
        }
    }
    Ok(String::from_utf8_lossy(&said).into_owned())
}

async fn remove(engine: &Engine, id: &str) {
    if engine.remove(id).await.is_err() {
        let _ = engine.kill(id).await;
        let _ = engine.remove(id).await;
    }
}

/// Removes what trials left that were cut off. One that is going on runs, so only those that do not are taken.
pub(crate) async fn tidy(engine: &Engine) {
    let left = engine.labelled(LABEL).await.unwrap_or_default();
    for container in left.iter().filter(|container| container.is_exited()) {
        let _ = engine.remove(&container.id).await;
    }
}
