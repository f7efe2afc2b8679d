//! What `nvidia-smi -q` tells of the run's GPUs.

use super::{Folder, codes};
use crate::diagnosis::{Certainty, Diagnosis};

fn query(pending: &str, remap: &str, failed: &str, uncorrectable: u64, heat: &str, brake: &str) -> String {
    let gpu = |bus: &str, uuid: &str| {
        format!(
            "GPU {bus}\n    Product Name                          : NVIDIA H100\n    GPU UUID                              : {uuid}\n    \
             Clocks Event Reasons\n        Idle                              : Not Active\n        \
             SW Power Cap                      : Active\n        HW Slowdown                       : {heat}\n            \
             HW Thermal Slowdown           : {heat}\n            HW Power Brake Slowdown       : {brake}\n        \
             Sync Boost                        : Not Active\n        SW Thermal Slowdown               : Not Active\n    \
             ECC Errors\n        Volatile\n            SRAM Correctable              : 7\n            \
             DRAM Uncorrectable            : {uncorrectable}\n        Aggregate\n            \
             DRAM Uncorrectable            : 12\n    Retired Pages\n        \
             Pending Page Blacklist            : {pending}\n    Remapped Rows\n        \
             Pending                           : {remap}\n        Remapping Failure Occurred        : {failed}\n"
        )
    };
    gpu("00000000:0B:00.0", "GPU-aaaa")
}

fn read(query: String) -> Diagnosis {
    Folder::new()
        .with("nvidia-smi-q.txt", query)
        .log("ModuleNotFoundError: No module named 'einops'\n")
        .read()
}

#[test]
fn a_gpu_that_is_well_is_not_mentioned() {
    let well = read(query("No", "No", "No", 0, "Not Active", "Not Active"));
    assert_eq!(codes(&well), ["module_missing"]);
    // Nor one that has no such memory, or is another's.
    let none = query("N/A", "N/A", "N/A", 0, "Not Active", "Not Active");
    assert_eq!(codes(&read(none)), ["module_missing"]);
    let other = query("Yes", "Yes", "Yes", 3, "Active", "Active").replace("GPU-aaaa", "GPU-bbbb");
    assert_eq!(codes(&read(other)), ["module_missing"]);
}

#[test]
fn what_fails_or_is_slow_is_seen_and_never_the_cause() {
    for (text, code, sentence, quote) in [
        (
            query("Yes", "No", "No", 0, "Not Active", "Not Active"),
            "gpu_memory_worn",
            "the run's GPU 0 (H100) has memory that fails: pages wait to be retired",
            "Retired Pages/Pending Page Blacklist: Yes",
        ),
        (
            query("No", "Yes", "No", 2, "Not Active", "Not Active"),
            "gpu_memory_worn",
            "the run's GPU 0 (H100) has memory that fails: errors that cannot be corrected, rows wait to be remapped",
            "ECC Errors/Volatile/DRAM Uncorrectable: 2",
        ),
        (
            query("No", "No", "Yes", 0, "Not Active", "Not Active"),
            "gpu_memory_worn",
            "the run's GPU 0 (H100) has memory that fails: remapping of rows has failed",
            "Remapped Rows/Remapping Failure Occurred: Yes",
        ),
        (
            query("No", "No", "No", 0, "Active", "Not Active"),
            "gpu_slowed",
            "the run's GPU 0 (H100) was slowed down: heat",
            "Clocks Event Reasons/HW Slowdown/HW Thermal Slowdown: Active",
        ),
        (
            query("No", "No", "No", 0, "Not Active", "Active"),
            "gpu_slowed",
            "the run's GPU 0 (H100) was slowed down: its power brake",
            "Clocks Event Reasons/HW Slowdown/HW Power Brake Slowdown: Active",
        ),
    ] {
        let diagnosis = read(text);
        assert_eq!(codes(&diagnosis), ["module_missing", code]);
        let seen = &diagnosis.also[0];
        assert_eq!(
            (seen.certainty, seen.sentence.as_str()),
            (Certainty::Seen, sentence)
        );
        assert_eq!(seen.evidence[0].file, "nvidia-smi-q.txt");
        assert_eq!(seen.evidence[0].text, quote);
    }
    let alone = Folder::new()
        .with(
            "nvidia-smi-q.txt",
            query("Yes", "No", "No", 0, "Not Active", "Not Active"),
        )
        .log("nobody has seen this before\n")
        .read();
    assert_eq!(alone.cause, None);
}
