//! What the live view knows of one host.

use crate::cli::gpu::{later, table};
use crate::cli::status::print::words;
use crate::model::{Host, HostReport};
use crate::run::look::Seen;
use crate::ui::Tone;
use crate::ui::format;
use crate::ui::screen::{GpuRow, HostPanel};
use chrono::{DateTime, Utc};
use farrun_protocol::gpu::{Gpu, GpuReport};
use farrun_protocol::message::HostFacts;
use farrun_protocol::record::RunFacts;
use std::collections::{BTreeMap, VecDeque};

/// Own readings of a GPU that are kept for its history.
const HISTORY: usize = 60;

/// What is known of one host.
pub(super) struct HostState {
    pub(super) host: Host,
    link: Link,
    pub(super) facts: Option<(HostFacts, DateTime<Utc>)>,
    pub(super) gpus: Option<(GpuReport, DateTime<Utc>)>,
    problem: Option<String>,
    pub(super) runs: Vec<RunFacts>,
    /// Utilisation as it was read here, for hosts that keep no history.
    history: BTreeMap<String, VecDeque<Option<u8>>>,
}

/// How its link is.
enum Link {
    Connecting,
    Up { trip: u128 },
    Away { since: DateTime<Utc>, cause: String },
}

impl HostState {
    /// What it said last, before it is asked.
    pub(super) fn new(host: Host, last: HostReport) -> Self {
        Self {
            host,
            link: Link::Connecting,
            facts: last.facts,
            gpus: last.gpus,
            problem: None,
            runs: Vec::new(),
            history: BTreeMap::new(),
        }
    }

    pub(super) fn learn(&mut self, seen: Seen) {
        let at = seen.at;
        self.link = Link::Up {
            trip: seen.round_trip.map_or(0, |trip| trip.as_millis()),
        };
        self.problem = seen
            .gpus
            .as_ref()
            .err()
            .or(seen.facts.as_ref().err())
            .or(seen.runs.as_ref().err())
            .cloned();
        if let Ok(Some(facts)) = seen.facts {
            self.facts = Some((facts, at));
            // Asked for together.
            if let Ok(looked) = seen.runs {
                self.runs = looked.facts;
            }
        }
        if let Ok(report) = seen.gpus {
            for gpu in &report.gpus {
                let percent = gpu
                    .utilization
                    .value()
                    .and_then(|percent| u8::try_from(percent).ok());
                self.remember(&gpu.uuid, percent);
            }
            self.gpus = Some((report, at));
        }
    }

    pub(super) fn lose(&mut self, cause: String) {
        let before = std::mem::replace(&mut self.link, Link::Connecting);
        self.link = match before {
            Link::Away { since, .. } => Link::Away { since, cause },
            _ => Link::Away {
                since: Utc::now(),
                cause,
            },
        };
        let uuids: Vec<String> = self.history.keys().cloned().collect();
        for uuid in uuids {
            self.remember(&uuid, None);
        }
    }

    fn remember(&mut self, uuid: &str, percent: Option<u8>) {
        let history = self.history.entry(uuid.to_owned()).or_default();
        history.push_back(percent);
        while history.len() > HISTORY {
            history.pop_front();
        }
    }

    /// How many lines it takes, about.
    pub(super) fn lines(&self) -> usize {
        1 + self.gpus.as_ref().map_or(0, |(report, _)| report.gpus.len())
    }

    pub(super) fn panel(&self, now: DateTime<Utc>) -> HostPanel {
        let (mut link, tone) = match &self.link {
            Link::Connecting => ("connecting".to_owned(), Tone::Dim),
            Link::Up { trip } => (format!("up, {trip} ms"), Tone::Good),
            Link::Away { since, cause } => (
                format!("away since {}: {cause}", format::age(*since, now)),
                Tone::Bad,
            ),
        };
        let mut troubles: Vec<String> = self.problem.iter().cloned().collect();
        if let Some((facts, _)) = &self.facts {
            match &facts.engine {
                Ok(_) => {}
                Err(failure) => troubles.push(format!("Docker is not usable: {}", words(failure))),
            }
            link.push_str(&format!(", disk {} free", format::bytes(facts.disk_free)));
        }
        let mut rows = Vec::new();
        if let Some((report, at)) = &self.gpus {
            link.push_str(&format!(", GPUs: {}", table::headline(report, later(*at, now))));
            troubles.extend(table::troubles(report).into_iter().map(|(trouble, _)| trouble));
            rows.extend(
                report
                    .gpus
                    .iter()
                    .map(|gpu| self.row(report, gpu, later(*at, now))),
            );
        }
        HostPanel {
            name: self.host.name.clone(),
            link,
            tone,
            troubles,
            gpus: rows,
        }
    }

    fn row(&self, report: &GpuReport, gpu: &Gpu, later: u64) -> GpuRow {
        let own = self.history.get(&gpu.uuid);
        let history = match gpu.history.is_empty() {
            false => gpu.history.clone(),
            true => own.map(|own| own.iter().copied().collect()).unwrap_or_default(),
        };
        let shown = table::Shown::of(gpu);
        let (holder, tone) = table::holding(report, gpu, later);
        GpuRow {
            index: gpu.index.to_string(),
            model: table::model(&gpu.name).to_owned(),
            history,
            utilization: shown.utilization,
            memory: shown.memory,
            temperature: shown.temperature,
            power: shown.power,
            holder,
            tone,
        }
    }
}
