//! The evidence of a run that did not succeed, or of the host, collected here while it is still to be had.
//!
//! What lies in a bundle is the protocol's ([`farrun_protocol::diagnostics`]). Each item is collected apart, within a
//! time and a size of its own, cheapest first and what can hang last; one that fails, hangs or panics is listed with
//! the reason and stops nothing. Nothing here touches how a run ended, and nobody waits for it but who asks.
//!
//! ```text
//! collect         the items in their order, and the whole within its limits
//!   scene         what is known about the run and the host before the first item
//!   item, thread  one item: its limits, its outcome
//!   items/…       one file per source
//!   parcel        what was collected so far; redacted here
//!   write_down    the bundle, with its summary, where there is room for it
//! place           where bundles lie, and which are there
//! retention       which of them go
//! ```

mod collect;
mod environment;
mod item;
mod items;
mod parcel;
mod place;
mod retention;
mod scene;
mod summary;
mod thread;
mod write_down;

pub(crate) use collect::{Subject, collect};
pub(crate) use place::{
    Place, about_host, elsewhere, explained_at, find, forget_secrets, is_explained, of_state, read, remove,
};
pub(crate) use retention::unexplained;
pub(crate) use write_down::Made;
