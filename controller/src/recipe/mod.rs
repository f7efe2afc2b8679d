//! Recipes: TOML files that say how a kind of run is made, and how an order becomes a run of it.
//!
//! A recipe is checked as a whole when it is read, and an order is checked as a whole when it is resolved: every
//! problem is reported at once and nothing is sent before. No shell is anywhere: a command is a list of words.
//! `docs/recipes.md` documents the format.
//!
//! | file | what |
//! |---|---|
//! | `file` | the format, as it is written |
//! | `unit` | sizes, durations and GPU needs in it |
//! | `operation` | what an operation asks for |
//! | `check` | what a recipe must keep to beyond its syntax |
//! | `error` | where in which file something is wrong |
//! | `template` | placeholders in words and JSON |
//! | `parameter` | values of parameters |
//! | `input` | files a run reads |
//! | `resolve` | from recipe and order to a resolved run |
//! | `catalog` | built-in recipes and the user's own |
//! | `help` | what an operation offers, for people |

mod catalog;
mod check;
mod error;
mod file;
mod help;
mod input;
mod operation;
mod parameter;
mod resolve;
mod template;
mod unit;

pub use catalog::{Catalog, Entry, FindError, Origin};
pub use error::{RecipeError, RecipeProblem};
pub use file::{
    ArgvItem, Container, Group, InputFrom, InputRule, Kind, Mount, Operation, OutputRule, Parameter, Recipe,
    ResultRule,
};
pub use help::{InputHelp, OperationHelp, ParameterHelp};
pub use input::{ResolvedInput, Source, regular};
pub use resolve::{Overrides, ParentRun, Request, ResolveError, Resolved, resolve};
pub use unit::{GpuNeed, parse_duration, parse_size};

#[cfg(test)]
mod tests;
