//! What the tools that hand GPUs to containers say.

use super::command::{Command, find};
use crate::diagnostics::item::{Found, Looked, USUAL};
use std::time::Duration;

pub(in crate::diagnostics) fn toolkit(command: &Command) -> Looked {
    let limit = USUAL - Duration::from_secs(1);
    if let Some(program) = find("nvidia-container-cli") {
        let looked = command.output(&program, &["-k", "-d", "/dev/stderr", "info"], limit / 2);
        return headed("nvidia-container-cli -k -d /dev/stderr info", looked);
    }
    match find("nvidia-ctk") {
        Some(program) => headed(
            "nvidia-ctk cdi list",
            command.output(&program, &["cdi", "list"], limit / 2),
        ),
        None => Err("neither nvidia-container-cli nor nvidia-ctk is installed".to_owned()),
    }
}

fn headed(heading: &str, looked: Looked) -> Looked {
    let heading = format!("== {heading} ==\n").into_bytes();
    looked.map(|found| match found {
        Found::Whole(text) | Found::Redacted(text) => Found::Whole([heading, text].concat()),
        Found::Part(text, why) => Found::Part([heading, text].concat(), why),
    })
}
