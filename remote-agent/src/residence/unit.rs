//! A unit of the account's own systemd.

use super::note::Note;
use super::place::Place;
use super::{link, note};
use crate::doctor::{Said, lingers};
use crate::record::{remove_if_present, write_atomically};
use farrun_protocol::doctor::{Looked, Residence};
use std::path::{Path, PathBuf};

fn path(place: &Place) -> PathBuf {
    place
        .home
        .join(".config/systemd/user")
        .join(format!("{}.service", place.name()))
}

fn text(place: &Place) -> String {
    let state = place.state.display();
    let agent = link::path(&place.state);
    let agent = agent.display();
    format!(
        "# Made by farrun, which removes it with `farrun host set NAME --no-resident`.\n\
         [Unit]\n\
         Description=farrun starts runs that wait and records those that ended, after a boot\n\
         ConditionPathExists={agent}\n\
         \n\
         [Service]\n\
         Type=exec\n\
         ExecStart={agent} watch --boot {state}\n\
         # There is one already.\n\
         SuccessExitStatus=3\n\
         \n\
         [Install]\n\
         WantedBy=default.target\n"
    )
}

/// Writes and enables the unit and makes sure that it is started without a login; says why that cannot be.
pub(super) fn install(place: &Place, note: &mut Note) -> Result<(), String> {
    if place.manager.is_empty() {
        return Err("the account has no systemd of its own".to_owned());
    }
    // Asked first, so that nothing is made where it would be of no use.
    linger(place, note)?;
    let unit = path(place);
    let folder = unit.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    write_atomically(&unit, text(place).as_bytes(), 0o644).map_err(|error| error.to_string())?;
    note.unit = Some(unit);
    done(
        "systemctl --user daemon-reload",
        place.systemctl(&["daemon-reload"]),
    )?;
    let name = format!("{}.service", place.name());
    done("systemctl --user enable", place.systemctl(&["enable", &name]))
}

fn linger(place: &Place, note: &mut Note) -> Result<(), String> {
    if lingers(&place.root, &place.account) {
        return Ok(());
    }
    let asked = place.loginctl(&["enable-linger", &place.account]);
    // It did not before, so it is ours to take back, also where the answer was late and the deed is done: what decides
    // about it may have to be started first.
    note.lingers_for_it = !matches!(&asked, Ok(said) if said.code != 0);
    let shown = place.loginctl(&["show-user", &place.account, "--property=Linger"]);
    if shown.is_ok_and(|said| said.stdout.trim() == "Linger=yes") {
        return Ok(());
    }
    done("loginctl enable-linger", asked)?;
    Err("the account does not linger although that was accepted".to_owned())
}

fn done(what: &str, said: Looked<Said>) -> Result<(), String> {
    match said {
        Ok(said) if said.code == 0 => Ok(()),
        Ok(said) => {
            let words = said.stderr.lines().find(|line| !line.trim().is_empty());
            Err(format!("`{what}`: {}", words.unwrap_or("it failed").trim()))
        }
        Err(unseen) => Err(format!(
            "`{what}`: {}",
            unseen
                .detail
                .unwrap_or_else(|| "it could not be asked".to_owned())
        )),
    }
}

/// Disables and removes the unit, and lets the account linger no more when it did so for the unit alone.
pub(super) fn remove(place: &Place, note: &Note) {
    let Some(unit) = &note.unit else {
        if note.lingers_for_it {
            let _ = place.loginctl(&["disable-linger", &place.account]);
        }
        return;
    };
    let name = format!("{}.service", place.name());
    let disabled = place.systemctl(&["disable", &name]);
    let _ = remove_if_present(unit);
    if disabled.is_err() {
        // Without systemd its link is all that is left.
        let wants = unit.with_file_name("default.target.wants").join(&name);
        let _ = remove_if_present(&wants);
    }
    let _ = place.systemctl(&["daemon-reload"]);
    if note.lingers_for_it {
        let _ = place.loginctl(&["disable-linger", &place.account]);
    }
}

/// Whether an observer can be started by the unit now.
pub(crate) fn may_start(state: &Path) -> bool {
    note::installed(state) == Some(Residence::UserUnit)
}

/// Starts the observer by the unit; answers whether systemd took the order.
pub(crate) fn start(place: &Place) -> bool {
    let name = format!("{}.service", place.name());
    done(
        "systemctl --user start",
        place.systemctl(&["start", "--no-block", &name]),
    )
    .is_ok()
}
