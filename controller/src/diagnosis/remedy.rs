//! Fills the table's templates with the figures of a run.

use super::judge::Case;
use super::rules::{Figures, Try};
use super::{Remedy, words};
use crate::model::signal::signal_name;
use farrun_protocol::spec::{Gpus, RunSpec};
use std::time::Duration;

/// A sentence: `{name}` is a figure, and a part in `[…]` is left out when one of its figures is not known. None when one
/// outside is not known.
pub(super) fn sentence(template: &str, figures: &Figures) -> Option<String> {
    filled(template, |name| figures.get(name).map(String::as_str))
}

/// The remedies whose figures are known.
pub(super) fn remedies(tries: &[Try], figures: &Figures) -> Vec<Remedy> {
    let advice = tries.iter().filter_map(|advice| {
        let text = sentence(advice.text, figures)?;
        let command = match advice.command {
            "" => None,
            template => Some(command(template, figures)?),
        };
        Some(Remedy { text, command })
    });
    advice.collect()
}

/// A command that people will paste into a shell: every figure in it is one plain word, or there is none.
fn command(template: &str, figures: &Figures) -> Option<String> {
    filled(template, |name| {
        figures
            .get(name)
            .map(String::as_str)
            .filter(|value| is_word(value))
    })
}

/// Whether a shell takes it as one word that means itself and is no flag.
fn is_word(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._/:@=-".contains(c);
    (1..=200).contains(&text.len()) && text.chars().all(plain) && !text.starts_with('-')
}

fn filled<'a>(template: &str, figure: impl Fn(&str) -> Option<&'a str>) -> Option<String> {
    let mut out = String::new();
    let mut rest = template;
    while let Some(at) = rest.find('[') {
        let (before, from) = rest.split_at(at);
        out.push_str(&plain(before, &figure)?);
        let (part, behind) = from.get(1..)?.split_once(']')?;
        out.push_str(&plain(part, &figure).unwrap_or_default());
        rest = behind;
    }
    out.push_str(&plain(rest, &figure)?);
    Some(out)
}

fn plain<'a>(template: &str, figure: &impl Fn(&str) -> Option<&'a str>) -> Option<String> {
    let mut out = String::new();
    let mut rest = template;
    while let Some((before, from)) = rest.split_once('{') {
        let (name, behind) = from.split_once('}')?;
        out.push_str(before);
        out.push_str(figure(name)?);
        rest = behind;
    }
    out.push_str(rest);
    Some(out)
}

/// What every row may name.
pub(super) fn common(case: &Case<'_>) -> Figures {
    let (run, evidence) = (case.facts.run, case.evidence);
    let spec = &run.spec;
    let mut figures = Figures::new();
    let mut add = |name, value: Option<String>| {
        figures.extend(value.filter(|value| !value.is_empty()).map(|value| (name, value)));
    };
    add("run", Some(run.id.to_string()));
    add("host", Some(run.host.clone()));
    add("image", Some(spec.image.clone()));
    add("registry", Some(registry(&spec.image).to_owned()));
    let took = run
        .started_at
        .zip(run.ended_at)
        .and_then(|(from, to)| (to - from).to_std().ok());
    add("ran", took.map(crate::ui::format::duration));
    let limit = spec.time_limit;
    add(
        "time_limit",
        limit.map(|seconds| crate::ui::format::duration(Duration::from_secs(seconds))),
    );
    add(
        "more_time",
        limit.map(|seconds| format!("{}m", (seconds.saturating_mul(2)).div_ceil(60))),
    );
    add("more_memory", more_memory(case));
    add("more_gpus", more_gpus(&spec.gpus));
    // A job that was given none and filled one all the same has it from elsewhere.
    let given = spec.gpus != Gpus::None;
    add("twice_gpus", more_gpus(&spec.gpus).filter(|_| given));
    add("gpus_given", Some(gpus_given(case)));
    add("smaller", smaller(spec));
    add("fewer_workers", fewer_workers(spec));
    add(
        "network",
        Some(spec.network.clone().unwrap_or_else(|| "bridge".to_owned())),
    );
    add("user", spec.user.clone());
    let verdict = evidence.settled.as_ref().map(|settled| &settled.verdict);
    add("detail", verdict.and_then(|verdict| verdict.detail.clone()));
    add("signal", case.signal().map(|signal| signal_name(Some(signal))));
    add("image_architecture", Some(evidence.image.architecture.clone()));
    add(
        "host_architecture",
        Some(evidence.engine.info.architecture.clone()),
    );
    add("driver", case.context.driver.clone());
    add("cuda", case.context.cuda.clone());
    add("limit", case.memory().limit.map(words::size));
    add("host_total", case.memory().total.map(words::size));
    figures
}

/// The registry of an image, as `docker login` names it.
fn registry(image: &str) -> &str {
    match image.split_once('/') {
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => first,
        _ => "docker.io",
    }
}

/// Twice the limit, or what the host has when that is less.
fn more_memory(case: &Case<'_>) -> Option<String> {
    let limit = case.memory().limit?;
    let most = case.memory().total.map_or(u64::MAX, |total| total / 10 * 9);
    let more = limit.saturating_mul(2).min(most);
    let mebibytes = more >> 20;
    (more > limit).then(|| match mebibytes % 1024 {
        0 => format!("{}g", mebibytes / 1024),
        _ => format!("{mebibytes}m"),
    })
}

fn more_gpus(gpus: &Gpus) -> Option<String> {
    match gpus {
        Gpus::None => Some("1".to_owned()),
        Gpus::Count(count) => Some(count.saturating_mul(2).to_string()),
        Gpus::Devices(devices) if devices.len() == 1 => Some("2".to_owned()),
        Gpus::All | Gpus::Devices(_) => None,
    }
}

fn gpus_given(case: &Case<'_>) -> String {
    match (&case.facts.run.lease, &case.facts.run.spec.gpus) {
        (Some(lease), _) if lease.gpus.len() == 1 => "one".to_owned(),
        (Some(lease), _) => lease.gpus.len().to_string(),
        (None, gpus) => gpus.label(),
    }
}

/// Half of the first whole number among the parameters that makes a job smaller.
fn smaller(spec: &RunSpec) -> Option<String> {
    const WORDS: [&str; 6] = [
        "batch",
        "num_images",
        "num_samples",
        "num_videos",
        "frames",
        "resolution",
    ];
    let number = |word: &str| {
        spec.parameters.iter().find_map(|(name, value)| {
            let value = value.as_u64().filter(|value| *value > 1 && name.contains(word))?;
            Some(format!("{name}={}", value / 2))
        })
    };
    WORDS.into_iter().find_map(number)
}

fn fewer_workers(spec: &RunSpec) -> Option<String> {
    spec.parameters.iter().find_map(|(name, value)| {
        let value = value
            .as_u64()
            .filter(|value| *value > 0 && name.contains("workers"))?;
        Some(format!("{name}={}", value / 2))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_left_out() {
        let figures = Figures::from([("a", "1".to_owned()), ("b", "x; rm -rf ~".to_owned())]);
        assert_eq!(
            sentence("x {a}[ y {c}][ z {a}]", &figures).as_deref(),
            Some("x 1 z 1")
        );
        assert_eq!(sentence("x {c}", &figures), None);
        assert_eq!(command("do {a}", &figures).as_deref(), Some("do 1"));
        assert_eq!(command("do {b}", &figures), None);
        for broken in ["[", "{", "[{a}", "{a"] {
            assert_eq!(sentence(broken, &figures), None);
        }
    }

    #[test]
    fn commands_take_only_plain_words() {
        for good in [
            "rs_abc",
            "batch_size=2",
            "nvcr.io",
            "localhost:5000",
            "8g",
            "gpu-1",
        ] {
            assert!(is_word(good), "{good}");
        }
        for bad in [
            "", "-x", "a b", "a;b", "$(x)", "`x`", "a\nb", "a'b", "~/x", "ä", "a&b", "a|b", "*",
        ] {
            assert!(!is_word(bad), "{bad}");
        }
    }

    #[test]
    fn registries_are_those_of_docker_login() {
        for (image, expected) in [
            ("python:3", "docker.io"),
            ("org/name:1", "docker.io"),
            ("nvcr.io/nvidia/pytorch:24.05-py3", "nvcr.io"),
            ("localhost:5000/x", "localhost:5000"),
        ] {
            assert_eq!(registry(image), expected);
        }
    }
}
