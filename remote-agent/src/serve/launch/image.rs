//! Having the image.

use super::Stop;
use crate::docker::{Engine, EngineError, ImageFacts, PullProgress};
use crate::record::RunFolder;
use crate::serve::call::{Call, cancelled};
use farrun_protocol::Progress;
use farrun_protocol::spec::{PullPolicy, RunSpec};
use farrun_protocol::verdict::Reason;
use std::time::Duration;

/// How often a fetch looks whether a stop was asked for meanwhile.
const LOOK_APART: Duration = Duration::from_millis(200);

/// The order's image, fetched when the order says so.
pub(super) async fn obtain(
    engine: &Engine,
    spec: &RunSpec,
    folder: &RunFolder,
    call: &Call,
) -> Result<ImageFacts, Stop> {
    let here = engine.image(&spec.image).await?;
    let image = match (here, spec.pull) {
        (Some(image), PullPolicy::Missing | PullPolicy::Never) => image,
        (None, PullPolicy::Never) => return Err(Stop::refused(Reason::ImageMissing, &spec.image)),
        (_, PullPolicy::Always) | (None, PullPolicy::Missing) => {
            pull(engine, spec, folder, call).await?;
            let image = engine.image(&spec.image).await?;
            image.ok_or_else(|| Stop::refused(Reason::ImageMissing, &spec.image))?
        }
    };
    if let Some(digest) = image.digest_for(&spec.image) {
        folder.write_image_digest(digest)?;
    }
    Ok(image)
}

async fn pull(engine: &Engine, spec: &RunSpec, folder: &RunFolder, call: &Call) -> Result<(), Stop> {
    let stopped = async {
        while !folder.stop_requested() {
            tokio::time::sleep(LOOK_APART).await;
        }
    };
    let report = |progress: PullProgress| {
        call.frequent_progress(&Progress::Pulling {
            layers_done: progress.layers_done,
            layers: progress.layers,
            bytes_done: progress.bytes_done,
            bytes: progress.bytes,
        });
    };
    tokio::select! {
        pulled = engine.pull(&spec.image, report) => pulled.map_err(refusal),
        () = call.cancel.cancelled() => Err(Stop::Failed(cancelled())),
        () = stopped => Err(Stop::EndWanted),
    }
}

fn refusal(error: EngineError) -> Stop {
    let EngineError::Refused { message, .. } = &error else {
        return error.into();
    };
    Stop::refused(reason_of(message), message)
}

/// What a registry's refusal means.
fn reason_of(message: &str) -> Reason {
    let message = message.to_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| message.contains(word));
    if says(&[
        "denied",
        "unauthorized",
        "authentication required",
        "no basic auth",
        "forbidden",
    ]) {
        Reason::ImageDenied
    } else if says(&["manifest unknown", "not found", "name unknown", "no such image"]) {
        Reason::ImageMissing
    } else {
        Reason::ImagePull
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_say_no_in_three_ways() {
        for (message, reason) in [
            (
                "pull access denied for x, repository does not exist or may require 'docker login'",
                Reason::ImageDenied,
            ),
            (
                "Head \"https://h/v2/a/manifests/1\": unauthorized",
                Reason::ImageDenied,
            ),
            (
                "manifest for h:5000/a:2 not found: manifest unknown: manifest unknown",
                Reason::ImageMissing,
            ),
            (
                "Get \"http://localhost:9/v2/\": dial tcp 127.0.0.1:9: connect: connection refused",
                Reason::ImagePull,
            ),
        ] {
            assert_eq!(reason_of(message), reason, "{message}");
        }
    }
}
