//! Figures over time, as an SVG file.
//!
//! Written here and not by a plotting crate: four panels of lines need a hundred lines, a crate brings fonts, colour
//! maps and a dozen dependencies.

use super::escape;
use super::plot::{Plot, Series, number, time};
use std::fmt::Write as _;

const WIDTH: f64 = 900.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 40.0;
const PANEL: f64 = 120.0;
const BETWEEN: f64 = 40.0;
const COLOURS: [&str; 6] = ["#1b6ca8", "#b8442f", "#3a7d44", "#7d4f9e", "#a87b1b", "#37798a"];

/// What a drawing is for: its colours.
struct Look {
    colours: [&'static str; 6],
    axis: &'static str,
    grid: &'static str,
    faint: &'static str,
}

/// A file of its own, on white.
const FILE: Look = Look {
    colours: COLOURS,
    axis: "stroke=\"#888\"",
    grid: "stroke=\"#ddd\"",
    faint: "fill=\"#555\"",
};

/// A part of a page that may be light or dark: text takes the page's colour.
const INLINE: Look = Look {
    colours: ["#3b8ed0", "#d9604a", "#4fa35c", "#a076c4", "#c99a3a", "#52a0b5"],
    axis: "stroke=\"#888\"",
    grid: "stroke=\"#888\" stroke-opacity=\"0.25\"",
    faint: "fill=\"#888\"",
};

/// The charts of `plot` with a title, as a file of its own. No line crosses a gap.
pub fn svg(title: &str, plot: &Plot) -> String {
    let height = TOP + (PANEL + BETWEEN) * plot.series.len() as f64 + 20.0;
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<title>{0}</title>\n<rect width=\"100%\" height=\"100%\" \
         fill=\"white\"/>\n<text x=\"{LEFT}\" y=\"22\" font-size=\"15\">{0}</text>",
        escaped(title)
    );
    panels(&mut out, plot, TOP, &FILE);
    out.push_str("</svg>\n");
    out
}

/// The charts of `plot` as a part of a page, with a line at a moment (in seconds) and its name.
pub fn inline(plot: &Plot, mark: Option<(f64, &str)>) -> String {
    let height = (PANEL + BETWEEN) * plot.series.len() as f64 + 20.0;
    let mut out = String::new();
    let _ = writeln!(
        out,
        "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"what the GPUs did\" fill=\"currentColor\" \
         font-family=\"sans-serif\" font-size=\"12\">"
    );
    panels(&mut out, plot, 0.0, &INLINE);
    if let Some((at, name)) = mark.filter(|(at, _)| at.is_finite()) {
        for index in 0..plot.series.len() {
            let top = (PANEL + BETWEEN) * index as f64 + 20.0;
            let x = place(at, plot.span.max(1.0));
            let _ = writeln!(
                out,
                "<path d=\"M{x:.1} {top}V{}\" stroke=\"#d0342c\" stroke-dasharray=\"4 3\"/><text x=\"{:.1}\" y=\"{}\" \
                 text-anchor=\"end\" fill=\"#d0342c\">{}</text>",
                top + PANEL,
                x - 5.0,
                top - 6.0,
                escaped(name)
            );
        }
    }
    out.push_str("</svg>\n");
    out
}

fn panels(out: &mut String, plot: &Plot, top: f64, look: &Look) {
    for (index, series) in plot.series.iter().enumerate() {
        let top = top + (PANEL + BETWEEN) * index as f64 + 20.0;
        let colour = look.colours.get(index % look.colours.len()).unwrap_or(&"black");
        panel(out, series, plot.span.max(1.0), top, colour, look);
    }
}

/// Where a moment lies from left to right.
fn place(at: f64, span: f64) -> f64 {
    LEFT + (WIDTH - RIGHT - LEFT) * (at / span).clamp(0.0, 1.0)
}

fn panel(out: &mut String, series: &Series, span: f64, top: f64, colour: &str, look: &Look) {
    let bottom = top + PANEL;
    let right = WIDTH - RIGHT;
    let ceiling = series.ceiling();
    let _ = writeln!(
        out,
        "<text x=\"{LEFT}\" y=\"{}\">{} ({})</text>\n<path d=\"M{LEFT} {top}V{bottom}H{right}\" fill=\"none\" \
         {}/>",
        top - 6.0,
        escaped(&series.name),
        escaped(series.unit),
        look.axis
    );
    for (share, value) in [(0.0, 0.0), (0.5, ceiling / 2.0), (1.0, ceiling)] {
        let y = bottom - PANEL * share;
        let _ = writeln!(
            out,
            "<path d=\"M{LEFT} {y}H{right}\" {}/><text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>",
            look.grid,
            LEFT - 6.0,
            y + 4.0,
            number(value)
        );
    }
    for step in 0..=4 {
        let share = f64::from(step) / 4.0;
        let x = LEFT + (right - LEFT) * share;
        let _ = writeln!(
            out,
            "<text x=\"{x}\" y=\"{}\" text-anchor=\"middle\" {}>{}</text>",
            bottom + 15.0,
            look.faint,
            time(span * share)
        );
    }
    for line in lines(series) {
        let points: Vec<String> = line
            .iter()
            .map(|(at, value)| {
                let x = place(*at, span);
                let y = bottom - PANEL * (value / ceiling).clamp(0.0, 1.0);
                format!("{x:.1},{y:.1}")
            })
            .collect();
        let _ = match points.as_slice() {
            [point] => writeln!(
                out,
                "<path d=\"M{point}h0\" stroke=\"{colour}\" stroke-width=\"3\" stroke-linecap=\"round\"/>"
            ),
            points => writeln!(
                out,
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>",
                points.join(" ")
            ),
        };
    }
}

/// The stretches without a gap.
fn lines(series: &Series) -> Vec<Vec<(f64, f64)>> {
    let mut lines: Vec<Vec<(f64, f64)>> = Vec::new();
    // Until when the value before reaches; half a sample late is not missed.
    let mut reach: Option<f64> = None;
    for point in &series.points {
        let Some(value) = point.value else {
            reach = None;
            continue;
        };
        match (reach.filter(|reach| point.at <= *reach), lines.last_mut()) {
            (Some(_), Some(line)) => line.push((point.at, value)),
            _ => lines.push(vec![(point.at, value)]),
        }
        reach = Some(point.at + point.covers * 1.5);
    }
    lines
}

/// A name that a host chose: readers of SVG refuse the whole file for some characters.
fn escaped(text: &str) -> String {
    let shown = |c| {
        if escape::is_hostile(c) {
            char::REPLACEMENT_CHARACTER
        } else {
            c
        }
    };
    escape::markup(&text.chars().map(shown).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(points: &[(f64, Option<f64>)]) -> Series {
        Series {
            name: "GPU 0 <power> & \u{1b}".to_owned(),
            unit: "W",
            top: None,
            points: points
                .iter()
                .map(|(at, value)| super::super::plot::Point {
                    at: *at,
                    covers: 5.0,
                    value: *value,
                })
                .collect(),
        }
    }

    #[test]
    fn a_gap_ends_a_line() {
        let gaps = series(&[
            (0.0, Some(1.0)),
            (5.0, Some(2.0)),
            (10.0, None),
            (15.0, Some(3.0)),
            (60.0, Some(4.0)),
        ]);
        let found = lines(&gaps);
        assert_eq!(
            found,
            [vec![(0.0, 1.0), (5.0, 2.0)], vec![(15.0, 3.0)], vec![(60.0, 4.0)]]
        );
    }

    #[test]
    fn the_file_is_frozen_and_names_are_escaped() {
        let plot = Plot {
            series: vec![series(&[
                (0.0, Some(100.0)),
                (5.0, Some(300.0)),
                (20.0, Some(200.0)),
            ])],
            span: 25.0,
        };
        let text = svg("rs_abc \"x\"", &plot);
        assert!(!text.contains('\u{1b}') && !text.contains("<power>"), "{text}");
        insta::assert_snapshot!(text);
    }
}
