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
    let file = make_private(&folder).map_err(Into::into).and_then(|()| {
        RollingFileAppender::builder()
            .rotation(Rotation::DAILY)
            .filename_prefix("farrun")
            .filename_suffix("log")
            .max_log_files(days.max(1) as usize)
            .build(&folder)
            .map_err(Into::<Box<dyn std::error::Error + Send + Sync>>::into)
    });
    let (file, failure) = match file {
        Ok(file) => {
            close_files(&folder);
            (Some(file), None)
        }
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

/// Makes the folder, which names hosts, runs and paths, so that only its owner enters it. The state folder is often made
/// on the way, and is closed as well.
fn make_private(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)?;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700))
}

/// Takes the files from others. One that is made at midnight is closed by the next command; its folder is closed anyway.
fn close_files(folder: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    for file in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        // Somebody else's file, or one that was just removed, is nothing to close.
        let _ = std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o600));
    }
}

/// Our own crates at `level`, everybody else's warnings only.
fn ours(level: LevelFilter) -> EnvFilter {
    EnvFilter::builder()
        .with_default_directive(LevelFilter::WARN.into())
        .parse_lossy(format!("farrun={level},farrun_protocol={level}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn nobody_else_enters_the_folders() {
        let home = tempfile::tempdir().unwrap();
        let state = home.path().join("state");
        let telemetry = state.join("telemetry");
        make_private(&telemetry).unwrap();
        std::fs::set_permissions(&telemetry, std::fs::Permissions::from_mode(0o755)).unwrap();
        make_private(&telemetry).unwrap();
        for folder in [&state, &telemetry] {
            assert_eq!(folder.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        }
        let file = telemetry.join("farrun.log");
        std::fs::write(&file, "").unwrap();
        close_files(&telemetry);
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
}
