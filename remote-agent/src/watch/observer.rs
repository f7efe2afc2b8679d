//! Everything that an observer does, until there is nothing left to do.

use super::call;
use super::card::Post;
use super::open_runs::OpenRun;
use super::rounds::Rounds;
use super::sampling::Sampler;
use crate::serve::{Context, Session};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// How often it looks whether its folder is still there.
const LOOK_APART: Duration = Duration::from_secs(1);

/// The runs that live now, as the newest round found them.
#[derive(Debug, Clone, Default)]
pub(super) struct Observed(Arc<Mutex<Vec<OpenRun>>>);

impl Observed {
    fn lock(&self) -> MutexGuard<'_, Vec<OpenRun>> {
        match self.0.lock() {
            Ok(live) => live,
            Err(poisoned) => poisoned.into_inner(),
        }
    }

    pub(super) fn live(&self) -> Vec<OpenRun> {
        self.lock().clone()
    }

    pub(super) fn set_live(&self, live: Vec<OpenRun>) {
        *self.lock() = live;
    }
}

/// Observes until nothing is left, SIGTERM comes, or the state folder is gone.
pub(super) async fn observe(context: Context, post: Post, engine_comes_up: Duration) -> std::io::Result<()> {
    let mut terminated = signal(SignalKind::terminate())?;
    let mut engine_comes_up = engine_comes_up;
    let shift = async |post: Post| {
        shift(&context, &post, std::mem::take(&mut engine_comes_up)).await;
        context.agent.exists()
    };
    tokio::select! {
        () = call::shifts(&context.state, &context.agent_sha256, post, shift) => {}
        _ = terminated.recv() => {}
    }
    Ok(())
}

async fn shift(context: &Context, post: &Post, engine_comes_up: Duration) {
    let session = Arc::new(Session::of_observer(context.clone()));
    let observed = Observed::default();
    let rounds = Rounds::new(Arc::clone(&session), observed.clone(), engine_comes_up);
    let sampler = Sampler::new(session, observed);
    let dismissed = async {
        // Containers that it starts need the agent's file.
        while post.is_kept() && context.agent.exists() {
            tokio::time::sleep(LOOK_APART).await;
        }
    };
    tokio::select! {
        () = rounds.run(post) => {}
        () = sampler.run(post) => {}
        () = dismissed => {}
    }
}
