//! Which missing evidence is worth a line.

use super::Missing;
use crate::model::Run;
use farrun_protocol::diagnostics::{CACHES, CGROUP, SERIES, SMI_TEXT, SMI_TOPOLOGY, SMI_XML, TOOLKIT};
use farrun_protocol::spec::Gpus;

impl Missing {
    /// Whether it could have told something of this run. `--json` and `farrun diagnose` name all of it.
    pub fn matters(&self, run: &Run) -> bool {
        match self.file.as_str() {
            // What only GPUs have.
            SERIES | SMI_TEXT | SMI_XML | SMI_TOPOLOGY | TOOLKIT => run.spec.gpus != Gpus::None,
            // A control group ends with its container, and many accounts have no model cache.
            CGROUP => !self.partial,
            CACHES => self.partial,
            _ => true,
        }
    }
}

/// What is missing for one reason in one row: a reason with the files that it kept away.
pub fn by_reason<'a>(missing: impl IntoIterator<Item = &'a Missing>) -> Vec<(&'a str, bool, Vec<&'a str>)> {
    let mut rows: Vec<(&str, bool, Vec<&str>)> = Vec::new();
    for one in missing {
        match rows
            .iter_mut()
            .find(|(why, partial, _)| *why == one.why && *partial == one.partial)
        {
            Some((_, _, files)) => files.push(&one.file),
            None => rows.push((&one.why, one.partial, vec![&one.file])),
        }
    }
    rows
}
