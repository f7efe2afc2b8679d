//! The `farrun-agent` program: its first argument names the role.

use farrun_agent::init::{self, InitArgs};
use farrun_agent::{doctor, gpu, outputs, serve, watch};
use std::ffi::OsString;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

/// What a caller gets who does not know the program's words.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    let role = args.next().unwrap_or_default();
    let rest: Vec<OsString> = args.collect();
    let code = match role.to_str() {
        Some("init") => match InitArgs::parse(rest.into_iter()) {
            Ok(args) => init::run(args),
            Err(_) => init::REFUSED,
        },
        Some("serve") => match rest.first().and_then(|nonce| nonce.to_str()) {
            Some(nonce) => serve::run(nonce),
            None => USAGE,
        },
        Some("watch") => watch::run(&rest),
        Some("verify") => say(serve::own_sha256().map(|sha256| sha256.to_string())),
        Some("--version") => say(Ok(env!("CARGO_PKG_VERSION").to_owned())),
        Some(gpu::LIMITED_ROLE) => {
            let reason = gpu::become_program(&rest);
            // Whoever started it reads this; without it the exit code is all there is.
            let _ = std::io::stderr().write_all(reason.as_bytes());
            gpu::NOT_STARTED
        }
        Some(gpu::SIGHT_ROLE) => say(Ok(gpu::look_for_gpus())),
        Some(doctor::INSIDE_ROLE) => say(Ok(doctor::look_inside())),
        Some("open-outputs") => open_outputs(&rest),
        _ => USAGE,
    };
    ExitCode::from(code)
}

/// Writes one line to stdout.
fn say(line: std::io::Result<String>) -> u8 {
    let said = line.and_then(|line| std::io::stdout().write_all(format!("{line}\n").as_bytes()));
    u8::from(said.is_err())
}

/// `open-outputs [--writable] FOLDER`: what the short container runs that opens a job's files to the account.
fn open_outputs(args: &[OsString]) -> u8 {
    let (access, folder) = match args {
        [folder] => (outputs::Access::Read, folder),
        [flag, folder] if flag == "--writable" => (outputs::Access::Write, folder),
        _ => return USAGE,
    };
    match outputs::open(Path::new(folder), access) {
        Ok(()) => 0,
        Err(error) => {
            // Its output is read by the `serve` that ran it.
            let _ = std::io::stdout().write_all(error.to_string().as_bytes());
            1
        }
    }
}
