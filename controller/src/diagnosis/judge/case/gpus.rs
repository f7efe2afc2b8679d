//! GPUs and the kernel's word on them, as rows ask about them.

use super::Case;
use crate::diagnosis::evidence::{Evidence, KernelLine, kernel};
use crate::diagnosis::rules::Found;
use crate::diagnosis::{Certainty, Facts, OtherUse, surroundings};
use chrono::{DateTime, TimeDelta, Utc};
use farrun_protocol::diagnostics::{GPUS, SETTLED};
use farrun_protocol::gpu::{Gpu, TroubleKind};
use farrun_protocol::record::ExecError;
use farrun_protocol::spec::Gpus;
use farrun_protocol::verdict::Reason;

/// How much earlier or later than the run a line of the kernel may be: two clocks, and the granularity of a second.
const SLACK: TimeDelta = TimeDelta::seconds(5);

impl<'a> Case<'a> {
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

    /// Whether the run was given the GPU of this UUID.
    pub(in crate::diagnosis) fn is_given(&self, uuid: &str) -> bool {
        let lease = self.facts.run.lease.iter().flat_map(|lease| &lease.gpus);
        let mut given = lease
            .map(|gpu| gpu.uuid.as_str())
            .chain(self.facts.run.gpus.split(','));
        !uuid.is_empty() && given.any(|own| own == uuid)
    }

    /// Number and model of one of the run's GPUs, or its UUID.
    pub(in crate::diagnosis) fn name_of(&self, uuid: &str) -> String {
        let mut lease = self.facts.run.lease.iter().flat_map(|lease| &lease.gpus);
        match lease.find(|gpu| gpu.uuid == uuid) {
            Some(gpu) => format!("{} ({})", gpu.index, gpu.name),
            None => uuid.to_owned(),
        }
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
