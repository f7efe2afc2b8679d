//! What the live view knows, and the picture of it.

use super::host::HostState;
use super::link::{Following, News};
use crate::cli::outcome::{elapsed, state};
use crate::cli::status::print::given;
use crate::error::CommandError;
use crate::model::{Host, HostReport, Run, RunStatus};
use crate::run::estimate::{self, Usual};
use crate::run::{gpu_words, quiet};
use crate::store::Store;
use crate::ui::log_tail::LogTail;
use crate::ui::screen::{Key, Picture, RunRow};
use crate::ui::{Tone, format};
use chrono::{DateTime, Local, Utc};
use farrun_protocol::RunId;
use std::collections::VecDeque;

/// Runs that ended while somebody watched, at most.
const ENDED: usize = 10;
/// Lines by which hosts are scrolled.
const PAGE: usize = 8;

/// Everything that is shown.
pub(super) struct State {
    hosts: Vec<HostState>,
    /// Active runs, newest first, then those that ended meanwhile.
    runs: Vec<Run>,
    ended: VecDeque<Run>,
    /// How long runs like the active ones take; told once for each.
    usual: Vec<(RunId, Option<Usual>)>,
    chosen: Option<RunId>,
    log: LogTail,
    log_state: String,
    scroll: usize,
    colour: bool,
}

impl State {
    /// What was known before anybody was asked.
    pub(super) async fn new(store: &Store, hosts: Vec<Host>, colour: bool) -> Result<Self, CommandError> {
        let mut states = Vec::new();
        for host in hosts {
            let last = store.report(&host.name).await?;
            states.push(HostState::new(host, last));
        }
        Ok(Self {
            hosts: states,
            runs: Vec::new(),
            ended: VecDeque::new(),
            usual: Vec::new(),
            chosen: None,
            log: LogTail::default(),
            log_state: String::new(),
            scroll: 0,
            colour,
        })
    }

    pub(super) fn hosts(&self) -> Vec<Host> {
        self.hosts.iter().map(|host| host.host.clone()).collect()
    }

    /// What hosts said, to be kept for the time when they say nothing.
    pub(super) fn reports(&self) -> Vec<(&str, HostReport)> {
        let of = |host: &HostState| HostReport {
            facts: host.facts.clone(),
            gpus: host.gpus.clone(),
        };
        self.hosts
            .iter()
            .map(|host| (host.host.name.as_str(), of(host)))
            .collect()
    }

    /// Whose log is wanted.
    pub(super) fn following(&self) -> Option<Following> {
        let run = self.all().find(|run| Some(&run.id) == self.chosen.as_ref())?;
        run.launched_at.map(|_| Following {
            host: run.host.clone(),
            run: run.id.clone(),
        })
    }

    fn all(&self) -> impl Iterator<Item = &Run> {
        self.runs.iter().chain(&self.ended)
    }

    /// Reads the runs: other commands order and settle some as well.
    pub(super) async fn look(&mut self, store: &Store) -> Result<(), CommandError> {
        let shown = |run: &Run| self.hosts.iter().any(|host| host.host.name == run.host);
        let active: Vec<Run> = store
            .unsettled_runs(None)
            .await?
            .into_iter()
            .filter(shown)
            .collect();
        let gone: Vec<RunId> = self
            .runs
            .iter()
            .map(|run| run.id.clone())
            .filter(|id| !active.iter().any(|run| &run.id == id))
            .collect();
        for id in gone {
            if let Some(run) = store.run(&id).await? {
                self.ended.push_front(run);
            }
        }
        self.ended.truncate(ENDED);
        self.usual
            .retain(|(id, _)| active.iter().any(|run| &run.id == id));
        // A run that is not running has not told which GPUs it gets.
        for run in active.iter().filter(|run| run.started_at.is_some()) {
            if !self.usual.iter().any(|(id, _)| *id == run.id) {
                let usual = estimate::usual(store, run).await?;
                self.usual.push((run.id.clone(), usual));
            }
        }
        self.runs = active;
        if !self.all().any(|run| Some(&run.id) == self.chosen.as_ref()) {
            let first = self.first().map(|run| run.id.clone());
            self.choose(first);
        }
        Ok(())
    }

    /// The run that is shown when nobody has chosen one: the newest that has something to say.
    fn first(&self) -> Option<&Run> {
        let running = self.runs.iter().find(|run| run.started_at.is_some());
        running.or_else(|| self.all().next())
    }

    fn choose(&mut self, run: Option<RunId>) {
        if self.chosen != run {
            self.chosen = run;
            self.log = LogTail::default();
            self.log_state = String::new();
        }
    }

    /// A key was pressed.
    pub(super) fn press(&mut self, key: Key) {
        let ids: Vec<RunId> = self.all().map(|run| run.id.clone()).collect();
        let place = ids
            .iter()
            .position(|id| Some(id) == self.chosen.as_ref())
            .unwrap_or(0);
        match key {
            Key::Up => self.choose(ids.get(place.saturating_sub(1)).cloned()),
            Key::Down => {
                let below = (place + 1).min(ids.len().saturating_sub(1));
                self.choose(ids.get(below).cloned());
            }
            Key::PageUp => self.scroll = self.scroll.saturating_sub(PAGE),
            Key::PageDown => {
                // Not farther than there is something: the way back would seem to do nothing.
                let lines: usize = self.hosts.iter().map(HostState::lines).sum();
                self.scroll = (self.scroll + PAGE).min(lines.saturating_sub(1));
            }
            Key::Quit | Key::Suspend | Key::Resized => {}
        }
    }

    /// A host told something.
    pub(super) fn learn(&mut self, news: News) {
        let chosen = self.chosen.clone();
        let is_chosen = |run: &RunId| chosen.as_ref() == Some(run);
        match news {
            News::Seen { host, seen } => {
                if let Some(host) = self.hosts.get_mut(host) {
                    host.learn(*seen);
                }
            }
            News::Away { host, cause } => {
                if let Some(host) = self.hosts.get_mut(host) {
                    host.lose(cause);
                }
            }
            News::LogBegins { run } if is_chosen(&run) => {
                self.log = LogTail::default();
                self.log_state = String::new();
            }
            News::Log { run, bytes } if is_chosen(&run) => self.log.push(&bytes),
            News::LogEnds { run, why } if is_chosen(&run) => self.log_state = why,
            // Of a run that was left meanwhile.
            News::LogBegins { .. } | News::Log { .. } | News::LogEnds { .. } => {}
        }
    }

    /// What is shown at `now`.
    pub(super) fn picture(&self, now: DateTime<Utc>) -> Picture {
        let place = self.all().position(|run| Some(&run.id) == self.chosen.as_ref());
        let run = place.and_then(|place| self.all().nth(place));
        Picture {
            title: format!(
                "farrun status  {}  {}, {}",
                now.with_timezone(&Local).format("%H:%M:%S"),
                counted(self.hosts.len(), "host"),
                counted(self.runs.len(), "active run")
            ),
            hosts: self.hosts.iter().map(|host| host.panel(now)).collect(),
            scroll: self.scroll,
            runs: self.all().map(|run| self.row(run)).collect(),
            chosen: place,
            log_title: run.map_or_else(String::new, |run| {
                let state = if self.log_state.is_empty() {
                    String::new()
                } else {
                    format!(" ({})", self.log_state)
                };
                format!("log of {} {} on {}{state}", run.id, run.spec.name, run.host)
            }),
            log: self.log.lines(),
            colour: self.colour,
        }
    }

    fn row(&self, run: &Run) -> RunRow {
        let facts = self
            .hosts
            .iter()
            .find(|host| host.host.name == run.host)
            .and_then(|host| host.runs.iter().find(|facts| facts.run_id == run.id));
        let queue = facts
            .and_then(|facts| facts.queue.as_deref())
            .filter(|_| run.status == RunStatus::Queued);
        let note = match (&run.error_message, queue) {
            (Some(why), _) => why.clone(),
            (None, Some(queue)) => gpu_words::place(queue),
            (None, None) => facts.map_or_else(String::new, |facts| match quiet::warning(facts) {
                Some(warning) => format!("may hang: {warning}"),
                None => format!("log {}", format::bytes(facts.log_length)),
            }),
        };
        let quiet = facts.is_some_and(|facts| quiet::warning(facts).is_some());
        let usual = self
            .usual
            .iter()
            .find(|(id, _)| *id == run.id)
            .and_then(|(_, usual)| *usual);
        RunRow {
            id: run.id.to_string(),
            name: run.spec.name.clone(),
            host: run.host.clone(),
            state: match run.status {
                // The longer words of other places leave no room here.
                RunStatus::Downloading => "outputs on host".to_owned(),
                _ => state(run),
            },
            time: elapsed(run).map_or_else(
                || "-".to_owned(),
                |elapsed| match run.status.is_settled() {
                    true => elapsed,
                    false => estimate::beside(&elapsed, usual),
                },
            ),
            gpus: match given(run).as_str() {
                "-" => String::new(),
                given => format!("GPU {given} "),
            },
            note,
            tone: match run.status {
                RunStatus::Running if quiet => Tone::Bad,
                RunStatus::Failed => Tone::Bad,
                RunStatus::Running | RunStatus::Downloading | RunStatus::Completed => Tone::Good,
                _ => Tone::Plain,
            },
        }
    }
}

fn counted(count: usize, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}

#[cfg(test)]
mod tests;
