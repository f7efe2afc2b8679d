//! Takes secrets from stdin, a file or a command; never from the command line itself, which other accounts can read.

use super::Context;
use crate::error::CommandError;
use farrun_protocol::message::Secret;
use std::collections::BTreeMap;
use std::io::{BufRead as _, Read as _};
use std::process::{Command, Stdio};

/// Longest secret, in bytes.
const LIMIT: usize = 64 * 1024;
/// What is read of a file: enough to tell a longer one from the longest with its line's end.
const MOST: u64 = LIMIT as u64 + 3;

/// How a secret is given, for `--help`.
pub const HELP: &str = "Give the job a secret in its environment: NAME (asks, or reads a line of stdin), NAME=@FILE, \
                        NAME=!COMMAND ARGS…, NAME=- (a line of stdin)";

/// Reads the values of `--secret` arguments.
///
/// # Errors
/// A value on the command line, an unreadable file, a failing command, or nobody to ask.
pub fn read(context: &Context, arguments: &[String]) -> Result<BTreeMap<String, Secret>, CommandError> {
    let mut secrets = BTreeMap::new();
    for argument in arguments {
        let (name, source) = argument.split_once('=').unwrap_or((argument, ""));
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            return Err(CommandError::usage(
                "a secret's name holds only letters, digits and `_`",
            ));
        }
        let value = match source.chars().next() {
            None => ask(context, name)?,
            Some('-') if source == "-" => stdin_line(context, name)?,
            Some('@') => from_file(name, source.get(1..).unwrap_or_default())?,
            Some('!') => from_command(name, source.get(1..).unwrap_or_default())?,
            Some(_) => {
                return Err(CommandError::usage(format!("the value of secret `{name}` stands on the command line"))
                    .hint("others can read it there; put it in a file and say `NAME=@FILE`, or pipe it and say `NAME=-`"));
            }
        };
        if value.is_empty() || value.len() > LIMIT || value.contains('\0') {
            return Err(CommandError::usage(format!(
                "secret `{name}` is empty, longer than 64 KiB, or holds a NUL"
            )));
        }
        secrets.insert(name.to_owned(), Secret::new(value));
    }
    Ok(secrets)
}

fn ask(context: &Context, name: &str) -> Result<String, CommandError> {
    if !context.ui.stdin_is_tty() {
        return stdin_line(context, name);
    }
    let declined = || CommandError::usage(format!("secret `{name}` was not given"));
    context
        .ui
        .ask_secret(&format!("secret {name}"))
        .ok_or_else(declined)
}

fn stdin_line(context: &Context, name: &str) -> Result<String, CommandError> {
    let mut line = String::new();
    let failed = |error: std::io::Error| {
        CommandError::usage(format!("secret `{name}` cannot be read from stdin: {error}"))
    };
    // One byte more than any acceptable secret tells a longer one.
    let mut stdin = std::io::stdin().lock().take(LIMIT as u64 + 1);
    context
        .ui
        .waiting_for_input(|| stdin.read_line(&mut line))
        .map_err(failed)?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

fn from_file(name: &str, path: &str) -> Result<String, CommandError> {
    let failed = |error: std::io::Error| {
        CommandError::usage(format!("secret `{name}`: `{path}` cannot be read: {error}"))
    };
    let mut text = String::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(MOST).read_to_string(&mut text))
        .map_err(failed)?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

/// Runs a program of this machine; its words are split at white space, no shell reads them.
fn from_command(name: &str, command: &str) -> Result<String, CommandError> {
    let failed = |why: String| CommandError::usage(format!("secret `{name}`: its command {why}"));
    let mut words = command.split_whitespace();
    let program = words.next().ok_or_else(|| failed("is empty".to_owned()))?;
    let output = Command::new(program)
        .args(words)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| failed(format!("cannot be started: {error}")))?;
    if !output.status.success() {
        return Err(failed(format!("failed ({})", output.status)));
    }
    let text = String::from_utf8(output.stdout)
        .map_err(|_| failed("printed something that is not UTF-8".to_owned()))?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}
