//! Draws a picture: hosts above, runs below, the log of the chosen run in what is left.

use super::picture::{GpuRow, HostPanel, Picture, RunRow};
use crate::ui::table::cut;
use crate::ui::{Tone, escape, sparkline};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Wrap};
use unicode_width::UnicodeWidthStr as _;

/// What the keys do, in as many words as there is room for.
const KEYS: [&str; 3] = [
    "up/down run  pgup/pgdn hosts  q quit",
    "up/down run  q quit",
    "q quit",
];
/// Lines of the log that stay when there is little room.
const LOG: u16 = 5;
/// Narrower terminals get a plea instead of a picture that nobody can read.
const NARROWEST: u16 = 40;
const LOWEST: u16 = 10;

/// Draws `picture` over the whole terminal.
pub fn draw(frame: &mut Frame<'_>, picture: &Picture) {
    let area = frame.area();
    if area.width < NARROWEST || area.height < LOWEST {
        let plea = Paragraph::new("make the terminal larger; q quits").wrap(Wrap { trim: true });
        frame.render_widget(plea, area);
        return;
    }
    let width = usize::from(area.width);
    let painter = Painter {
        colour: picture.colour,
        width,
    };
    let hosts = painter.hosts(&picture.hosts);
    let runs = painter.runs(picture);
    let [title, above, middle, log_title, below] = areas(area, hosts.len(), runs.len());
    put(frame, title, vec![painter.title(&picture.title)]);
    let room = usize::from(above.height);
    let scroll = picture.scroll.min(hosts.len().saturating_sub(room));
    let more = hosts.len().saturating_sub(scroll + room);
    let mut shown: Vec<Line<'_>> = hosts.into_iter().skip(scroll).take(room).collect();
    if more > 0
        && let Some(last) = shown.last_mut()
    {
        *last = Line::from(format!("  … {} more lines: pgdn", more + 1));
    }
    put(frame, above, shown);
    let first = picture.chosen.map_or(0, |chosen| {
        (chosen + 2).saturating_sub(usize::from(middle.height))
    });
    let mut rows = runs.into_iter();
    let head: Vec<Line<'_>> = rows.by_ref().take(1).collect();
    put(frame, middle, head.into_iter().chain(rows.skip(first)).collect());
    put(frame, log_title, vec![painter.rule(&picture.log_title)]);
    let room = usize::from(below.height);
    let tail = picture.log.len().saturating_sub(room);
    let lines = picture.log.iter().skip(tail);
    put(
        frame,
        below,
        lines
            .map(|line| Line::from(cut(&escape::line(line), width)))
            .collect(),
    );
}

/// Title, hosts, runs, title of the log, log. The log keeps its least; then runs, then hosts get what they need.
fn areas(area: Rect, hosts: usize, runs: usize) -> [Rect; 5] {
    let free = area.height.saturating_sub(2);
    let log = LOG.min(free / 3);
    let runs = fit(runs, (free - log) / 2);
    let hosts = fit(hosts, free - log - runs);
    Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(hosts),
        Constraint::Length(runs),
        Constraint::Length(1),
        Constraint::Min(0),
    ])
    .areas(area)
}

fn fit(lines: usize, room: u16) -> u16 {
    u16::try_from(lines).unwrap_or(u16::MAX).min(room)
}

fn put(frame: &mut Frame<'_>, area: Rect, lines: Vec<Line<'_>>) {
    frame.render_widget(Paragraph::new(lines), area);
}

struct Painter {
    colour: bool,
    width: usize,
}

impl Painter {
    fn style(&self, tone: Tone) -> Style {
        let colour = match tone {
            Tone::Plain => None,
            Tone::Good => Some(Color::Green),
            Tone::Warning => Some(Color::Yellow),
            Tone::Bad => Some(Color::Red),
            Tone::Dim => Some(Color::DarkGray),
        };
        match colour.filter(|_| self.colour) {
            Some(colour) => Style::new().fg(colour),
            None => Style::new(),
        }
    }

    fn title(&self, text: &str) -> Line<'static> {
        let least = KEYS.last().map_or(0, |keys| keys.width() + 1);
        let text = cut(&escape::line(text), self.width.saturating_sub(least));
        let free = self.width.saturating_sub(text.width());
        let keys = KEYS
            .into_iter()
            .find(|keys| keys.width() < free)
            .unwrap_or_default();
        let keys = format!("{keys:>free$}");
        Line::from(format!("{:<width$}", text + &keys, width = self.width))
            .style(Style::new().add_modifier(Modifier::REVERSED))
    }

    fn rule(&self, text: &str) -> Line<'static> {
        let text = cut(
            &format!("── {} ", escape::line(text)),
            self.width.saturating_sub(2),
        );
        let rest = self.width.saturating_sub(text.width());
        Line::from(format!("{text}{}", "─".repeat(rest))).style(self.style(Tone::Dim))
    }

    fn hosts(&self, hosts: &[HostPanel]) -> Vec<Line<'static>> {
        let mut lines = Vec::new();
        for host in hosts {
            let name = escape::line(&host.name);
            let link = cut(
                &escape::line(&host.link),
                self.width.saturating_sub(name.width() + 2),
            );
            lines.push(Line::from(vec![
                Span::styled(name, Style::new().add_modifier(Modifier::BOLD)),
                Span::raw("  "),
                Span::styled(link, self.style(host.tone)),
            ]));
            lines.extend(host.troubles.iter().map(|trouble| {
                let text = cut(&escape::line(trouble), self.width.saturating_sub(2));
                Line::from(format!("  {text}")).style(self.style(Tone::Warning))
            }));
            lines.extend(self.gpus(&host.gpus));
        }
        lines
    }

    fn gpus(&self, gpus: &[GpuRow]) -> Vec<Line<'static>> {
        let widest = |text: fn(&GpuRow) -> &String, most: usize| {
            let widths = gpus.iter().map(|gpu| text(gpu).width());
            widths.max().unwrap_or(0).min(most)
        };
        let index = widest(|gpu| &gpu.index, 12);
        let model = widest(|gpu| &gpu.model, 14);
        let memory = widest(|gpu| &gpu.memory, 22);
        // The history has what is left beside everything else and some room for the holder.
        let others = 2 + index + 1 + model + 2 + 6 + 2 + memory + 2 + 6 + 1 + 6 + 2;
        let history = self.width.saturating_sub(others + 16).clamp(0, 60);
        gpus.iter()
            .map(|gpu| {
                let cell = |text: &str, width: usize| cut(&escape::line(text), width);
                let facts = format!(
                    "  {:>index$} {:<model$}  {} {:>5}  {:>memory$}  {:>6} {:>6}  ",
                    cell(&gpu.index, index),
                    cell(&gpu.model, model),
                    sparkline(&gpu.history, history),
                    cell(&gpu.utilization, 5),
                    cell(&gpu.memory, memory),
                    cell(&gpu.temperature, 6),
                    cell(&gpu.power, 6),
                );
                let room = self.width.saturating_sub(facts.width());
                let holder = cell(&gpu.holder, room);
                Line::from(vec![Span::raw(facts), Span::styled(holder, self.style(gpu.tone))])
            })
            .collect()
    }

    /// A header and one line for each run; none when there are none.
    fn runs(&self, picture: &Picture) -> Vec<Line<'static>> {
        if picture.runs.is_empty() {
            return vec![self.rule("no active runs")];
        }
        let mut lines = vec![self.rule("runs")];
        let widest = |text: fn(&RunRow) -> &String, most: usize| {
            let widths = picture.runs.iter().map(|run| text(run).width());
            widths.max().unwrap_or(0).min(most)
        };
        let (name, host) = (widest(|run| &run.name, 16), widest(|run| &run.host, 12));
        let (state, time) = (widest(|run| &run.state, 24), widest(|run| &run.time, 10));
        for (place, run) in picture.runs.iter().enumerate() {
            let cell = |text: &str, width: usize| cut(&escape::line(text), width);
            let mark = if picture.chosen == Some(place) { ">" } else { " " };
            let head = format!(
                "{mark} {} {:<name$} {:<host$} ",
                cell(&run.id, 16),
                cell(&run.name, name),
                cell(&run.host, host)
            );
            let state = format!("{:<state$}", cell(&run.state, state));
            let mut rest = format!(" {:>time$}  {}{}", cell(&run.time, time), run.gpus, run.note);
            rest = cell(&rest, self.width.saturating_sub(head.width() + state.width()));
            let line = Line::from(vec![
                Span::raw(head),
                Span::styled(state, self.style(run.tone)),
                Span::raw(rest),
            ]);
            lines.push(match picture.chosen == Some(place) {
                true => line.style(Style::new().add_modifier(Modifier::BOLD)),
                false => line,
            });
        }
        lines
    }
}

#[cfg(test)]
mod tests;
