//! Model caches of the account: how large they are, folder by folder.

use crate::diagnostics::item::Looked;
use crate::diagnostics::thread::SoFar;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Below the account's home; the folders in them are told apart.
const CACHES: [&str; 3] = [".cache/huggingface/hub", ".cache/huggingface", ".cache/torch"];
/// Most folders that are told.
const MOST: usize = 500;
/// Deepest level that is counted.
const DEEPEST: usize = 24;

pub(in crate::diagnostics) fn caches(home: &Path, so_far: &SoFar, limit: Duration) -> Looked {
    let deadline = Instant::now() + limit;
    let mut told = 0;
    for cache in CACHES {
        let cache = home.join(cache);
        let mut folders: Vec<PathBuf> = std::fs::read_dir(&cache)
            .into_iter()
            .flatten()
            .flatten()
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .map(|entry| entry.path())
            .collect();
        folders.sort();
        for folder in folders {
            if told >= MOST || Instant::now() >= deadline {
                return so_far.whole();
            }
            told += 1;
            let bytes = size(&folder, deadline, 0);
            so_far.add(format!("{bytes} {}\n", folder.display()).as_bytes());
        }
    }
    if told == 0 {
        return Err("the account has no model cache in its home".to_owned());
    }
    so_far.whole()
}

fn size(folder: &Path, deadline: Instant, depth: usize) -> u64 {
    let mut total = 0_u64;
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if Instant::now() >= deadline || depth >= DEEPEST {
            break;
        }
        let Ok(found) = entry.metadata() else { continue };
        total = total.saturating_add(match found.is_dir() {
            true => size(&entry.path(), deadline, depth + 1),
            // Links count nothing: they point to what is counted.
            false if found.is_file() => found.len(),
            false => 0,
        });
    }
    total
}
