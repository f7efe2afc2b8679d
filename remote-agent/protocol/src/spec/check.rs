//! What both sides rely on in an order.

use super::{FORMAT, Gpus, RunSpec};
use crate::lease::Wait;

/// Most entries of [`Gpus::Devices`], and the longest of them.
const DEVICES_LIMIT: (usize, usize) = (64, 100);

/// Longest wait for a GPU that an order may name, in seconds: a year.
const LONGEST_WAIT: u64 = 366 * 24 * 3600;

/// Largest order, in bytes of its JSON: it travels in one frame, with secrets beside it.
const MAX_SPEC: usize = 768 * 1024;

/// A spec was not acceptable to an agent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} of the run spec {problem}")]
pub struct InvalidSpec {
    /// Which field.
    pub field: String,
    /// What is wrong with it.
    pub problem: String,
}

impl RunSpec {
    /// Checks what both sides rely on: names, absolute targets, safe input paths, and no mount that would hand
    /// the job the host itself.
    ///
    /// # Errors
    /// The first field that is not acceptable.
    pub fn check(&self) -> Result<(), InvalidSpec> {
        let wrong = |field: &str, problem: &str| {
            Err(InvalidSpec {
                field: field.to_owned(),
                problem: problem.to_owned(),
            })
        };
        if self.format != FORMAT {
            return wrong("format", "is of another version");
        }
        if !is_word(&self.operation, "_-") {
            return wrong("operation", "is not 1 to 63 characters of a-z 0-9 _ -");
        }
        if !is_word(&self.name, "._-") {
            return wrong("name", "is not 1 to 63 characters of a-z 0-9 . _ -");
        }
        if self.image.is_empty()
            || self.image.len() > 500
            || self.image.starts_with('-')
            || self.image.chars().any(char::is_whitespace)
        {
            return wrong("image", "is not an image reference");
        }
        let mut targets = vec![self.inputs_target.as_str(), self.outputs_target.as_str()];
        targets.extend(self.mounts.iter().map(|mount| mount.target.as_str()));
        targets.extend(self.working_dir.as_deref());
        for target in targets {
            if !is_container_path(target) {
                return wrong("a target", "is not an absolute path without `..` and `:`");
            }
        }
        for mount in &self.mounts {
            // As the host will read it: without the parts that lead nowhere.
            let parts = mount.source.split('/').filter(|part| !matches!(*part, "" | "."));
            let source: String = parts.flat_map(|part| ["/", part]).collect();
            let absolute = mount.source.starts_with('/') || mount.source.starts_with("~/");
            if !absolute
                || mount.source.split('/').any(|part| part == "..")
                || mount.source.contains(['\0', ':'])
            {
                return wrong(
                    "a mount's source",
                    "is not an absolute path (or `~/…`) without `..` and `:`",
                );
            }
            let refused = ["", "/etc", "/proc", "/sys", "/dev", "/boot", "/var/run", "/run"];
            if refused.contains(&source.as_str()) || source.ends_with("docker.sock") {
                return wrong("a mount's source", "would hand the job the host itself");
            }
        }
        for input in &self.inputs {
            if !crate::manifest::is_safe_path(&input.path) {
                return wrong("an input's path", "is not a plain relative path");
            }
        }
        for path in self
            .inputs
            .iter()
            .filter_map(|input| input.parent.as_ref())
            .map(|parent| &parent.path)
        {
            if !crate::manifest::is_safe_path(path) {
                return wrong("a parent output's path", "is not a plain relative path");
            }
        }
        for name in self.env.keys().chain(&self.secret_names) {
            if name.is_empty() || name.contains(['=', '\0']) {
                return wrong("an environment name", "is empty or holds `=` or NUL");
            }
        }
        if self.env.values().any(|value| value.contains('\0'))
            || self.command.iter().any(|word| word.contains('\0'))
        {
            return wrong("a text", "holds a NUL byte");
        }
        let size = self.canonical().len();
        if size > MAX_SPEC {
            return wrong(
                "the size",
                &format!(
                    "is {size} bytes; {MAX_SPEC} are allowed, of command, environment, mounts and names of inputs together"
                ),
            );
        }
        self.check_gpus()
    }

    fn check_gpus(&self) -> Result<(), InvalidSpec> {
        let wrong = |field: &str, problem: &str| {
            Err(InvalidSpec {
                field: field.to_owned(),
                problem: problem.to_owned(),
            })
        };
        match &self.gpus {
            Gpus::None if !self.placement.is_default() => {
                return wrong("placement", "says how to choose GPUs, and the run wants none");
            }
            Gpus::Count(0) => return wrong("gpus", "is a count of 0; `none` is the word for that"),
            Gpus::Devices(devices) => {
                let (most, longest) = DEVICES_LIMIT;
                if devices.is_empty() || devices.len() > most {
                    return wrong("gpus", "does not name 1 to 64 devices");
                }
                let plain = |word: &String| {
                    !word.trim().is_empty() && word.len() <= longest && !word.contains(char::is_control)
                };
                if !devices.iter().all(plain) {
                    return wrong("gpus", "names a device by an empty, long or unprintable text");
                }
            }
            Gpus::None | Gpus::All | Gpus::Count(_) => {}
        }
        if self.placement.min_free == Some(0) {
            return wrong("placement.min_free", "is 0");
        }
        if let Wait::Seconds(seconds) = self.placement.wait
            && !(1..=LONGEST_WAIT).contains(&seconds)
        {
            return wrong("placement.wait", "is not between a second and a year");
        }
        Ok(())
    }
}

fn is_word(text: &str, punctuation: &str) -> bool {
    (1..=63).contains(&text.len())
        && text
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || punctuation.contains(c))
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
}

fn is_container_path(path: &str) -> bool {
    path.starts_with('/')
        && path.len() > 1
        && !path.contains([':', '\0'])
        && !path.split('/').any(|part| part == "..")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease::Placement;
    use crate::spec::Mount;
    use crate::spec::tests::spec;

    #[test]
    fn wishes_that_contradict_themselves_are_refused() {
        let with = |gpus: Gpus, placement: Placement| RunSpec {
            gpus,
            placement,
            ..spec()
        };
        let waiting = |wait| Placement {
            wait,
            ..Placement::default()
        };
        for (wrong, field) in [
            (with(Gpus::None, waiting(Wait::Until)), "placement"),
            (with(Gpus::Count(0), Placement::default()), "gpus"),
            (with(Gpus::Devices(vec![]), Placement::default()), "gpus"),
            (
                with(Gpus::Devices(vec![" ".into()]), Placement::default()),
                "gpus",
            ),
            (with(Gpus::All, waiting(Wait::Seconds(0))), "placement.wait"),
            (
                with(Gpus::All, waiting(Wait::Seconds(u64::MAX))),
                "placement.wait",
            ),
        ] {
            assert_eq!(wrong.check().unwrap_err().field, field);
        }
        assert_eq!(with(Gpus::Count(2), waiting(Wait::Seconds(60))).check(), Ok(()));
    }

    #[test]
    fn an_order_that_fits_no_frame_is_refused() {
        let mut long = spec();
        let rest = MAX_SPEC - long.canonical().len() - r#""A":"""#.len();
        long.env.insert("A".to_owned(), "x".repeat(rest));
        assert_eq!(long.check(), Ok(()));
        long.env.insert("A".to_owned(), "x".repeat(rest + 1));
        assert_eq!(
            long.check().unwrap_err().to_string(),
            "the size of the run spec is 786433 bytes; 786432 are allowed, of command, environment, mounts and names of inputs together"
        );
    }

    #[test]
    fn mounts_that_hand_over_the_host_are_refused() {
        for source in [
            "/",
            "/etc",
            "/etc/",
            "//etc",
            "/etc/.",
            "/./",
            "/./var//run",
            "/proc",
            "/var/run/docker.sock",
            "/run",
            "relative",
            "~/../x",
            "/a:b",
        ] {
            let mut spec = spec();
            spec.mounts.push(Mount {
                source: source.into(),
                target: "/x".into(),
                read_only: true,
                create: false,
            });
            assert!(spec.check().is_err(), "{source}");
        }
    }
}
