//! Files that an `Include` names.

use crate::ssh::known_hosts::pattern_matches;
use std::path::{Component, Path, PathBuf};

/// Most files that one pattern may name.
const MOST_FILES: usize = 256;

/// The files a pattern names, sorted; none if nothing matches.
pub(super) fn expand(pattern: &Path) -> Result<Vec<PathBuf>, &'static str> {
    let mut found = vec![PathBuf::new()];
    for component in pattern.components() {
        let name = component.as_os_str().to_string_lossy();
        if name.contains(['[', ']', '{', '}']) {
            return Err("only `*` and `?` are supported in patterns");
        }
        found = match component {
            Component::Normal(_) if name.contains(['*', '?']) => {
                let mut next: Vec<PathBuf> =
                    found.iter().flat_map(|folder| matching(folder, &name)).collect();
                next.sort();
                next
            }
            _ => found.iter().map(|path| path.join(component)).collect(),
        };
        if found.len() > MOST_FILES {
            return Err("the pattern names too many files");
        }
    }
    found.retain(|path| path.exists());
    Ok(found)
}

fn matching(folder: &Path, pattern: &str) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    entries
        .filter_map(Result::ok)
        .filter(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            (pattern.starts_with('.') || !name.starts_with('.'))
                && pattern_matches(pattern.as_bytes(), name.as_bytes())
        })
        .map(|entry| entry.path())
        .collect()
}
