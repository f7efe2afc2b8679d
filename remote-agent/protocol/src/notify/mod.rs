//! Telling somebody that a run has ended: a command of the user's, or a webhook that `curl` calls.
//!
//! The same on a host, where nobody needs to be connected, and on the user's machine. What is called with which bytes
//! follows from pure functions here ([`carry_out()`] alone starts a program); a webhook's address is a secret and
//! passes through standard input only.

mod carry_out;
mod event;
mod hook;
mod outcome;
#[cfg(test)]
mod tests;

pub use carry_out::carry_out;
pub use event::Event;
pub use hook::{Call, Hook, HookFile, InvalidHook};
pub use outcome::{Notified, Outcome};

use std::time::Duration;

/// Version of `notify/<controller_id>.json` and of the records of what was done.
pub const FORMAT: u32 = 1;
/// How long a hook may take.
pub const LIMIT: Duration = Duration::from_secs(30);
