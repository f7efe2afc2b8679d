//! The tables as sea-orm sees them. Only this module's siblings know them; everyone else speaks model types.

pub(super) mod host;
pub(super) mod host_report;
pub(super) mod meta;
pub(super) mod notification;
pub(super) mod output_file;
pub(super) mod output_pull;
pub(super) mod prompt;
pub(super) mod run;
pub(super) mod run_event;
pub(super) mod run_path;
