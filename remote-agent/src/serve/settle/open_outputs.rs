//! Opening outputs that another user wrote: the account cannot, so a short container of the same image does.

use crate::docker::{BindMount, Engine, EngineError, NewContainer};
use crate::outputs::all_readable;
use crate::record::RunFolder;
use crate::serve::Context;
use crate::serve::call::blocking;
use farrun_protocol::{Failure, layout};
use futures_util::StreamExt as _;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Where the folder lies in the short container.
const TARGET: &str = "/.farrun/outputs";
/// Label of short containers; they are nobody's runs.
const LABEL: &str = "farrun.opens";
const LIMIT: Duration = Duration::from_secs(120);

/// Makes sure that the account can read the outputs; answers with why it cannot, when that is so.
pub(crate) async fn open_to_account(
    engine: &Engine,
    context: &Context,
    folder: &RunFolder,
    image: &str,
) -> Option<String> {
    match is_readable(folder).await {
        Ok(true) => return None,
        Ok(false) => {}
        Err(failure) => return Some(failure.to_string()),
    }
    let opened = run(engine, context, folder, image, &["open-outputs", TARGET]).await;
    match (opened, is_readable(folder).await) {
        (_, Ok(true)) => None,
        (Err(problem), _) => Some(problem),
        (Ok(()), _) => Some("files stay unreadable".to_owned()),
    }
}

/// Whether there are outputs that the account cannot read.
pub(crate) async fn needs_opening(folder: &RunFolder) -> bool {
    !is_readable(folder).await.unwrap_or(false)
}

/// Gives the account the right to remove everything in the outputs folder.
pub(crate) async fn make_removable(
    engine: &Engine,
    context: &Context,
    folder: &RunFolder,
    image: &str,
) -> Result<(), String> {
    run(
        engine,
        context,
        folder,
        image,
        &["open-outputs", "--writable", TARGET],
    )
    .await
}

async fn is_readable(folder: &RunFolder) -> Result<bool, Failure> {
    let outputs = folder.outputs();
    blocking(move || Ok(all_readable(&outputs).unwrap_or(false))).await
}

async fn run(
    engine: &Engine,
    context: &Context,
    folder: &RunFolder,
    image: &str,
    words: &[&str],
) -> Result<(), String> {
    let mount = |source: &std::path::Path, target: &str, read_only| BindMount {
        source: source.to_string_lossy().into_owned(),
        target: target.to_owned(),
        read_only,
    };
    let argv = std::iter::once(layout::CONTAINER_AGENT).chain(words.iter().copied());
    let new = NewContainer {
        name: format!("farrun-open-{}", uuid::Uuid::new_v4().simple()),
        image: image.to_owned(),
        labels: BTreeMap::from([(LABEL.to_owned(), folder.run_id().to_string())]),
        user: Some("0".to_owned()),
        argv: argv.map(str::to_owned).collect(),
        mounts: vec![
            mount(&context.agent, layout::CONTAINER_AGENT, true),
            mount(&folder.outputs(), TARGET, false),
        ],
        network: Some("none".to_owned()),
        ..NewContainer::default()
    };
    let id = engine.create(&new).await.map_err(|error| error.to_string())?;
    let outcome = finish(engine, &id).await;
    if let Err(EngineError::Refused { .. }) = engine.remove(&id).await {
        // It outlived its limit, so it is ended before it is removed.
        let _ = engine.kill(&id).await;
        let _ = engine.remove(&id).await;
    }
    outcome
}

async fn finish(engine: &Engine, id: &str) -> Result<(), String> {
    engine.start(id).await.map_err(|error| error.to_string())?;
    let deadline = Instant::now() + LIMIT;
    let mut apart = Duration::from_millis(20);
    loop {
        let found = engine.container(id).await.map_err(|error| error.to_string())?;
        match found.and_then(|found| found.facts.exit_code) {
            Some(0) => return Ok(()),
            Some(code) => {
                let said = engine
                    .output(id, false)
                    .next()
                    .await
                    .and_then(Result::ok)
                    .unwrap_or_default();
                let said: String = String::from_utf8_lossy(&said).chars().take(500).collect();
                return Err(format!("exit code {code}: {said}"));
            }
            None if Instant::now() > deadline => return Err("it took too long".to_owned()),
            None => tokio::time::sleep(apart).await,
        }
        apart = (apart * 2).min(Duration::from_millis(500));
    }
}
