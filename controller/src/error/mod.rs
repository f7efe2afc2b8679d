//! What a command ends with when it does not succeed: a message, its causes, hints, and the exit code.

mod agent;
mod here;
mod link;
mod run;

use std::error::Error;

/// What a command ended with. The number is the program's exit code, the same in every verb.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done, and what was asked for succeeded.
    Completed = 0,
    /// The run failed.
    RunFailed = 1,
    /// The command line or an input is wrong.
    Usage = 2,
    /// The host did not answer.
    Unreachable = 3,
    /// There is no such run, prompt, host or recipe.
    NotFound = 4,
    /// Refused: a conflict, or something that is not allowed now.
    Refused = 5,
    /// The host's key is unknown, changed or revoked.
    HostKey = 6,
    /// The run was cancelled.
    Cancelled = 7,
    /// Our own fault: database, disk, a defect.
    Internal = 8,
    /// Detached by Ctrl-C; the run goes on.
    Detached = 130,
}

/// Why a command did not succeed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandError {
    /// Decides the exit code.
    pub exit: Exit,
    /// One sentence without a trailing period, backticks around names.
    pub message: String,
    /// What it came from, outermost first.
    pub causes: Vec<String>,
    /// What to do next.
    pub hints: Vec<String>,
}

impl CommandError {
    /// An error without causes and hints.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            message: message.into(),
            causes: Vec::new(),
            hints: Vec::new(),
        }
    }

    /// A wrong command line or input.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// Something that does not exist.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(Exit::NotFound, message)
    }

    /// A conflict.
    pub fn refused(message: impl Into<String>) -> Self {
        Self::new(Exit::Refused, message)
    }

    /// Adds what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    fn from_error(exit: Exit, error: &dyn Error) -> Self {
        let mut causes = Vec::new();
        let mut source = error.source();
        while let Some(cause) = source {
            let text = cause.to_string();
            // A transparent layer says the same again, or says it behind words of its own.
            if !causes.last().is_some_and(|last: &String| last.ends_with(&text)) {
                causes.push(text);
            }
            source = cause.source();
        }
        Self {
            causes,
            ..Self::new(exit, error.to_string())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_frozen() {
        let codes = [
            Exit::Completed,
            Exit::RunFailed,
            Exit::Usage,
            Exit::Unreachable,
            Exit::NotFound,
            Exit::Refused,
            Exit::HostKey,
            Exit::Cancelled,
            Exit::Internal,
            Exit::Detached,
        ];
        assert_eq!(codes.map(|exit| exit as u8), [0, 1, 2, 3, 4, 5, 6, 7, 8, 130]);
    }

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Layer {
        text: &'static str,
        source: Option<Box<Self>>,
    }

    #[test]
    fn a_cause_that_was_just_said_is_not_said_again() {
        let layers = ["opening it", "connecting: refused", "refused", "no route"];
        let chain = layers
            .into_iter()
            .rev()
            .fold(None, |source, text| Some(Box::new(Layer { text, source })));
        let error = CommandError::from_error(Exit::Internal, &*chain.unwrap());
        assert_eq!(error.causes, ["connecting: refused", "no route"]);
    }
}
