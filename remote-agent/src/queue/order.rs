//! The file of a run that waits: all that is needed to start it when its controller is gone.

use crate::record::{RecordError, RunFolder, boot_id, read_json, write_json};
use crate::series::Moment;
use chrono::{DateTime, TimeDelta, Utc};
use farrun_protocol::lease::{FORMAT, GpuRefusal};
use farrun_protocol::{ControllerId, RunId};
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::path::Path;

/// A run that waits for a GPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// [`FORMAT`].
    pub format: u32,
    /// The run.
    pub run_id: RunId,
    /// Since when it waits.
    pub at: DateTime<Utc>,
    /// The same by the clock that nobody can set; it orders runs of several accounts within its boot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arrived: Option<Moment>,
    /// Greater goes first.
    #[serde(default)]
    pub priority: i32,
    /// Until when, when not for as long as it takes.
    #[serde(default)]
    pub until: Option<DateTime<Utc>>,
    /// The same by the clock that nobody can set; it counts within its boot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Moment>,
    /// Who ordered it.
    pub controller_id: ControllerId,
    /// How its engine is reached.
    #[serde(default)]
    pub docker: DockerSettings,
}

/// How a controller wants the engine to be reached.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DockerSettings {
    /// Whether through `sudo -n`.
    #[serde(default)]
    pub sudo: bool,
    /// `DOCKER_HOST`, when its settings name one.
    #[serde(default)]
    pub host: Option<String>,
}

/// A place in line; the smaller one goes first.
pub(super) type Key = (Reverse<i32>, u64, DateTime<Utc>, RunId);

/// The place of a run that waits in this boot. Accounts have no clock in common but that of the boot, for the other one
/// may be set between two arrivals. What waited before the boot came before all that arrived in it.
pub(super) fn key(
    priority: i32,
    arrived: Option<&Moment>,
    at: DateTime<Utc>,
    run_id: &RunId,
    boot_id: &str,
) -> Key {
    let since_boot = arrived
        .filter(|arrived| arrived.boot_id == boot_id)
        .map_or(0, |arrived| arrived.ms);
    (Reverse(priority), since_boot, at, run_id.clone())
}

impl Order {
    pub(super) fn key(&self, boot_id: &str) -> Key {
        key(
            self.priority,
            self.arrived.as_ref(),
            self.at,
            &self.run_id,
            boot_id,
        )
    }

    /// Whether it has waited for as long as it was to, when it is `now` by the one clock and `moment` by the other.
    pub fn has_expired(&self, now: DateTime<Utc>, moment: &Moment) -> bool {
        match &self.deadline {
            Some(deadline) if deadline.boot_id == moment.boot_id => deadline.ms <= moment.ms,
            _ => self.until.is_some_and(|until| until <= now),
        }
    }
}

/// `waits.json`: what the last attempt to start a waiting run met.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitsFor {
    /// [`FORMAT`].
    pub format: u32,
    /// Every GPU, and why it was not given.
    pub gpus: Vec<GpuRefusal>,
}

/// The waiting runs of this account, first to last.
///
/// # Errors
/// The folder cannot be read. A file that cannot be read is left alone and out.
pub fn line(state: &Path) -> Result<Vec<Order>, RecordError> {
    let folder = state.join("queue");
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(RecordError::io(&folder)(error)),
    };
    let run_id = |name: &str| name.strip_suffix(".json")?.parse::<RunId>().ok();
    let mut orders: Vec<Order> = entries
        .filter_map(|entry| run_id(entry.ok()?.file_name().to_str()?))
        .filter_map(|run_id| order_of(&RunFolder::new(state, &run_id)).ok().flatten())
        .collect();
    let boot_id = boot_id();
    orders.sort_by_cached_key(|order| order.key(&boot_id));
    Ok(orders)
}

/// When a run that comes now begins to wait: behind all that wait already, wherever the clock was set meanwhile.
///
/// # Errors
/// As [`line()`].
pub fn behind_all(state: &Path, now: DateTime<Utc>) -> Result<DateTime<Utc>, RecordError> {
    let last = line(state)?.into_iter().map(|order| order.at).max();
    let behind = last.and_then(|last| last.checked_add_signed(TimeDelta::milliseconds(1)));
    Ok(behind.map_or(now, |behind| behind.max(now)))
}

/// The file of one run; `None` when it does not wait.
///
/// # Errors
/// The kernel's, damage, or a newer format.
pub fn order_of(folder: &RunFolder) -> Result<Option<Order>, RecordError> {
    let order: Option<Order> = read_json(&folder.queued(), FORMAT)?;
    Ok(order.filter(|order| order.run_id == *folder.run_id()))
}

/// Puts a run in line. It keeps its place when it stands there already.
///
/// # Errors
/// The kernel's.
pub fn write_order(folder: &RunFolder, order: &Order) -> Result<(), RecordError> {
    if order_of(folder)?.is_some() {
        return Ok(());
    }
    let path = folder.queued();
    if let Some(parent) = path.parent() {
        crate::record::make_private_folder(parent)?;
    }
    write_json(&path, order)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_goes_by_priority_then_age_then_name() {
        let state = tempfile::tempdir().unwrap();
        let put = |run: &str, at: &str, priority| {
            let order = Order {
                format: FORMAT,
                run_id: run.parse().unwrap(),
                at: at.parse().unwrap(),
                arrived: None,
                priority,
                until: None,
                deadline: None,
                controller_id: "co_mine0000".parse().unwrap(),
                docker: DockerSettings::default(),
            };
            write_order(&RunFolder::new(state.path(), &order.run_id), &order).unwrap();
        };
        put("rs_cccccccc", "2026-01-01T00:00:02Z", 0);
        put("rs_bbbbbbbb", "2026-01-01T00:00:01Z", 0);
        put("rs_aaaaaaaa", "2026-01-01T00:00:02Z", 0);
        put("rs_dddddddd", "2026-01-01T00:00:03Z", 5);
        // A second order does not move a run.
        put("rs_bbbbbbbb", "2026-01-01T00:00:09Z", -9);
        std::fs::write(state.path().join("queue/rs_eeeeeeee.json"), "{").unwrap();
        std::fs::write(state.path().join("queue/other"), "").unwrap();
        let runs: Vec<String> = line(state.path())
            .unwrap()
            .iter()
            .map(|order| order.run_id.to_string())
            .collect();
        assert_eq!(runs, ["rs_dddddddd", "rs_bbbbbbbb", "rs_aaaaaaaa", "rs_cccccccc"]);
        // Whoever comes after the clock was set back does not pass them.
        let early = "2025-01-01T00:00:00Z".parse().unwrap();
        let (behind, late) = (behind_all(state.path(), early).unwrap(), Utc::now());
        assert_eq!(behind.to_rfc3339(), "2026-01-01T00:00:03.001+00:00");
        assert_eq!(behind_all(state.path(), late).unwrap(), late);
    }

    #[test]
    fn the_clock_of_the_boot_says_who_came_first() {
        let run_id = |name: &str| name.parse::<RunId>().unwrap();
        let place = |name: &str, at: &str, arrived: Option<(&str, u64)>| {
            let arrived = arrived.map(|(boot_id, ms)| Moment {
                boot_id: boot_id.to_owned(),
                ms,
            });
            key(
                0,
                arrived.as_ref(),
                at.parse().unwrap(),
                &run_id(name),
                "this boot",
            )
        };
        let first = place("rs_cccccccc", "2026-01-01T00:00:09Z", Some(("this boot", 5)));
        // The clock was set back by a year before this one came.
        let second = place("rs_bbbbbbbb", "2025-01-01T00:00:00Z", Some(("this boot", 6)));
        let before_the_boot = place("rs_aaaaaaaa", "2026-01-01T00:00:01Z", Some(("another", 99)));
        let of_an_older_agent = place("rs_dddddddd", "2026-01-01T00:00:02Z", None);
        let mut line = [&second, &first, &of_an_older_agent, &before_the_boot];
        line.sort();
        assert_eq!(line, [&before_the_boot, &of_an_older_agent, &first, &second]);
    }

    #[test]
    fn the_stored_form_is_frozen() {
        let text = concat!(
            r#"{"format":1,"run_id":"rs_aaaaaaaa","at":"2026-01-01T00:00:00Z","priority":2,"until":"2026-01-01T01:00:00Z","#,
            r#""controller_id":"co_mine0000","docker":{"sudo":true,"host":null}}"#
        );
        let order: Order = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&order).unwrap(), text);
        let until = order.until.unwrap();
        let moment = |boot: &str, ms| Moment {
            boot_id: boot.to_owned(),
            ms,
        };
        let now = moment("one", 5);
        assert!(order.has_expired(until, &now) && !order.has_expired(order.at, &now));
        // A clock that is set forward ends no wait, and one that is set back prolongs none; not across a restart.
        let exact = Order {
            deadline: Some(moment("one", 9)),
            ..order.clone()
        };
        assert!(!exact.has_expired(until, &now) && exact.has_expired(order.at, &moment("one", 9)));
        assert!(
            exact.has_expired(until, &moment("other", 1))
                && !exact.has_expired(order.at, &moment("other", 9))
        );
        let arrived = Order {
            arrived: Some(moment("one", 3)),
            ..order
        };
        let text = serde_json::to_string(&arrived).unwrap();
        assert!(
            text.contains(r#""at":"2026-01-01T00:00:00Z","arrived":{"boot_id":"one","ms":3},"priority":2"#),
            "{text}"
        );
        let text = serde_json::to_string(&exact).unwrap();
        assert!(text.ends_with(r#","deadline":{"boot_id":"one","ms":9},"controller_id":"co_mine0000","docker":{"sudo":true,"host":null}}"#), "{text}");
    }
}
