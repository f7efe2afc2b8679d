//! What the engine and the line say: runs that ended are settled, runs that can be started are started.

use super::call;
use super::card::Post;
use super::evidence::Evidence;
use super::listing::Listings;
use super::observer::Observed;
use super::open_runs::{OpenRun, OpenRuns};
use crate::notify::Deliveries;
use crate::queue::{self, DockerSettings, Order, Ticket, Tickets};
use crate::record::RunFolder;
use crate::serve::{Peer, Session, advance, settle_if_ended};
use farrun_protocol::{ControllerId, RunId, layout};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

/// Time between two rounds.
const APART: Duration = Duration::from_secs(1);
/// How often the engine is asked while nobody waits for what it says.
const ASKED_APART: Duration = Duration::from_secs(3);
/// How often an engine is asked that is reached by way of `sudo`, which writes each time into the host's own log.
const ASKED_APART_BY_SUDO: Duration = Duration::from_secs(10);
/// For how long the line is tried in every round after something changed: memory of a GPU is let go of late.
const EAGER: Duration = Duration::from_secs(10);
/// How often it is tried otherwise, for what changed out of sight.
const TRIED_APART: Duration = Duration::from_secs(5);
/// How long it stays when nothing is left, so that a series of runs does not start it each time.
const LINGERS: Duration = Duration::from_secs(10);
/// Time between two attempts to settle one run.
const SETTLED_APART: Duration = Duration::from_secs(5);
/// Runs that are settled side by side.
const ABREAST: usize = 4;

/// The rounds of one observer.
pub(super) struct Rounds {
    session: Arc<Session>,
    observed: Observed,
    open: OpenRuns,
    peers: Vec<Peer>,
    tickets: Tickets,
    line: Vec<Order>,
    live: HashSet<RunId>,
    asked: Option<Instant>,
    tried: Option<Instant>,
    eager_until: Option<Instant>,
    advancing: Option<JoinHandle<()>>,
    settling: JoinSet<RunFolder>,
    evidence: Evidence,
    listings: Listings,
    settle_tried: HashMap<RunId, Instant>,
    deliveries: Deliveries,
    /// Until when an engine that does not answer is waited for.
    engine_until: Instant,
    /// Whether there are runs whose engine did not answer.
    unanswered: bool,
}

impl Rounds {
    pub(super) fn new(session: Arc<Session>, observed: Observed, engine_comes_up: Duration) -> Self {
        let open = OpenRuns::new(session.context.state.clone());
        let deliveries = Deliveries::new(session.context.state.clone());
        let evidence = Evidence::new(Arc::clone(&session));
        Self {
            session,
            observed,
            open,
            peers: Vec::new(),
            tickets: Tickets::default(),
            line: Vec::new(),
            live: HashSet::new(),
            asked: None,
            tried: None,
            eager_until: None,
            advancing: None,
            settling: JoinSet::new(),
            evidence,
            listings: Listings::default(),
            settle_tried: HashMap::new(),
            deliveries,
            engine_until: Instant::now() + engine_comes_up,
            unanswered: false,
        }
    }

    /// Goes round until nothing has been left for a while. Looks at its post each time, for whoever writes into a
    /// folder that was removed makes it anew.
    pub(super) async fn run(mut self, post: &Post) {
        let mut busy = Instant::now();
        while post.is_kept() {
            self.round().await;
            let collecting = self.evidence.go_on();
            let listing = self.listings.go_on();
            // A call stays where it is while there is enough to do.
            if collecting || listing || self.is_busy() || call::answer(&self.session.context.state) {
                busy = Instant::now();
            }
            // The engine is asked less often than the folders are looked at.
            if busy.elapsed() >= LINGERS && self.asked.is_some_and(|asked| asked > busy) {
                break;
            }
            tokio::time::sleep(APART).await;
        }
    }

    fn is_busy(&self) -> bool {
        let starting = self.unanswered && Instant::now() < self.engine_until;
        starting
            || !self.live.is_empty()
            || !self.line.is_empty()
            || !self.settling.is_empty()
            || self.deliveries.is_busy()
    }

    async fn round(&mut self) {
        while let Some(settled) = self.settling.try_join_next() {
            // At the moment of its end, not when it is next listed.
            settled.into_iter().for_each(|run| self.ended(run));
        }
        // Costs a look at a folder, and tells of ends that conversations have recorded.
        self.open.look();
        for run in self.open.take_ended() {
            self.ended(run);
        }
        self.deliveries.look();
        let mut changed = self.look_at_line();
        let due = |at: Option<Instant>, apart: Duration| at.is_none_or(|at| at.elapsed() >= apart);
        if due(self.asked, self.asks_apart()) {
            self.asked = Some(Instant::now());
            changed |= self.look_at_runs().await;
        }
        if changed {
            self.eager_until = Some(Instant::now() + EAGER);
        }
        let eager = self.eager_until.is_some_and(|until| Instant::now() < until);
        if !self.line.is_empty() && (eager || due(self.tried, TRIED_APART)) {
            self.advance();
        }
    }

    fn ended(&mut self, run: RunFolder) {
        self.listings.ended(&run);
        self.evidence.ended(run);
    }

    fn asks_apart(&self) -> Duration {
        if self.peers.iter().any(|peer| peer.docker.sudo) {
            ASKED_APART_BY_SUDO
        } else if self.line.is_empty() {
            ASKED_APART
        } else {
            // In every round.
            Duration::ZERO
        }
    }

    /// Beside the rounds, for an image can take long to arrive.
    fn advance(&mut self) {
        if self.advancing.as_ref().is_some_and(|task| !task.is_finished()) {
            return;
        }
        self.tried = Some(Instant::now());
        let session = Arc::clone(&self.session);
        self.advancing = Some(tokio::spawn(async move {
            // Whatever it met, it is tried again.
            let _ = advance(&session).await;
        }));
    }

    /// Answers whether the line has changed; our tickets follow it.
    fn look_at_line(&mut self) -> bool {
        let Ok(line) = queue::line(&self.session.context.state) else {
            return false;
        };
        if line == self.line {
            return false;
        }
        self.line = line;
        if let Ok(locks) = self.session.locks() {
            let ticket = |order: &Order| {
                let spec = self.session.folder(&order.run_id).spec().ok().flatten()?;
                Some(Ticket::new(order, &spec))
            };
            let tickets: Vec<Ticket> = self.line.iter().filter_map(ticket).collect();
            // Without tickets the runs wait all the same, but other accounts do not know.
            let _ = self.tickets.update(&locks, &tickets);
        }
        true
    }

    /// Finds out which runs live and sees to those that do not; answers whether any has begun or ended.
    async fn look_at_runs(&mut self) -> bool {
        let open = self.open.look();
        let mut live = Vec::new();
        self.unanswered = false;
        for docker in settings(&open) {
            let runs: Vec<&OpenRun> = open.iter().filter(|run| run.docker == docker).collect();
            let Some(controller_id) = runs.first().map(|run| run.controller_id.clone()) else {
                continue;
            };
            let Some(peer) = self.peer(&docker, controller_id) else {
                continue;
            };
            // An engine that does not answer ends no run; what a run left behind may prove that it has ended.
            let Some(running) = running(&peer).await else {
                self.unanswered = true;
                let comes_up = Instant::now() < self.engine_until;
                for run in runs.iter().filter(|run| has_left_an_end(&run.folder, comes_up)) {
                    self.settle(run, &peer);
                }
                let before = runs.iter().filter(|run| self.live.contains(run.folder.run_id()));
                live.extend(before.map(|run| (*run).clone()));
                continue;
            };
            for run in runs {
                if running.contains(run.folder.run_id()) {
                    run.folder.still_alive();
                    live.push(run.clone());
                } else if self.may_have_ended(&run.folder) {
                    self.settle(run, &peer);
                }
            }
        }
        let now: HashSet<RunId> = live.iter().map(|run| run.folder.run_id().clone()).collect();
        let changed = now != self.live;
        self.live = now;
        self.observed.set_live(live);
        let is_open = |run_id: &RunId| open.iter().any(|run| run.folder.run_id() == run_id);
        self.settle_tried.retain(|run_id, _| is_open(run_id));
        changed
    }

    /// Whether the run was started or is not wanted any more.
    fn may_have_ended(&self, folder: &RunFolder) -> bool {
        self.live.contains(folder.run_id())
            || folder.stop_requested()
            || !matches!(folder.start_intent(), Ok(None))
    }

    fn settle(&mut self, run: &OpenRun, peer: &Peer) {
        let run_id = run.folder.run_id();
        let tried = self.settle_tried.get(run_id);
        if self.settling.len() >= ABREAST || tried.is_some_and(|at| at.elapsed() < SETTLED_APART) {
            return;
        }
        self.settle_tried.insert(run_id.clone(), Instant::now());
        let (session, peer, folder) = (Arc::clone(&self.session), peer.clone(), run.folder.clone());
        self.settling.spawn(async move {
            // Whoever comes next settles it as well.
            let _ = settle_if_ended(&peer, &session, &folder).await;
            folder
        });
    }

    fn peer(&mut self, docker: &DockerSettings, controller_id: ControllerId) -> Option<Peer> {
        if let Some(peer) = self.peers.iter().find(|peer| peer.docker == *docker) {
            return Some(peer.clone());
        }
        let peer = Peer::new(&self.session.context, controller_id, docker.clone()).ok()?;
        let (engine, kept) = (peer.engine.clone(), self.session.context.engine_facts());
        // What it says about itself is wanted when it is gone.
        tokio::spawn(async move { engine.facts(&kept).await.ok() });
        self.peers.push(peer.clone());
        Some(peer)
    }
}

/// The ways in which the engines of these runs are reached.
fn settings(runs: &[OpenRun]) -> Vec<DockerSettings> {
    let mut settings: Vec<DockerSettings> = Vec::new();
    for run in runs {
        if !settings.contains(&run.docker) {
            settings.push(run.docker.clone());
        }
    }
    settings
}

/// Whether it is worth a look without the engine: there is a record of the end, or PID 1 lives no more. What an engine
/// captured only it knows, so one that still starts is waited for.
fn has_left_an_end(folder: &RunFolder, comes_up: bool) -> bool {
    matches!(folder.exit(), Ok(Some(_)))
        || folder.claim_was_let_go()
        || (!comes_up && folder.seen_alive_at().is_some())
}

/// The runs whose containers live; `None` when the engine does not say.
async fn running(peer: &Peer) -> Option<HashSet<RunId>> {
    let listed = peer.engine.running().await.ok()?;
    let runs = listed
        .iter()
        .filter_map(|container| container.labels.get(layout::LABEL_RUN)?.parse().ok());
    Some(runs.collect())
}
