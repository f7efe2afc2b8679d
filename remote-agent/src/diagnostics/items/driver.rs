//! Which driver is loaded, which libraries lie there, which devices there are.

use super::command::{self, Command};
use super::{kernel_file, under_heading};
use crate::diagnostics::item::{Found, Looked};
use crate::diagnostics::thread::SoFar;
use std::path::Path;
use std::time::Duration;

const FILES: [&str; 3] = [
    "/proc/driver/nvidia/version",
    "/sys/module/nvidia/version",
    "/proc/driver/nvidia/params",
];
const LIBRARIES: [&str; 4] = [
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib64",
    "/usr/lib/wsl/lib",
];

pub(in crate::diagnostics) fn driver(command: &Command, so_far: &SoFar, limit: Duration) -> Looked {
    for file in FILES {
        let body = kernel_file(Path::new(file)).unwrap_or_else(|error| error.to_string().into_bytes());
        so_far.add(&under_heading(file, &body));
    }
    for card in std::fs::read_dir("/proc/driver/nvidia/gpus")
        .into_iter()
        .flatten()
        .flatten()
    {
        let path = card.path().join("information");
        so_far.add(&under_heading(
            &path.display().to_string(),
            &kernel_file(&path).unwrap_or_default(),
        ));
    }
    let modules = kernel_file(Path::new("/proc/modules")).unwrap_or_default();
    so_far.add(&under_heading(
        "/proc/modules",
        &lines_with(&modules, &["nvidia", "nouveau"]),
    ));
    for folder in LIBRARIES {
        let libraries = libraries(Path::new(folder));
        if !libraries.is_empty() {
            so_far.add(&under_heading(folder, libraries.as_bytes()));
        }
    }
    let said = match command::find("lspci") {
        Some(lspci) => command.output(&lspci, &["-d", "10de:", "-nn"], limit),
        None => Err("there is no lspci".to_owned()),
    };
    let said = match said {
        Ok(Found::Whole(text) | Found::Part(text, _) | Found::Redacted(text)) => text,
        Err(why) => why.into_bytes(),
    };
    so_far.add(&under_heading("lspci -d 10de: -nn", &said));
    so_far.whole()
}

fn lines_with(text: &[u8], words: &[&str]) -> Vec<u8> {
    let text = String::from_utf8_lossy(text);
    let lines = text
        .lines()
        .filter(|line| words.iter().any(|word| line.contains(word)));
    lines
        .flat_map(|line| [line, "\n"])
        .collect::<String>()
        .into_bytes()
}

/// Names of the driver's libraries, whose versions are in them.
fn libraries(folder: &Path) -> String {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.starts_with("libnvidia-ml.so") || name.starts_with("libcuda.so"))
        .collect();
    names.sort();
    names.join("\n")
}
