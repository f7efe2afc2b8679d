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

/// The parts of `nvidia-smi -q` that are read, as three generations of drivers print them.
const DRIVER_418: &str = "
==============NVSMI LOG==============

Timestamp                           : Thu Mar 12 10:11:12 2020
Driver Version                      : 418.87.01
CUDA Version                        : 10.1

Attached GPUs                       : 1
GPU 00000000:0B:00.0
    Product Name                    : Tesla V100-SXM2-32GB
    GPU UUID                        : GPU-aaaa
    Performance State               : P0
    Clocks Throttle Reasons
        Idle                        : Not Active
        Applications Clocks Setting : Not Active
        SW Power Cap                : Not Active
        HW Slowdown                 : Not Active
            HW Thermal Slowdown     : Not Active
            HW Power Brake Slowdown : Not Active
        Sync Boost                  : Not Active
        SW Thermal Slowdown         : Not Active
        Display Clock Setting       : Not Active
    Ecc Mode
        Current                     : Enabled
        Pending                     : Enabled
    ECC Errors
        Volatile
            Single Bit            
                Device Memory       : 3
                Register File       : 0
                Total               : 3
            Double Bit            
                Device Memory       : 0
                CBU                 : 0
                Total               : 0
        Aggregate
            Single Bit            
                Total               : 9
            Double Bit            
                Device Memory       : 1
                Total               : 1
    Retired Pages
        Single Bit ECC              : 0
        Double Bit ECC              : 1
        Pending Page Blacklist      : No
    Temperature
        GPU Current Temp            : 41 C
";

const DRIVER_510: &str = "
Driver Version                            : 510.73.08
CUDA Version                              : 11.6

Attached GPUs                             : 1
GPU 00000000:0B:00.0
    Product Name                          : NVIDIA A100-SXM4-80GB
    GPU UUID                              : GPU-aaaa
    Clocks Throttle Reasons
        Idle                              : Active
        HW Slowdown                       : Not Active
            HW Thermal Slowdown           : Not Active
            HW Power Brake Slowdown       : Not Active
        SW Thermal Slowdown               : Not Active
    Ecc Mode
        Current                           : Enabled
        Pending                           : Enabled
    ECC Errors
        Volatile
            SRAM Correctable              : 0
            SRAM Uncorrectable            : 0
            DRAM Correctable              : 177
            DRAM Uncorrectable            : 0
        Aggregate
            SRAM Uncorrectable            : 0
            DRAM Correctable              : 177
            DRAM Uncorrectable            : 4
    Retired Pages
        Single Bit ECC                    : N/A
        Double Bit ECC                    : N/A
        Pending Page Blacklist            : N/A
    Remapped Rows
        Correctable Error                 : 1
        Uncorrectable Error               : 0
        Pending                           : No
        Remapping Failure Occurred        : No
        Bank Remap Availability Histogram
            Max                           : 639 bank(s)
            High                          : 1 bank(s)
            None                          : 0 bank(s)
";

const DRIVER_580: &str = "
Driver Version                                     : 580.105.06
CUDA Version                                       : 13.0

Attached GPUs                                      : 1
GPU 00000000:0B:00.0
    Product Name                                   : NVIDIA H100 80GB HBM3
    GPU UUID                                       : GPU-aaaa
    Performance State                              : P0
    Clocks Event Reasons
        Idle                                       : Active
        Applications Clocks Setting                : Not Active
        SW Power Cap                               : Not Active
        HW Slowdown                                : Not Active
            HW Thermal Slowdown                    : Not Active
            HW Power Brake Slowdown                : Not Active
        Sync Boost                                 : Not Active
        SW Thermal Slowdown                        : Not Active
        Display Clock Setting                      : Not Active
    Clocks Event Reasons Counters
        SW Power Capping                           : 1202176 us
        SW Thermal Slowdown                        : 77 us
        HW Thermal Slowdown                        : 12 us
        HW Power Braking                           : 5 us
    ECC Mode
        Current                                    : Enabled
        Pending                                    : Enabled
    ECC Errors
        Volatile
            SRAM Correctable                       : 0
            SRAM Uncorrectable Parity              : 0
            SRAM Uncorrectable SEC-DED             : 0
            DRAM Correctable                       : 0
            DRAM Uncorrectable                     : 0
        Aggregate
            SRAM Uncorrectable Parity              : 0
            SRAM Uncorrectable SEC-DED             : 2
            DRAM Uncorrectable                     : 1
            SRAM Threshold Exceeded                : No
        Aggregate Uncorrectable SRAM Sources
            SRAM L2                                : 2
            SRAM SM                                : 0
        Channel Repair Pending                     : No
        TPC Repair Pending                         : No
        Unrepairable Memory                        : No
    Retired Pages
        Pending Page Blacklist                     : N/A
    Remapped Rows
        Correctable Error                          : 0
        Uncorrectable Error                        : 1
        Pending                                    : No
        Remapping Failure Occurred                 : No
";

#[test]
fn drivers_of_every_generation_are_understood() {
    for (driver, changes) in [
        (
            DRIVER_418,
            &[
                (
                    " Thermal Slowdown     : Not Active",
                    " Thermal Slowdown     : Active",
                    "heat",
                ),
                (
                    "SW Thermal Slowdown         : Not",
                    "SW Thermal Slowdown         :",
                    "heat",
                ),
                (
                    "Brake Slowdown : Not Active",
                    "Brake Slowdown : Active",
                    "its power brake",
                ),
                (
                    "CBU                 : 0\n                Total               : 0",
                    "CBU                 : 1\n                Total               : 1",
                    "errors that cannot be corrected",
                ),
                (
                    "Blacklist      : No",
                    "Blacklist      : Yes",
                    "pages wait to be retired",
                ),
                (
                    "Pending Page Blacklist      : No",
                    "Pending                     : Yes",
                    "pages wait to be retired",
                ),
            ][..],
        ),
        (
            DRIVER_510,
            &[
                (
                    "HW Thermal Slowdown           : Not Active",
                    "HW Thermal Slowdown           : Active",
                    "heat",
                ),
                (
                    "DRAM Uncorrectable            : 0",
                    "DRAM Uncorrectable            : 1",
                    "errors that cannot be corrected",
                ),
                (
                    "Pending                           : No",
                    "Pending                           : Yes",
                    "rows wait to be remapped",
                ),
                (
                    "Occurred        : No",
                    "Occurred        : Yes",
                    "remapping of rows has failed",
                ),
            ],
        ),
        (
            DRIVER_580,
            &[
                (
                    "HW Thermal Slowdown                    : Not Active",
                    "HW Thermal Slowdown                    : Active",
                    "heat",
                ),
                (
                    "HW Power Brake Slowdown                : Not Active",
                    "HW Power Brake Slowdown                : Active",
                    "its power brake",
                ),
                (
                    "SRAM Uncorrectable Parity              : 0",
                    "SRAM Uncorrectable Parity              : 1",
                    "errors that cannot be corrected",
                ),
                (
                    "SRAM Uncorrectable SEC-DED             : 0",
                    "SRAM Uncorrectable SEC-DED             : 1",
                    "errors that cannot be corrected",
                ),
                (
                    "Threshold Exceeded                : No",
                    "Threshold Exceeded                : Yes",
                    "more errors in its SRAM than it may have",
                ),
                (
                    "Channel Repair Pending                     : No",
                    "Channel Repair Pending                     : GPU requires reset",
                    "a repair waits for its reset",
                ),
                (
                    "TPC Repair Pending                         : No",
                    "TPC Repair Pending                         : Yes",
                    "a repair waits for its reset",
                ),
                (
                    "Unrepairable Memory                        : No",
                    "Unrepairable Memory                        : Yes",
                    "memory that cannot be repaired",
                ),
                (
                    "    Pending                                    : No",
                    "    Pending                                    : Yes",
                    "rows wait to be remapped",
                ),
                (
                    "Failure Occurred                 : No",
                    "Failure Occurred                 : Yes",
                    "remapping of rows has failed",
                ),
            ],
        ),
    ] {
        assert_eq!(codes(&read(driver.to_owned())), ["module_missing"], "{driver}");
        for (well, ill, words) in changes {
            assert!(driver.contains(well), "{well}");
            let diagnosis = read(driver.replacen(well, ill, 1));
            assert_eq!(diagnosis.also.len(), 1, "{ill}: {:?}", codes(&diagnosis));
            let told = &diagnosis.also[0].sentence;
            assert!(told.ends_with(&format!(": {words}")), "{ill}: {told}");
        }
    }
}
