//! Requests, replies, progress and failures: the JSON half of the conversation.

mod failure;
mod host;
mod reply;
mod request;
mod secret;

pub use failure::{ErrorCode, Failure};
pub use host::{EngineFacts, HostFacts, OurContainer, WatchFacts};
pub use reply::{Garbage, HelloReply, InputState, ManifestReply, Progress, Reply};
pub use request::{Collect, FetchLog, Hello, Launch, Place, Request, RunsPage, SetHook};
pub use secret::Secret;
