//! The largest processes. Never what they were started with, but for our own.

use super::kernel_file;
use crate::diagnostics::item::{Found, Looked};
use farrun_protocol::RunId;
use farrun_protocol::diagnostics::Process;
use farrun_protocol::gpu::{GpuReport, Holder};
use farrun_protocol::redact::Redactor;
use std::collections::HashMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// Most processes by memory; all of those on GPUs come beside them, up to as many.
const MOST: usize = 20;
/// Name of our own program.
const OWN: &str = "farrun-agent";

/// `container` and `run_id` name the run that is diagnosed.
pub(in crate::diagnostics) fn processes(
    root: &Path,
    report: &GpuReport,
    container: Option<&str>,
    run_id: Option<&RunId>,
    redactor: &Redactor,
) -> Looked {
    let accounts = kernel_file(&root.join("etc/passwd")).unwrap_or_default();
    let accounts = accounts_of(&String::from_utf8_lossy(&accounts));
    let entries = std::fs::read_dir(root.join("proc")).map_err(|error| error.to_string())?;
    let mut sizes: Vec<(u64, u32)> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|pid: u32| Some((resident(&root.join(format!("proc/{pid}")))?, pid)))
        .collect();
    sizes.sort_by_key(|(resident, _)| std::cmp::Reverse(*resident));
    sizes.truncate(MOST);
    let on_gpus = report.processes.iter().map(|process| process.pid);
    for pid in on_gpus.take(MOST) {
        if !sizes.iter().any(|(_, known)| *known == pid) {
            sizes.push((
                resident(&root.join(format!("proc/{pid}"))).unwrap_or_default(),
                pid,
            ));
        }
    }
    let described = sizes.into_iter().map(|(resident, pid)| {
        let folder = root.join(format!("proc/{pid}"));
        let name = kernel_file(&folder.join("comm")).unwrap_or_default();
        let name = String::from_utf8_lossy(&name).trim().to_owned();
        let user = std::fs::metadata(&folder).map(|found| found.uid());
        let user = user.map(|uid| accounts.get(&uid).cloned().unwrap_or_else(|| uid.to_string()));
        let on_gpu = report.processes.iter().find(|process| process.pid == pid);
        Process {
            pid,
            user: user.unwrap_or_default(),
            resident,
            gpu: on_gpu
                .and_then(|process| process.memory.value())
                .map(|mebibytes: u64| mebibytes.saturating_mul(1024 * 1024)),
            gpu_uuid: on_gpu.map(|process| process.gpu_uuid.clone()),
            arguments: (name == OWN).then(|| arguments(&folder, redactor)).flatten(),
            run_id: match on_gpu.map(|process| &process.holder) {
                Some(Holder::Run { run_id }) => Some(run_id.clone()),
                _ => run_id.filter(|_| is_in(&folder, container)).cloned(),
            },
            name: redactor.text(&name),
        }
    });
    Found::json(&described.collect::<Vec<_>>())
}

fn is_in(folder: &Path, container: Option<&str>) -> bool {
    let Some(container) = container.filter(|id| id.len() == 64) else {
        return false;
    };
    let groups = kernel_file(&folder.join("cgroup")).unwrap_or_default();
    String::from_utf8_lossy(&groups).contains(container)
}

/// Resident bytes; none of a thread of the kernel.
fn resident(folder: &Path) -> Option<u64> {
    let status = kernel_file(&folder.join("status")).ok()?;
    let status = String::from_utf8_lossy(&status);
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kibibytes.saturating_mul(1024))
}

/// Only of a program whose file is ours: anybody may call theirs as they like.
fn arguments(folder: &Path, redactor: &Redactor) -> Option<Vec<String>> {
    let program = std::fs::read_link(folder.join("exe")).ok()?;
    (program.file_name()?.to_str()?.trim_end_matches(" (deleted)") == OWN).then_some(())?;
    let bytes = kernel_file(&folder.join("cmdline")).ok()?;
    let arguments = bytes.split(|byte| *byte == 0).filter(|part| !part.is_empty());
    // Behind the role of PID 1 comes the job's command.
    let known = arguments
        .take(2)
        .map(|part| redactor.text(&String::from_utf8_lossy(part)));
    Some(known.collect())
}

fn accounts_of(accounts: &str) -> HashMap<u32, String> {
    let account = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next()?.to_owned();
        Some((fields.nth(1)?.parse().ok()?, name))
    };
    accounts.lines().filter_map(account).collect()
}
