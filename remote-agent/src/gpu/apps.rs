//! The answer to `--query-compute-apps`: processes that hold memory of a GPU. No line at all means none.

use super::cell;
use super::rows::is_uuid;
use super::text::lines;
use farrun_protocol::gpu::Reading;

/// The question.
pub(super) const ARGUMENT: &str = "--query-compute-apps=gpu_uuid,pid,process_name,used_memory";

/// A process as the driver names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct App {
    pub(super) gpu_uuid: String,
    pub(super) pid: u32,
    pub(super) name: Option<String>,
    pub(super) memory: Reading<u64>,
}

/// Reads an answer; lines of another shape are left out alone.
pub(super) fn parse(output: &[u8]) -> Vec<App> {
    lines(output).iter().filter_map(|line| app(line)).collect()
}

fn app(line: &str) -> Option<App> {
    const MEMORY: u64 = 1 << 30;
    let (gpu_uuid, rest) = line.split_once(", ")?;
    let (pid, rest) = rest.split_once(", ")?;
    // The name is the only free text; what follows the last comma is the memory.
    let (name, memory) = rest.rsplit_once(", ")?;
    let gpu_uuid = gpu_uuid.trim();
    let pid = pid.trim().parse().ok().filter(|pid| *pid > 0)?;
    is_uuid(gpu_uuid).then(|| App {
        gpu_uuid: gpu_uuid.to_owned(),
        pid,
        name: cell::text(name),
        memory: cell::number(memory, MEMORY),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use farrun_protocol::gpu::Absence;

    #[test]
    fn nothing_printed_means_no_processes() {
        assert!(parse(b"").is_empty());
        assert!(parse(b"No devices were found\n").is_empty());
    }

    #[test]
    fn names_may_hold_anything_and_memory_may_be_unknown() {
        let printed = "GPU-0a, 4711, python? train.py --x, y, 2048\nGPU-0a, 4712, [Not Found], [N/A]\n\
                       GPU-0b, 0, x, 1\nGPU-0b, -3, x, 1\nNVRM: Xid (PCI:0000:07:00): 79, pid=1, gone, 4\n\
                       GPU-0b, 9, Unknown Error, 12\n";
        let apps = parse(printed.as_bytes());
        assert_eq!(
            apps.iter().map(|app| app.pid).collect::<Vec<_>>(),
            [4711, 4712, 9]
        );
        assert_eq!(apps[0].name.as_deref(), Some("python? train.py --x, y"));
        assert_eq!(apps[0].memory, Reading::Value(2048));
        assert_eq!(apps[1].memory, Reading::absent(Absence::NotAvailable));
        assert_eq!((apps[1].name.as_deref(), apps[2].name.as_deref()), (None, None));
    }
}
