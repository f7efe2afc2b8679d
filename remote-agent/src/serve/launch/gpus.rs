//! The step of a launch that gives a run its GPUs. From choosing until PID 1 of the new container holds their locks,
//! one mutex keeps every account of the host from choosing; whatever dies on the way leaves nothing held.

use super::compose::{self, Given};
use super::{Stop, start};
use crate::docker::{Engine, FoundContainer, ImageFacts};
use crate::gpu;
use crate::leases::{
    self, Allocator, Held, Holder, LockFolder, PATIENCE, Refused, Reserved, Wish, account, choose,
};
use crate::queue::{Ahead, Order, behind_all, order_of, write_order};
use crate::record::RunFolder;
use crate::series::Moment;
use crate::serve::call::{Call, blocking, cancelled};
use crate::serve::gpus::for_choice;
use crate::serve::session::{Peer, Session};
use chrono::{TimeDelta, Utc};
use farrun_protocol::gpu::{GpuReport, HeldLease};
use farrun_protocol::lease::{FORMAT, Lease, LeasedGpu, Wait};
use farrun_protocol::record::ExecError;
use farrun_protocol::spec::{Capture, Gpus, RunSpec};
use farrun_protocol::verdict::Reason;
use farrun_protocol::{ErrorCode, Failure, Progress, layout};
use std::time::{Duration, Instant};

/// How long figures may take that a GPU is chosen by; a machine with many GPUs needs some seconds.
const FIGURES: Duration = Duration::from_secs(12);
/// After a wait for the mutex they are read again when they are older than this.
const AGED: Duration = Duration::from_secs(10);
/// How long PID 1 may take to its locks.
const IS_HELD: Duration = Duration::from_secs(10);
const LOOK_APART: Duration = Duration::from_millis(20);
/// How long a look into a container may take.
const SIGHT: Duration = Duration::from_secs(10);

/// A run that is about to be started.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run<'a> {
    pub(super) session: &'a Session,
    pub(super) peer: &'a Peer,
    pub(super) spec: &'a RunSpec,
    pub(super) folder: &'a RunFolder,
    pub(super) image: &'a ImageFacts,
}

/// What is known of a host's GPUs at one moment.
#[derive(Debug)]
pub(crate) struct Scene {
    pub(crate) locks: LockFolder,
    pub(crate) report: GpuReport,
    read_at: Instant,
}

impl Scene {
    /// # Errors
    /// The locks cannot be used, or nothing is known of the GPUs.
    pub(crate) async fn look(session: &Session, engine: &Engine) -> Result<Self, Failure> {
        Self::look_within(session, engine, FIGURES).await
    }

    /// The same, with so much patience for the figures.
    pub(crate) async fn look_within(
        session: &Session,
        engine: &Engine,
        patience: Duration,
    ) -> Result<Self, Failure> {
        let locks = session.locks()?;
        let report = figures(session, engine, patience).await?;
        Ok(Self {
            locks,
            report,
            read_at: Instant::now(),
        })
    }

    async fn refresh(&mut self, session: &Session, engine: &Engine) -> Result<(), Failure> {
        if self.read_at.elapsed() > AGED {
            self.report = figures(session, engine, FIGURES).await?;
            self.read_at = Instant::now();
        }
        Ok(())
    }

    /// Who holds what now.
    pub(crate) async fn held(&self, session: &Session, engine: &Engine) -> Result<Vec<HeldLease>, Failure> {
        let containers = engine.gpu_containers().await?;
        let (report, locks) = (self.report.clone(), self.locks.clone());
        let state = session.context.state.clone();
        blocking(move || Ok(leases::held(&report, &locks, &containers, &state)?)).await
    }

    /// What those keep who stand before `order`, or before somebody who comes now.
    pub(crate) fn reserved(
        &self,
        session: &Session,
        order: Option<&Order>,
    ) -> Result<Vec<Reserved>, Failure> {
        let ahead = Ahead::of(&session.context.state, Some(&self.locks), order)?;
        Ok(ahead.reserved(&self.report))
    }
}

async fn figures(session: &Session, engine: &Engine, patience: Duration) -> Result<GpuReport, Failure> {
    let report = for_choice(session, engine, patience).await;
    report.map_err(|trouble| Refused::NoGpu(trouble).into())
}

/// Checks before an order is stored that it can be served: now, or after a wait when it is willing to wait.
pub(super) async fn require(session: &Session, peer: &Peer, spec: &RunSpec) -> Result<(), Failure> {
    if spec.gpus == Gpus::None {
        return Ok(());
    }
    let scene = Scene::look(session, &peer.engine).await?;
    let held = scene.held(session, &peer.engine).await?;
    // What those in line keep is looked at when they have had their chance.
    match choose(&scene.report, &held, &[], &Wish::of(spec)) {
        Ok(_) => Ok(()),
        Err(Refused::NotFree(_)) if !spec.placement.wait.is_no() => Ok(()),
        Err(refused) => Err(refused.into()),
    }
}

/// Gives the run its GPUs and starts it, puts it in line, or refuses it.
pub(super) async fn start(run: &Run<'_>, found: Option<FoundContainer>, call: &Call) -> Result<(), Stop> {
    let mut scene = Scene::look(run.session, &run.peer.engine)
        .await
        .map_err(|failure| refused(run, failure))?;
    let own = holder(run);
    let mutex = tokio::select! {
        mutex = Allocator::take(&scene.locks, &own, PATIENCE) => mutex.map_err(|error| refused(run, error.into()))?,
        () = call.cancel.cancelled() => return Err(Stop::Failed(cancelled())),
        () = stopped(run.folder) => return Err(Stop::EndWanted),
    };
    scene.refresh(run.session, &run.peer.engine).await?;
    let held = scene.held(run.session, &run.peer.engine).await?;
    let order = order_of(run.folder)?;
    let reserved = scene.reserved(run.session, order.as_ref())?;
    let wish = Wish::of(run.spec);
    if let Some(found) = found {
        let made_for = Wish {
            gpus: Gpus::Devices(labelled(&found)),
            ..wish.clone()
        };
        let same = run
            .folder
            .lease()?
            .filter(|lease| uuids(&lease.gpus) == labelled(&found));
        if let (Some(lease), Ok(_)) = (same, choose(&scene.report, &held, &reserved, &made_for)) {
            call.progress(&Progress::Starting);
            return go(run, &scene, &lease, &found.facts.id, mutex).await;
        }
        // Its GPUs went to others meanwhile. It was never started, so another can take its place.
        run.folder.withdraw_start_intent()?;
        run.peer.engine.remove(&found.facts.id).await?;
    }
    let given = match choose(&scene.report, &held, &reserved, &wish) {
        Ok(given) => given,
        Err(Refused::NotFree(gpus)) if !run.spec.placement.wait.is_no() => {
            write_order(run.folder, &new_order(run)?)?;
            run.folder.write_waits_for(&gpus)?;
            return Ok(());
        }
        Err(reasons) => return Err(refused(run, reasons.into())),
    };
    let lease = Lease {
        format: FORMAT,
        gpus: given,
        shared: run.spec.placement.share,
        since: Utc::now(),
    };
    run.folder.write_lease(&lease)?;
    note(run, &scene.locks, &lease, None).map_err(|failure| refused(run, failure))?;
    call.progress(&Progress::Starting);
    let given = Given {
        lease: &lease,
        locks: &scene.locks,
    };
    let new = compose::container(
        &run.session.context,
        run.spec,
        run.folder,
        run.image,
        Some(&given),
    )?;
    let id = start::create(&run.peer.engine, run.spec, run.folder, &new).await?;
    go(run, &scene, &lease, &id, mutex).await
}

/// Starts the container, and keeps the mutex until its GPUs are held.
async fn go(run: &Run<'_>, scene: &Scene, lease: &Lease, id: &str, mutex: Allocator) -> Result<(), Stop> {
    note(run, &scene.locks, lease, None)?;
    start::start(&run.peer.engine, run.spec, run.folder, id).await?;
    // From here on the run does not wait, whatever happens to us.
    run.folder.leave_queue()?;
    if run.spec.capture == Capture::Init {
        until_held(run, scene, lease, id).await;
    }
    drop(mutex);
    if run.spec.capture == Capture::Docker {
        require_sight(run, lease, id).await?;
    }
    if let Ok(Some(found)) = run.peer.engine.container(id).await {
        // For people only, so a failure changes nothing.
        let _ = note(run, &scene.locks, lease, found.pid);
    }
    Ok(())
}

/// Ends a container that certainly does not see its GPUs, which `init` notices by itself. One that has ended already,
/// and an engine that does not say, prove nothing.
async fn require_sight(run: &Run<'_>, lease: &Lease, id: &str) -> Result<(), Stop> {
    let argv = [layout::CONTAINER_AGENT, gpu::SIGHT_ROLE];
    let Ok(printed) = run.peer.engine.execute(id, &argv, SIGHT).await else {
        return Ok(());
    };
    let gpus = uuids(&lease.gpus);
    let Some(sight) = gpu::Sight::read(&printed).filter(gpu::Sight::hides) else {
        return Ok(());
    };
    let hidden = ExecError::GpuHidden {
        wanted: gpus.join(","),
        no_device: true,
        seen: sight.said,
    };
    run.peer.engine.kill(id).await?;
    Err(Stop::refused(
        Reason::GpuUnavailable,
        hidden.detail().unwrap_or_default(),
    ))
}

/// Waits until the locks are held, or nobody is left who would take them.
async fn until_held(run: &Run<'_>, scene: &Scene, lease: &Lease, id: &str) {
    let deadline = Instant::now() + IS_HELD;
    let mut turn = 0_u32;
    while Instant::now() < deadline {
        let taken = |gpu: &LeasedGpu| !matches!(leases::look(&scene.locks, &gpu.uuid), Ok(Held::Free));
        let all_taken = !lease.shared && lease.gpus.iter().all(taken);
        // It claims the run when it has them, and writes its record when it cannot have them.
        if all_taken || run.folder.claimed() || run.folder.exit().is_ok_and(|exit| exit.is_some()) {
            return;
        }
        if turn % 10 == 9
            && let Ok(found) = run.peer.engine.container(id).await
            && found.is_none_or(|found| !found.facts.is_live())
        {
            return;
        }
        turn = turn.wrapping_add(1);
        tokio::time::sleep(LOOK_APART).await;
    }
}

async fn stopped(folder: &RunFolder) {
    while !folder.stop_requested() {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// What a refusal means: a run that stands in line goes on waiting, another one is forgotten.
fn refused(run: &Run<'_>, failure: Failure) -> Stop {
    let waits = run.folder.queued().exists();
    let started = !matches!(run.folder.start_intent(), Ok(None));
    let is_refusal = matches!(
        failure.code,
        ErrorCode::NoFreeGpu | ErrorCode::NoSuchGpu | ErrorCode::NoGpu | ErrorCode::LocksUnusable
    );
    if is_refusal && !waits && !started {
        Stop::NotTaken(failure)
    } else {
        Stop::Failed(failure)
    }
}

fn new_order(run: &Run<'_>) -> Result<Order, Failure> {
    let (now, moment) = (Utc::now(), Moment::now());
    let wait = match run.spec.placement.wait {
        Wait::No | Wait::Until => None,
        Wait::Seconds(seconds) => Some(seconds),
    };
    let until = wait
        .and_then(|seconds| i64::try_from(seconds).ok())
        .and_then(TimeDelta::try_seconds)
        .and_then(|wait| now.checked_add_signed(wait));
    let deadline = wait.map(|seconds| Moment {
        ms: moment.ms.saturating_add(seconds.saturating_mul(1000)),
        ..moment.clone()
    });
    Ok(Order {
        format: FORMAT,
        run_id: run.spec.run_id.clone(),
        at: behind_all(&run.session.context.state, now)?,
        arrived: Some(moment),
        priority: run.spec.placement.priority,
        until,
        deadline,
        controller_id: run.spec.controller_id.clone(),
        docker: run.peer.docker.clone(),
    })
}

fn holder(run: &Run<'_>) -> Holder {
    Holder {
        run_id: Some(run.spec.run_id.clone()),
        user: Some(account()),
        pid: None,
        since: None,
        shared: false,
    }
}

fn note(run: &Run<'_>, locks: &LockFolder, lease: &Lease, pid: Option<u32>) -> Result<(), Failure> {
    let holder = Holder {
        pid,
        since: Some(lease.since),
        shared: lease.shared,
        ..holder(run)
    };
    for gpu in &lease.gpus {
        leases::write_holder(locks, &gpu.uuid, &holder)?;
    }
    Ok(())
}

fn uuids(gpus: &[LeasedGpu]) -> Vec<String> {
    gpus.iter().map(|gpu| gpu.uuid.clone()).collect()
}

fn labelled(found: &FoundContainer) -> Vec<String> {
    let label = found.labels.get(layout::LABEL_GPUS).map(String::as_str);
    label.unwrap_or_default().split(',').map(str::to_owned).collect()
}
