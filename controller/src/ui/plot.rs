//! Figures over time, as characters.
//!
//! Each panel is a chart of one quantity: columns are equal spans of time and show the greatest value in theirs. A span
//! without a value is empty: nothing is joined across it.

use std::fmt::Write as _;
use std::time::Duration;

/// Figures of one quantity.
#[derive(Debug, Clone)]
pub struct Series {
    /// What it is, such as `GPU 0 memory`.
    pub name: String,
    /// Its unit, such as `GiB`.
    pub unit: &'static str,
    /// Top of the axis when it is known; else the greatest value.
    pub top: Option<f64>,
    /// Its values, oldest first.
    pub points: Vec<Point>,
}

/// One value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// Seconds since the start.
    pub at: f64,
    /// Seconds it stands for.
    pub covers: f64,
    /// None where it is not known.
    pub value: Option<f64>,
}

/// One chart, or several below each other with one axis of time.
#[derive(Debug, Clone)]
pub struct Plot {
    /// The charts.
    pub series: Vec<Series>,
    /// Seconds from the left edge to the right one.
    pub span: f64,
}

/// Eighths of a cell.
const BLOCKS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// Columns before the chart: a value, and the axis.
const MARGIN: usize = 9;

impl Series {
    /// Top of the axis: never zero, so that a flat line has a place.
    pub fn ceiling(&self) -> f64 {
        let greatest = self.values().fold(0.0, f64::max);
        match self.top.unwrap_or(greatest).max(greatest) {
            ceiling if ceiling > 0.0 => ceiling,
            _ => 1.0,
        }
    }

    /// The values that are known.
    pub fn values(&self) -> impl Iterator<Item = f64> {
        self.points.iter().filter_map(|point| point.value)
    }

    /// Greatest value in each of `columns` equal spans.
    fn columns(&self, columns: usize, span: f64) -> Vec<Option<f64>> {
        let mut greatest: Vec<Option<f64>> = vec![None; columns];
        let place = |at: f64| at / span * columns as f64;
        for point in &self.points {
            let Some(value) = point.value else { continue };
            let own = place(point.at).clamp(0.0, columns as f64 - 1.0) as usize;
            let end = place(point.at + point.covers);
            for (column, cell) in greatest.iter_mut().enumerate().skip(own) {
                // A column belongs to what covers its middle, so that no sample reaches into a gap.
                if column != own && column as f64 + 0.5 >= end {
                    break;
                }
                *cell = Some(cell.unwrap_or(value).max(value));
            }
        }
        greatest
    }
}

impl Plot {
    /// The lines of the charts, `width` columns wide and each chart `height` lines high.
    pub fn lines(&self, width: usize, height: usize) -> Vec<String> {
        let columns = width.saturating_sub(MARGIN).max(10);
        let span = self.span.max(1.0);
        let mut lines = Vec::new();
        for series in &self.series {
            lines.push(format!("{} ({})", series.name, series.unit));
            lines.extend(chart(series, columns, span, height));
        }
        lines.extend(axis(columns, span));
        lines
    }
}

fn chart(series: &Series, columns: usize, span: f64, height: usize) -> Vec<String> {
    let ceiling = series.ceiling();
    let cells: Vec<Option<usize>> = series
        .columns(columns, span)
        .into_iter()
        .map(|value| value.map(|value| eighths(value, ceiling, height)))
        .collect();
    (0..height)
        .rev()
        .map(|row| {
            let label = match row {
                row if row + 1 == height => number(ceiling),
                0 => "0".to_owned(),
                _ => String::new(),
            };
            let mut line = format!("{label:>7} ┤");
            for cell in &cells {
                let filled = cell.map_or(0, |eighths| eighths.saturating_sub(row * 8).min(8));
                line.push(BLOCKS.get(filled).copied().unwrap_or(' '));
            }
            line.trim_end().to_owned()
        })
        .collect()
}

/// A known value has at least one eighth: zero is not a gap.
fn eighths(value: f64, ceiling: f64, height: usize) -> usize {
    let all = (height * 8) as f64;
    (value / ceiling * all).round().clamp(1.0, all) as usize
}

fn axis(columns: usize, span: f64) -> [String; 2] {
    let mut line = format!("{:>7} └", "");
    let mut labels = format!("{:>7}  ", "");
    let start = labels.chars().count();
    let mut at = 0;
    while at < columns {
        let label = time(span * at as f64 / columns as f64);
        let _ = write!(
            labels,
            "{:width$}",
            "",
            width = (start + at).saturating_sub(labels.chars().count())
        );
        if start + at == labels.chars().count() && at + label.chars().count() <= columns.max(8) {
            labels.push_str(&label);
        }
        at += 20;
    }
    line.extend((0..columns).map(|column| if column % 20 == 0 { '┴' } else { '─' }));
    [line, labels.trim_end().to_owned()]
}

/// A moment on the axis: `0`, `40 s`, `12:05`, `3:04:05`.
pub fn time(seconds: f64) -> String {
    let whole = Duration::from_secs_f64(seconds.max(0.0)).as_secs();
    match whole {
        0 => "0".to_owned(),
        1..=89 => format!("{whole} s"),
        90..=3599 => format!("{}:{:02}", whole / 60, whole % 60),
        _ => format!("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60),
    }
}

/// A value of an axis with three digits that count.
pub fn number(value: f64) -> String {
    match value {
        value if value >= 100.0 || value.fract() == 0.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(at: f64, value: Option<f64>) -> Point {
        Point {
            at,
            covers: 5.0,
            value,
        }
    }

    fn plot() -> Plot {
        let memory = (0..60).map(|step| point(f64::from(step) * 5.0, Some(f64::from(step.min(30)) * 2.0)));
        let power = (0..60)
            .filter(|step| !(20..30).contains(step))
            .map(|step| point(f64::from(step) * 5.0, (step != 40).then_some(300.0)));
        Plot {
            series: vec![
                Series {
                    name: "GPU 0 memory".to_owned(),
                    unit: "GiB",
                    top: Some(80.0),
                    points: memory.collect(),
                },
                Series {
                    name: "GPU 0 power".to_owned(),
                    unit: "W",
                    top: None,
                    points: power.collect(),
                },
            ],
            span: 300.0,
        }
    }

    #[test]
    fn gaps_stay_empty_and_the_axis_is_time() {
        insta::assert_snapshot!(plot().lines(80, 4).join("\n"));
    }

    #[test]
    fn it_is_no_wider_than_asked() {
        for width in [20, 40, 80, 200] {
            for line in plot().lines(width, 3) {
                assert!(line.chars().count() <= width, "{width}: {line}");
            }
        }
    }

    #[test]
    fn zero_is_not_a_gap() {
        let series = Series {
            name: "x".to_owned(),
            unit: "%",
            top: Some(100.0),
            points: vec![point(0.0, Some(0.0)), point(5.0, None), point(10.0, Some(100.0))],
        };
        let plot = Plot {
            series: vec![series],
            span: 15.0,
        };
        let lines = plot.lines(30, 1);
        assert!(lines[1].starts_with("    100 ┤▁"), "{lines:?}");
        assert!(lines[1].contains(' ') && lines[1].ends_with('█'), "{lines:?}");
    }

    #[test]
    fn no_samples_are_no_panic() {
        let plot = Plot {
            series: vec![Series {
                name: "x".to_owned(),
                unit: "%",
                top: None,
                points: vec![],
            }],
            span: 0.0,
        };
        assert_eq!(plot.lines(0, 0).len(), 3);
    }
}
