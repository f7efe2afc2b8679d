//! What a run's GPUs did, as charts.

use crate::cli::view::document;
use crate::cli::{Context, find};
use crate::controller::Controller;
use crate::error::{CommandError, Exit};
use crate::model::Run;
use crate::run::series;
use crate::ui::plot::{Plot, Point, Series};
use crate::ui::svg::svg;
use farrun_protocol::series::{GpuSample, Sample};
use std::path::Path;

/// Lines of one chart.
const HEIGHT: usize = 4;

/// Plots the series of the run that `reference` means: in the terminal, into a file, or as JSON.
pub(super) async fn run(
    reference: &str,
    file: Option<&Path>,
    context: &Context,
) -> Result<Exit, CommandError> {
    let controller = context.controller().await?;
    let run = find::run(&controller, reference).await?;
    let samples = series(&controller, &run).await?;
    if context.ui.is_json() {
        let data = serde_json::json!({ "run_id": run.id, "samples": samples });
        context.ui.json(&document("farrun.series/1", data));
        return Ok(Exit::Completed);
    }
    if samples.is_empty() {
        context.ui.note(format!(
            "`{}` has no figures of GPUs for {}: it had none, or ended before the first sample",
            run.host, run.id
        ));
        return Ok(Exit::Completed);
    }
    let plot = plot(&run, &samples);
    if let Some(file) = file {
        let title = format!("{} {} on {}", run.id, run.spec.name, run.host);
        std::fs::write(file, svg(&title, &plot)).map_err(|error| {
            CommandError::new(
                Exit::Internal,
                format!("`{}` could not be written: {error}", file.display()),
            )
        })?;
        context.ui.note(format!("written to {}", file.display()));
        return Ok(Exit::Completed);
    }
    for line in plot.lines(context.ui.width(), HEIGHT) {
        context.ui.line(line);
    }
    Ok(Exit::Completed)
}

async fn series(controller: &Controller, run: &Run) -> Result<Vec<Sample>, CommandError> {
    Ok(series::of(controller, run).await?)
}

struct Quantity {
    name: &'static str,
    unit: &'static str,
    of: fn(&GpuSample) -> Option<f64>,
    /// Whether the axis ends at 100.
    percent: bool,
}

fn gibibytes(mebibytes: u64) -> f64 {
    mebibytes as f64 / 1024.0
}

/// Memory of the run, and of everybody where that is not known.
const OWN: &str = "memory of the run";
const ALL: &str = "memory in use";

const QUANTITIES: [Quantity; 5] = [
    Quantity {
        name: OWN,
        unit: "GiB",
        of: |gpu| gpu.run_memory.map(gibibytes),
        percent: false,
    },
    Quantity {
        name: ALL,
        unit: "GiB",
        of: |gpu| gpu.memory.map(gibibytes),
        percent: false,
    },
    Quantity {
        name: "utilisation",
        unit: "%",
        of: |gpu| gpu.utilization.map(|percent| percent as f64),
        percent: true,
    },
    Quantity {
        name: "temperature",
        unit: "°C",
        of: |gpu| gpu.temperature.map(|degrees| degrees as f64),
        percent: false,
    },
    Quantity {
        name: "power",
        unit: "W",
        of: |gpu| gpu.power.map(|milliwatts| milliwatts as f64 / 1000.0),
        percent: false,
    },
];

/// The charts of a run: four for each of its GPUs, without those of which nothing is known.
pub(crate) fn plot(run: &Run, samples: &[Sample]) -> Plot {
    let start = samples.first().map(|sample| sample.at);
    let seconds = |sample: &Sample| {
        start.map_or(0.0, |start| {
            (sample.at - start).num_milliseconds().max(0) as f64 / 1000.0
        })
    };
    let mut series = Vec::new();
    for (uuid, name, leased) in series::gpus(run, samples) {
        for quantity in QUANTITIES {
            let points: Vec<Point> = samples
                .iter()
                .map(|sample| Point {
                    at: seconds(sample),
                    covers: f64::from(sample.covers),
                    value: sample
                        .gpus
                        .iter()
                        .find(|gpu| gpu.uuid == uuid)
                        .and_then(quantity.of),
                })
                .collect();
            let own = format!("{name} {OWN}");
            let told = quantity.name == ALL && series.iter().any(|known: &Series| known.name == own);
            if told || points.iter().all(|point| point.value.is_none()) {
                continue;
            }
            let memory = leased
                .and_then(|gpu| gpu.memory_total)
                .filter(|_| matches!(quantity.name, OWN | ALL))
                .map(gibibytes);
            series.push(Series {
                name: format!("{name} {}", quantity.name),
                unit: quantity.unit,
                top: memory.or(quantity.percent.then_some(100.0)),
                points,
            });
        }
    }
    let span = samples
        .last()
        .map_or(0.0, |sample| seconds(sample) + f64::from(sample.covers));
    Plot { series, span }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn quantities_that_nobody_knows_have_no_chart() {
        let samples: Vec<Sample> = serde_json::from_value(json!([
            { "at": "2026-03-01T10:00:00Z", "covers": 5, "log_offset": 0, "gpus": [{ "uuid": "GPU-a", "run_memory": 1024 }] },
            { "at": "2026-03-01T10:00:05Z", "covers": 5, "log_offset": 9, "gpus": [{ "uuid": "GPU-a", "memory": 2048 }] },
            { "at": "2026-03-01T10:01:00Z", "covers": 60, "log_offset": 9, "gpus": [{ "uuid": "GPU-b", "power": 300_000 }] },
        ]))
        .unwrap();
        let run: Run = serde_json::from_value(json!({
            "id": "rs_aaaaaaaa", "host": "gpu1", "controller_id": "co_abcdefgh", "operation": "run", "status": "running",
            "log_complete": false, "gpus": "all", "created_at": "2026-03-01T10:00:00Z", "updated_at": "2026-03-01T10:00:00Z",
            "lease": { "format": 1, "since": "2026-03-01T10:00:00Z",
                       "gpus": [{ "uuid": "GPU-a", "index": 3, "name": "H100", "memory_total": 81920 }] },
            "spec": {
                "format": 1, "run_id": "rs_aaaaaaaa", "controller_id": "co_abcdefgh", "operation": "run", "name": "x",
                "created_at": "2026-03-01T10:00:00Z", "image": "demo:1", "inputs_target": "/i", "outputs_target": "/o",
            },
        }))
        .unwrap();
        let plot = plot(&run, &samples);
        let names: Vec<&str> = plot.series.iter().map(|series| series.name.as_str()).collect();
        assert_eq!(names, ["GPU 3 memory of the run", "GPU-b power"]);
        assert_eq!(plot.series[0].top, Some(80.0));
        let values: Vec<Option<f64>> = plot.series[0].points.iter().map(|point| point.value).collect();
        assert_eq!(values, [Some(1.0), None, None]);
        assert_eq!(plot.span, 120.0);
    }
}
