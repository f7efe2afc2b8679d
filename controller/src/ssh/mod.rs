//! (module map)
pub mod transfer;
