//! The `farrun` program: parse, build the context, dispatch, exit code.

use clap::Parser as _;
use farrun::cli::{Cli, Context, dispatch};
use farrun::config::Config;
use farrun::error::{CommandError, Exit};
use farrun::telemetry;
use farrun::ui::{Ui, UiOptions};
use std::process::ExitCode;
use std::sync::mpsc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// What the operating system gives a program's first thread.
const STACK: usize = 8 * 1024 * 1024;
/// How long a command may take to end once it was asked to.
const OBEYS: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
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
    let (ended, end) = mpsc::channel();
    let (giving_up, telling) = (ended.clone(), ui.clone());
    let work = move || {
        let exit = match start(cli, &telling, &giving_up) {
            Ok(exit) => exit,
            Err(error) => {
                report(&telling, &error);
                error.exit
            }
        };
        // A reader that left early (`| head`) has what it wanted.
        drop(telling.finish());
        let _ = ended.send(exit);
    };
    // On a thread of its own: one that waits for a reader of stdout must not keep the program from ending.
    let worker = std::thread::Builder::new()
        .name("farrun".to_owned())
        .stack_size(STACK)
        .spawn(work);
    if let Err(error) = worker {
        ui.error(format!("no thread: {error}"), &[], &[]);
        return ExitCode::from(Exit::Internal as u8);
    }
    ExitCode::from(end.recv().unwrap_or(Exit::Internal) as u8)
}

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

fn start(cli: Cli, ui: &Ui, giving_up: &mpsc::Sender<Exit>) -> Result<Exit, CommandError> {
    let config = Config::load(cli.config.as_deref(), &|name| std::env::var(name).ok())?;
    if let Err(error) = telemetry::start(&config.state_folder, config.telemetry_days, cli.verbose) {
        ui.warning(error.to_string());
    }
    let broken = |error: std::io::Error| CommandError::new(Exit::Internal, format!("no runtime: {error}"));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(broken)?;
    let exit = runtime.block_on(async {
        let interrupt = CancellationToken::new();
        listen(&interrupt, giving_up);
        let context = Context {
            ui: ui.clone(),
            config,
            interrupt,
        };
        dispatch(cli.command, &context).await
    });
    // Tasks that still wait for a host must not keep the program.
    runtime.shutdown_background();
    exit
}

/// Turns Ctrl-C, SIGTERM and SIGHUP into the wish to end. A second one, or a command that does not obey the first in
/// time, ends the program as it stands.
fn listen(interrupt: &CancellationToken, giving_up: &mpsc::Sender<Exit>) {
    use tokio::signal::unix::{SignalKind, signal};
    for kind in [
        SignalKind::interrupt(),
        SignalKind::terminate(),
        SignalKind::hangup(),
    ] {
        let (interrupt, giving_up) = (interrupt.clone(), giving_up.clone());
        match signal(kind) {
            Ok(mut signals) => {
                tokio::spawn(async move {
                    signals.recv().await;
                    interrupt.cancel();
                    drop(tokio::time::timeout(OBEYS, signals.recv()).await);
                    let _ = giving_up.send(Exit::Detached);
                });
            }
            Err(error) => tracing::warn!(%error, "A signal cannot be listened to"),
        }
    }
}
