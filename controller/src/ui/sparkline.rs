//! Histories as one line of blocks.

const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// The newest `width` percentages, oldest first; a missing one is a gap, and so is what lies before the first.
pub fn sparkline(history: &[Option<u8>], width: usize) -> String {
    let newest = history
        .get(history.len().saturating_sub(width)..)
        .unwrap_or(history);
    let lead = width.saturating_sub(newest.len());
    std::iter::repeat_n(' ', lead)
        .chain(newest.iter().map(|percent| percent.map_or(' ', block)))
        .collect()
}

fn block(percent: u8) -> char {
    let step = usize::from(percent.min(100)) * BLOCKS.len() / 101;
    BLOCKS.get(step).copied().unwrap_or('█')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_gaps_and_nothing_is_never_shown_as_zero() {
        assert_eq!(sparkline(&[], 4), "    ");
        assert_eq!(sparkline(&[Some(0), None, Some(100)], 4), " ▁ █");
        assert_eq!(sparkline(&[Some(1), Some(2), Some(50), Some(255)], 2), "▄█");
    }
}
