//! Reaching a host: dial it over SSH, put the agent there when it is not, and hold the conversation.
//!
//! Nothing here knows runs or the database.

pub mod agents;
pub mod deploy;
pub mod dial;
pub mod doctor;

pub use dial::{Dialer, Link, LinkError};
