//! What was collected so far, redacted and within its limits. It stays in memory until it is complete, so that a
//! disk that fills up meanwhile costs nothing but the place.

use super::item::{File, Found, Looked};
use crate::record::{RecordError, sync_folder};
use farrun_protocol::diagnostics::{BUNDLE, Bundle, Item, MAX_BUNDLE, Outcome, SUMMARY};
use farrun_protocol::redact::Redactor;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Bytes kept back for the description.
const DESCRIPTION: usize = 256 * 1024;
/// Longest reason, in characters.
const REASON: usize = 500;

pub(super) struct Parcel {
    redactor: Arc<Redactor>,
    files: Vec<(&'static str, Vec<u8>)>,
    items: Vec<Item>,
    room: usize,
}

impl Parcel {
    pub(super) fn new(redactor: Arc<Redactor>) -> Self {
        let most = usize::try_from(MAX_BUNDLE).unwrap_or(usize::MAX);
        Self {
            redactor,
            files: Vec::new(),
            items: Vec::new(),
            room: most.saturating_sub(DESCRIPTION),
        }
    }

    /// Takes what became of an item.
    pub(super) fn add(&mut self, file: File, looked: Looked, took: Duration) {
        let (bytes, mut why) = match looked {
            Ok(Found::Whole(bytes)) => (Some(self.redactor.bytes(&bytes)), None),
            Ok(Found::Part(bytes, why)) => (Some(self.redactor.bytes(&bytes)), Some(why)),
            Ok(Found::Redacted(bytes)) => (Some(bytes), None),
            Err(why) => (None, Some(why)),
        };
        let bytes = bytes.map(|bytes| {
            let whole = bytes.len();
            let bytes = cut(bytes, file.most.min(self.room), file.newest);
            if bytes.len() < whole {
                let cut = format!("it was {whole} bytes and may be {}", file.most.min(self.room));
                why.get_or_insert(cut);
            }
            bytes
        });
        let why: Option<String> = why.map(|why| self.redactor.text(&why).chars().take(REASON).collect());
        let outcome = match (&bytes, why) {
            (Some(_), None) => Outcome::Collected,
            (Some(_), Some(why)) => Outcome::Partial { why },
            (None, why) => Outcome::Missing {
                why: why.unwrap_or_default(),
            },
        };
        self.items.push(Item {
            file: file.name.to_owned(),
            outcome,
            bytes: bytes.as_ref().map_or(0, |bytes| bytes.len() as u64),
            took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        });
        if let Some(bytes) = bytes {
            self.room = self.room.saturating_sub(bytes.len());
            self.files.push((file.name, bytes));
        }
    }

    /// Says of everything that it is not kept, for the bundle that lies nowhere.
    pub(super) fn lost(&self, why: &str) -> Vec<Item> {
        let lost = |item: &Item| Item {
            bytes: 0,
            outcome: match &item.outcome {
                Outcome::Missing { .. } => item.outcome.clone(),
                Outcome::Collected | Outcome::Partial { .. } => Outcome::Missing {
                    why: why.chars().take(REASON).collect(),
                },
            },
            ..item.clone()
        };
        self.items.iter().map(lost).collect()
    }

    pub(super) fn items(&self) -> &[Item] {
        &self.items
    }

    /// Writes everything into a new folder beside `folder` and gives it that name, in the place of what is there. The
    /// description comes last.
    pub(super) fn store(&self, folder: &Path, bundle: &Bundle, summary: &str) -> Result<(), RecordError> {
        let parent = folder.parent().unwrap_or(folder);
        let temporary = parent.join(format!(
            "{}{}",
            super::place::UNFINISHED,
            uuid::Uuid::new_v4().simple()
        ));
        let stored = self
            .fill(&temporary, bundle, summary)
            .and_then(|()| super::place::take_the_place(&temporary, folder));
        if stored.is_err() {
            let _ = std::fs::remove_dir_all(&temporary);
        }
        stored?;
        sync_folder(parent)
    }

    fn fill(&self, folder: &Path, bundle: &Bundle, summary: &str) -> Result<(), RecordError> {
        // Not its parents: one that was removed meanwhile stays so.
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(folder)
            .map_err(RecordError::io(folder))?;
        for (name, bytes) in &self.files {
            write(&folder.join(name), bytes)?;
        }
        write(&folder.join(SUMMARY), summary.as_bytes())?;
        let json = serde_json::to_vec_pretty(bundle).unwrap_or_default();
        write(&folder.join(BUNDLE), &json)?;
        sync_folder(folder)
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), RecordError> {
    std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| {
            file.write_all(bytes)?;
            // A disk that is full says so here at the latest.
            file.sync_all()
        })
        .map_err(RecordError::io(path))
}

/// At most `most` bytes, cut at the border of a line where there is one nearby.
fn cut(mut bytes: Vec<u8>, most: usize, newest: bool) -> Vec<u8> {
    if bytes.len() <= most {
        return bytes;
    }
    if newest {
        let from = bytes.len() - most;
        let line = bytes.iter().skip(from).position(|byte| *byte == b'\n');
        let from = line
            .filter(|line| *line < most / 2)
            .map_or(from, |line| from + line + 1);
        bytes.drain(..from);
    } else {
        bytes.truncate(most);
        let line = bytes.iter().rposition(|byte| *byte == b'\n');
        if let Some(line) = line.filter(|line| *line > most / 2) {
            bytes.truncate(line + 1);
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_file_is_cut_at_a_line() {
        let lines = |count: usize| "line\n".repeat(count).into_bytes();
        assert_eq!(cut(lines(3), 15, false).len(), 15);
        assert_eq!(cut(lines(4), 18, false), lines(3));
        assert_eq!(cut(lines(4), 18, true), lines(3));
        assert_eq!(cut(vec![b'x'; 40], 18, true).len(), 18);
    }

    #[test]
    fn what_is_too_much_for_a_bundle_is_left_out_and_said() {
        let mut parcel = Parcel::new(Arc::new(Redactor::by_shape()));
        for _ in 0..4 {
            let file = File::new("x", 4 * 1024);
            parcel.add(
                file,
                Ok(Found::Whole(vec![b'x'; 4 * 1024 * 1024])),
                Duration::ZERO,
            );
        }
        let total: u64 = parcel.items().iter().map(|item| item.bytes).sum();
        assert!(total < MAX_BUNDLE && total > MAX_BUNDLE / 2, "{total}");
        let last = parcel.items().last().unwrap();
        assert!(matches!(last.outcome, Outcome::Partial { .. }), "{last:?}");
    }
}
