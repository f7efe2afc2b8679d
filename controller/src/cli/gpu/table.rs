//! What a host's GPUs are and do, as tables and lines for people.

use super::holder;
use crate::run::gpu_words;
use crate::ui::{Cell, Table, Tone, sparkline};
use farrun_protocol::gpu::{
    Absence, Freshness, Gpu, GpuReport, Health, MigDevice, Reading, STALE_AFTER, TroubleKind,
};
use std::collections::BTreeMap;

/// Samples that a row shows.
const HISTORY: usize = 6;
/// Reading the GPUs is slow from here on, in milliseconds.
const SLOW: u64 = 2000;
/// From here on a temperature is worth a look, in degrees Celsius.
const HOT: u64 = 85;

/// One row per GPU, and one per instance of a divided one; `later` is the time since the answer, in milliseconds.
pub(crate) fn gpus(report: &GpuReport, later: u64) -> Table {
    let mut table = Table::new(["GPU", "MODEL", "UTIL", "MEMORY", "TEMP", "POWER", "HELD BY"]);
    for gpu in &report.gpus {
        table.row(row(report, gpu, later));
        for (place, instance) in gpu.mig_devices.iter().enumerate() {
            let place = format!("{}:{place}", gpu.index);
            table.row(instance_row(report, &place, instance, later));
        }
    }
    table
}

fn row(report: &GpuReport, gpu: &Gpu, later: u64) -> [Cell; 7] {
    let hot = gpu.temperature.value().is_some_and(|degrees| degrees >= HOT);
    let shown = Shown::of(gpu);
    let (held, tone) = holding(report, gpu, later);
    let heat = if hot { Tone::Warning } else { Tone::Plain };
    let utilization = match report.gpus.iter().all(|gpu| gpu.history.is_empty()) {
        true => shown.utilization,
        false => format!("{} {:>5}", sparkline(&gpu.history, HISTORY), shown.utilization),
    };
    [
        Cell::new(gpu.index.to_string()),
        Cell::new(model(&gpu.name)),
        Cell::new(utilization),
        Cell::new(shown.memory),
        Cell::new(shown.temperature).tone(heat),
        Cell::new(shown.power),
        Cell::new(held).tone(tone),
    ]
}

/// Figures in words; `-` for what is not known.
pub(crate) struct Shown {
    pub(crate) utilization: String,
    pub(crate) memory: String,
    pub(crate) temperature: String,
    pub(crate) power: String,
}

impl Shown {
    pub(crate) fn of(gpu: &Gpu) -> Self {
        Self {
            utilization: shown(gpu.utilization, |percent| format!("{percent} %")),
            memory: match gpu.unified_memory {
                true => format!("{} unified", memory(gpu.memory_used, gpu.memory_total)),
                false => memory(gpu.memory_used, gpu.memory_total),
            },
            temperature: shown(gpu.temperature, |degrees| format!("{degrees} °C")),
            power: shown(gpu.power, |milliwatts| {
                format!("{} W", milliwatts.saturating_add(500) / 1000)
            }),
        }
    }
}

/// Who holds a GPU, or why nobody can; `later` is the time since the answer, in milliseconds. Where the figures are
/// stale it says so: what was free then may not be free now.
pub(crate) fn holding(report: &GpuReport, gpu: &Gpu, later: u64) -> (String, Tone) {
    let stale = stale(report, later);
    let mut held = holder::of_gpu(report, gpu);
    if gpu.health != Health::Healthy {
        held.insert(0, gpu_words::health(gpu.health).0.to_owned());
        return (held.join("; "), Tone::Bad);
    }
    if !held.is_empty() {
        let held = held.join(", ");
        return match stale {
            Some(stale) => (format!("{held}; {stale}"), Tone::Warning),
            None => (held, Tone::Plain),
        };
    }
    match (gpu.mig, report.state, stale) {
        (true, _, _) => ("divided".to_owned(), Tone::Plain),
        (false, Freshness::Unavailable, _) => ("-".to_owned(), Tone::Plain),
        (false, _, Some(stale)) => (was_free(&stale), Tone::Warning),
        (false, _, None) => ("free".to_owned(), Tone::Good),
    }
}

/// `STALE 2 min` when the figures are too old to go by.
fn stale(report: &GpuReport, later: u64) -> Option<String> {
    let age = report.age_ms?.saturating_add(later);
    let old = report.state == Freshness::Stale || age > STALE_AFTER;
    (old && report.state != Freshness::Unavailable).then(|| format!("STALE {}", gpu_words::short(age)))
}

fn was_free(stale: &str) -> String {
    format!("was free; {stale}")
}

fn instance_row(report: &GpuReport, place: &str, instance: &MigDevice, later: u64) -> [Cell; 7] {
    let held = holder::of_instance(report, &instance.uuid);
    let text = match (held.is_empty(), stale(report, later)) {
        (true, Some(stale)) => was_free(&stale),
        (true, None) => "free".to_owned(),
        (false, Some(stale)) => format!("{}; {stale}", held.join(", ")),
        (false, None) => held.join(", "),
    };
    [
        Cell::new(place),
        Cell::new(&instance.profile),
        Cell::new(""),
        Cell::new(memory(instance.memory_used, instance.memory_total)),
        Cell::new(""),
        Cell::new(""),
        Cell::new(text),
    ]
}

/// A model without the words that every one has.
pub(crate) fn model(name: &str) -> &str {
    let name = name.strip_prefix("NVIDIA ").unwrap_or(name);
    let name = name.strip_prefix("GeForce ").unwrap_or(name);
    name.strip_prefix("Tesla ").unwrap_or(name)
}

/// `41.0/80.0 GiB`.
fn memory(used: Reading<u64>, total: Reading<u64>) -> String {
    match (used.value(), total.value()) {
        (None, None) => "-".to_owned(),
        (used, total) => format!("{}/{} GiB", gibibytes(used), gibibytes(total)),
    }
}

fn gibibytes(mebibytes: Option<u64>) -> String {
    mebibytes.map_or_else(
        || "-".to_owned(),
        |mebibytes| format!("{:.1}", mebibytes as f64 / 1024.0),
    )
}

fn shown(reading: Reading<u64>, show: impl FnOnce(u64) -> String) -> String {
    reading.value().map_or_else(|| "-".to_owned(), show)
}

/// What there is, which driver, and how old the figures are; `later` is the time since the answer, in milliseconds.
pub(crate) fn headline(report: &GpuReport, later: u64) -> String {
    let mut parts = Vec::new();
    let nothing = report
        .trouble
        .as_ref()
        .is_some_and(|trouble| trouble.kind == TroubleKind::NoGpu);
    if nothing && report.gpus.is_empty() {
        return "none".to_owned();
    }
    let mut models: BTreeMap<&str, usize> = BTreeMap::new();
    for gpu in &report.gpus {
        *models.entry(model(&gpu.name)).or_default() += 1;
    }
    parts.extend(
        models
            .into_iter()
            .map(|(name, count)| format!("{count} × {name}")),
    );
    if let Some(driver) = &report.driver {
        parts.push(format!("driver {}", driver.version));
        parts.extend(driver.cuda.as_ref().map(|cuda| format!("CUDA {cuda}")));
    }
    parts.push(age(report, later));
    parts.extend(
        report
            .refreshing_ms
            .map(|ms| format!("refresh running {}", gpu_words::short(ms))),
    );
    parts.join(", ")
}

/// `1 s old`, `STALE 2 min`, `no figures`.
pub(crate) fn age(report: &GpuReport, later: u64) -> String {
    if let Some(stale) = stale(report, later) {
        return stale;
    }
    match (report.state, report.age_ms) {
        (Freshness::Unavailable, _) | (_, None) => "no figures".to_owned(),
        (_, Some(age)) => format!("{} old", gpu_words::short(age.saturating_add(later))),
    }
}

/// What is wrong, each with its remedy on the host.
pub(crate) fn troubles(report: &GpuReport) -> Vec<(String, Option<&'static str>)> {
    let mut told = Vec::new();
    for trouble in report.trouble.iter().chain(&report.device.broken) {
        if trouble.kind != TroubleKind::NoGpu {
            let line = (
                gpu_words::trouble_line(trouble),
                gpu_words::trouble(trouble.kind).1,
            );
            if !told.contains(&line) {
                told.push(line);
            }
        }
    }
    for gpu in &report.gpus {
        if let (state, Some(kind)) = gpu_words::health(gpu.health) {
            told.push((
                format!("GPU {} is {state}", gpu.index),
                gpu_words::trouble(kind).1,
            ));
        }
    }
    told
}

/// Each dash of the table with its reason: `power of GPU 0, 1: the GPU does not support it`.
pub(crate) fn dashes(report: &GpuReport) -> Vec<String> {
    let mut reasons: BTreeMap<(&str, Vec<&str>), Vec<String>> = BTreeMap::new();
    for gpu in &report.gpus {
        let columns = [
            ("utilisation", gpu.utilization),
            ("memory in use", gpu.memory_used),
            ("memory", gpu.memory_total),
            ("temperature", gpu.temperature),
            ("power", gpu.power),
        ];
        let mut missing: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (name, reading) in columns {
            if let Some(absent) = absent(reading) {
                missing.entry(gpu_words::absence(absent)).or_default().push(name);
            }
        }
        for (reason, names) in missing {
            let gpus = reasons.entry((reason, names)).or_default();
            gpus.push(gpu.index.to_string());
        }
    }
    reasons
        .into_iter()
        .map(|((reason, names), gpus)| format!("{} of GPU {}: {reason}", names.join(", "), gpus.join(", ")))
        .collect()
}

/// What else is worth knowing of a GPU that can be used: `clocks of GPU 0 are held down: sw_power_cap`.
pub(crate) fn remarks(report: &GpuReport) -> Vec<String> {
    let mut slowed: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for gpu in &report.gpus {
        if let Some(reason) = &gpu.throttled {
            slowed.entry(reason).or_default().push(gpu.index.to_string());
        }
    }
    let slowed = slowed
        .into_iter()
        .map(|(reason, gpus)| format!("clocks of GPU {} are held down: {reason}", gpus.join(", ")));
    let errors = report.gpus.iter().filter_map(|gpu| {
        let errors = gpu.ecc_errors.value().filter(|errors| *errors > 0)?;
        Some(format!(
            "GPU {}: {errors} memory errors that could not be corrected since the driver was loaded",
            gpu.index
        ))
    });
    slowed.chain(errors).collect()
}

fn absent(reading: Reading<u64>) -> Option<Absence> {
    match reading {
        Reading::Value(_) => None,
        Reading::Absent { absent } => Some(absent),
    }
}

/// What the user can do for faster figures.
pub(crate) fn hint(host: &str, report: &GpuReport) -> Option<String> {
    let took = report.took_ms.filter(|took| *took > SLOW)?;
    let off = report.gpus.iter().any(|gpu| gpu.persistence == Some(false));
    off.then(|| {
        format!(
            "`{host}` took {:.1} s to read its GPUs because their driver is not kept loaded: run `sudo nvidia-smi -pm 1` \
             there, or enable nvidia-persistenced",
            took as f64 / 1000.0
        )
    })
}

/// The processes that hold GPU memory.
pub(crate) fn processes(report: &GpuReport) -> Table {
    let mut table = Table::new(["GPU", "PID", "MEMORY", "PROCESS"]);
    for process in &report.processes {
        let index = report
            .gpus
            .iter()
            .find(|gpu| gpu.uuid == process.gpu_uuid)
            .map_or_else(|| "?".to_owned(), |gpu| gpu.index.to_string());
        table.row([
            index,
            process.pid.to_string(),
            shown(process.memory, |mebibytes| format!("{mebibytes} MiB")),
            holder::process(process),
        ]);
    }
    table
}

#[cfg(test)]
pub(crate) mod tests;
