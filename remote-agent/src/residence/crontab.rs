//! A line of the account's crontab.

use super::link;
use super::place::Place;
use crate::doctor::Said;
use farrun_protocol::doctor::Looked;
use std::fs;

/// Programs that carry out crontabs.
const DAEMONS: &[&str] = &["cron", "crond", "fcron", "dcron", "busybox-crond"];

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
    let mut lines = without(&before, place);
    lines.push(line(place));
    write(place, &lines)
}

/// Removes the line; fine when there is none.
pub(super) fn remove(place: &Place) -> Result<(), String> {
    let before = read(place)?;
    let lines = without(&before, place);
    if lines.len() == before.lines().count() {
        return Ok(());
    }
    if lines.is_empty() {
        return check(place.crontab(&["-r"])).map(drop);
    }
    write(place, &lines)
}

fn without(crontab: &str, place: &Place) -> Vec<String> {
    let mark = mark(place);
    let others = crontab.lines().filter(|line| !line.ends_with(&mark));
    others.map(str::to_owned).collect()
}

fn read(place: &Place) -> Result<String, String> {
    match place.crontab(&["-l"]) {
        Ok(said) if said.code != 0 && said.stderr.contains("no crontab") => Ok(String::new()),
        other => check(other),
    }
}

fn write(place: &Place, lines: &[String]) -> Result<(), String> {
    let path = place
        .state
        .join(format!(".crontab-{}", uuid::Uuid::new_v4().simple()));
    let text = lines.join("\n") + "\n";
    let written = fs::write(&path, &text).map_err(|error| error.to_string());
    let taken = written.and_then(|()| check(place.crontab(&[&path.to_string_lossy()])));
    let _ = fs::remove_file(&path);
    taken?;
    // Some put a head of their own before it.
    let now = read(place)?;
    if now.trim_end().ends_with(text.trim_end()) {
        return Ok(());
    }
    Err("it is not what was written".to_owned())
}

fn check(said: Looked<Said>) -> Result<String, String> {
    match said {
        Ok(said) if said.code == 0 => Ok(said.stdout),
        Ok(said) => Err(said
            .stderr
            .lines()
            .next()
            .unwrap_or("it failed")
            .trim()
            .to_owned()),
        Err(unseen) => Err(unseen
            .detail
            .unwrap_or_else(|| "it could not be asked".to_owned())),
    }
}

fn daemon_runs(place: &Place) -> bool {
    let entries = fs::read_dir(place.root.join("proc")).into_iter().flatten();
    entries
        .filter_map(|entry| fs::read_to_string(entry.ok()?.path().join("comm")).ok())
        .any(|name| DAEMONS.contains(&name.trim()))
}
