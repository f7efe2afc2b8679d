//! Why a run failed: from its evidence to findings.
//!
//! Pure: reads a local folder that was fetched from a host ([`farrun_protocol::diagnostics`] says what is in it) and
//! what the controller knows of the run ([`Facts`]); asks no host, writes nothing, prints nothing. Nothing in that
//! folder is believed: files are read in bounded parts, lines are cut, text is redacted by shape before it becomes part
//! of a finding, and commands are made of nothing that a host or a job said.
//!
//! | file | what |
//! |---|---|
//! | `evidence` | from a folder to values: what rules look at |
//! | `rules` | the table: what is looked for, what is said, what to try |
//! | `judge` | applies the table; decides which match is the cause |
//! | `remedy`, `words` | figures and words of this run for a rule's templates |
//! | `ending` | what an exit code, a signal or a reason means by itself |
//! | `steps` | what to try, also without a cause |
//! | `missing` | which missing evidence is worth a line |
//! | `surroundings` | who else was there, memory, disks |
//! | `story` | what happened when |
//! | `page` | a page of HTML to read, print and send |
//!
//! A run that succeeded, or has not ended, has no diagnosis. When no rule fits there is no cause: nothing is invented.

mod ending;
mod evidence;
mod finding;
mod judge;
mod missing;
pub mod page;
mod remedy;
mod rules;
mod steps;
mod story;
mod surroundings;
mod words;

pub use finding::{
    Certainty, Context, Diagnosis, DiskContext, Document, Finding, GpuContext, LogLine, MemoryContext,
    Missing, Moment, OtherUse, Quote, Remedy,
};
pub use missing::by_reason;
pub use steps::steps;

use crate::model::{Run, RunStatus};
use evidence::Evidence;
use farrun_protocol::gpu::GpuReport;
use farrun_protocol::record::Settled;
use std::path::Path;

/// How many lines [`Diagnosis::last_lines`] has at most.
pub const LAST_LINES: usize = 20;

/// What the controller knows of a run besides its evidence.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The run.
    pub run: &'a Run,
    /// The record of its end, when it is here; else the evidence's is taken.
    pub settled: Option<&'a Settled>,
    /// What the host said of its GPUs last; taken when the evidence has none.
    pub gpus: Option<&'a GpuReport>,
    /// The local mirror of its log, a better source than the excerpts.
    pub log: Option<&'a Path>,
}

impl<'a> Facts<'a> {
    /// Those of a run of which nothing but its row is known; its mirror is read where the row says.
    pub fn of(run: &'a Run) -> Self {
        Self {
            run,
            settled: None,
            gpus: None,
            log: run.log_path.as_deref().map(Path::new),
        }
    }
}

/// Why a run did not succeed, from the evidence in `folder` (none: only what is here). None for a run that succeeded or
/// has not ended.
///
/// Reads a few MiB at most and takes well under a second; still, it blocks.
pub fn read(folder: Option<&Path>, facts: &Facts<'_>) -> Option<Diagnosis> {
    if !matches!(facts.run.status, RunStatus::Failed | RunStatus::Cancelled) {
        return None;
    }
    let evidence = Evidence::read(folder, facts);
    let mut diagnosis = judge::judge(&evidence, facts);
    mark_cause(&mut diagnosis);
    Some(diagnosis)
}

/// Marks among the last lines the one that the cause was read from, as it is marked among those around it.
fn mark_cause(diagnosis: &mut Diagnosis) {
    let cause = diagnosis.around.iter().find(|line| line.cause);
    let Some(cause) = cause.filter(|cause| cause.offset.is_some()) else {
        return;
    };
    for line in &mut diagnosis.last_lines {
        line.cause = line.offset == cause.offset;
    }
}

/// What a sentence begins with whose cause is not certain.
pub const PROBABLY: &str = "probably: ";

/// The cause as `list` and `show` tell it: its code and one sentence, which says when it is not certain.
pub fn short(diagnosis: &Diagnosis) -> Option<(&'static str, String)> {
    let cause = diagnosis.cause.as_ref()?;
    let sentence = match cause.certainty {
        Certainty::Certain => cause.sentence.clone(),
        Certainty::Likely | Certainty::Seen => format!("{PROBABLY}{}", cause.sentence),
    };
    Some((cause.code, sentence))
}

/// The command templates of all remedies, each with the code of its finding.
#[cfg(test)]
pub(crate) fn commands() -> Vec<(&'static str, &'static str)> {
    let of = |rule: &&'static rules::Rule| {
        let commands = rule.remedies.iter().map(|advice| advice.command);
        let named = commands.filter(|command| !command.is_empty());
        named.map(|command| (rule.code, command)).collect::<Vec<_>>()
    };
    rules::RULES.iter().flat_map(of).collect()
}

#[cfg(test)]
mod tests;
