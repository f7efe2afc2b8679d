//! The text format of Prometheus, version 0.0.4.
//!
//! A value that is not known is absent, so that no alert takes it for zero.

use super::HostGpus;
use chrono::{DateTime, Utc};
use farrun_protocol::gpu::{Freshness, Gpu, GpuReport, Health, Reading};
use std::collections::HashSet;
use std::fmt::Write as _;

struct Metric {
    name: &'static str,
    help: &'static str,
    of: fn(&Gpu) -> Option<f64>,
}

/// Bytes of a MiB.
const MEBIBYTE: f64 = 1_048_576.0;

fn scaled(reading: Reading<u64>, factor: f64) -> Option<f64> {
    reading.value().map(|value| value as f64 * factor)
}

/// A value that is told in parts. Dividing is exact to the last digit that is printed; multiplying by a fraction is not.
fn whole(reading: Reading<u64>, parts: f64) -> Option<f64> {
    reading.value().map(|value| value as f64 / parts)
}

const METRICS: [Metric; 9] = [
    Metric {
        name: "farrun_gpu_utilization_ratio",
        help: "Share of the last moment in which any kernel ran.",
        of: |gpu| whole(gpu.utilization, 100.0),
    },
    Metric {
        name: "farrun_gpu_memory_total_bytes",
        help: "Memory of the GPU.",
        of: |gpu| scaled(gpu.memory_total, MEBIBYTE),
    },
    Metric {
        name: "farrun_gpu_memory_used_bytes",
        help: "Memory in use.",
        of: |gpu| scaled(gpu.memory_used, MEBIBYTE),
    },
    Metric {
        name: "farrun_gpu_memory_free_bytes",
        help: "Free memory.",
        of: |gpu| scaled(gpu.memory_free, MEBIBYTE),
    },
    Metric {
        name: "farrun_gpu_temperature_celsius",
        help: "Temperature of the GPU.",
        of: |gpu| scaled(gpu.temperature, 1.0),
    },
    Metric {
        name: "farrun_gpu_power_watts",
        help: "Power drawn.",
        of: |gpu| whole(gpu.power, 1000.0),
    },
    Metric {
        name: "farrun_gpu_power_limit_watts",
        help: "Power allowed.",
        of: |gpu| whole(gpu.power_limit, 1000.0),
    },
    Metric {
        name: "farrun_gpu_ecc_uncorrected_errors",
        help: "Uncorrectable memory errors since the driver was loaded.",
        of: |gpu| scaled(gpu.ecc_errors, 1.0),
    },
    Metric {
        name: "farrun_gpu_healthy",
        help: "Whether the GPU can be used.",
        of: |gpu| Some(f64::from(u8::from(gpu.health == Health::Healthy))),
    },
];

/// Everything that is known, for a scraper.
pub(super) fn exposition(hosts: &[HostGpus<'_>], now: DateTime<Utc>) -> String {
    let mut out = String::new();
    head(&mut out, "farrun_host_up", "Whether the host answered.");
    for known in hosts.iter().filter(|known| known.link != "not asked") {
        let up = f64::from(u8::from(known.link == "up"));
        sample(&mut out, "farrun_host_up", &[("host", known.host)], up);
    }
    head(
        &mut out,
        "farrun_gpu_report_age_seconds",
        "Age of the GPU figures of a host.",
    );
    for known in hosts {
        if let Some(age) = age(known, now) {
            sample(
                &mut out,
                "farrun_gpu_report_age_seconds",
                &[("host", known.host)],
                age,
            );
        }
    }
    head(
        &mut out,
        "farrun_gpu_trouble",
        "1 for what keeps a host's GPUs from being read or used.",
    );
    for known in hosts {
        for trouble in known.gpus.iter().flat_map(|report| &report.trouble) {
            let kind = serde_json::to_value(trouble.kind).unwrap_or_default();
            let labels = [("host", known.host), ("kind", kind.as_str().unwrap_or("other"))];
            sample(&mut out, "farrun_gpu_trouble", &labels, 1.0);
        }
    }
    for metric in METRICS {
        head(&mut out, metric.name, metric.help);
        for (host, _, gpu) in gpus(hosts) {
            if let Some(value) = (metric.of)(gpu) {
                sample(&mut out, metric.name, &labels(host, gpu), value);
            }
        }
    }
    head(&mut out, "farrun_gpu_leased", "How many runs hold the GPU.");
    for (host, report, gpu) in gpus(hosts) {
        let of =
            |uuid: &str| gpu.uuid == uuid || gpu.mig_devices.iter().any(|instance| instance.uuid == uuid);
        let held = report.leases.iter().filter(|lease| of(&lease.gpu_uuid)).count();
        sample(&mut out, "farrun_gpu_leased", &labels(host, gpu), held as f64);
    }
    out
}

/// The report of a host that has figures.
fn readable<'a>(known: &'a HostGpus<'_>) -> Option<&'a GpuReport> {
    known
        .gpus
        .as_ref()
        .filter(|report| report.state != Freshness::Unavailable)
}

/// Each GPU once: a scraper refuses everything when a host names one twice.
fn gpus<'a>(hosts: &'a [HostGpus<'_>]) -> impl Iterator<Item = (&'a str, &'a GpuReport, &'a Gpu)> {
    let told = hosts
        .iter()
        .filter_map(|known| Some((known.host, readable(known)?)))
        .flat_map(|(host, report)| report.gpus.iter().map(move |gpu| (host, report, gpu)));
    let mut seen = HashSet::new();
    told.filter(move |(host, _, gpu)| seen.insert((*host, gpu.uuid.as_str())))
}

/// Seconds since the figures were read, by the host's clock until they came here and by ours since.
fn age(known: &HostGpus<'_>, now: DateTime<Utc>) -> Option<f64> {
    let later = super::later(known.gpus_at?, now);
    let age = readable(known)?.age_ms?.saturating_add(later);
    Some(age as f64 / 1000.0)
}

fn labels<'a>(host: &'a str, gpu: &'a Gpu) -> [(&'static str, &'a str); 3] {
    [("host", host), ("uuid", &gpu.uuid), ("model", &gpu.name)]
}

fn head(out: &mut String, name: &str, help: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} gauge");
}

fn sample(out: &mut String, name: &str, labels: &[(&str, &str)], value: f64) {
    let labels: Vec<String> = labels
        .iter()
        .map(|(name, value)| format!("{name}=\"{}\"", escaped(value)))
        .collect();
    let _ = writeln!(out, "{name}{{{}}} {value}", labels.join(","));
}

/// A label's value: backslash, quotation mark and line feed are escaped, as the format says; other control characters,
/// which a terminal could act on, are replaced.
fn escaped(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for c in value.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            c if crate::ui::escape::is_hostile(c) => out.push(char::REPLACEMENT_CHARACTER),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::gpu::table::tests::report;

    fn known(report: Option<farrun_protocol::gpu::GpuReport>) -> HostGpus<'static> {
        HostGpus {
            host: "gpu1",
            link: if report.is_some() { "up" } else { "down" },
            cause: None,
            gpus_at: report.as_ref().map(|_| "2026-03-01T10:00:00Z".parse().unwrap()),
            gpus: report,
        }
    }

    #[test]
    fn the_text_is_frozen() {
        let now = "2026-03-01T10:00:02Z".parse().unwrap();
        let text = exposition(&[known(Some(report())), known(None)], now);
        insta::assert_snapshot!(text);
    }

    #[test]
    fn a_name_from_a_host_cannot_make_a_line_of_its_own() {
        let mut hostile = report();
        hostile.gpus[0].name = "x\"} 1\nfarrun_host_up{host=\"other\"} 1\\\u{1b}[2J".to_owned();
        let text = exposition(&[known(Some(hostile))], Utc::now());
        assert!(!text.contains("\nfarrun_host_up{host=\"other\"}"), "{text}");
        assert!(!text.contains('\u{1b}'));
        assert!(
            text.contains(r#"model="x\"} 1\nfarrun_host_up{host=\"other\"} 1\\"#),
            "{text}"
        );
    }

    #[test]
    fn figures_have_no_digits_that_nobody_measured() {
        let mut odd = report();
        odd.gpus[0].power = Reading::Value(62_800);
        odd.gpus[0].utilization = Reading::Value(29);
        let text = exposition(&[known(Some(odd))], Utc::now());
        for value in ["} 62.8\n", "} 0.29\n"] {
            assert!(text.contains(value), "{text}");
        }
    }

    /// As a scraper reads it: a family has one head with its help and its type, its samples follow, and none comes twice.
    #[test]
    fn families_are_whole_and_samples_are_told_once() {
        let mut doubled = report();
        doubled.gpus.push(doubled.gpus[0].clone());
        let other = HostGpus {
            host: "gpu2",
            ..known(Some(doubled))
        };
        let text = exposition(&[known(Some(report())), other], Utc::now());
        let (mut families, mut series) = (HashSet::new(), HashSet::new());
        let mut lines = text.lines().peekable();
        while let Some(line) = lines.next() {
            let (name, help) = line.strip_prefix("# HELP ").unwrap().split_once(' ').unwrap();
            assert!(families.insert(name) && !help.contains('\\'), "{line}");
            assert_eq!(lines.next(), Some(&*format!("# TYPE {name} gauge")));
            while let Some(sample) = lines.next_if(|line| !line.starts_with('#')) {
                let (labelled, value) = sample.rsplit_once(' ').unwrap();
                assert!(
                    labelled.starts_with(&format!("{name}{{")) && labelled.ends_with('}'),
                    "{sample}"
                );
                assert!(value.parse::<f64>().unwrap().is_finite(), "{sample}");
                assert!(series.insert(labelled), "{sample}");
            }
        }
        assert!(families.len() > 10 && text.ends_with('\n'));
    }
}
