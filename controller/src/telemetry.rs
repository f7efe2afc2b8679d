//! Our own logs: one file a day in the state folder, and stderr on request. Never the run log.

use std::path::{Path, PathBuf};
use tracing_appender::rolling::{RollingFileAppender, Rotation};
use tracing_subscriber::filter::{EnvFilter, LevelFilter};
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

/// Telemetry could not be set up.
#[derive(Debug, thiserror::Error)]
#[error("no telemetry can be written to `{}`", folder.display())]
pub struct TelemetryError {
    /// The folder.
    pub folder: PathBuf,
    /// Why.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// Writes spans and events to `<state>/telemetry/farrun.<day>.log`, the newest `days` files kept.
///
/// `verbosity` 0 shows nothing on stderr, 1 information, 2 or more everything of ours. Fields never hold secrets:
/// no type of ours that carries one shows it in its debug form.
///
/// # Errors
/// The folder cannot be made or written; commands go on without a file then.
pub fn start(state_folder: &Path, days: u32, verbosity: u8) -> Result<(), TelemetryError> {
    let folder = state_folder.join("telemetry");
    let file = std::fs::create_dir_all(&folder)
        .map_err(Into::into)
        .and_then(|()| {
            RollingFileAppender::builder()
                .rotation(Rotation::DAILY)
                .filename_prefix("farrun")
                .filename_suffix("log")
                .max_log_files(days.max(1) as usize)
                .build(&folder)
                .map_err(Into::<Box<dyn std::error::Error + Send + Sync>>::into)
        });
    let (file, failure) = match file {
        Ok(file) => (Some(file), None),
        Err(source) => (None, Some(TelemetryError { folder, source })),
    };
    let file = file.map(|file| {
        tracing_subscriber::fmt::layer()
            .with_writer(std::sync::Mutex::new(file))
            .with_ansi(false)
            .with_target(true)
            .with_filter(ours(LevelFilter::DEBUG))
    });
    let level = match verbosity {
        0 => None,
        1 => Some(LevelFilter::INFO),
        _ => Some(LevelFilter::TRACE),
    };
    let stderr = level.map(|level| {
        tracing_subscriber::fmt::layer()
            .with_writer(std::io::stderr)
            .with_target(false)
            .with_filter(ours(level))
    });
    // A second subscriber exists only in tests, where the first one serves.
    drop(tracing_subscriber::registry().with(file).with(stderr).try_init());
    failure.map_or(Ok(()), Err)
}

/// Our own crates at `level`, everybody else's warnings only.
fn ours(level: LevelFilter) -> EnvFilter {
    EnvFilter::builder()
        .with_default_directive(LevelFilter::WARN.into())
        .parse_lossy(format!("farrun={level},farrun_protocol={level}"))
}
