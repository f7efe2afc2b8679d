//! The `farrun` program: parse, build the context, dispatch, exit code.

use clap::Parser as _;
use farrun::cli::{Cli, Context, dispatch};
use farrun::config::Config;
use farrun::error::{CommandError, Exit};
use farrun::telemetry;
use farrun::ui::{Ui, UiOptions};
use std::process::ExitCode;
use tokio_util::sync::CancellationToken;

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
    let exit = match start(cli, &ui) {
        Ok(exit) => exit,
        Err(error) => {
            report(&ui, &error);
            error.exit
        }
    };
    // A reader that left early (`| head`) has what it wanted.
    drop(ui.finish());
    ExitCode::from(exit as u8)
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

fn start(cli: Cli, ui: &Ui) -> Result<Exit, CommandError> {
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
        listen(interrupt.clone());
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

/// Turns Ctrl-C, SIGTERM and SIGHUP into the wish to end.
fn listen(interrupt: CancellationToken) {
    use tokio::signal::unix::{SignalKind, signal};
    for kind in [
        SignalKind::interrupt(),
        SignalKind::terminate(),
        SignalKind::hangup(),
    ] {
        let interrupt = interrupt.clone();
        match signal(kind) {
            Ok(mut signals) => {
                tokio::spawn(async move {
                    signals.recv().await;
                    interrupt.cancel();
                });
            }
            Err(error) => tracing::warn!(%error, "A signal cannot be listened to"),
        }
    }
}
