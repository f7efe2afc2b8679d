//! What is known about a run and its host before the first item.

use crate::docker::Engine;
use crate::record::{RunFolder, read_bounded};
use crate::serve::Session;
use chrono::{DateTime, TimeDelta, Utc};
use farrun_protocol::layout;
use farrun_protocol::record::Settled;
use farrun_protocol::redact::{Redactor, is_secret_name};
use farrun_protocol::spec::RunSpec;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Largest file of secrets, in bytes.
const SECRETS: u64 = 1024 * 1024;
/// Variables of an order shorter than this are too common to be looked for.
const VARIABLE: usize = 8;

/// Read once; collectors share it.
pub(super) struct Scene {
    pub(super) session: Arc<Session>,
    pub(super) engine: Engine,
    pub(super) run: Option<RunFolder>,
    pub(super) spec: Option<RunSpec>,
    pub(super) settled: Option<Settled>,
    pub(super) redactor: Arc<Redactor>,
    /// Whether values that the job may have printed are not known any more, so that nothing can be freed of them.
    pub(super) secrets_are_gone: bool,
    /// What the engine is asked about.
    pub(super) container: Option<String>,
    pub(super) image: Option<String>,
    /// When the run began and ended; the last hour for a host.
    pub(super) from: DateTime<Utc>,
    pub(super) until: DateTime<Utc>,
}

impl Scene {
    pub(super) fn new(session: Arc<Session>, engine: Engine, run: Option<RunFolder>) -> Self {
        let spec = run.as_ref().and_then(|run| run.spec().ok()?);
        let settled = run.as_ref().and_then(|run| run.settled().ok()?);
        let intent = run.as_ref().and_then(|run| run.start_intent().ok()?);
        let ended = settled.as_ref().and_then(|settled| settled.container.clone());
        let container = ended.as_ref().map(|container| container.id.clone());
        let container = container
            .or_else(|| intent.as_ref().map(|intent| intent.container_id.clone()))
            .or_else(|| run.as_ref().map(|run| layout::container_name(run.run_id())));
        let image = ended.and_then(|container| container.image_id);
        let now = Utc::now();
        let from = settled.as_ref().and_then(|settled| settled.started_at);
        let from = from
            .or_else(|| intent.map(|intent| intent.at))
            .or_else(|| Some(settled.as_ref()?.ended_at? - TimeDelta::minutes(30)))
            .unwrap_or(now - TimeDelta::hours(1));
        let until = settled
            .as_ref()
            .and_then(|settled| settled.ended_at)
            .unwrap_or(now);
        let secrets = secrets(run.as_ref(), spec.as_ref());
        let mut names = spec.iter().flat_map(|spec| &spec.secret_names);
        Self {
            secrets_are_gone: names.any(|name| !secrets.contains_key(name)),
            redactor: Arc::new(Redactor::with_values(secrets)),
            image: image.or_else(|| Some(spec.as_ref()?.image.clone())),
            session,
            engine,
            run,
            spec,
            settled,
            container,
            from,
            until,
        }
    }
}

/// The run's secrets, and variables of its order whose names say that they are some.
fn secrets(run: Option<&RunFolder>, spec: Option<&RunSpec>) -> BTreeMap<String, String> {
    let mut secrets: BTreeMap<String, String> = spec
        .map(|spec| spec.env.clone())
        .unwrap_or_default()
        .into_iter()
        .filter(|(name, value)| is_secret_name(name) && value.len() >= VARIABLE)
        .collect();
    let stored = run.and_then(|run| read_bounded(&run.secrets(), SECRETS).ok()?);
    let stored: Option<BTreeMap<String, String>> =
        stored.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    secrets.extend(stored.unwrap_or_default());
    secrets
}
