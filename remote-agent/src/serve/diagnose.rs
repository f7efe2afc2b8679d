//! The evidence of a run or of the host: what was collected, or collected now. Any controller of the account may ask.

use super::call::{Call, blocking};
use super::facts;
use super::session::{Peer, Session, unknown};
use crate::diagnostics::{self, Made, Place, Subject};
use crate::outputs::build;
use crate::record::{Lock, RunFolder, file_sha256};
use chrono::{DateTime, Utc};
use farrun_protocol::diagnostics::{Bundle, HOST_MANIFEST, Trigger};
use farrun_protocol::message::ManifestReply;
use farrun_protocol::verdict::RunResult;
use farrun_protocol::{ErrorCode, Failure, Progress, Reply, RunId, Sha256};
use std::sync::Arc;
use std::time::Duration;

/// How long the engine may take to tell whether the run has ended; the evidence does not wait for it.
const LOOKS: Duration = Duration::from_secs(2);
/// How long another one who collects the same is waited for: longer than a bundle may take.
const OTHER: Duration = Duration::from_secs(75);

pub(crate) async fn diagnose(
    session: &Arc<Session>,
    run_id: Option<RunId>,
    anew: bool,
    call: &Arc<Call>,
) -> Result<Reply, Failure> {
    let peer = session.peer()?.clone();
    let tell = |file: &str| {
        call.progress(&Progress::Collecting {
            file: file.to_owned(),
        });
    };
    let made = match run_id {
        None => of_host(session, &peer, tell).await,
        Some(run_id) => {
            let folder = session.folder(&run_id);
            if folder.spec()?.is_none() {
                return Err(unknown(&run_id));
            }
            // Settles it, when it has ended and nobody was there.
            let own = (Arc::clone(session), folder.clone(), peer.clone());
            let look = tokio::spawn(async move {
                let (session, folder, peer) = own;
                facts::facts(&peer, &session, &folder, None).await
            });
            let _ = tokio::time::timeout(LOOKS, look).await;
            // The first evidence of a failure is that of the failure, whoever comes first to have it collected.
            let trigger = match folder.settled() {
                Ok(Some(settled)) if !anew && settled.verdict.result != RunResult::Succeeded => {
                    Trigger::Failure
                }
                _ => Trigger::Request,
            };
            of_run(session, &peer, &folder, trigger, anew, tell).await
        }
    };
    answer(made).await
}

/// The bundle of a run; collected when there is none about its end, or `anew`. Of two who want it at once one collects.
pub(crate) async fn of_run(
    session: &Arc<Session>,
    peer: &Peer,
    run: &RunFolder,
    trigger: Trigger,
    anew: bool,
    tell: impl Fn(&str),
) -> Made {
    let state = &session.context.state;
    let asked = Utc::now();
    if !anew && let Some(made) = there(state, run, None) {
        return made;
    }
    // Where no lock can be made nobody else could see it either.
    let lock = tokio::time::timeout(OTHER, Lock::take(&run.path().join("diagnose.lock"))).await;
    let since = anew.then_some(asked);
    if let Some(made) = there(state, run, since) {
        return made;
    }
    let subject = Subject::Run(run.clone());
    let made = diagnostics::collect(session, &peer.engine, &subject, trigger, tell).await;
    diagnostics::forget_secrets(run);
    drop(lock);
    made
}

/// The bundle that will do: one about the end of a run that has ended, any other only when it was made `since` then.
fn there(state: &std::path::Path, run: &RunFolder, since: Option<DateTime<Utc>>) -> Option<Made> {
    let place = diagnostics::find(state, run)?;
    let bundle = diagnostics::read(&place).ok()?;
    let will_do = match since {
        Some(since) => bundle.ended_at >= since,
        None => diagnostics::is_explained(state, run),
    };
    will_do.then_some(Made {
        bundle,
        place: Some(place),
    })
}

async fn of_host(session: &Arc<Session>, peer: &Peer, tell: impl Fn(&str)) -> Made {
    diagnostics::collect(session, &peer.engine, &Subject::Host, Trigger::Request, tell).await
}

async fn answer(made: Made) -> Result<Reply, Failure> {
    let Made { bundle, place } = made;
    let Some(place) = place else {
        let manifest = ManifestReply {
            path: String::new(),
            size: 0,
            sha256: Sha256::of(b""),
            outputs: String::new(),
            pack: None,
            files: 0,
            bytes: 0,
        };
        return Ok(reply(bundle, manifest));
    };
    blocking(move || {
        let manifest = list(&bundle, &place)?;
        Ok(reply(bundle, manifest))
    })
    .await
}

fn reply(bundle: Bundle, manifest: ManifestReply) -> Reply {
    Reply::Diagnostics {
        bundle: Box::new(bundle),
        manifest,
    }
}

fn list(bundle: &Bundle, place: &Place) -> Result<ManifestReply, Failure> {
    let whose = match &bundle.run_id {
        Some(run_id) => run_id.clone(),
        None => HOST_MANIFEST
            .parse()
            .map_err(|error| Failure::new(ErrorCode::Internal, error))?,
    };
    let path = place.manifest();
    let manifest = build(&place.folder, &whose, &path, &place.pack(), |_| {})?;
    let (sha256, size) = file_sha256(&path)?;
    let packed = manifest.files.iter().any(|file| file.packed_at.is_some());
    Ok(ManifestReply {
        path: path.to_string_lossy().into_owned(),
        size,
        sha256,
        outputs: place.folder.to_string_lossy().into_owned(),
        pack: packed.then(|| place.pack().to_string_lossy().into_owned()),
        files: manifest.files.len() as u64,
        bytes: manifest.files.iter().map(|file| file.size).sum(),
    })
}
