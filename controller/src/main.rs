//! The `farrun` program: parse, build the context, dispatch, exit code.

use clap::Parser as _;
use farrun::cli::{Cli, Context, dispatch};
use farrun::config::Config;
use farrun::error::{CommandError, Exit};
use farrun::telemetry;
use farrun::ui::{Ui, UiOptions};
use rustix::process::DumpableBehavior;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

fn main() -> ExitCode {
    // Passphrases and secrets pass through this memory, and core files are kept and sent around. Where the kernel
    // refuses, nothing is lost but that.
    let _ = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable);
    if farrun::ui::guards_terminal() {
        return ExitCode::SUCCESS;
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let usage = error.use_stderr();
            // Help, version and usage errors are clap's to word and to write.
            drop(error.print());
            return ExitCode::from(if usage { Exit::Usage as u8 } else { 0 });
        }
    };
    let ui = Ui::new(UiOptions {
        json: cli.json,
        quiet: cli.quiet,
        ..UiOptions::default()
    });
    let exit = match start(cli, &ui) {
        Ok(exit) => exit,
        Err(error) => {
            tracing::info!(exit = ?error.exit, error = ?error.message, causes = ?error.causes, "The command did not succeed");
            report(&ui, &error);
            error.exit
        }
    };
    // A reader that left early (`| head`) has what it wanted; a full disk has not.
    let exit = match finish(&ui) {
        Ok(()) => exit,
        Err(error) => {
            report(
                &ui,
                &CommandError::new(
                    Exit::Internal,
                    format!("the output could not be written: {error}"),
                ),
            );
            Exit::Internal
        }
    };
    ExitCode::from(exit as u8)
}

/// How long the last output may take once the command has ended.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Ends the output. A command that was left behind may sit in a write to a pipe that nobody reads; that must not keep
/// the program from ending.
fn finish(ui: &Ui) -> std::io::Result<()> {
    let (told, end) = std::sync::mpsc::channel();
    let ui = ui.clone();
    std::thread::spawn(move || drop(told.send(ui.finish())));
    end.recv_timeout(LAST_WORDS).unwrap_or(Ok(()))
}

/// What a main thread usually has.
const STACK: usize = 8 * 1024 * 1024;

fn report(ui: &Ui, error: &CommandError) {
    if error.exit == Exit::Detached {
        ui.note(&error.message);
        for hint in &error.hints {
            ui.hint(hint);
        }
    } else {
        ui.error(&error.message, &error.causes, &error.hints);
    }
}

/// Telemetry on the terminal.
fn voice(ui: &Ui) -> telemetry::Voice {
    let (shows, warns) = (ui.clone(), ui.clone());
    telemetry::Voice {
        show: Arc::new(move |text| shows.telemetry(text)),
        warn: Arc::new(move |text| warns.warning(text)),
    }
}

fn start(cli: Cli, ui: &Ui) -> Result<Exit, CommandError> {
    check_environment()?;
    let config = Config::load(cli.config.as_deref(), &|name| std::env::var(name).ok())?;
    if let Err(error) = telemetry::start(
        &config.state_folder,
        config.telemetry_days,
        cli.verbose,
        &voice(ui),
    ) {
        ui.warning(format!("{error}: {}", error.source));
    }
    let broken = |error: std::io::Error| CommandError::new(Exit::Internal, format!("no runtime: {error}"));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(broken)?;
    let ui = ui.clone();
    let exit = runtime.block_on(async {
        let (interrupt, leave) = (CancellationToken::new(), CancellationToken::new());
        listen(interrupt.clone(), leave.clone(), ui.clone());
        let context = Context {
            ui,
            config,
            interrupt,
        };
        // On a thread of its own: it may sit in a read of stdin, which nothing but the end of the program ends.
        let (done, ended) = tokio::sync::oneshot::channel();
        let handle = tokio::runtime::Handle::current();
        let work = move || drop(done.send(handle.block_on(dispatch(cli.command, &context))));
        std::thread::Builder::new()
            .name("command".to_owned())
            .stack_size(STACK)
            .spawn(work)
            .map_err(broken)?;
        let defect = || CommandError::new(Exit::Internal, "a defect ended the command");
        tokio::select! {
            ended = ended => ended.unwrap_or_else(|_| Err(defect())),
            () = leave.cancelled() => {
                // The command goes on for as long as the program does, and may have the terminal.
                farrun::ui::screen::give_back();
                Ok(Exit::Detached)
            }
        }
    });
    // Tasks that still wait for a host must not keep the program.
    runtime.shutdown_background();
    exit
}

/// A command that ends later than this after the first signal is told to be ending: silence looks deaf.
const AT_ONCE: Duration = Duration::from_secs(1);
/// How long a command may take to end after the first signal; longer than a host may take to confirm that an
/// interrupted launch is stopped.
const PATIENCE: Duration = Duration::from_secs(30);

/// Turns Ctrl-C, SIGTERM and SIGHUP into the wish to end. A second one, a command that takes too long to notice, or one
/// that waits for a person ends the program at once; whatever was acknowledged is in the database by then.
fn listen(interrupt: CancellationToken, leave: CancellationToken, ui: Ui) {
    use tokio::signal::unix::{SignalKind, signal};
    let (heard, mut hearing) = tokio::sync::mpsc::channel::<()>(4);
    for kind in [
        SignalKind::interrupt(),
        SignalKind::terminate(),
        SignalKind::hangup(),
    ] {
        let heard = heard.clone();
        match signal(kind) {
            Ok(mut signals) => {
                tokio::spawn(async move {
                    while signals.recv().await.is_some() {
                        let _ = heard.try_send(());
                    }
                });
            }
            Err(error) => tracing::warn!(%error, "A signal cannot be listened to"),
        }
    }
    tokio::spawn(async move {
        if hearing.recv().await.is_none() {
            return;
        }
        interrupt.cancel();
        if !ui.is_asking() && tokio::time::timeout(AT_ONCE, hearing.recv()).await.is_err() {
            ui.note("ending; Ctrl-C again leaves at once");
            // Either way the command has had its chance.
            let _ = tokio::time::timeout(PATIENCE, hearing.recv()).await;
        }
        leave.cancel();
    });
}

/// A variable that is not UTF-8 would be taken for one that is not set, and files would land somewhere else.
fn check_environment() -> Result<(), CommandError> {
    let wrong = std::env::vars_os().find(|(name, value)| {
        let name = name.to_string_lossy();
        (name.starts_with("FARRUN_") || name.starts_with("XDG_") || name == "HOME")
            && value.to_str().is_none()
    });
    match wrong {
        Some((name, _)) => Err(CommandError::usage(format!(
            "the variable {} is not UTF-8",
            name.to_string_lossy()
        ))),
        None => Ok(()),
    }
}
