//! The contract between the farrun controller and its agent on a host.
//!
//! This crate is the specification. It holds what both sides must agree on and nothing else: how bytes are
//! framed, which requests exist, what an order for a run looks like, which files a host keeps and how they
//! are written. It opens no socket, starts no process and prints nothing.
//!
//! # One conversation
//!
//! The controller opens an SSH exec channel and starts `…/agents/<sha256>/farrun-agent serve <nonce>`.
//! A login shell may print before the agent does, so the agent's first bytes are the [`preamble`]: a line that
//! repeats the nonce. The reader skips at most [`preamble::LIMIT`] bytes up to it. After that both directions
//! carry [`frame`]s. The first request is [`Request::Hello`]; every other request before it is refused.
//!
//! | frame | from | payload |
//! |---|---|---|
//! | `Request` | controller | JSON [`Request`] |
//! | `Reply` | agent | JSON [`Reply`], exactly one per request unless it fails or is answered by a `LogChunk` |
//! | `Failure` | agent | JSON [`Failure`] |
//! | `Progress` | agent | JSON [`Progress`], any number before the reply |
//! | `LogChunk` | agent | [`log::LogChunk`], raw run-log bytes behind a fixed head |
//! | `Ping`, `Pong` | both | empty; any inbound frame counts as a sign of life |
//! | `Cancel` | controller | empty; ends the wait of the request with that id, which then fails as `cancelled` |
//!
//! The agent never writes a sentence for the user: it sends typed facts, and `detail` fields quote what an
//! engine or the kernel said; only a notification, which is for people and leaves the host without us, is worded there
//! ([`explain`]). Whatever a host sends is hostile until checked; types whose text can end in a
//! path or a command line validate themselves while they are decoded.
//!
//! # While nobody talks
//!
//! A conversation that meets a run that is active or waits starts `farrun-agent watch`, the observer of the account: it
//! starts what waits, settles what has ended and keeps the [`series`] of runs with GPUs. It holds `watch.lock` for its life and
//! says in `watch.json` who it is; [`message::HostFacts::watch`] and [`lease::QueuePlace::watched`] repeat it. Whatever it does
//! a conversation does as well, so it may be killed at any moment. It ends when nothing is left. With
//! [`Request::SetResidence`] it is started after each boot as well; [`message::HostFacts::residence`] says by what.
//!
//! # When a run does not succeed
//!
//! Its host collects [`diagnostics`] as soon as the end is recorded, with nobody connected; [`Request::Diagnose`] fetches them
//! or has them collected, for a host as well. A bundle is a folder of plain files that is fetched as outputs are. What leaves
//! a host in it has gone through [`redact`], and the values of a run's secrets stay on the host until that is done, no longer.
//!
//! # Versions
//!
//! [`PROTOCOL`] changes when an old peer would misunderstand a message. The controller always starts the agent
//! it carries, by content hash, so both ends of a conversation are normally of one build. Files on the host
//! are shared between agent versions; see [`record`] for their rules.

pub mod content;
pub mod diagnostics;
pub mod doctor;
pub mod explain;
pub mod frame;
pub mod gpu;
pub mod id;
pub mod layout;
pub mod lease;
pub mod log;
pub mod manifest;
pub mod message;
pub mod notify;
pub mod preamble;
pub mod record;
pub mod redact;
pub mod series;
pub mod spec;
pub mod verdict;

pub use content::ContentId;
pub use id::{BlockHash, ControllerId, Generation, HostId, PromptId, RunId, Sha256};
pub use message::{ErrorCode, Failure, Progress, Reply, Request};

/// Version of the conversation; both sides must agree on it exactly.
pub const PROTOCOL: u32 = 1;
