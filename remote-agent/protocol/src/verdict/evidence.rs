//! What is known of how a run ended.

use crate::record::{ContainerFacts, ExitRecord};
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

/// What is known about a container that no longer runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// `exit.json`, when it is valid.
    pub exit: Option<ExitRecord>,
    /// Whether PID 1 had claimed the run (its command was or may have been executed).
    pub claimed: bool,
    /// What the engine says; none when it has no such container.
    pub container: Option<ContainerFacts>,
    /// When a stop was asked for through us.
    #[serde(default)]
    pub stop_requested_at: Option<DateTime<Utc>>,
    /// Boot id when the container was started.
    pub boot_id_then: Option<String>,
    /// Boot id now.
    pub boot_id_now: Option<String>,
    /// When the host was booted last, where that can be told.
    #[serde(default)]
    pub booted_at: Option<DateTime<Utc>>,
    /// When the process of the engine was started, where that can be told.
    #[serde(default)]
    pub engine_started_at: Option<DateTime<Utc>>,
    /// Whether containers live on without their engine.
    #[serde(default)]
    pub live_restore: bool,
    /// Whether nobody answers where the engine should.
    #[serde(default)]
    pub engine_down: bool,
    /// What is known in the place of an engine's words; none when it said something.
    #[serde(default)]
    pub silence: Option<Silence>,
}

/// What is known of an end of which the engine says nothing, because it is down, hangs or refuses.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Silence {
    /// Whether the engine captured the job, so that nobody else can know how it ended.
    pub engine_captured: bool,
    /// When the job was last seen to live.
    #[serde(default)]
    pub seen_alive_at: Option<DateTime<Utc>>,
}

/// Longest time for which an engine or a host is away and still is what took a job with it. A job that ended earlier
/// was ended by something else: nobody came by in between.
const AWAY: TimeDelta = TimeDelta::minutes(15);
/// An engine that comes back writes the end of what it lost a moment after its own start.
const CATCHES_UP: TimeDelta = TimeDelta::seconds(20);

impl Evidence {
    /// When the job ended, from the best source.
    fn ended_at(&self) -> Option<DateTime<Utc>> {
        let exit = self.exit.as_ref().map(|exit| exit.ended_at);
        exit.or_else(|| self.container.as_ref()?.finished_at)
    }

    /// Whether a stop was asked for before the end. One that came after it has ended nothing.
    pub(super) fn was_stopped(&self) -> bool {
        match (self.stop_requested_at, self.ended_at()) {
            (Some(asked), Some(ended)) => asked <= ended,
            (asked, _) => asked.is_some(),
        }
    }

    /// Whether the host was restarted under the job or shortly after its end.
    pub(super) fn went_with_host(&self) -> bool {
        let rebooted =
            matches!((&self.boot_id_then, &self.boot_id_now), (Some(then), Some(now)) if then != now);
        let long_before = |(ended, booted): (DateTime<Utc>, DateTime<Utc>)| ended + AWAY < booted;
        rebooted && !self.ended_at().zip(self.booted_at).is_some_and(long_before)
    }

    /// Whether the engine that runs now was started shortly after the end of a job that another one had started, or
    /// there is none: since when is not known, so it is what took the job until somebody knows better.
    pub(super) fn went_with_engine(&self) -> bool {
        if self.engine_down {
            return !self.live_restore;
        }
        let times = || {
            let container = self.container.as_ref()?;
            let (started, ended) = (container.started_at?, container.finished_at?);
            Some((started, ended, self.engine_started_at?))
        };
        !self.live_restore
            && times().is_some_and(|(started, ended, engine)| {
                started < engine && ended < engine + CATCHES_UP && engine < ended + AWAY
            })
    }

    /// Whether the engine may be what ended the job although somebody listens in its place: it hangs, or is at its end.
    pub(super) fn may_be_going_down(&self) -> bool {
        self.silence.is_some() && !self.engine_down && !self.live_restore
    }
}
