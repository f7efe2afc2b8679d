//! GPUs that failed, as the kernel's log (Xid) and the driver tell.

use super::OTHER_HOST;
use crate::diagnosis::evidence::kernel;
use crate::diagnosis::judge::Case;
use crate::diagnosis::rules::{Certainty, Found, Look, PLAIN, Rule, log, run, tell};
use farrun_protocol::diagnostics::{GPUS, KERNEL};
use farrun_protocol::gpu::Health;

/// Rows about what ends a job.
pub(in crate::diagnosis::rules) const FAULTS: &[Rule] = &[
    Rule {
        code: "gpu_devices_lost",
        when: "the container lost its GPUs while it ran, usually by `systemctl daemon-reload` on the host",
        looks: &[log(r"Failed to initialize NVML: Unknown Error")],
        say: "the container lost its GPUs while it ran: on `{host}` they are well, and `systemctl daemon-reload` there does this",
        remedies: &[
            run("start it again", "farrun rerun {run}"),
            tell(
                "for good: configure Docker on the host for CDI, or make its devices known with `sudo nvidia-ctk system create-dev-char-symlinks --create-all`",
            ),
        ],
        ..PLAIN
    },
    Rule {
        code: "gpu_lost",
        when: "a GPU of the run has fallen off the bus (Xid 79): hardware, power or PCIe",
        looks: &[
            Look::Facts(|case| of_xids(case, &[79], Certainty::Certain)),
            Look::Facts(lost),
        ],
        say: "the run's GPU[ {which}] has fallen off the bus: hardware, power or PCIe, not the job",
        remedies: &[
            tell(
                "restart the host; when it happens again, look at power supply, temperature and seating of the GPU",
            ),
            OTHER_HOST,
        ],
        ..PLAIN
    },
    Rule {
        code: "gpu_needs_reset",
        when: "a GPU of the run must be reset: uncorrectable memory, NVLink or firmware errors (Xid 48, 62, 64, 74, 95, 119, 120, 140, 143, 158)",
        looks: &[
            Look::Facts(|case| {
                of_xids(
                    case,
                    &[48, 62, 64, 74, 95, 119, 120, 140, 143, 158],
                    Certainty::Certain,
                )
            }),
            Look::Facts(reset),
        ],
        say: "the run's GPU[ {which}] failed and must be reset[ ({meaning})]; the job is not at fault",
        remedies: &[
            tell(
                "end what uses the GPU and run `sudo nvidia-smi --gpu-reset -i INDEX` on the host, or restart it",
            ),
            OTHER_HOST,
        ],
        ..PLAIN
    },
    Rule {
        code: "gpu_program_fault",
        when: "the program did something illegal on the GPU (Xid 13, 31, 32, 69)",
        looks: &[
            Look::Facts(|case| of_xids(case, &[13, 31, 32, 69], Certainty::Certain)),
            log(
                r"CUDA error: (?:an illegal memory access was encountered|misaligned address|an illegal instruction was encountered|device-side assert triggered|unspecified launch failure)",
            ),
            log(r"CUDA_ERROR_(?:ILLEGAL_ADDRESS|LAUNCH_FAILED|ILLEGAL_INSTRUCTION|ASSERT)\b"),
        ],
        say: "the program did something illegal on the GPU[ ({meaning})]: a defect of it or of a library, seldom of the hardware",
        remedies: &[
            run(
                "have CUDA tell where",
                "farrun rerun {run} --env CUDA_LAUNCH_BLOCKING=1",
            ),
            tell(
                "an index out of range (a token, a class, a size that does not fit the model) is the most frequent reason",
            ),
        ],
        ..PLAIN
    },
    Rule {
        code: "gpu_memory_contained",
        when: "a GPU had a memory error that ended only the program which used that memory (Xid 94)",
        looks: &[Look::Facts(|case| of_xids(case, &[94], Certainty::Certain))],
        say: "the run's GPU[ {which}] had a memory error that was contained: only the program that used this memory had to end",
        remedies: &[
            run("order it again", "farrun rerun {run}"),
            tell("when it happens again, reset the GPU: it then takes that memory out of use"),
        ],
        ..PLAIN
    },
];

/// Rows about what the driver tells besides; something else is the cause when there is something else.
pub(in crate::diagnosis::rules) const NOTES: &[Rule] = &[
    Rule {
        code: "gpu_follow_up",
        when: "the driver tells of a follow-up of another error (Xid 43, 45)",
        looks: &[Look::Facts(|case| of_xids(case, &[43, 45], Certainty::Seen))],
        say: "the driver ended what was on the run's GPU[ {which}], as it does after another error",
        ..PLAIN
    },
    Rule {
        code: "gpu_information",
        when: "the driver tells of repaired memory (Xid 63, 92, 93)",
        looks: &[Look::Facts(|case| of_xids(case, &[63, 92, 93], Certainty::Seen))],
        say: "the driver told about repaired memory of the run's GPU[ {which}]",
        ..PLAIN
    },
    Rule {
        code: "gpu_error",
        when: "the driver tells of another error of a GPU of the run (any other Xid)",
        looks: &[Look::Facts(other_xids)],
        say: "the driver told of an error of the run's GPU[ {which}][ ({meaning})]",
        remedies: &[tell("NVIDIA's page on Xid errors says what the number means")],
        ..PLAIN
    },
];

/// Every Xid that some row speaks about.
const TOLD: [u32; 21] = [
    79, 48, 62, 64, 74, 95, 119, 120, 140, 143, 158, 13, 31, 32, 69, 94, 43, 45, 63, 92, 93,
];

fn meaning(xid: u32) -> &'static str {
    match xid {
        13 => "graphics engine exception, often an index out of range",
        31 => "memory page fault",
        32 => "corrupted push buffer",
        48 => "double-bit memory error",
        62 => "internal micro-controller halted",
        64 => "row remapping failed",
        69 => "graphics engine class error",
        74 => "NVLink error",
        95 => "uncontained memory error",
        119 | 120 => "the GPU's firmware does not answer",
        140 => "unrecovered memory error",
        143 => "GPU initialisation failed",
        158 => "GPU fatal timeout",
        _ => "",
    }
}

fn xids<'a>(case: &Case<'a>) -> Vec<(u32, &'a str, String)> {
    let mut found = Vec::new();
    for line in case.kernel() {
        let Some((bus, number)) = kernel::xid(&line.text) else {
            continue;
        };
        if let Some(name) = case.own_gpu_at(bus) {
            found.push((number, line.text.as_str(), name));
        }
    }
    found
}

fn from_xids(found: Vec<(u32, &str, String)>, certainty: Certainty) -> Option<Found> {
    let (number, _, name) = found.first()?;
    let words = match meaning(*number) {
        "" => format!("Xid {number}"),
        words => format!("Xid {number}: {words}"),
    };
    let start = Found::with(certainty)
        .figure("which", name.clone())
        .figure("meaning", words);
    Some(
        found
            .iter()
            .take(3)
            .fold(start, |found, (_, line, _)| found.quoting(KERNEL, line)),
    )
}

fn of_xids(case: &Case<'_>, numbers: &[u32], certainty: Certainty) -> Option<Found> {
    let mut found = xids(case);
    found.retain(|(number, ..)| numbers.contains(number));
    from_xids(found, certainty)
}

fn other_xids(case: &Case<'_>) -> Option<Found> {
    let mut found = xids(case);
    found.retain(|(number, ..)| !TOLD.contains(number));
    from_xids(found, Certainty::Seen)
}

fn unwell(case: &Case<'_>, health: Health) -> Option<Found> {
    let report = case.evidence.gpus.as_ref()?;
    let gpu = report
        .gpus
        .iter()
        .find(|gpu| gpu.health == health && case.is_own(gpu))?;
    let words = format!(
        "GPU {} ({}): {}",
        gpu.index,
        gpu.name,
        crate::model::gpu_words::health(health).0
    );
    Some(
        Found::certain()
            .quoting(GPUS, &words)
            .figure("which", format!("{} ({})", gpu.index, gpu.name)),
    )
}

fn lost(case: &Case<'_>) -> Option<Found> {
    unwell(case, Health::Lost)
}

fn reset(case: &Case<'_>) -> Option<Found> {
    unwell(case, Health::ResetRequired)
}
