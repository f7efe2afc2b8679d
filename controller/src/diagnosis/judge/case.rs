//! One run's evidence, as rows ask about it.

use super::search::{Hits, PATTERNS, compiled};
use crate::diagnosis::evidence::{Evidence, KernelLine, Line, kernel};
use crate::diagnosis::rules::{Found, Look, Rule};
use crate::diagnosis::{Certainty, Context, Facts, MemoryContext, OtherUse, Quote, surroundings, words};
use chrono::{DateTime, TimeDelta, Utc};
use farrun_protocol::diagnostics::{CONTAINER, GPUS, SETTLED};
use farrun_protocol::gpu::{Gpu, TroubleKind};
use farrun_protocol::record::ExecError;
use farrun_protocol::spec::Gpus;
use farrun_protocol::verdict::Reason;
use regex::{Captures, Regex};
use std::collections::BTreeSet;

/// What a quotation from the run log names as its file.
pub(in crate::diagnosis) const RUN_LOG: &str = "run.log";
/// How much earlier or later than the run a line of the kernel may be: two clocks, and the granularity of a second.
const SLACK: TimeDelta = TimeDelta::seconds(5);

/// Named groups that patterns may have. Names of figures are constants, so they are listed.
pub(super) const NAMES: [&str; 32] = [
    "bytes",
    "capability",
    "class",
    "condition",
    "device",
    "free",
    "free2",
    "gpu",
    "gpu2",
    "key",
    "kind",
    "library",
    "message",
    "model",
    "module",
    "name",
    "name2",
    "need",
    "other",
    "own2",
    "path",
    "platform",
    "program",
    "repository",
    "reserved2",
    "said",
    "said2",
    "status",
    "symbol",
    "total",
    "total2",
    "version",
];

/// One run's evidence.
pub(in crate::diagnosis) struct Case<'a> {
    pub(in crate::diagnosis) evidence: &'a Evidence,
    pub(in crate::diagnosis) facts: &'a Facts<'a>,
    pub(in crate::diagnosis) context: Context,
    hits: Hits,
    /// What was said about the start: file and text.
    said: Vec<(&'static str, String)>,
    /// The first row and look that each of them fits.
    said_by: Vec<Option<(usize, usize)>>,
}

impl<'a> Case<'a> {
    pub(super) fn new(evidence: &'a Evidence, facts: &'a Facts<'a>) -> Self {
        let said = said(evidence, facts);
        let first = |text: &str| {
            let fits = PATTERNS
                .said
                .iter()
                .filter(|pattern| pattern.regex.is_match(text));
            fits.map(|pattern| (pattern.row, pattern.look)).min()
        };
        Self {
            said_by: said.iter().map(|(_, text)| first(text)).collect(),
            said,
            hits: Hits::of(&evidence.log.lines),
            context: surroundings::context(evidence, facts),
            evidence,
            facts,
        }
    }

    /// What a row finds, with the best of its looks; lines that spoke for a row before do not count.
    pub(super) fn look(&self, row: usize, rule: &Rule, spoken: &BTreeSet<usize>) -> Option<Found> {
        let mut best: Option<Found> = None;
        for (look, what) in rule.looks.iter().enumerate() {
            let found = match what {
                Look::Log(sure, _) => self.look_in_log(row, look, *sure, spoken),
                Look::Said(sure, _) => self.look_in_said(row, look, *sure),
                Look::Facts(ask) => {
                    ask(self).filter(|found| found.lines.iter().all(|line| !spoken.contains(line)))
                }
            };
            let better = |found: &Found| best.as_ref().is_none_or(|best| found.certainty < best.certainty);
            if let Some(found) = found.filter(better) {
                best = Some(found);
            }
        }
        best
    }

    fn look_in_log(
        &self,
        row: usize,
        look: usize,
        sure: Certainty,
        spoken: &BTreeSet<usize>,
    ) -> Option<Found> {
        let at = self.hits.lines(row, look).find(|line| !spoken.contains(line))?;
        let line = self.evidence.log.lines.get(at)?;
        // An error far from the end was survived, for a while at least.
        let certainty = match sure {
            Certainty::Certain if !line.last_words => Certainty::Likely,
            Certainty::Likely if !line.last_words => Certainty::Seen,
            sure => sure,
        };
        let captures = compiled(&PATTERNS.log, row, look)?.captures(&line.text);
        let mut found = named(Found::with(certainty), captures.as_ref());
        found.lines.push(at);
        Some(found.with_line(line))
    }

    fn look_in_said(&self, row: usize, look: usize, sure: Certainty) -> Option<Found> {
        let at = self
            .said_by
            .iter()
            .position(|first| *first == Some((row, look)))?;
        let (file, text) = self.said.get(at)?;
        let captures = compiled(&PATTERNS.said, row, look)?.captures(text);
        let found = named(Found::with(sure), captures.as_ref()).figure("said", words::cut(text, 300));
        Some(found.quoting(file, text))
    }

    /// Something certain when the run ended for this reason.
    pub(in crate::diagnosis) fn reason_is(&self, reason: Reason) -> Option<Found> {
        (self.reason() == Some(reason)).then(|| {
            let found = Found::certain();
            match self.said.first() {
                Some((file, text)) => found.quoting(file, text),
                None => found,
            }
        })
    }

    /// As [`Self::reason_is`], unless what was said about the start is known better.
    pub(in crate::diagnosis) fn unexplained(&self, reason: Reason) -> Option<Found> {
        let known = self.said_by.iter().any(Option::is_some);
        self.reason_is(reason).filter(|_| !known)
    }

    fn reason(&self) -> Option<Reason> {
        let settled = self.evidence.settled.as_ref();
        self.facts
            .run
            .reason
            .or_else(|| settled.map(|settled| settled.verdict.reason))
    }

    /// Whether the engine hid the job's GPU: from our PID 1, or from the image's own, where the verdict alone says so.
    pub(in crate::diagnosis) fn gpu_hidden(&self) -> Option<Found> {
        let settled = self.evidence.settled.as_ref()?;
        let verdict = &settled.verdict;
        let said = verdict.detail.as_ref().filter(|detail| {
            verdict.reason == Reason::GpuUnavailable && detail.starts_with("the container cannot see its GPU")
        });
        let Some(exit) = &settled.exit else {
            return said.map(|detail| Found::certain().quoting(SETTLED, detail));
        };
        let error = exit.exec_error.as_ref()?;
        let detail = error
            .detail()
            .filter(|_| matches!(error, ExecError::GpuHidden { .. }))?;
        Some(Found::certain().quoting(SETTLED, &detail))
    }

    /// Whether the host's GPUs had this trouble. Certain when the engine could not hand them out; else the job may have
    /// failed for something else.
    pub(in crate::diagnosis) fn trouble_is(&self, kind: TroubleKind) -> Option<Found> {
        if self.facts.run.spec.gpus == Gpus::None {
            return None;
        }
        let report = self.evidence.gpus.as_ref()?;
        let mut troubles = report.trouble.iter().chain(&report.device.broken);
        let trouble = troubles.find(|trouble| trouble.kind == kind)?;
        let certain = matches!(
            self.reason(),
            Some(Reason::GpuUnavailable | Reason::GpuRefused | Reason::EngineRefused)
        );
        let sure = if certain {
            Certainty::Certain
        } else {
            Certainty::Likely
        };
        Some(Found::with(sure).quoting(GPUS, &crate::model::gpu_words::trouble_line(trouble)))
    }

    /// A line near the end that a shell wrote when it ended with `code`.
    pub(in crate::diagnosis) fn of_the_shell(&self, code: i32, pattern: &str) -> Option<Found> {
        if self.exit_code() != Some(code) {
            return None;
        }
        let found = self.in_log(pattern);
        Some(
            found.unwrap_or_else(|| {
                Found::with(Certainty::Likely).quoting(SETTLED, &format!("exit code {code}"))
            }),
        )
    }

    /// The first line near the end that fits, for rows that ask for more than words.
    pub(in crate::diagnosis) fn in_log(&self, pattern: &str) -> Option<Found> {
        let regex = Regex::new(pattern).ok()?;
        let mut lines = self.evidence.log.lines.iter().enumerate();
        let (at, line) = lines.find(|(_, line)| line.last_words && regex.is_match(&line.text))?;
        let mut found = named(Found::certain(), regex.captures(&line.text).as_ref());
        found.lines.push(at);
        Some(found.with_line(line))
    }

    /// Exit code of the main process.
    pub(in crate::diagnosis) fn exit_code(&self) -> Option<i32> {
        let settled = self.evidence.settled.as_ref();
        self.facts
            .run
            .exit_code
            .or_else(|| settled.and_then(|settled| settled.verdict.exit_code))
    }

    /// Signal that ended the main process.
    pub(in crate::diagnosis) fn signal(&self) -> Option<i32> {
        let settled = self.evidence.settled.as_ref();
        self.facts
            .run
            .signal
            .or_else(|| settled.and_then(|settled| settled.verdict.signal))
    }

    /// Whether SIGKILL ended the main process, or it passed on that one of its own was.
    pub(in crate::diagnosis) fn was_killed(&self) -> bool {
        self.signal() == Some(9) || self.exit_code() == Some(137)
    }

    /// Whether the job ended by `signal` and nobody outside is known to have sent it.
    pub(in crate::diagnosis) fn ended_by(&self, signal: i32, sure: Certainty) -> Option<Found> {
        let by_itself = matches!(self.reason(), None | Some(Reason::ExitCode | Reason::Signal));
        let ended = self.signal() == Some(signal) || self.exit_code() == Some(128 + signal);
        let words = match self.signal() {
            Some(signal) => format!("signal {signal}"),
            None => format!("exit code {}", 128 + signal),
        };
        (by_itself && ended).then(|| Found::with(sure).quoting(SETTLED, &words))
    }

    /// Processes of the container that the kernel ended for want of memory, as PID 1 and the cgroup counted.
    pub(in crate::diagnosis) fn oom_kills(&self) -> u64 {
        let exit = self
            .evidence
            .settled
            .as_ref()
            .and_then(|settled| settled.exit.as_ref());
        let counted = self.evidence.counter(&[
            "memory.events.oom_kill",
            "memory.oom_control.oom_kill",
            "oom_kill",
        ]);
        exit.map_or(0, |exit| exit.oom_kills).max(counted.unwrap_or(0))
    }

    /// Whether the record of the end has the engine's flag.
    pub(in crate::diagnosis) fn engine_says_oom(&self) -> bool {
        let container = self
            .evidence
            .settled
            .as_ref()
            .and_then(|settled| settled.container.as_ref());
        container.is_some_and(|container| container.oom_killed) || self.reason() == Some(Reason::OutOfMemory)
    }

    /// The engine's id of the container.
    pub(in crate::diagnosis) fn container_id(&self) -> Option<&str> {
        let own = self.facts.run.container_id.as_deref();
        let inspected = Some(self.evidence.container.id.as_str());
        // Shorter words would be found in many a line.
        own.or(inspected).filter(|id| id.len() >= 12)
    }

    /// Memory of the container and of the host.
    pub(in crate::diagnosis) fn memory(&self) -> &MemoryContext {
        &self.context.memory
    }

    /// Lines of the kernel's log within the run's time.
    pub(in crate::diagnosis) fn kernel(&self) -> impl Iterator<Item = &'a KernelLine> + use<'a> {
        let window = window(self.evidence, self.facts);
        self.evidence
            .kernel
            .iter()
            .filter(move |line| window.is_some_and(|(from, to)| (from..=to).contains(&line.at)))
    }

    /// Whether the run had this GPU, or an instance of it.
    pub(in crate::diagnosis) fn is_own(&self, gpu: &Gpu) -> bool {
        surroundings::is_own(self.facts, gpu)
    }

    /// The run's GPUs as they were when the evidence was collected.
    pub(in crate::diagnosis) fn own_gpus(&self) -> Vec<&'a Gpu> {
        let report = self.evidence.gpus.as_ref();
        let all = report.into_iter().flat_map(|report| &report.gpus);
        all.filter(|gpu| self.is_own(gpu)).collect()
    }

    /// Number and model of the run's GPU that sits there; none when it is not the run's.
    pub(in crate::diagnosis) fn own_gpu_at(&self, bus: kernel::BusId) -> Option<String> {
        let sits = |gpu: &&Gpu| gpu.bus_id.as_deref().and_then(kernel::bus_id) == Some(bus);
        let reports = [self.evidence.gpus.as_ref(), self.facts.gpus];
        let mut gpus = reports.into_iter().flatten().flat_map(|report| &report.gpus);
        if let Some(gpu) = gpus.find(sits) {
            return self.is_own(gpu).then(|| format!("{} ({})", gpu.index, gpu.name));
        }
        // A GPU that is lost is often no longer listed; the driver's own files still know it.
        let uuid = surroundings::uuid_at(&self.evidence.driver, bus)?;
        let lease = self.facts.run.lease.as_ref()?;
        let leased = lease
            .gpus
            .iter()
            .find(|gpu| gpu.uuid.eq_ignore_ascii_case(&uuid))?;
        Some(format!("{} ({})", leased.index, leased.name))
    }

    /// Who else is on the run's GPUs.
    pub(in crate::diagnosis) fn others(&self) -> Vec<&OtherUse> {
        let own = self.context.gpus.iter().filter(|gpu| gpu.of_the_run);
        own.flat_map(|gpu| &gpu.others).collect()
    }
}

/// From the job's start to its end, with some slack; none when it was never started.
fn window(evidence: &Evidence, facts: &Facts<'_>) -> Option<(DateTime<Utc>, DateTime<Utc>)> {
    let settled = evidence.settled.as_ref();
    let started = facts
        .run
        .started_at
        .or_else(|| settled.and_then(|settled| settled.started_at))?;
    let ended = facts
        .run
        .ended_at
        .or_else(|| settled.and_then(|settled| settled.ended_at));
    let ended = ended.or_else(|| evidence.bundle.as_ref().map(|bundle| bundle.ended_at))?;
    Some((
        started.checked_sub_signed(SLACK)?,
        ended.checked_add_signed(SLACK)?,
    ))
}

/// What the engine, the registry and PID 1 said about a start that failed.
fn said(evidence: &Evidence, facts: &Facts<'_>) -> Vec<(&'static str, String)> {
    const LONGEST: usize = 4000;
    let settled = evidence.settled.as_ref();
    let reason = facts
        .run
        .reason
        .or_else(|| settled.map(|settled| settled.verdict.reason));
    let by_itself = matches!(
        reason,
        Some(Reason::ExitCode | Reason::Signal | Reason::OutOfMemory | Reason::TimeLimit)
    );
    let mut said = Vec::new();
    if by_itself {
        return said;
    }
    let detail = settled.and_then(|settled| settled.verdict.detail.as_deref());
    let engine = settled
        .and_then(|settled| settled.container.as_ref())
        .and_then(|container| container.error.as_deref());
    let row = facts.run.error_message.as_deref().filter(|_| detail.is_none());
    let inspected = Some(evidence.container.state.error.as_str());
    for (file, text) in [
        (SETTLED, detail),
        (SETTLED, engine),
        (CONTAINER, inspected),
        ("error_message", row),
    ] {
        let Some(text) = text.filter(|text| !text.trim().is_empty()) else {
            continue;
        };
        let text = words::shown(text, LONGEST);
        if said.iter().all(|(_, known)| *known != text) {
            said.push((file, text));
        }
    }
    said
}

/// Adds the named groups of a match to the figures.
fn named(mut found: Found, captures: Option<&Captures<'_>>) -> Found {
    for name in NAMES {
        if let Some(group) = captures.and_then(|captures| captures.name(name)) {
            found.figures.insert(name, words::shown(group.as_str(), 300));
        }
    }
    for (name, other) in [("program", "other"), ("said", "said2"), ("name", "name2")] {
        if let Some(value) = found.figures.remove(other) {
            found.figures.insert(name, value);
        }
    }
    found
}

impl Found {
    /// As it is, with a line of the run log as a quotation.
    pub(in crate::diagnosis) fn with_line(mut self, line: &Line) -> Self {
        self.quotes.push(Quote {
            file: RUN_LOG.to_owned(),
            offset: line.offset,
            text: line.text.clone(),
        });
        self
    }
}
