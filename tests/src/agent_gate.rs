//! Something that stands before a deployed agent and holds one kind of request back: the moment between a request and its
//! answer, for as long as a test wants it.

use crate::wait::wait_until;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Copies the conversation to the agent until it meets the request; that and all behind it goes no further. The end of the
/// conversation is the end of both.
const GATE: &str = r#"#!/usr/bin/perl
my ($agent, $word, $met) = ('@AGENT@', '@WORD@', '@MET@');
exec $agent, @ARGV if ($ARGV[0] // '') ne 'serve';
pipe(my $out, my $in) or die;
my $pid = fork() // die;
if ($pid == 0) {
    close $in;
    open(STDIN, '<&', $out) or die;
    exec $agent, @ARGV;
}
close $out;
my ($seen, $piece) = ('', '');
while (sysread(STDIN, $piece, 65536)) {
    $seen = substr($seen, -64) . $piece;
    if (index($seen, $word) >= 0) {
        open(my $mark, '>', $met) or die;
        close $mark;
        1 while sysread(STDIN, $piece, 65536);
        last;
    }
    syswrite($in, $piece);
}
close $in;
waitpid($pid, 0);
exit($? >> 8);
"#;

/// The one agent of a state folder with a gate before it. Its drop takes the gate away.
#[derive(Debug)]
pub struct AgentGate {
    agent: PathBuf,
    aside: PathBuf,
    met: PathBuf,
    verb: String,
}

impl AgentGate {
    /// Puts a gate before the agent that lies in a state folder: requests of this verb do not pass.
    ///
    /// # Panics
    /// When there is not exactly one agent, or the disk refuses.
    pub fn before(state: &Path, verb: &str) -> Self {
        let entries = std::fs::read_dir(state.join("agents")).expect("agents");
        let agents: Vec<PathBuf> = entries
            .map(|entry| entry.expect("agent").path().join("farrun-agent"))
            .filter(|path| path.is_file())
            .collect();
        let [agent] = agents.as_slice() else {
            panic!("one agent is wanted: {agents:?}")
        };
        let gate = Self {
            agent: agent.clone(),
            aside: agent.with_file_name("farrun-agent.aside"),
            met: state.join("met"),
            verb: verb.to_owned(),
        };
        std::fs::rename(&gate.agent, &gate.aside).expect("agent");
        let text = GATE
            .replace("@AGENT@", &gate.aside.display().to_string())
            .replace("@WORD@", &format!("\"verb\":\"{verb}\""))
            .replace("@MET@", &gate.met.display().to_string());
        std::fs::write(&gate.agent, text).expect("gate");
        std::fs::set_permissions(&gate.agent, std::fs::Permissions::from_mode(0o555)).expect("gate");
        gate
    }

    /// Waits until a request is held back.
    ///
    /// # Panics
    /// When `deadline` passes.
    pub fn wait(&self, deadline: Duration) {
        wait_until(&format!("`{}` at the gate", self.verb), deadline, || {
            self.met.exists()
        });
    }
}

impl Drop for AgentGate {
    fn drop(&mut self) {
        let _ = std::fs::rename(&self.aside, &self.agent);
        let _ = std::fs::remove_file(&self.met);
    }
}
