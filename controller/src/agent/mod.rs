//! Typed client of the conversation with an agent, over any pair of byte streams.
//!
//! It opens no connection and knows no SSH: `host` hands it the two halves of an exec channel, tests hand it a
//! duplex. It does not retry either: when a conversation is over, its cause is told once to everyone who waits.
//!
//! * [`client`]: opening a conversation, calls and their cancellation
//! * [`calls`]: one method per request
//! * [`opening`]: the search for the preamble behind whatever a login shell printed
//! * `wire`: the reader and the writer task, the heartbeat
//! * [`error`]: what can go wrong

pub mod calls;
pub mod client;
pub mod error;
mod log_source;
pub mod opening;
mod wire;

pub use client::{Client, Timing};
pub use error::{AgentError, Cause};

#[cfg(test)]
mod tests;
