//! How a connection is made: what for, who may be asked, how long to wait.

use super::ask::{Ask, NobodyToAsk};
use std::sync::Arc;
use std::time::Duration;

/// What a connection is for. The two never share one: a transfer would hold up conversations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Conversations with the agent and short commands.
    Control,
    /// File transfers.
    Bulk,
}

/// How long to wait for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// From the TCP connection to agreed keys.
    pub handshake: Duration,
    /// From there to being logged in.
    pub login: Duration,
    /// For a channel or a program to be started.
    pub answer: Duration,
}

impl Default for Timeouts {
    /// Each a little less than the 25 s within which a dead peer has to be noticed.
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(20),
            login: Duration::from_secs(22),
            answer: Duration::from_secs(20),
        }
    }
}

/// How to make a connection.
#[derive(Clone)]
pub struct Options {
    /// What it is for.
    pub purpose: Purpose,
    /// Who may be asked about an unknown key, a passphrase or a password.
    pub ask: Arc<dyn Ask>,
    /// How long to wait.
    pub timeouts: Timeouts,
}

impl Options {
    /// The defaults, with nobody to ask.
    pub fn new(purpose: Purpose) -> Self {
        Self {
            purpose,
            ask: Arc::new(NobodyToAsk),
            timeouts: Timeouts::default(),
        }
    }

    /// The same, with someone to ask.
    #[must_use]
    pub fn asking(self, ask: Arc<dyn Ask>) -> Self {
        Self { ask, ..self }
    }
}
