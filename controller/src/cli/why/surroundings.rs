//! What surrounded a run when it failed, as rows of a name and a text.

use crate::diagnosis::{Context, DiskContext, GpuContext, MemoryContext, OtherUse};
use crate::ui::format;

/// One row for each thing that is known.
pub(super) fn rows(context: &Context) -> Vec<(String, String)> {
    let mut rows: Vec<(String, String)> = context.gpus.iter().map(gpu).collect();
    let memory = memory(&context.memory);
    if !memory.is_empty() {
        rows.push(("memory".to_owned(), memory));
    }
    rows.extend(disks(context));
    let mut software = Vec::new();
    software.extend(
        context
            .driver
            .as_ref()
            .map(|driver| format!("NVIDIA driver {driver}")),
    );
    software.extend(context.cuda.as_ref().map(|cuda| format!("CUDA up to {cuda}")));
    software.extend(context.engine.as_ref().map(|engine| format!("Docker {engine}")));
    if !software.is_empty() {
        rows.push(("software".to_owned(), software.join(", ")));
    }
    if let Some(at) = context.collected_at {
        let machine = context.machine.as_ref().map(|name| format!(" on {name}"));
        let text = format!("{}{}", format::time(at), machine.unwrap_or_default());
        rows.push(("collected".to_owned(), text));
    }
    rows
}

fn gpu(gpu: &GpuContext) -> (String, String) {
    let mut parts = vec![crate::cli::gpu::table::model(&gpu.name).to_owned()];
    parts.extend(gpu.memory_total.map(gibibytes));
    let used = gpu.memory_used.map(|used| format!("{} in use", gibibytes(used)));
    let before = gpu
        .memory_before
        .map(|before| format!("{} at the run's first sample", gibibytes(before)));
    parts.extend(used);
    parts.extend(before);
    if !gpu.of_the_run {
        parts.push("not given to the run".to_owned());
    }
    let mut text = parts.join(", ");
    if !gpu.others.is_empty() {
        let others: Vec<String> = gpu.others.iter().map(other).collect();
        text.push_str(&format!("; also on it: {}", others.join(", ")));
    }
    if let Some(trouble) = &gpu.trouble {
        text.push_str(&format!("; {trouble}"));
    }
    (format!("GPU {}", gpu.index), text)
}

fn other(other: &OtherUse) -> String {
    let pid = other.pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default();
    let memory = other.memory.map(|memory| format!(" with {}", gibibytes(memory)));
    format!("{}{pid}{}", other.who, memory.unwrap_or_default())
}

fn gibibytes(mebibytes: u64) -> String {
    format!("{:.1} GiB", mebibytes as f64 / 1024.0)
}

fn memory(memory: &MemoryContext) -> String {
    let mut parts = Vec::new();
    match (memory.limit, memory.peak) {
        (Some(limit), Some(peak)) => parts.push(format!(
            "the container used {} of its limit of {}",
            format::bytes(peak),
            format::bytes(limit)
        )),
        (Some(limit), None) => parts.push(format!("the container's limit is {}", format::bytes(limit))),
        (None, Some(peak)) => parts.push(format!(
            "the container used {}, without a limit",
            format::bytes(peak)
        )),
        (None, None) => {}
    }
    if let (Some(available), Some(total)) = (memory.available, memory.total) {
        parts.push(format!(
            "the host had {} free of {}",
            format::bytes(available),
            format::bytes(total)
        ));
    }
    parts.join("; ")
}

/// Every file system in one row, those with little room first.
fn disks(context: &Context) -> Vec<(String, String)> {
    let row = |(disk, roles): (&DiskContext, Vec<&str>)| {
        let inodes = if disk.inodes_free == 0 {
            ", no inodes left"
        } else {
            ""
        };
        let free = format!(
            "{} free of {}",
            format::bytes(disk.free),
            format::bytes(disk.total)
        );
        let also = match roles.as_slice() {
            [_, also @ ..] if !also.is_empty() => format!(" (also {})", also.join(", ")),
            _ => String::new(),
        };
        (
            format!("disk ({})", disk.role),
            format!("{free}{inodes}, {}{also}", disk.path),
        )
    };
    context.file_systems().into_iter().map(row).collect()
}
