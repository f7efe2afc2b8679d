//! A text whose exact values are replaced already, and the way back to the places in the original.

use super::{Found, tame};
use std::ops::Range;

pub(super) struct Masked {
    pub(super) text: Vec<u8>,
    /// What was replaced, and where its placeholder stands.
    values: Vec<(Found, Range<usize>)>,
}

impl Masked {
    /// `values` are in order and apart.
    pub(super) fn new(original: &[u8], values: Vec<Found>) -> Self {
        let mut text = Vec::with_capacity(original.len());
        let mut copied = 0;
        let values = values
            .into_iter()
            .map(|value| {
                text.extend_from_slice(original.get(copied..value.range.start).unwrap_or_default());
                copied = value.range.end;
                let start = text.len();
                text.extend_from_slice(format!("[redacted:{}]", tame(&value.name)).as_bytes());
                (value, start..text.len())
            })
            .collect();
        text.extend_from_slice(original.get(copied..).unwrap_or_default());
        Self { text, values }
    }

    /// Where a place of the original lies here; the beginning of a placeholder for one within.
    pub(super) fn after(&self, original: usize) -> usize {
        let next = self
            .values
            .partition_point(|(value, _)| value.range.end <= original);
        let (from, to) = next
            .checked_sub(1)
            .and_then(|last| self.values.get(last))
            .map_or((0, 0), |(value, here)| (value.range.end, here.end));
        match self.values.get(next) {
            Some((value, here)) if value.range.start <= original => here.start,
            _ => to + (original - from),
        }
    }

    /// The same in places of the original. A placeholder that is touched counts whole.
    pub(super) fn found(&self, found: Found) -> Found {
        let start = self.before(found.range.start, |value| value.start);
        let end = self.before(found.range.end, |value| value.end);
        Found {
            range: start..end,
            name: found.name,
        }
    }

    fn before(&self, here: usize, within: impl Fn(&Range<usize>) -> usize) -> usize {
        let next = self
            .values
            .partition_point(|(_, placeholder)| placeholder.end <= here);
        let (from, to) = next
            .checked_sub(1)
            .and_then(|last| self.values.get(last))
            .map_or((0, 0), |(value, placeholder)| (placeholder.end, value.range.end));
        match self.values.get(next) {
            Some((value, placeholder)) if placeholder.start < here => within(&value.range),
            _ => to + (here - from),
        }
    }

    pub(super) fn into_values(self) -> Vec<Found> {
        self.values.into_iter().map(|(value, _)| value).collect()
    }
}
