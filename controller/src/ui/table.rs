//! Tables and aligned fields.

use super::escape;
use comfy_table::{CellAlignment, Color, ContentArrangement, presets};
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// Spaces between two columns.
const GAP: usize = 2;
/// A column is not cut to less than this.
const MIN_COLUMN: usize = 6;

/// How a cell is coloured where colour is shown; it never carries meaning alone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Tone {
    /// No colour.
    #[default]
    Plain,
    /// Green.
    Good,
    /// Yellow.
    Warning,
    /// Red.
    Bad,
    /// Grey.
    Dim,
}

/// One cell of a table.
#[derive(Debug, Clone, Default)]
pub struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// A cell with this text; it is escaped.
    pub fn new(text: impl AsRef<str>) -> Self {
        Self {
            text: escape::line(text.as_ref()),
            tone: Tone::Plain,
        }
    }

    /// The cell in another colour.
    #[must_use]
    pub fn tone(mut self, tone: Tone) -> Self {
        self.tone = tone;
        self
    }

    fn color(&self) -> Option<Color> {
        match self.tone {
            Tone::Plain => None,
            Tone::Good => Some(Color::Green),
            Tone::Warning => Some(Color::Yellow),
            Tone::Bad => Some(Color::Red),
            Tone::Dim => Some(Color::DarkGrey),
        }
    }
}

impl<T: AsRef<str>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::new(text)
    }
}

/// Rows under headers. Columns that hold only numbers or sizes are aligned to the right.
#[derive(Debug, Clone, Default)]
pub struct Table {
    headers: Vec<String>,
    rows: Vec<Vec<Cell>>,
    /// Whether the last column is what rows are told apart by.
    whole_last: bool,
}

impl Table {
    /// A table with these column headers and no rows.
    pub fn new<T: AsRef<str>>(headers: impl IntoIterator<Item = T>) -> Self {
        Self {
            headers: headers
                .into_iter()
                .map(|text| escape::line(text.as_ref()))
                .collect(),
            rows: Vec::new(),
            whole_last: false,
        }
    }

    /// The table with a last column that gives way last and not first.
    #[must_use]
    pub fn with_whole_last(mut self) -> Self {
        self.whole_last = true;
        self
    }

    /// Adds a row; missing cells are empty, superfluous ones are dropped.
    pub fn row<T: Into<Cell>>(&mut self, cells: impl IntoIterator<Item = T>) {
        let mut row: Vec<Cell> = cells.into_iter().map(Into::into).collect();
        row.resize_with(self.headers.len(), Cell::default);
        self.rows.push(row);
    }

    /// Whether it has no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The lines of the table, no wider than `limit` where columns allow it; uncut without a limit.
    pub(crate) fn render(&self, limit: Option<usize>, color: bool) -> String {
        let widths = self.widths(limit);
        let mut table = comfy_table::Table::new();
        table
            .load_style(presets::NOTHING)
            .set_content_arrangement(ContentArrangement::Disabled);
        if color {
            table.enforce_styling();
        } else {
            table.force_no_tty();
        }
        let cut_to = |(text, width): (&str, &usize)| cut(text, *width);
        table.set_header(
            self.headers
                .iter()
                .map(String::as_str)
                .zip(&widths)
                .map(cut_to)
                .collect::<Vec<_>>(),
        );
        for row in &self.rows {
            table.add_row(
                row.iter()
                    .zip(&widths)
                    .map(|(cell, width)| {
                        let shown = comfy_table::Cell::new(cut_to((&cell.text, width)));
                        cell.color().map_or(shown.clone(), |color| shown.fg(color))
                    })
                    .collect::<Vec<_>>(),
            );
        }
        for (index, column) in table.column_iter_mut().enumerate() {
            column.set_padding((0, GAP as u16));
            if self.is_numeric(index) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        table
            .lines()
            .map(|line| line.trim_end().to_owned() + "\n")
            .collect()
    }

    fn is_numeric(&self, index: usize) -> bool {
        let mut some = false;
        self.rows.iter().filter_map(|row| row.get(index)).all(|cell| {
            let text = cell
                .text
                .trim_end_matches(|c: char| c.is_ascii_alphabetic() || c == '%' || c == ' ');
            some |= !text.is_empty();
            (cell.text.is_empty() || cell.text == "-" || !text.is_empty())
                && text.chars().all(|c| c.is_ascii_digit() || c == '.' || c == '-')
        }) && some
    }

    /// Widths of the columns. The last one gives way first, then the widest; numbers and the first one, by which a row is
    /// named in the next command, gives way last.
    fn widths(&self, limit: Option<usize>) -> Vec<usize> {
        let mut widths: Vec<usize> = self
            .headers
            .iter()
            .enumerate()
            .map(|(index, header)| {
                let cells = self
                    .rows
                    .iter()
                    .filter_map(|row| row.get(index))
                    .map(|cell| cell.text.width());
                cells.chain([header.width()]).max().unwrap_or(0)
            })
            .collect();
        let Some(limit) = limit else {
            return widths;
        };
        let gaps = GAP * widths.len().saturating_sub(1);
        let mut excess = (widths.iter().sum::<usize>() + gaps).saturating_sub(limit);
        if let Some(last) = widths.last_mut().filter(|_| !self.whole_last) {
            let give = excess.min(last.saturating_sub(MIN_COLUMN * 2));
            *last -= give;
            excess -= give;
        }
        // A number without its end would be another number.
        let last = widths.len().saturating_sub(1);
        let gives_way: Vec<usize> = (1..widths.len())
            .filter(|index| !(self.is_numeric(*index) || self.whole_last && *index == last))
            .collect();
        while excess > 0 {
            let cuttable = widths
                .iter_mut()
                .enumerate()
                .filter(|(_, width)| **width > MIN_COLUMN);
            let Some((_, widest)) =
                cuttable.max_by_key(|(index, width)| (gives_way.contains(index), **width))
            else {
                break;
            };
            *widest -= 1;
            excess -= 1;
        }
        widths
    }
}

/// `text` in at most `width` terminal columns, its end replaced by `…` when it is longer.
pub fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut out = String::new();
    let mut used = 0;
    for c in text.chars() {
        used += c.width().unwrap_or(0);
        if used + 1 > width {
            break;
        }
        out.push(c);
    }
    out.push('…');
    out
}

/// Aligned `name: value` lines; further lines of a value are indented below its first.
pub(super) fn fields(fields: &[(&str, String)]) -> String {
    let name_width = fields.iter().map(|(name, _)| name.width() + 1).max().unwrap_or(0);
    let mut out = String::new();
    for (name, value) in fields {
        let mut label = format!("{}:", escape::line(name));
        for part in escape::block(value).split('\n') {
            let pad = " ".repeat((name_width + GAP).saturating_sub(label.width()));
            let line = format!("{label}{pad}{part}");
            out.push_str(line.trim_end());
            out.push('\n');
            label.clear();
        }
    }
    out
}
