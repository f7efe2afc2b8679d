//! Takes secrets from stdin, a file or a command; never from the command line itself, which other accounts can read.

use super::Context;
use crate::error::CommandError;
use farrun_protocol::message::Secret;
use std::collections::BTreeMap;
use std::io::{BufRead as _, Read as _};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Longest secret, in bytes.
const LIMIT: usize = 64 * 1024;
/// What is read of a file: enough to tell a longer one from the longest with its line's end.
const MOST: u64 = LIMIT as u64 + 3;

/// How long a command may take that prints one; it may have to wait for somebody at a key store.
const PATIENCE: Duration = Duration::from_secs(120);

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
            Some('!') => from_command(name, source.get(1..).unwrap_or_default(), PATIENCE)?,
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

/// Runs a program of this machine; its words are split at white space, no shell reads them. It may ask at the terminal,
/// so it has a while, and prints no more than a secret may have.
fn from_command(name: &str, command: &str, patience: Duration) -> Result<String, CommandError> {
    let failed = |why: String| CommandError::usage(format!("secret `{name}`: its command {why}"));
    let mut words = command.split_whitespace();
    let program = words.next().ok_or_else(|| failed("is empty".to_owned()))?;
    let mut child = Command::new(program)
        .args(words)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .map_err(|error| failed(format!("cannot be started: {error}")))?;
    let printed = read_printed(child.stdout.take(), patience);
    let ended = match &printed {
        Ok(bytes) if bytes.len() as u64 <= MOST => wait_until(&mut child, patience),
        _ => None,
    };
    let Some(status) = ended else {
        // It is of no use any more; what it started may live on.
        let _ = child.kill();
        let _ = child.wait();
        return Err(match printed {
            Ok(bytes) if bytes.len() as u64 > MOST => failed("printed more than 64 KiB".to_owned()),
            Err(Some(error)) => failed(format!("cannot be read: {error}")),
            _ => failed(format!("was not done after {} s", patience.as_secs()))
                .hint("let it write its answer to a file, and say `NAME=@FILE`"),
        });
    };
    if !status.success() {
        return Err(failed(format!("failed ({status})")));
    }
    let text = String::from_utf8(printed.unwrap_or_default())
        .map_err(|_| failed("printed something that is not UTF-8".to_owned()))?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

/// What a program prints, up to one byte more than is wanted; none of it when there is no end within `patience`. The
/// thread that reads is left behind then: what the program started may hold the pipe open for ever.
fn read_printed(stdout: Option<ChildStdout>, patience: Duration) -> Result<Vec<u8>, Option<std::io::Error>> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let read = stdout.map_or(Ok(0), |stdout| stdout.take(MOST + 1).read_to_end(&mut bytes));
        // Nobody listens when it took too long.
        let _ = sender.send(read.map(|_| bytes));
    });
    receiver.recv_timeout(patience).map_err(|_| None)?.map_err(Some)
}

/// How a program that has closed its output ended; none when it has not within `patience`.
fn wait_until(child: &mut Child, patience: Duration) -> Option<ExitStatus> {
    let until = Instant::now() + patience;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) if Instant::now() < until => std::thread::sleep(Duration::from_millis(10)),
            Ok(None) | Err(_) => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn a_command_gives_its_output_without_the_end_of_its_line() {
        assert_eq!(from_command("T", "printf a\\nb\\r\\n", LONG).unwrap(), "a\nb");
        let failing = from_command("T", "false", LONG).unwrap_err();
        assert_eq!(failing.message, "secret `T`: its command failed (exit status: 1)");
        let absent = from_command("T", "/nowhere/at-all", LONG).unwrap_err();
        assert!(
            absent
                .message
                .starts_with("secret `T`: its command cannot be started: "),
            "{absent:?}"
        );
        let empty = from_command("T", " ", LONG).unwrap_err();
        assert_eq!(empty.message, "secret `T`: its command is empty");
    }

    #[test]
    fn a_command_that_never_stops_printing_or_never_ends_is_ended() {
        let began = Instant::now();
        let endless = from_command("T", "cat /dev/zero", LONG).unwrap_err();
        assert_eq!(
            endless.message,
            "secret `T`: its command printed more than 64 KiB"
        );
        let most = from_command("T", &format!("head -c {} /dev/zero", MOST + 1), LONG).unwrap_err();
        assert_eq!(most.message, endless.message);
        for silent in ["sleep 1000", "tail -f /dev/null"] {
            let late = from_command("T", silent, Duration::from_secs(1)).unwrap_err();
            assert_eq!(late.message, "secret `T`: its command was not done after 1 s");
            assert_eq!(late.exit, crate::error::Exit::Usage);
        }
        assert!(began.elapsed() < LONG / 2);
    }
}
