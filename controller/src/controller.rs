//! What every story needs from this side: configuration, database, the user's answers, and the wish to stop.

use crate::config::Config;
use crate::notify;
use crate::ssh::Ask;
use crate::store::{Location, Store, StoreError};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// This side of every conversation.
pub struct Controller {
    /// The settled configuration.
    pub config: Config,
    /// The database.
    pub store: Store,
    /// Cancelled when the user wants the command to end (Ctrl-C, SIGTERM, SIGHUP).
    pub interrupt: CancellationToken,
    /// Answers questions about host keys and passphrases, or declines.
    pub ask: Arc<dyn Ask>,
    /// Where things are told while a story runs.
    pub observer: Arc<dyn Observer>,
}

impl std::fmt::Debug for Controller {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Controller")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl Controller {
    /// Opens the database of `config` and gathers the rest.
    ///
    /// # Errors
    /// The database cannot be opened.
    pub async fn open(
        config: Config,
        interrupt: CancellationToken,
        ask: Arc<dyn Ask>,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, StoreError> {
        let location = Location::parse(&config.database)?;
        let store = Store::open(&location, &machine()).await?;
        if config.notify.is_some() {
            let file = config.file.clone();
            store.listen_to_ends(Arc::new(move |run| notify::begin(run, file.as_deref())));
        }
        Ok(Self {
            config,
            store,
            interrupt,
            ask,
            observer,
        })
    }

    /// Tells the observer.
    pub fn tell(&self, event: &Event<'_>) {
        self.observer.observe(event);
    }
}

/// What tells this machine from others that share a database: the kernel's machine id, else the host name.
fn machine() -> String {
    let id = std::fs::read_to_string("/etc/machine-id").ok();
    let id = id
        .as_deref()
        .map(str::trim)
        .filter(|id| !id.is_empty())
        .map(str::to_owned);
    id.unwrap_or_else(|| rustix::system::uname().nodename().to_string_lossy().into_owned())
}

/// Is told what happens while a story runs; shows it or not.
pub trait Observer: Send + Sync {
    /// Something happened.
    fn observe(&self, event: &Event<'_>);
}

/// What can happen while a story runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event<'a> {
    /// A connection is being made.
    Connecting {
        /// Name of the host.
        host: &'a str,
    },
    /// The agent is being put on a host.
    Deploying {
        /// Name of the host.
        host: &'a str,
    },
    /// A host is being looked at.
    Examining {
        /// Name of the host.
        host: &'a str,
    },
    /// Local inputs are being hashed.
    HashingInputs {
        /// How many files.
        files: usize,
    },
    /// Inputs are on their way.
    Uploading {
        /// Bytes sent.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
    /// The host fetches the image.
    PullingImage {
        /// The image.
        image: &'a str,
        /// Bytes fetched.
        done: u64,
        /// Bytes known so far.
        total: u64,
    },
    /// The container is being started.
    Starting {
        /// The run.
        run: &'a str,
        /// Name of the host.
        host: &'a str,
    },
    /// The run waits in line for a GPU.
    InLine {
        /// The run.
        run: &'a str,
        /// Where it stands and for what it waits, for people.
        place: &'a str,
    },
    /// The job runs.
    Running {
        /// The run.
        run: &'a str,
        /// Where it runs and what it computes with, for people.
        place: &'a str,
    },
    /// Run-log bytes.
    Log(&'a [u8]),
    /// The host hashes outputs.
    HashingOutputs {
        /// Bytes hashed.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
    /// Outputs are on their way here.
    Downloading {
        /// Bytes here.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
    /// A host collects evidence.
    CollectingEvidence {
        /// Name of the host.
        host: &'a str,
    },
    /// Evidence is on its way here.
    FetchingEvidence {
        /// Name of the host.
        host: &'a str,
        /// Bytes here.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
    /// The link broke and is being made again; the run is not affected.
    LinkLost {
        /// Name of the host.
        host: &'a str,
        /// Why.
        cause: &'a str,
    },
    /// The host is still out of reach and will be tried again.
    StillAway {
        /// Name of the host.
        host: &'a str,
        /// For how long.
        away: Duration,
        /// Whether it had acknowledged the run, so that the run goes on there without us.
        acknowledged: bool,
        /// Whether it is worth a line of its own where nothing moves on the screen.
        due: bool,
    },
    /// The link is back.
    LinkBack {
        /// Name of the host.
        host: &'a str,
    },
    /// Something the user should know and that changes nothing.
    Warning(&'a str),
    /// Something the user may like to know.
    Note(&'a str),
    /// The current step is over.
    StepDone,
}

/// An observer that keeps silent.
#[derive(Debug, Clone, Copy)]
pub struct Silent;

impl Observer for Silent {
    fn observe(&self, _event: &Event<'_>) {}
}
