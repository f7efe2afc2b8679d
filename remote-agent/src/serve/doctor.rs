//! Everything that runs depend on, looked at part by part; what can hang comes last.

use super::session::{Peer, Session};
use crate::doctor::{self, Wanted, within};
use crate::{residence, watch};
use farrun_protocol::doctor::{Checkup, EngineCheckup, Looked, Trial, Unseen, Why};
use farrun_protocol::gpu::{GpuReport, Health, TroubleKind};
use farrun_protocol::{ErrorCode, Failure, Reply};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// For a part that only reads files of the kernel.
const QUICK: Duration = Duration::from_secs(3);
/// For a part that starts programs, each of which has a limit of its own.
const PROGRAMS: Duration = Duration::from_secs(12);
/// For the engine to tell about itself.
const ENGINE: Duration = Duration::from_secs(10);
/// How long a reading of GPUs is waited for: one may have to wait for another account's.
const GPUS: Duration = Duration::from_secs(12);

pub(crate) async fn doctor(session: &Session) -> Result<Reply, Failure> {
    let peer = session.peer()?;
    let context = &session.context;
    let root = || PathBuf::from("/");
    let launcher = || context.agent.clone();
    let state = context.state.clone();
    let locks = context.locks.clone();
    let (state, locks, driver, shared_memory, engine) = tokio::join!(
        within(QUICK, move || doctor::state_facts(&state)),
        within(QUICK, move || doctor::lock_facts(locks.as_deref())),
        within(QUICK, move || doctor::driver_facts(&root())),
        within(QUICK, || {
            doctor::space_of(Path::new("/dev/shm")).map_err(|error| doctor::refused(&error))
        }),
        engine(peer),
    );
    let denied = matches!(&engine, Err(failure) if failure.code == ErrorCode::DockerDenied);
    let (program, home) = (launcher(), context.home.clone());
    let account = within(PROGRAMS, move || Ok(doctor::account_facts(&program, denied))).await;
    let (for_login, for_log, for_toolkit) = (launcher(), launcher(), launcher());
    let manager = residence::has_user_manager(context);
    let (login, kernel_log, toolkit, caches) = tokio::join!(
        within(PROGRAMS, move || doctor::login_facts(
            &root(),
            &for_login,
            manager
        )),
        within(PROGRAMS, move || doctor::kernel_log_facts(&for_log)),
        within(PROGRAMS, move || doctor::toolkit_facts(&root(), &for_toolkit)),
        within(QUICK, move || doctor::cache_facts(&home)),
    );
    let gpus = gpus(session, driver.is_ok()).await;
    let image = image(peer, engine.is_ok()).await;
    let container = trial(peer, &context.agent, image.clone(), Vec::new()).await;
    let gpu_container = match (&gpus, usable(&gpus)) {
        (Ok(_), Some(gpu)) => {
            // It asks `nvidia-smi` as well.
            let _turn = session.gpus.turn().await;
            trial(peer, &context.agent, image, vec![gpu]).await
        }
        (Ok(_), None) => Err(Unseen::because(Why::Needs, "no GPU that works")),
        (Err(unseen), _) => Err(unseen.clone()),
    };
    Ok(Reply::Doctor(Box::new(Checkup {
        account: account.map_err(|unseen| Failure::new(ErrorCode::Internal, unseen))?,
        state,
        engine,
        driver,
        toolkit,
        gpus,
        container,
        gpu_container,
        kernel_log,
        locks,
        shared_memory,
        caches,
        login,
        watch: watch::living(&context.state).map(|card| card.facts(&context.state)),
        residence: residence::installed(&context.state),
    })))
}

async fn engine(peer: &Peer) -> Result<EngineCheckup, Failure> {
    let late = || Failure::new(ErrorCode::DockerTimeout, format!("{} s", ENGINE.as_secs()));
    let asked = peer.engine.checkup(|root| doctor::space_of(Path::new(root)).ok());
    match tokio::time::timeout(ENGINE, asked).await {
        Ok(checkup) => checkup.map_err(Failure::from),
        Err(_) => Err(late()),
    }
}

async fn gpus(session: &Session, expected: bool) -> Looked<GpuReport> {
    let wanted = session.gpus.sample_for_choice(GPUS).await;
    match wanted {
        Ok(report) => Ok(report),
        Err(_) => {
            let report = session.gpus.report(None, false).await;
            let wrong = report
                .trouble
                .as_ref()
                .is_some_and(|trouble| trouble.kind != TroubleKind::NoGpu);
            let none = report.gpus.is_empty() && !wrong && report.device.broken.is_none();
            if none && !expected {
                return Err(Unseen::new(Why::Absent));
            }
            Ok(report)
        }
    }
}

fn usable(gpus: &Looked<GpuReport>) -> Option<String> {
    let report = gpus.as_ref().ok()?;
    let healthy = report.gpus.iter().find(|gpu| gpu.health == Health::Healthy)?;
    // A divided GPU is handed out by its instances.
    let instance = healthy.mig_devices.first().filter(|_| healthy.mig);
    Some(instance.map_or_else(|| healthy.uuid.clone(), |instance| instance.uuid.clone()))
}

/// An image that is there; nothing is ever fetched for a trial.
async fn image(peer: &Peer, answers: bool) -> Looked<String> {
    if !answers {
        return Err(Unseen::because(Why::Needs, "no engine"));
    }
    doctor::tidy_trials(&peer.engine).await;
    match peer.engine.smallest_image().await {
        Ok(Some(image)) => Ok(image),
        Ok(None) => Err(Unseen::because(Why::Needs, "no image")),
        Err(error) => Err(Unseen::because(Why::Failed, error)),
    }
}

async fn trial(peer: &Peer, agent: &Path, image: Looked<String>, gpus: Vec<String>) -> Looked<Trial> {
    let wanted = Wanted { image: image?, gpus };
    doctor::run_trial(&peer.engine, agent, &wanted).await
}
