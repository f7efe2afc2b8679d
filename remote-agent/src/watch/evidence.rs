//! Runs that did not succeed, each on its way to a bundle. Beside the rounds: nothing waits for it but the end.

use crate::diagnostics::{forget_secrets, is_explained, unexplained};
use crate::record::RunFolder;
use crate::serve::{Peer, Session, diagnose_run};
use farrun_protocol::diagnostics::Trigger;
use farrun_protocol::verdict::RunResult;
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::task::JoinSet;

/// Bundles that are collected side by side.
const ABREAST: usize = 2;

/// What is to be collected, newest end first.
pub(super) struct Evidence {
    session: Arc<Session>,
    wanted: VecDeque<RunFolder>,
    collecting: JoinSet<()>,
}

impl Evidence {
    /// Begins with what nobody collected before.
    pub(super) fn new(session: Arc<Session>) -> Self {
        let wanted = unexplained(&session.context.state).into();
        Self {
            session,
            wanted,
            collecting: JoinSet::new(),
        }
    }

    /// A run that has ended.
    pub(super) fn ended(&mut self, run: RunFolder) {
        let Ok(Some(settled)) = run.settled() else { return };
        if settled.verdict.result == RunResult::Succeeded || is_explained(&self.session.context.state, &run) {
            forget_secrets(&run);
        } else if !self.wanted.iter().any(|known| known.run_id() == run.run_id()) {
            self.wanted.push_front(run);
        }
    }

    /// Goes on with it; answers whether there is anything left.
    pub(super) fn go_on(&mut self) -> bool {
        while self.collecting.try_join_next().is_some() {}
        while self.collecting.len() < ABREAST
            && let Some(run) = self.wanted.pop_front()
        {
            let session = Arc::clone(&self.session);
            self.collecting.spawn(async move {
                let Ok(Some(spec)) = run.spec() else { return };
                let peer = Peer::new(&session.context, spec.controller_id, run.docker_settings());
                if let Ok(peer) = peer {
                    diagnose_run(&session, &peer, &run, Trigger::Failure, false, |_| {}).await;
                }
            });
        }
        !self.collecting.is_empty()
    }
}
