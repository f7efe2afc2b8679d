//! Variables of a job's environment: which values may be seen.

use farrun_protocol::redact::{Redactor, is_secret_name};

/// Names that are known to hold no secret.
const NAMES: [&str; 22] = [
    "PATH",
    "HOME",
    "LANG",
    "LANGUAGE",
    "TZ",
    "TERM",
    "HOSTNAME",
    "PWD",
    "USER",
    "SHELL",
    "DEVICE",
    "DEBIAN_FRONTEND",
    "LD_LIBRARY_PATH",
    "LIBRARY_PATH",
    "LD_PRELOAD",
    "HF_HOME",
    "HF_HUB_CACHE",
    "HF_HUB_OFFLINE",
    "TRANSFORMERS_OFFLINE",
    "MALLOC_ARENA_MAX",
    "container",
    "SHLVL",
];
/// As these names begin.
const BEGINNINGS: [&str; 18] = [
    "LC_",
    "FARRUN_",
    "PYTHON",
    "CUDA",
    "NVIDIA_",
    "NV_",
    "NVARCH",
    "NCCL_",
    "TORCH",
    "PYTORCH_",
    "OMP_",
    "MKL_",
    "OPENBLAS_",
    "XDG_",
    "UCX_",
    "GLOO_",
    "XLA_",
    "TF_",
];

/// The value as it may be seen: whole when its name is known to be harmless, else a placeholder.
pub(super) fn value(redactor: &Redactor, name: &str, value: &str) -> String {
    let harmless = NAMES.contains(&name) || BEGINNINGS.iter().any(|beginning| name.starts_with(beginning));
    if value.is_empty() || (harmless && !is_secret_name(name)) {
        redactor.text(value)
    } else {
        redactor.hide(name)
    }
}

/// `NAME=value`, as an engine lists them.
pub(super) fn variable(redactor: &Redactor, text: &str) -> String {
    match text.split_once('=') {
        Some((name, content)) => format!("{name}={}", value(redactor, name, content)),
        None => redactor.text(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_names_keep_their_values() {
        let redactor = Redactor::by_shape();
        for (text, seen) in [
            ("CUDA_VISIBLE_DEVICES=0", "CUDA_VISIBLE_DEVICES=0"),
            ("PATH=/bin", "PATH=/bin"),
            ("MY_THING=x", "MY_THING=[redacted:MY_THING]"),
            ("NVIDIA_API_KEY=x", "NVIDIA_API_KEY=[redacted:NVIDIA_API_KEY]"),
            ("HTTP_PROXY=", "HTTP_PROXY="),
            (
                "PYTHONPATH=/a:https://u:p@h/",
                "PYTHONPATH=/a:https://[redacted:url_login]@h/",
            ),
        ] {
            assert_eq!(variable(&redactor, text), seen);
        }
    }
}
