//! The evidence of one run, read from a folder that came from a host. Everything in it may be anything: of any size,
//! of any bytes, of the wrong shape, or absent.

mod container;
mod file;
pub(super) mod kernel;
mod log;
mod query;
pub(super) mod text;

pub(super) use container::{Engine, Event, Image, Inspect};
pub(super) use kernel::KernelLine;
pub(super) use log::{Line, Log};
pub(super) use query::Query;

use super::{Document, Facts, Missing};
use farrun_protocol::diagnostics::{
    self as names, AgentEvent, Bundle, FileSystem, LogExcerpts, Outcome, Process,
};
use farrun_protocol::gpu::GpuReport;
use farrun_protocol::record::{RunFacts, Settled};
use farrun_protocol::series::Sample;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::path::Path;

/// Most bytes of a text that are read.
const TEXT: u64 = 512 * 1024;
/// Most bytes of a document that is shown.
const SHOWN: u64 = 128 * 1024;
/// Most lines of the series, and of the engine's events.
const MOST: (usize, usize) = (20_000, 500);
/// Most items of a list.
const LIST: usize = 500;

/// What is shown as it is, in this order. What is there twice, for programs as well, is shown once.
const DOCUMENTS: [&str; 14] = [
    names::SETTLED,
    names::CONTAINER,
    names::SPEC,
    names::AGENT,
    names::KERNEL,
    names::EVENTS,
    names::SYSTEM,
    names::CGROUP,
    names::DRIVER,
    names::TOOLKIT,
    names::SMI_TEXT,
    names::SMI_TOPOLOGY,
    names::CACHES,
    names::IMAGE,
];

/// Everything a rule may look at.
#[derive(Debug, Default)]
pub(super) struct Evidence {
    pub(super) bundle: Option<Bundle>,
    pub(super) settled: Option<Settled>,
    pub(super) log: Log,
    pub(super) container: Inspect,
    pub(super) image: Image,
    pub(super) engine: Engine,
    pub(super) events: Vec<Event>,
    /// What agents did about the run.
    pub(super) agent: Vec<AgentEvent>,
    pub(super) kernel: Vec<KernelLine>,
    pub(super) disks: Vec<FileSystem>,
    pub(super) processes: Vec<Process>,
    pub(super) gpus: Option<GpuReport>,
    pub(super) leases: Vec<RunFacts>,
    /// What `nvidia-smi -q` says of the host's GPUs.
    pub(super) queries: Vec<Query>,
    pub(super) samples: Vec<Sample>,
    /// Counters of the container's cgroup.
    pub(super) cgroup: BTreeMap<String, u64>,
    pub(super) driver: String,
    pub(super) system: String,
    pub(super) documents: Vec<Document>,
    pub(super) missing: Vec<Missing>,
}

/// Reads files of one folder and remembers what could not be had.
struct Reader<'a> {
    folder: &'a Path,
    /// What the bundle says of itself; its word on what is missing is better than ours.
    bundle: Option<&'a Bundle>,
    missing: Vec<Missing>,
}

impl Reader<'_> {
    fn had<T: Default>(&mut self, file: &str, read: impl FnOnce(&Path) -> Result<T, String>) -> T {
        match read(&self.folder.join(file)) {
            Ok(value) => {
                if let Some(Outcome::Partial { why }) = self.told(file) {
                    self.add(file, why, true);
                }
                value
            }
            Err(why) => {
                let why = match self.told(file) {
                    Some(Outcome::Missing { why } | Outcome::Partial { why }) => why,
                    _ => why,
                };
                self.add(file, why, false);
                T::default()
            }
        }
    }

    fn json<T: DeserializeOwned + Default>(&mut self, file: &str) -> T {
        self.had(file, file::json)
    }

    fn told(&self, file: &str) -> Option<Outcome> {
        let items = &self.bundle?.items;
        let item = items.iter().take(LIST).find(|item| item.file == file)?;
        Some(item.outcome.clone())
    }

    fn add(&mut self, file: &str, why: String, partial: bool) {
        self.missing.push(Missing {
            file: file.to_owned(),
            why: super::words::shown(&why, 500),
            partial,
        });
    }
}

impl Evidence {
    /// Reads what is there. Without a folder there is only the mirror of the log.
    pub(super) fn read(folder: Option<&Path>, facts: &Facts<'_>) -> Self {
        let Some(folder) = folder else {
            return Self {
                log: Log::read(facts.log, None, None),
                settled: facts.settled.cloned(),
                gpus: facts.gpus.cloned(),
                ..Self::default()
            };
        };
        let mut reader = Reader {
            folder,
            bundle: None,
            missing: Vec::new(),
        };
        let bundle: Option<Bundle> = reader.json::<Option<Bundle>>(names::BUNDLE);
        reader.bundle = bundle.as_ref();
        let places: Option<LogExcerpts> = reader.json(names::LOG_PLACES);
        let log = Log::read(facts.log, Some(folder), places.as_ref());
        for (file, why) in &log.missing {
            reader.had(file, |_| Err::<(), _>(why.clone()));
        }
        // A bundle that is about another run says nothing about this one's end.
        let own = |settled: &Settled| settled.run_id == facts.run.id;
        let kept: Option<Settled> = reader.json(names::SETTLED);
        let text = |path: &Path| file::text(path, TEXT);
        let mut evidence = Self {
            settled: facts.settled.cloned().or_else(|| kept.filter(own)),
            container: reader.json(names::CONTAINER),
            image: reader.json(names::IMAGE),
            engine: reader.json(names::ENGINE),
            events: reader.had(names::EVENTS, |path| file::json_lines(path, TEXT, MOST.1)),
            kernel: reader.had(names::KERNEL, |path| Ok(kernel::lines(&text(path)?))),
            disks: reader.json(names::DISKS),
            processes: reader.json(names::PROCESSES),
            gpus: reader
                .json::<Option<GpuReport>>(names::GPUS)
                .or_else(|| facts.gpus.cloned()),
            leases: reader.json(names::LEASES),
            samples: reader.had(names::SERIES, |path| file::json_lines(path, 8 * TEXT, MOST.0)),
            cgroup: reader.had(names::CGROUP, |path| Ok(counters(&text(path)?))),
            driver: reader.had(names::DRIVER, text),
            system: reader.had(names::SYSTEM, text),
            log,
            // What is missing of it matters to runs with GPUs only, and the host has said so.
            queries: file::text(&folder.join(names::SMI_TEXT), TEXT)
                .map(|text| query::gpus(&text))
                .unwrap_or_default(),
            // Older hosts have none.
            agent: file::json_lines(&folder.join(names::AGENT), TEXT, MOST.1).unwrap_or_default(),
            ..Self::default()
        };
        evidence.documents = documents(folder);
        evidence.missing = std::mem::take(&mut reader.missing);
        evidence.add_untried(bundle.as_ref());
        evidence.bundle = bundle;
        evidence.disks.truncate(LIST);
        evidence.processes.truncate(LIST);
        evidence.leases.truncate(LIST);
        if let Some(report) = &mut evidence.gpus {
            report.gpus.truncate(LIST);
            report.processes.truncate(LIST);
            report.leases.truncate(LIST);
        }
        evidence
    }

    /// What the host says is missing and nothing here reads.
    fn add_untried(&mut self, bundle: Option<&Bundle>) {
        for item in bundle.iter().flat_map(|bundle| &bundle.items).take(LIST) {
            let (why, partial) = match &item.outcome {
                Outcome::Collected => continue,
                Outcome::Partial { why } => (why, true),
                Outcome::Missing { why } => (why, false),
            };
            let file = super::words::shown(&item.file, 100);
            if self.missing.iter().all(|known| known.file != file) {
                self.missing.push(Missing {
                    file,
                    why: super::words::shown(why, 500),
                    partial,
                });
            }
        }
    }

    /// A counter of the container's cgroup, by any of its names.
    pub(super) fn counter(&self, names: &[&str]) -> Option<u64> {
        names.iter().find_map(|name| self.cgroup.get(*name).copied())
    }
}

/// `name value` lines; what is no number is left out.
fn counters(text: &str) -> BTreeMap<String, u64> {
    text.lines()
        .take(LIST)
        .filter_map(|line| {
            let (name, value) = line.trim().rsplit_once(char::is_whitespace)?;
            Some((name.trim().to_owned(), value.parse().ok()?))
        })
        .collect()
}

fn documents(folder: &Path) -> Vec<Document> {
    let texts = DOCUMENTS.iter().filter_map(|name| {
        let text = file::text(&folder.join(name), SHOWN).ok()?;
        let text = match serde_json::from_str::<serde_json::Value>(&text) {
            Ok(value) => serde_json::to_string_pretty(&value).unwrap_or(text),
            Err(_) => text,
        };
        let lines: Vec<String> = text.lines().map(text::plain).collect();
        Some(Document {
            file: (*name).to_owned(),
            text: super::words::redacted(&lines.join("\n")),
        })
    });
    texts
        .filter(|document| !document.text.trim().is_empty())
        .collect()
}
