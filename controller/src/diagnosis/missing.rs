//! Which missing evidence is worth a line.

use crate::diagnosis::Missing;
use crate::model::Run;
use farrun_protocol::diagnostics::{CACHES, CGROUP, SERIES, SMI_TEXT, SMI_TOPOLOGY, SMI_XML, TOOLKIT};
use farrun_protocol::spec::Gpus;

/// Whether it could have told something of this run. `--json`, the page and `farrun diagnose` name all of it.
pub(super) fn matters(missing: &Missing, run: &Run) -> bool {
    match missing.file.as_str() {
        // What only GPUs have.
        SERIES | SMI_TEXT | SMI_XML | SMI_TOPOLOGY | TOOLKIT => run.spec.gpus != Gpus::None,
        // A control group ends with its container, and many accounts have no model cache.
        CGROUP => !missing.partial,
        CACHES => missing.partial,
        _ => true,
    }
}
