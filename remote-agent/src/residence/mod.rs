//! Starting the observer after a boot: a unit of the account's own systemd where it can linger, else a line of its
//! crontab. Nothing here needs root, and all of it can be taken back.
//!
//! What starts is `<state>/resident/farrun-agent`, a link to one agent, so that neither the unit nor the line changes
//! when a newer agent comes. `<state>/resident.json` says what was made, and with which surroundings an observer is
//! started.
//!
//! ```text
//! unit      the account's own systemd, and whether it outlives its sessions
//! crontab   the line
//! link      which agent starts
//! note      resident.json
//! ```

mod crontab;
mod link;
mod note;
mod place;
mod unit;

#[cfg(test)]
mod tests;

pub(crate) use link::{agent as named_agent, follow as follow_newer};
pub(crate) use note::{environment, installed};
pub(crate) use place::{Place, has_user_manager, user_manager_environment};
pub(crate) use unit::{may_start, start as start_unit};

use crate::record::{RecordError, remove_if_present};
use farrun_protocol::doctor::Residence;
use note::Note;
use std::path::Path;

/// Why the observer cannot be started after a boot.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ResidenceError {
    /// The host offers no way.
    #[error("{}", tried.join("; "))]
    Refused {
        /// Each way, and what kept it from being taken.
        tried: Vec<String>,
    },
    /// A file could not be written.
    #[error(transparent)]
    Record(#[from] RecordError),
}

/// Has the observer started after each boot; answers by what. What is there already is made anew.
///
/// # Errors
/// The host offers no way, or the state folder cannot be written.
pub(crate) fn set(place: &Place, environment: Vec<(String, String)>) -> Result<Residence, ResidenceError> {
    if !is_plain(&place.state) {
        let state = place.state.display();
        return Err(ResidenceError::Refused {
            tried: vec![format!(
                "the path `{state}` has characters that a unit cannot name"
            )],
        });
    }
    let before = note::read(&place.state)?;
    link::point_to(place)?;
    let mut tried = Vec::new();
    let mut note = Note::new(environment, before.as_ref());
    match unit::install(place, &mut note) {
        Ok(()) => note.by = Residence::UserUnit,
        Err(reason) => {
            unit::remove(place, &note);
            tried.push(format!("systemd: {reason}"));
            match crontab::install(place) {
                Ok(()) => note.by = Residence::Crontab,
                Err(reason) => {
                    tried.push(format!("crontab: {reason}"));
                    clear(place)?;
                    return Err(ResidenceError::Refused { tried });
                }
            }
        }
    }
    if note.by == Residence::UserUnit {
        // One way is enough; a line of before would start a second that ends at once.
        let _ = crontab::remove(place);
    }
    note::write(&place.state, &note)?;
    Ok(note.by)
}

/// Takes it back; nothing of it stays. Fine when there is none.
///
/// # Errors
/// What was made cannot be removed; `resident.json` stays then.
pub(crate) fn unset(place: &Place) -> Result<(), ResidenceError> {
    let Some(note) = note::read(&place.state)? else {
        return Ok(clear(place)?);
    };
    match note.by {
        Residence::UserUnit => unit::remove(place, &note),
        Residence::Crontab => {
            crontab::remove(place).map_err(|reason| ResidenceError::Refused {
                tried: vec![format!("crontab: {reason}")],
            })?;
        }
    }
    Ok(clear(place)?)
}

fn clear(place: &Place) -> Result<(), RecordError> {
    link::remove(&place.state)?;
    remove_if_present(&note::path(&place.state))
}

/// Units have words, quotes and `%` of their own, crontabs a `%` as well; what needs none of that is safe in both.
fn is_plain(path: &Path) -> bool {
    path.to_str().is_some_and(|text| {
        text.starts_with('/')
            && text
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "/._@+-".contains(c))
    })
}
