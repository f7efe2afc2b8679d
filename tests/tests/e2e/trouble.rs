//! What the suites about bad luck share: a host behind a proxy, jobs that count their executions, small disks.

use crate::SOON;
use farrun_tests::{Engine, FaultProxy, Lab, SshdOptions, temporary_folder, wait_until};
use std::path::{Path, PathBuf};

/// A host that is reached through a proxy.
pub(crate) fn behind_a_proxy() -> (Lab, FaultProxy) {
    behind_a_proxy_on(Engine::shared())
}

/// The same on a given engine.
pub(crate) fn behind_a_proxy_on(engine: Engine) -> (Lab, FaultProxy) {
    let lab = Lab::apart(engine, &SshdOptions::default());
    let proxy = FaultProxy::start(lab.sshd.socket_address());
    lab.add_host("lab", proxy.port());
    (lab, proxy)
}

/// A folder of the host in which a job leaves a line per execution.
pub(crate) struct Counter(tempfile::TempDir);

impl Counter {
    /// What a counted job begins with.
    pub(crate) const COUNT: &str = "echo executed >>/count/executions;";

    pub(crate) fn new() -> Self {
        Self(temporary_folder())
    }

    /// The value of `--mount`.
    pub(crate) fn mount(&self) -> String {
        format!("{}:/count", self.0.path().display())
    }

    /// A file in it.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// How often it was executed.
    pub(crate) fn executions(&self) -> usize {
        let lines = std::fs::read_to_string(self.file("executions")).unwrap_or_default();
        lines.lines().count()
    }
}

/// What is known here of the newest run, no host asked.
pub(crate) fn last(lab: &Lab) -> Option<serde_json::Value> {
    let listed = lab.home.farrun(&["list", "--offline", "--json"]).ok().json();
    listed["runs"].get(0).cloned()
}

/// The newest run's state as it is known here.
pub(crate) fn last_status(lab: &Lab) -> String {
    last(lab).map_or_else(String::new, |run| run["status"].as_str().unwrap().to_owned())
}

/// The newest run's id.
pub(crate) fn last_id(lab: &Lab) -> String {
    last(lab).unwrap()["id"].as_str().unwrap().to_owned()
}

/// How many runs the database has.
pub(crate) fn runs(lab: &Lab) -> usize {
    let listed = lab.home.farrun(&["list", "--offline", "--json"]).ok().json();
    listed["runs"].as_array().unwrap().len()
}

/// Whether one of the newest run's containers lives.
pub(crate) fn is_alive(lab: &Lab) -> bool {
    let run = last_id(lab);
    lab.containers(&run).iter().any(|line| line.ends_with(" running"))
}

/// Bytes of everything below a folder.
pub(crate) fn bytes_below(folder: &Path) -> u64 {
    crate::pull::files(folder)
        .iter()
        .map(|(_, bytes)| bytes.len() as u64)
        .sum()
}

/// Waits until part of an upload lies on the host.
pub(crate) fn wait_for_upload(lab: &Lab) {
    let incoming = lab.state().join("blobs/incoming");
    wait_until("a part of the upload", SOON, || bytes_below(&incoming) > 100_000);
}

/// Bytes that no disk or compressor shortens.
pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..length).map(|_| next()).collect()
}
