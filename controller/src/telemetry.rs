//! Our own logs: one file a day in the state folder, and stderr on request. Never the run log.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
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

/// How telemetry reaches the terminal, which has one writer.
#[derive(Clone)]
pub struct Voice {
    /// Shows a message on stderr.
    pub show: Arc<dyn Fn(&str) + Send + Sync>,
    /// Says, once, that the file cannot be written.
    pub warn: Arc<dyn Fn(&str) + Send + Sync>,
}

impl std::fmt::Debug for Voice {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Voice")
    }
}

/// Writes spans and events to `<state>/telemetry/farrun.<day>.log`, the newest `days` files kept.
///
/// `verbosity` 0 shows nothing on stderr, 1 information, 2 or more everything of ours. Fields never hold secrets:
/// no type of ours that carries one shows it in its debug form.
///
/// # Errors
/// The folder cannot be made or written; commands go on without a file then, as they do when a message cannot be written
/// later.
pub fn start(state_folder: &Path, days: u32, verbosity: u8, voice: &Voice) -> Result<(), TelemetryError> {
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
        Err(source) => {
            let folder = folder.clone();
            (None, Some(TelemetryError { folder, source }))
        }
    };
    let file = file.map(|file| {
        let file = Warning {
            file,
            name: folder.clone(),
            warned: AtomicBool::new(false),
            voice: voice.clone(),
        };
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
    let show = Arc::clone(&voice.show);
    let stderr = level.map(|level| {
        tracing_subscriber::fmt::layer()
            .with_writer(move || Shown(Arc::clone(&show)))
            .with_ansi(false)
            .with_target(false)
            .with_filter(ours(level))
    });
    // A second subscriber exists only in tests, where the first one serves.
    drop(tracing_subscriber::registry().with(file).with(stderr).try_init());
    failure.map_or(Ok(()), Err)
}

/// A file whose first failure is told, and whose failures are nobody else's: telemetry ends no command and says nothing
/// twice.
struct Warning<W> {
    file: W,
    name: PathBuf,
    warned: AtomicBool,
    voice: Voice,
}

impl<W: io::Write> Warning<W> {
    fn told(&self, result: io::Result<()>) {
        if let Err(error) = result
            && !self.warned.swap(true, Ordering::Relaxed)
        {
            let folder = self.name.display();
            (self.voice.warn)(&format!(
                "telemetry cannot be written to `{folder}` ({error}); what it would say is lost"
            ));
        }
    }
}

impl<W: io::Write> io::Write for Warning<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write_all(bytes);
        self.told(written);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let flushed = self.file.flush();
        self.told(flushed);
        Ok(())
    }
}

/// Messages on stderr; each comes in one piece.
struct Shown(Arc<dyn Fn(&str) + Send + Sync>);

impl io::Write for Shown {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (self.0)(&String::from_utf8_lossy(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
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
    fn a_file_that_cannot_be_written_is_told_once_and_fails_nobody() {
        use std::io::Write as _;
        let (told, heard) = std::sync::mpsc::channel();
        let voice = Voice {
            show: Arc::new(|_| {}),
            warn: Arc::new(move |text: &str| told.send(text.to_owned()).unwrap()),
        };
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let mut file = Warning {
            file: full,
            name: "/state/telemetry".into(),
            warned: AtomicBool::new(false),
            voice,
        };
        for _ in 0..3 {
            file.write_all(b"a message\n").unwrap();
            file.flush().unwrap();
        }
        drop(file);
        let told: Vec<String> = heard.iter().collect();
        let expected = "telemetry cannot be written to `/state/telemetry` (No space left on device (os error 28)); \
                        what it would say is lost";
        assert_eq!(told, [expected]);
    }

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
