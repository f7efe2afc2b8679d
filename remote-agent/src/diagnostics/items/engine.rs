//! What the container engine knows. One that does not answer is asked once and not for each item.

use crate::diagnostics::environment;
use crate::diagnostics::item::{Found, Looked};
use crate::diagnostics::scene::Scene;
use crate::docker::EngineError;
use chrono::{TimeDelta, Utc};
use serde_json::{Value, json};
use std::sync::Mutex;
use std::time::Duration;

/// Most events of a container.
const EVENTS: usize = 2000;

/// The engine, and why it is not asked again.
#[derive(Debug, Default)]
pub(in crate::diagnostics) struct Asked {
    silent: Mutex<Option<String>>,
}

impl Asked {
    /// Asks, unless the engine did not answer before. What it says is redacted by field and by variable.
    async fn ask<T>(
        &self,
        limit: Duration,
        question: impl Future<Output = Result<T, EngineError>>,
    ) -> Result<T, String> {
        if let Some(why) = self.silent() {
            return Err(why);
        }
        let answer = match tokio::time::timeout(limit, question).await {
            Ok(answer) => answer.map_err(|error| match error {
                EngineError::Refused { .. } => (true, error.to_string()),
                error => (false, format!("the engine did not answer: {error}")),
            }),
            Err(_) => Err((
                false,
                format!("the engine did not answer within {:.1} s", limit.as_secs_f64()),
            )),
        };
        answer.map_err(|(is_answer, why)| {
            if !is_answer {
                *self
                    .silent
                    .lock()
                    .unwrap_or_else(std::sync::PoisonError::into_inner) = Some(why.clone());
            }
            why
        })
    }

    fn silent(&self) -> Option<String> {
        self.silent
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .clone()
    }

    /// The container, and the id of its PID 1 while it lives.
    pub(in crate::diagnostics) async fn container(
        &self,
        scene: &Scene,
        limit: Duration,
    ) -> (Looked, Option<Value>) {
        let Some(id) = &scene.container else {
            return (Err("there is no container".to_owned()), None);
        };
        match self.ask(limit, scene.engine.container_document(id)).await {
            Ok(Some(mut document)) => {
                redact(scene, &mut document);
                (Found::json(&document), Some(document))
            }
            Ok(None) => (
                Err("the engine has no such container: it was never made, or is removed".to_owned()),
                None,
            ),
            Err(why) => (Err(why), None),
        }
    }

    pub(in crate::diagnostics) async fn image(&self, scene: &Scene, limit: Duration) -> Looked {
        let reference = scene.image.as_ref().ok_or("there is no image")?;
        let document = self.ask(limit, scene.engine.image_document(reference)).await?;
        let mut document = document.ok_or_else(|| format!("the host has no image {reference}"))?;
        redact(scene, &mut document);
        Found::json(&document)
    }

    pub(in crate::diagnostics) async fn events(&self, scene: &Scene, limit: Duration) -> Looked {
        let container = scene.container.as_ref().ok_or("there is no container")?;
        let from = scene.from - TimeDelta::minutes(10);
        // Behind now the engine would wait for what comes.
        let until = (scene.until + TimeDelta::minutes(1)).min(Utc::now());
        let events = scene.engine.events(container, from, until, EVENTS);
        let mut lines = Vec::new();
        for mut event in self.ask(limit, events).await? {
            scene.redactor.json(&mut event);
            lines.extend(serde_json::to_vec(&event).unwrap_or_default());
            lines.push(b'\n');
        }
        Ok(Found::Whole(lines))
    }

    /// What the engine is; also where its files lie.
    pub(in crate::diagnostics) async fn engine(
        &self,
        scene: &Scene,
        limit: Duration,
    ) -> (Looked, Option<String>) {
        let documents = async {
            let info = scene.engine.info_document().await?;
            Ok::<Value, EngineError>(json!({"info": info, "version": scene.engine.version_document().await?}))
        };
        match self.ask(limit, documents).await {
            Ok(mut document) => {
                let root = document.pointer("/info/DockerRootDir").and_then(Value::as_str);
                let root = root.map(str::to_owned);
                scene.redactor.json(&mut document);
                (Found::json(&document), root)
            }
            Err(why) => (Err(why), None),
        }
    }
}

/// Values of variables go by name, everything else by field and shape.
fn redact(scene: &Scene, document: &mut Value) {
    for place in ["/Config/Env", "/ContainerConfig/Env"] {
        if let Some(Value::Array(variables)) = document.pointer_mut(place) {
            for variable in variables {
                if let Value::String(text) = variable {
                    *text = environment::variable(&scene.redactor, text);
                }
            }
        }
    }
    scene.redactor.json(document);
}
