//! What can end a story early.

use crate::agent::AgentError;
use crate::host::LinkError;
use crate::mirror::MirrorError;
use crate::ssh::SshError;
use crate::ssh::transfer::TransferError;
use crate::store::StoreError;
use farrun_protocol::RunId;
use farrun_protocol::spec::ParentOutput;
use std::path::PathBuf;

/// What can end a story early. None of these says that a job failed: that is a verdict in the run's row.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The host could not be reached or talked to.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The host cannot be reached without an answer of the user, and this was no time to ask.
    #[error("{what}")]
    AnswerNeeded {
        /// What is needed, and how to do without.
        what: String,
    },
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The local mirror.
    #[error(transparent)]
    Mirror(#[from] MirrorError),
    /// No run has this id.
    #[error("no run `{0}` is known here")]
    NoRun(RunId),
    /// The run's host was removed from the database.
    #[error("host `{host}` of run `{run}` is not known here any more")]
    NoHost {
        /// The run.
        run: RunId,
        /// Its host.
        host: String,
    },
    /// Another machine answers at the host's address.
    #[error(
        "another machine answers at the address of `{host}` ({answered} instead of {expected}), and {runs} of its runs are not finished"
    )]
    OtherMachine {
        /// Name of the host.
        host: String,
        /// The machine we know.
        expected: String,
        /// The one that answered.
        answered: String,
        /// How many runs would be settled by the wrong machine.
        runs: usize,
    },
    /// The run is not ours to change.
    #[error("run `{0}` belongs to another controller")]
    NotOwner(RunId),
    /// Another command is starting the run at this moment.
    #[error("run `{0}` is being started")]
    BeingStarted(RunId),
    /// The run has not ended.
    #[error("run `{0}` has not ended")]
    Active(RunId),
    /// The run ended before.
    #[error("run `{run}` has already ended ({status})")]
    Ended {
        /// The run.
        run: RunId,
        /// How.
        status: String,
    },
    /// No host can ever carry out the order.
    #[error("no host can carry out the order")]
    NoHostFits {
        /// Each host and why not.
        why: Vec<String>,
    },
    /// An input of an order cannot be read.
    #[error("input `{}` cannot be read", path.display())]
    Input {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// An input changed between ordering and sending.
    #[error("input `{}` has changed since the run was ordered", path.display())]
    InputChanged {
        /// The file.
        path: PathBuf,
    },
    /// An input is neither here nor on the host.
    #[error(
        "input `{path}` of run `{run}`{} is neither on the host nor here any more{}",
        which_output(output.as_deref()),
        was(file)
    )]
    InputGone {
        /// The run.
        run: RunId,
        /// Its path below the run's inputs.
        path: String,
        /// The output that it was of an earlier run.
        output: Option<Box<ParentOutput>>,
        /// The file of this machine that it was.
        file: Option<PathBuf>,
    },
    /// The order was placed on another machine that shares the database, and what it still needs lies there.
    #[error("run `{0}` was ordered on another machine, which has its inputs and may be working on it")]
    OrderedElsewhere(RunId),
    /// The host has no room for an input.
    #[error("the disk of `{host}` is full: {free} bytes are free and an input has {needed}")]
    HostFull {
        /// Name of the host.
        host: String,
        /// Free bytes where its state folder lies.
        free: u64,
        /// Size of the input.
        needed: u64,
    },
    /// A local file of ours.
    #[error("`{}` cannot be written", path.display())]
    Local {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Secrets that an interrupted order needs were not given again.
    #[error("run `{run}` needs its secrets again: {}", names.join(", "))]
    SecretsNeeded {
        /// The run.
        run: RunId,
        /// Their names.
        names: Vec<String>,
    },
    /// An answer of the host makes no sense.
    #[error("`{host}` sent something that cannot be right: {what}")]
    Hostile {
        /// Name of the host.
        host: String,
        /// What.
        what: String,
    },
    /// A host says of a run that is to be adopted that its log may be longer than is taken over unasked.
    #[error(
        "`{host}` says that the log of run `{run}` may have {claimed} bytes, and no more than {most} are taken over unasked"
    )]
    LogCapTooLarge {
        /// Name of the host.
        host: String,
        /// The run.
        run: RunId,
        /// The log cap of its order, as the host tells it.
        claimed: u64,
        /// The greatest that is accepted.
        most: u64,
    },
    /// The order's folder would make `log_path` longer than a database field.
    #[error("the path of the run log would be longer than 500 characters: `{}`", path.display())]
    LogPathTooLong {
        /// The path.
        path: PathBuf,
    },
    /// The spec cannot be carried out anywhere.
    #[error("the order is not acceptable")]
    Spec(#[from] farrun_protocol::spec::InvalidSpec),
    /// The outputs of a run were gone before they were here.
    #[error("the outputs of run `{run}` are not on `{host}` any more")]
    OutputsGone {
        /// The run.
        run: RunId,
        /// Name of the host.
        host: String,
    },
    /// The user wants out; the run goes on or was cancelled, as `detached` says.
    #[error("interrupted")]
    Interrupted {
        /// The run that goes on, when one does.
        detached: Option<RunId>,
    },
}

fn which_output(output: Option<&ParentOutput>) -> String {
    let output = output.map(|output| format!(", output `{}` of run `{}`,", output.path, output.run_id));
    output.unwrap_or_default()
}

fn was(file: &Option<PathBuf>) -> String {
    let file = file
        .as_ref()
        .map(|file| format!(": `{}` does not exist", file.display()));
    file.unwrap_or_default()
}

impl From<SshError> for RunError {
    fn from(error: SshError) -> Self {
        Self::Link(error.into())
    }
}
impl From<AgentError> for RunError {
    fn from(error: AgentError) -> Self {
        Self::Link(error.into())
    }
}
impl From<TransferError> for RunError {
    fn from(error: TransferError) -> Self {
        Self::Link(error.into())
    }
}
