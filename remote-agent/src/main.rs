//! The `farrun-agent` program: its first argument names the role.

use farrun_agent::init::{self, InitArgs};
use std::ffi::OsStr;
use std::process::ExitCode;

/// What a shell user gets who calls the program by hand in a way it does not know.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    match arguments.next().as_deref().and_then(OsStr::to_str) {
        Some("init") => match InitArgs::parse(arguments) {
            Ok(args) => init::run(args).into(),
            Err(_) => init::REFUSED.into(),
        },
        _ => USAGE.into(),
    }
}
