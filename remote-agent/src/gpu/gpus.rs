//! The way to a host's GPUs: answers in time, one reading for all who ask.

use super::ask;
use super::child::{ChildLimits, Finished};
use super::clock;
use super::readings::{Readings, Wish};
use super::settings::Settings;
use farrun_protocol::gpu::{GpuReport, GpuTrouble, STALE_AFTER, TroubleKind};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Figures younger than this are not read anew, however young one wants them.
const YOUNGEST: Duration = Duration::from_millis(250);

/// How often one who waits looks whether another process has finished.
const LOOK_APART: Duration = Duration::from_millis(25);

/// A host's GPUs. Cheap to clone; clones share readings. Must be used within a tokio runtime.
#[derive(Debug, Clone)]
pub struct Gpus {
    readings: Arc<Readings>,
}

impl Gpus {
    /// The GPUs of a host; nothing is read yet.
    pub fn new(settings: Settings) -> Self {
        Self {
            readings: Arc::new(Readings::new(settings)),
        }
    }

    /// What is known, at most `max_age` old if that can be had in time; the usual age when none is given. With
    /// `detect` everything is found out anew. Answers within 0.6 s, with what there is; a reading
    /// that takes longer goes on in the background and serves the next who asks.
    ///
    /// `leases` is empty and no container is told to be a run: callers add both.
    pub async fn report(&self, max_age: Option<Duration>, detect: bool) -> GpuReport {
        let wish = self.wish(max_age, detect);
        let within = self.readings.settings.answer_within;
        self.wait(wish, Instant::now() + within).await;
        self.readings.report(wish)
    }

    /// Figures that a GPU may be chosen by: not stale, processes included. Waits for a slow driver, at most for
    /// `patience`.
    ///
    /// # Errors
    /// Why there are none. [`TroubleKind::NoGpu`] means that the host has no GPU and nothing is wrong.
    pub async fn sample_for_choice(&self, patience: Duration) -> Result<GpuReport, GpuTrouble> {
        let wish = self.wish(None, false);
        self.wait(wish, Instant::now() + patience).await;
        let report = self.readings.report(wish);
        let unusable = match (&report.age_ms, &report.trouble) {
            (Some(age), _) if *age <= STALE_AFTER => self.readings.processes_unknown(),
            _ => true,
        };
        if !unusable {
            return Ok(report);
        }
        Err(report.trouble.unwrap_or(GpuTrouble {
            kind: TroubleKind::Reading,
            detail: None,
            pid: None,
            for_ms: report.refreshing_ms,
        }))
    }

    /// Waits for the turn among all who read this host's GPUs, for something else that asks them; it lasts as long as
    /// what is answered. None where turns are not taken or it did not come.
    pub(crate) async fn turn(&self) -> Option<impl Send> {
        let settings = self.readings.settings.clone();
        let taken = tokio::task::spawn_blocking(move || settings.turn().ok());
        taken.await.ok().flatten()
    }

    /// What `nvidia-smi` says to these arguments. Blocks, and must be called on a thread that outlives the answer.
    ///
    /// # Errors
    /// Why it was not asked, for people.
    pub(crate) fn ask(&self, arguments: &[&str], limits: ChildLimits) -> Result<Finished, String> {
        ask::ask(&self.readings.settings, &self.readings.store, arguments, limits)
    }

    /// Waits until a reading that this process has begun is written down, at most for `patience`: `nvidia-smi` ends with
    /// the process that started it, and on a host where it takes seconds every short conversation would begin anew.
    pub(crate) async fn finish(&self, patience: Duration) {
        let deadline = Instant::now() + patience;
        loop {
            let ended = self.readings.ended.notified();
            tokio::pin!(ended);
            ended.as_mut().enable();
            let left = deadline.saturating_duration_since(Instant::now());
            if self.readings.memory().reading_since.is_none() || left.is_zero() {
                return;
            }
            let _ = tokio::time::timeout(left, ended).await;
        }
    }

    fn wish(&self, max_age: Option<Duration>, detect: bool) -> Wish {
        Wish {
            asked: clock::now(),
            max_age: max_age
                .unwrap_or(self.readings.settings.keep_sample)
                .max(YOUNGEST),
            detect,
        }
    }

    /// Waits until there is what was wished for, or nothing more to hope for, or the deadline.
    async fn wait(&self, wish: Wish, deadline: Instant) {
        loop {
            let ended = self.readings.ended.notified();
            tokio::pin!(ended);
            ended.as_mut().enable();
            if self.readings.is_granted(wish) {
                return;
            }
            self.readings.begin(wish);
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let _ = tokio::time::timeout(left.min(LOOK_APART), ended).await;
        }
    }
}
