//! Questions that only a person can answer.

use super::error::ShownKey;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Someone who may be asked. The calls block, and are made outside of any connection so that no timeout of a
/// server runs while a person thinks; the exception is [`Ask::answer`], whose text comes from the server.
pub trait Ask: Send + Sync {
    /// Whether the unknown key of a host may be trusted and recorded.
    fn trust_host_key(&self, host: &str, shown: &ShownKey) -> bool;

    /// The passphrase of an encrypted private key; none to go without that key.
    fn passphrase(&self, question: &PromptQuestion) -> Option<Secret>;

    /// The account's password; none to go without it.
    fn password(&self, question: &PromptQuestion) -> Option<Secret>;

    /// The answer to a question the server asks while logging in, such as a one-time code. The text was written by
    /// the server and must be escaped before it is shown.
    fn answer(&self, question: &PromptQuestion, echo: bool) -> Option<Secret>;
}

/// A secret that is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PromptQuestion {
    /// What the user calls the host.
    pub host: String,
    /// The account there.
    pub user: String,
    /// The key file, or the server's own words.
    pub subject: String,
}

/// A text that no log and no error message may show.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret(…)")
    }
}

/// Declines every question and remembers that somebody would have had to answer. For work that nobody asked for,
/// which must neither disturb nor wait.
#[derive(Debug, Default)]
pub struct Unasked(Mutex<Option<String>>);

impl Unasked {
    /// What would have been asked for first, in words.
    pub fn wanted(&self) -> Option<String> {
        self.wish().clone()
    }

    fn wish(&self) -> MutexGuard<'_, Option<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, wish: String) {
        self.wish().get_or_insert(wish);
    }
}

impl Ask for Unasked {
    fn trust_host_key(&self, _host: &str, _shown: &ShownKey) -> bool {
        // The error that follows says it all.
        false
    }

    fn passphrase(&self, question: &PromptQuestion) -> Option<Secret> {
        let key = question.subject.escape_default();
        self.note(format!(
            "it needs the passphrase of `{key}`; load the key with `ssh-add`"
        ));
        None
    }

    fn password(&self, question: &PromptQuestion) -> Option<Secret> {
        let user = question.user.escape_default();
        self.note(format!(
            "it needs the password of {user}; set up a key and load it with `ssh-add`"
        ));
        None
    }

    fn answer(&self, _question: &PromptQuestion, _echo: bool) -> Option<Secret> {
        self.note("it asks a question while logging in; set up a key and load it with `ssh-add`".to_owned());
        None
    }
}

/// Nobody is there: every question is answered with no, as without a terminal.
#[derive(Debug, Clone, Copy, Default)]
pub struct NobodyToAsk;

impl Ask for NobodyToAsk {
    fn trust_host_key(&self, _host: &str, _shown: &ShownKey) -> bool {
        false
    }

    fn passphrase(&self, _question: &PromptQuestion) -> Option<Secret> {
        None
    }

    fn password(&self, _question: &PromptQuestion) -> Option<Secret> {
        None
    }

    fn answer(&self, _question: &PromptQuestion, _echo: bool) -> Option<Secret> {
        None
    }
}
