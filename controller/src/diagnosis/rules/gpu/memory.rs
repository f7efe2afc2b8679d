//! The memory of a GPU that was full.

use super::others::others;
use crate::diagnosis::judge::Case;
use crate::diagnosis::rules::{Figures, Found, PLAIN, Rule, log, run, seen};
use crate::diagnosis::words::{self, read_size, size};
use farrun_protocol::spec::Gpus;

/// Rows about it.
pub(in crate::diagnosis::rules) const RULES: &[Rule] = &[Rule {
    code: "gpu_out_of_memory",
    when: "the memory of a GPU was full",
    looks: &[
        log(
            r"CUDA out of memory\. Tried to allocate (?P<need>[0-9.]+ [KMGT]?i?B)(?:\. GPU (?P<gpu>[0-9]+) has a total capa?c?i?ty of (?P<total>[0-9.]+ [KMGT]?i?B)(?: of which (?P<free>[0-9.]+ (?:[KMGT]?i?B|bytes)) is free)?| \(GPU (?P<gpu2>[0-9]+); (?P<total2>[0-9.]+ [KMGT]?i?B) total capa?c?i?ty; (?P<own2>[0-9.]+ [KMGT]?i?B) already allocated; (?P<free2>[0-9.]+ (?:[KMGT]?i?B|bytes)) free; (?P<reserved2>[0-9.]+ [KMGT]?i?B) reserved)?",
        ),
        log(r"\btorch\.(?:cuda\.)?OutOfMemoryError: "),
        log(r"(?:RuntimeError|AcceleratorError): CUDA error: out of memory"),
        log(r"\bcupy\.cuda\.memory\.OutOfMemoryError: Out of memory allocating (?P<bytes>[0-9,]+) bytes"),
        log(
            r"RESOURCE_EXHAUSTED: (?:Out of memory|OOM)(?: while trying to allocate (?P<bytes>[0-9]+) bytes| when allocating tensor)?|ResourceExhaustedError: .*OOM when allocating tensor",
        ),
        log(r"Failed to allocate memory for requested buffer of size (?P<bytes>[0-9]+)"),
        log(
            r"(?:cudaMalloc failed: out of memory|CUDA_ERROR_OUT_OF_MEMORY: |cudaErrorMemoryAllocation\b|CUDNN_STATUS_ALLOC_FAILED|CUBLAS_STATUS_ALLOC_FAILED)",
        ),
        log(
            r"ValueError: (?:No available memory for the cache blocks|Free memory on device .* is less than desired GPU memory utilization)",
        ),
        seen(r"torch\.(?:cuda\.)?OutOfMemoryError|CUDA out of memory"),
    ],
    say: "the GPU's memory was full[: the job asked for {need} more][; GPU {gpu} has {total}][, {free} of it free][; {own} were the job's own][; {unused} were reserved and not used, so the memory was fragmented][; others on it: {others}][; the order itself had {no_gpus}]",
    figures: memory,
    remedies: &[
        run(
            "wait until the GPU is free of others: {others}",
            "farrun rerun {run} --wait --min-free {min_free}",
        ),
        run(
            "let PyTorch use memory that it has reserved: {unused} were",
            "farrun rerun {run} --env PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True",
        ),
        run(
            "give it a GPU of its own: the order had {no_gpus}",
            "farrun rerun {run} --gpus {more_gpus}",
        ),
        run("make the job smaller", "farrun rerun {run} --set {smaller}"),
        run(
            "use a larger GPU",
            "farrun rerun {run} --host any --min-free {larger}",
        ),
        run(
            "use more GPUs, when the program can share its work among them",
            "farrun rerun {run} --gpus {twice_gpus}",
        ),
        // Of a run without a GPU nobody wrote that down.
        run("see how its memory {grew}", "farrun gpu --run {run}"),
    ],
    ..PLAIN
}];

fn memory(case: &Case<'_>, found: &Found) -> Figures {
    let mut figures = Figures::new();
    let said = |names: [&'static str; 2]| names.iter().find_map(|name| found.figures.get(name)).cloned();
    for (name, names) in [
        ("gpu", ["gpu", "gpu2"]),
        ("total", ["total", "total2"]),
        ("free", ["free", "free2"]),
        ("own", ["own", "own2"]),
    ] {
        figures.extend(said(names).map(|value| (name, value)));
    }
    if let Some(bytes) = found.figures.get("bytes") {
        let digits: String = bytes.chars().filter(char::is_ascii_digit).collect();
        figures.extend(digits.parse().ok().map(|bytes| ("need", size(bytes))));
    }
    let line = found
        .quotes
        .first()
        .map(|quote| quote.text.as_str())
        .unwrap_or_default();
    if let Some(own) = between(line, "this process has ", " memory in use") {
        figures.insert("own", own.to_owned());
    }
    // What is reserved and not used is told only when it is much: a tenth of the GPU.
    let bytes = |name: &str| found.figures.get(name).and_then(|text| read_size(text));
    let total = figures.get("total").and_then(|text| read_size(text));
    let told = between(
        line,
        "by PyTorch, and ",
        " is reserved by PyTorch but unallocated",
    )
    .and_then(read_size);
    let unused = told.or_else(|| Some(bytes("reserved2")?.saturating_sub(bytes("own2")?)));
    if let (Some(total), Some(unused)) = (total, unused)
        && unused > total / 10
    {
        figures.insert("unused", size(unused));
    }
    // An order without GPUs asks for none of any size.
    let has_gpus = case.facts.run.spec.gpus != Gpus::None;
    let (name, words) = if has_gpus {
        ("grew", "grew")
    } else {
        ("no_gpus", "no GPU")
    };
    figures.insert(name, words.to_owned());
    if let Some(others) = others(case) {
        figures.extend([others]);
    } else if let Some((others, own)) = named(line, total, figures.get("free").map(String::as_str)) {
        figures.insert("others", others);
        figures.entry("own").or_insert(own);
    }
    let own = case
        .own_gpus()
        .into_iter()
        .filter_map(|gpu| gpu.memory_total.value())
        .min();
    if let Some(mebibytes) = own.or_else(|| total.map(|total| total >> 20)) {
        if has_gpus {
            figures.insert("min_free", format!("{}g", mebibytes * 9 / 10 / 1024));
            figures.insert("larger", format!("{}g", mebibytes.div_ceil(1024) + 1));
        }
        figures
            .entry("total")
            .or_insert_with(|| words::mebibytes(mebibytes));
    }
    if !figures.contains_key("gpu") && case.own_gpus().len() == 1 {
        figures.insert("gpu", "0".to_owned());
    }
    figures
}

/// The processes that PyTorch's message names, and what it says the job itself holds. In a container PyTorch does not
/// know its own process by its number: those it names are others only when there is room for the job's own beside them.
fn named(line: &str, total: Option<u64>, free: Option<&str>) -> Option<(String, String)> {
    const MOST: usize = 4;
    let (mut names, mut held) = (Vec::new(), 0_u64);
    for part in line.split("Process ").skip(1).take(MOST) {
        let (pid, rest) = part.split_once(" has ")?;
        let (memory, _) = rest.split_once(" memory in use")?;
        if pid.parse::<u32>().is_err() {
            return None;
        }
        held = held.saturating_add(read_size(memory)?);
        names.push(format!("process {pid} with {memory}"));
    }
    if names.is_empty() {
        return None;
    }
    let others = names.join(", ");
    if let Some(own) = between(line, "this process has ", " memory in use") {
        return Some((others, own.to_owned()));
    }
    let own = between(line, "Of the allocated memory ", " is allocated by PyTorch")?;
    let used = total?.checked_sub(free.and_then(read_size)?)?;
    (held.saturating_add(read_size(own)?) <= used).then(|| (others, own.to_owned()))
}

/// What stands between two pieces of text, when it is short.
fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(before)?;
    let (found, _) = rest.split_once(after)?;
    (found.len() < 30).then_some(found)
}
