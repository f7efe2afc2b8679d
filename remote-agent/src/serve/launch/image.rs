//! Having the image.

use super::Stop;
use crate::docker::{Engine, EngineError, ImageFacts, PullProgress};
use crate::record::RunFolder;
use crate::serve::call::{Call, cancelled};
use chrono::{SecondsFormat, Utc};
use farrun_protocol::Progress;
use farrun_protocol::spec::{PullPolicy, RunSpec};
use farrun_protocol::verdict::Reason;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::time::Duration;

/// Bytes of what is said that are kept, and characters of a line.
const MOST_SAID: usize = 256 * 1024;
const LONGEST: usize = 1000;

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
    let mut log = PullLog::new(folder);
    let pulling = async {
        let pulled = engine.pull(&spec.image, report, |words| log.add(words)).await;
        if let Err(error) = &pulled {
            log.add(&error.to_string());
        }
        pulled
    };
    tokio::select! {
        pulled = pulling => pulled.map_err(refusal),
        () = call.cancel.cancelled() => Err(Stop::Failed(cancelled())),
        () = stopped => Err(Stop::EndWanted),
    }
}

/// What the engine says while it fetches, kept with the run for its evidence. Best effort: no run fails for it.
struct PullLog {
    file: Option<std::fs::File>,
    left: usize,
}

impl PullLog {
    fn new(folder: &RunFolder) -> Self {
        let mut options = std::fs::File::options();
        let options = options.append(true).create(true).mode(0o600);
        let file = options.open(folder.pull_log()).ok();
        let written = file.as_ref().and_then(|file| file.metadata().ok());
        let written = written.map_or(0, |found| usize::try_from(found.len()).unwrap_or(usize::MAX));
        Self {
            file,
            left: MOST_SAID.saturating_sub(written),
        }
    }

    fn add(&mut self, words: &str) {
        let words: Vec<&str> = words.split_whitespace().collect();
        let at = Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true);
        let line: String = format!("{at} {}", words.join(" "))
            .chars()
            .take(LONGEST)
            .collect();
        let Some(left) = self.left.checked_sub(line.len() + 1) else {
            return;
        };
        self.left = left;
        if let Some(file) = &mut self.file {
            let _ = file.write_all((line + "\n").as_bytes());
        }
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
