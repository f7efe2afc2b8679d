//! `~/.ssh/config`.
