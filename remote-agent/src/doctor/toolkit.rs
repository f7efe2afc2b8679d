//! What gives containers their GPUs: NVIDIA's container toolkit and CDI files.

use super::program::{self, LOOKS};
use farrun_protocol::doctor::{Looked, MOST, ToolkitFacts, Unseen, Why};
use std::path::{Path, PathBuf};

/// Programs of the toolkit; the first of those that tell a version are asked for it.
const PROGRAMS: &[&str] = &[
    "nvidia-ctk",
    "nvidia-container-cli",
    "nvidia-container-runtime",
    "nvidia-container-runtime-hook",
    "nvidia-container-toolkit",
];
const TELL_VERSION: &[&str] = &["nvidia-ctk", "nvidia-container-cli"];
/// Where engines look for CDI files unless they are told otherwise.
const CDI: &[&str] = &["etc/cdi", "var/run/cdi"];
/// The toolkit's configuration.
const CONFIGURATION: &str = "etc/nvidia-container-runtime/config.toml";

/// Looks at what is installed below `root`; programs are those of the host in any case.
pub(crate) fn facts(root: &Path, launcher: &Path) -> Looked<ToolkitFacts> {
    let installed = |name: &&&str| program::find(name).is_some();
    let programs: Vec<String> = PROGRAMS
        .iter()
        .filter(installed)
        .map(|name| (*name).to_owned())
        .collect();
    let told = TELL_VERSION.iter().find_map(|name| {
        let said = program::run(launcher, name, &["--version"], LOOKS).ok()?;
        version(&said.stdout).or_else(|| version(&said.stderr))
    });
    let configuration = program::read(&root.join(CONFIGURATION)).unwrap_or_default();
    let facts = ToolkitFacts {
        version: told,
        programs,
        cdi_files: cdi_files(root),
        no_cgroups: has_no_cgroups(&configuration),
    };
    if facts.programs.is_empty() && facts.cdi_files.is_empty() {
        return Err(Unseen::new(Why::Absent));
    }
    Ok(facts)
}

/// `NVIDIA Container Toolkit CLI version 1.16.2`, `cli-version: 1.14.3`
fn version(text: &str) -> Option<String> {
    let is_version = |word: &&str| {
        word.starts_with(|c: char| c.is_ascii_digit())
            && word.contains('.')
            && word.len() <= 40
            && word
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || ".-+~".contains(c))
    };
    text.lines()
        .filter(|line| line.contains("version"))
        .find_map(|line| line.split_whitespace().find(is_version))
        .map(str::to_owned)
}

fn has_no_cgroups(configuration: &str) -> bool {
    configuration
        .lines()
        .map(|line| line.replace(' ', ""))
        .any(|line| line == "no-cgroups=true")
}

fn cdi_files(root: &Path) -> Vec<String> {
    let listed = |folder: &&str| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(root.join(folder)).into_iter().flatten();
        entries.filter_map(|entry| Some(entry.ok()?.path())).collect()
    };
    let mut files: Vec<String> = CDI
        .iter()
        .flat_map(listed)
        .filter(|path| {
            let name = path
                .file_name()
                .and_then(|name| name.to_str())
                .unwrap_or_default();
            name.contains("nvidia") && (name.ends_with(".yaml") || name.ends_with(".json"))
        })
        .filter_map(|path| Some(format!("/{}", path.strip_prefix(root).ok()?.display())))
        .take(MOST)
        .collect();
    files.sort();
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_both_programs() {
        for (text, expected) in [
            (
                "NVIDIA Container Toolkit CLI version 1.16.2\ncommit: a1b2",
                Some("1.16.2"),
            ),
            ("cli-version: 1.14.3\nlib-version: 1.14.3\n", Some("1.14.3")),
            ("version 1.17.8-rc.1\n", Some("1.17.8-rc.1")),
            ("version unknown\n", None),
            ("", None),
        ] {
            assert_eq!(version(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn files_and_configuration_are_found() {
        let root = tempfile::tempdir().unwrap();
        let cdi = root.path().join("etc/cdi");
        std::fs::create_dir_all(&cdi).unwrap();
        for name in ["nvidia.yaml", "other.yaml", "nvidia.txt"] {
            std::fs::write(cdi.join(name), "").unwrap();
        }
        assert_eq!(cdi_files(root.path()), ["/etc/cdi/nvidia.yaml"]);
        assert!(has_no_cgroups("[nvidia-container-cli]\nno-cgroups = true\n"));
        assert!(!has_no_cgroups("#no-cgroups = true\nno-cgroups = false\n"));
    }
}
