//! Who holds a GPU: runs by lease, and processes by what they are.

use farrun_protocol::gpu::{Gpu, GpuProcess, GpuReport, HeldLease, Holder};
use farrun_protocol::lease::IDLE_MEMORY;

/// Everybody who holds a GPU or a part of it.
pub(super) fn of_gpu(report: &GpuReport, gpu: &Gpu) -> Vec<String> {
    let mut held: Vec<String> = report
        .leases
        .iter()
        .filter(|lease| lease.gpu_uuid == gpu.uuid)
        .map(lease)
        .collect();
    let runs: Vec<_> = report
        .leases
        .iter()
        .filter_map(|lease| lease.run_id.as_ref())
        .collect();
    let mut seen = false;
    for process in report
        .processes
        .iter()
        .filter(|process| process.gpu_uuid == gpu.uuid)
    {
        seen = true;
        // A lease says it already.
        if matches!(&process.holder, Holder::Run { run_id } if runs.contains(&run_id)) {
            continue;
        }
        let text = match &process.holder {
            // It ended a while ago, or its account does not know it: nobody else says that it is still there.
            Holder::Run { run_id } => format!("{run_id} without a lease (pid {})", process.pid),
            Holder::Dead => format!("a dead process (pid {})", process.pid),
            _ => format!("{} (pid {})", self::process(process), process.pid),
        };
        if !held.contains(&text) {
            held.push(text);
        }
    }
    if held.is_empty() && !seen && !gpu.mig {
        let used = gpu.memory_used.value().unwrap_or(0);
        let beyond = used.saturating_sub(gpu.memory_reserved.value().unwrap_or(0));
        if beyond > IDLE_MEMORY && !gpu.unified_memory {
            held.push("memory in use, no process seen".to_owned());
        }
    }
    held
}

/// The runs that hold an instance of a divided GPU. Processes are told for the whole GPU only.
pub(super) fn of_instance(report: &GpuReport, uuid: &str) -> Vec<String> {
    report
        .leases
        .iter()
        .filter(|lease| lease.gpu_uuid == uuid)
        .map(lease)
        .collect()
}

fn lease(lease: &HeldLease) -> String {
    let mut text = match (&lease.run_id, &lease.user) {
        (Some(run), _) => run.to_string(),
        (None, Some(user)) => format!("a run of {user}"),
        (None, None) => "a run that does not say its name".to_owned(),
    };
    if lease.draining {
        text.push_str(" (ended, still holds memory)");
    } else if lease.shared {
        text.push_str(" (shared)");
    }
    text
}

/// What a process is, without its number.
pub(super) fn process(process: &GpuProcess) -> String {
    match &process.holder {
        Holder::Run { run_id } => run_id.to_string(),
        Holder::Container {
            id,
            name,
            user,
            command,
        } => {
            let short: String = id.chars().take(12).collect();
            let name = name.as_deref().unwrap_or(&short);
            format!("container {name}, {user}: {command}")
        }
        Holder::Process { user, command } => format!("{user}: {command}"),
        Holder::Dead => "dead, and its memory is still held".to_owned(),
    }
}
