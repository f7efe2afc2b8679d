//! The run, and the host around it.

use super::{moment, rows, section};
use crate::diagnosis::Diagnosis;
use crate::diagnosis::words::{redacted, size};
use crate::model::Run;
use crate::ui::format;

/// The run, and the host around it.
pub(in crate::diagnosis::page) fn facts(diagnosis: &Diagnosis, run: &Run) -> String {
    let spec = &run.spec;
    let took = run
        .started_at
        .zip(run.ended_at)
        .and_then(|(from, to)| (to - from).to_std().ok());
    let parameters: Vec<String> = spec
        .parameters
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let text = |text: &str| (!text.is_empty()).then(|| redacted(text));
    let run_rows = rows(&[
        ("Operation", text(&run.operation)),
        ("Recipe", run.recipe.as_deref().and_then(text)),
        ("Parameters", text(&parameters.join(" "))),
        ("Image", text(&spec.image)),
        ("Digest", run.image_digest.as_deref().and_then(text)),
        ("Command", text(&format::words(&spec.command))),
        ("GPUs", gpus_of(run)),
        ("Started", run.started_at.map(moment)),
        ("Ended", run.ended_at.map(moment)),
        ("Ran", took.map(format::duration)),
        ("Exit code", run.exit_code.map(|code| code.to_string())),
        ("Reason", run.reason.map(|reason| reason.code().to_owned())),
        ("Memory limit", spec.memory_limit.map(size)),
        ("/dev/shm", spec.shm_size.map(size)),
    ]);
    let context = &diagnosis.context;
    let memory = &context.memory;
    let driver = context.driver.as_ref().map(|driver| match &context.cuda {
        Some(cuda) => format!("{driver}, up to CUDA {cuda}"),
        None => driver.clone(),
    });
    let left = memory.total.map(|total| match memory.available {
        Some(available) => format!("{} of {} left", size(available), size(total)),
        None => size(total),
    });
    let mut host = vec![
        ("Host", Some(run.host.clone())),
        ("Machine", context.machine.clone()),
        ("Driver", driver),
        ("Engine", context.engine.clone()),
        ("Memory", left),
        ("Container's peak", memory.peak.map(size)),
    ];
    let disks: Vec<(String, String)> = context
        .file_systems()
        .into_iter()
        .map(|(disk, roles)| {
            let also = match roles.as_slice() {
                [_, also @ ..] if !also.is_empty() => format!(" (also {})", also.join(", ")),
                _ => String::new(),
            };
            let (free, total) = (size(disk.free), size(disk.total));
            let left = format!("{free} of {total} left, {}{also}", disk.path);
            (format!("Disk ({})", disk.role), left)
        })
        .collect();
    host.extend(
        disks
            .iter()
            .map(|(name, left)| (name.as_str(), Some(left.clone()))),
    );
    section(
        "The run and its host",
        &format!(
            "<div class=\"columns\">\n<div class=\"card\">{run_rows}</div>\n<div class=\"card\">{}</div>\n</div>\n",
            rows(&host)
        ),
    )
}

fn gpus_of(run: &Run) -> Option<String> {
    match &run.lease {
        Some(lease) => {
            let names: Vec<String> = lease
                .gpus
                .iter()
                .map(|gpu| format!("{} ({})", gpu.index, gpu.name))
                .collect();
            Some(redacted(&names.join(", ")))
        }
        None => Some(run.gpus.clone()).filter(|gpus| !gpus.is_empty()),
    }
}
