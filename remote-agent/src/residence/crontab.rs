//! A line of the account's crontab.

use super::link;
use super::place::Place;
use crate::doctor::{Printed, Said};
use farrun_protocol::doctor::Looked;
use std::fs;

/// Programs that carry out crontabs.
const DAEMONS: &[&str] = &["cron", "crond", "fcron", "dcron", "busybox-crond"];

/// What is said where an account has none.
const NONE: &[u8] = b"no crontab";

fn mark(place: &Place) -> String {
    format!("# {}", place.name())
}

fn line(place: &Place) -> String {
    let agent = link::path(&place.state);
    let agent = agent.display();
    let state = place.state.display();
    format!(
        "@reboot test -x {agent} && {agent} watch --boot {state} {}",
        mark(place)
    )
}

/// Adds the line; says why that cannot be.
pub(super) fn install(place: &Place) -> Result<(), String> {
    let before = read(place)?;
    if !daemon_runs(place) {
        return Err("no cron daemon runs on the host".to_owned());
    }
    let mut text = without(&before, place);
    if text.last().is_some_and(|last| *last != b'\n') {
        text.push(b'\n');
    }
    text.extend_from_slice(line(place).as_bytes());
    text.push(b'\n');
    write(place, &text)
}

/// Removes the line; fine when there is none.
pub(super) fn remove(place: &Place) -> Result<(), String> {
    let before = read(place)?;
    let others = without(&before, place);
    if others == before {
        return Ok(());
    }
    if others.is_empty() {
        return check(place.crontab(&["-r"])).map(drop);
    }
    write(place, &others)
}

/// What others wrote, byte for byte.
fn without(crontab: &[u8], place: &Place) -> Vec<u8> {
    let mark = mark(place);
    let others = crontab
        .split_inclusive(|byte| *byte == b'\n')
        .filter(|line| !line.trim_ascii_end().ends_with(mark.as_bytes()));
    others.flatten().copied().collect()
}

fn read(place: &Place) -> Result<Vec<u8>, String> {
    match place.crontab(&["-l"]) {
        Ok(printed) if printed.code != 0 && printed.stderr.windows(NONE.len()).any(|words| words == NONE) => {
            Ok(Vec::new())
        }
        other => check(other),
    }
}

fn write(place: &Place, text: &[u8]) -> Result<(), String> {
    let path = place
        .state
        .join(format!(".crontab-{}", uuid::Uuid::new_v4().simple()));
    let written = fs::write(&path, text).map_err(|error| error.to_string());
    let taken = written.and_then(|()| check(place.crontab(&[&path.to_string_lossy()])));
    let _ = fs::remove_file(&path);
    taken?;
    // Some put a head of their own before it.
    if read(place)?.ends_with(text) {
        return Ok(());
    }
    Err("it is not what was written".to_owned())
}

fn check(printed: Looked<Printed>) -> Result<Vec<u8>, String> {
    let said = match printed {
        Ok(printed) if printed.code == 0 => return Ok(printed.stdout),
        Ok(printed) => Said::from(printed),
        Err(unseen) => {
            return Err(unseen
                .detail
                .unwrap_or_else(|| "it could not be asked".to_owned()));
        }
    };
    let first = said.stderr.lines().find(|line| !line.trim().is_empty());
    Err(first.unwrap_or("it failed").trim().to_owned())
}

fn daemon_runs(place: &Place) -> bool {
    let entries = fs::read_dir(place.root.join("proc")).into_iter().flatten();
    entries
        .filter_map(|entry| fs::read_to_string(entry.ok()?.path().join("comm")).ok())
        .any(|name| DAEMONS.contains(&name.trim()))
}
