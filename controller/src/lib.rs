//! The library behind the `farrun` program.
//!
//! `cli` translates what was typed into one call of a story in `run` or `host`; stories speak to hosts through
//! `agent` over `ssh`, keep what they learn in `store`, and `ui` shows it. ARCHITECTURE.md has the map and says
//! who may import whom.

pub mod agent;
pub mod cli;
pub mod config;
pub mod controller;
pub mod diagnosis;
pub mod error;
pub mod host;
pub mod mirror;
pub mod model;
pub mod notify;
pub mod recipe;
pub mod run;
pub mod ssh;
pub mod store;
pub mod telemetry;
pub mod ui;

// What tests share speaks of the library by its name, wherever it is compiled.
#[cfg(test)]
extern crate self as farrun;
