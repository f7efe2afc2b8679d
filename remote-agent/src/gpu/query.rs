//! One reading: which questions `nvidia-smi` is asked, in which order, and what its answers mean together. How the
//! program is run is the caller's.

use super::child::{End, Finished};
use super::fields::{self, Fields};
use super::rows::{self, Rows};
use super::store::Facts;
use super::{apps, exit, mig};
use farrun_protocol::gpu::{Absence, DriverFacts, Gpu, GpuTrouble, Health, Reading, TroubleKind};

/// Format of every table.
const FORMAT: &str = "--format=csv,noheader,nounits";

/// What a reading found.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Taken {
    pub(super) gpus: Vec<Gpu>,
    pub(super) apps: Vec<apps::App>,
    /// Whether the processes could not be read.
    pub(super) apps_unknown: bool,
    pub(super) driver: Option<DriverFacts>,
    /// What went wrong although there are GPUs.
    pub(super) trouble: Option<GpuTrouble>,
}

/// Asks a program and answers with how it went.
pub(super) trait Ask: FnMut(&[&str]) -> Finished {}
impl<F: FnMut(&[&str]) -> Finished> Ask for F {}

/// Takes a reading. `facts` holds what was learnt about the driver and learns; `previous` are the GPUs of the last
/// good reading of this boot, `cards` the PCI addresses that the kernel lists.
///
/// # Errors
/// Why there are no GPUs to show.
pub(super) fn take(
    ask: &mut impl Ask,
    facts: &mut Facts,
    previous: &[Gpu],
    cards: &[String],
) -> Result<Taken, GpuTrouble> {
    let answer = gpus(ask, facts, previous, cards)?;
    let (mut rows, mut trouble, mut lost) = (answer.rows, answer.trouble, answer.lost);
    recall(&mut rows, previous, &mut lost, &mut trouble);
    if rows.gpus.is_empty()
        && previous.is_empty()
        && let Some(trouble) = trouble
    {
        return Err(trouble);
    }
    let mut taken = Taken {
        gpus: rows.gpus,
        apps: Vec::new(),
        apps_unknown: true,
        driver: None,
        trouble: None,
    };
    // A program that does not answer is not asked again at once.
    if !trouble.as_ref().is_some_and(hangs) {
        match table(ask, &[apps::ARGUMENT, FORMAT]) {
            Ok(finished) => {
                taken.apps = apps::parse(&finished.stdout);
                taken.apps_unknown = false;
            }
            Err(error) => trouble = trouble.or(Some(error)),
        }
        if taken.gpus.iter().any(|gpu| gpu.mig) && !trouble.as_ref().is_some_and(hangs) {
            divide(ask, &mut taken.gpus);
        }
        if facts.cuda.is_none() && !trouble.as_ref().is_some_and(hangs) {
            let finished = ask(&[]);
            if let End::Exited(_) = finished.end {
                facts.cuda = Some(exit::cuda_version(&finished.stdout));
            }
        }
    }
    add_missing(&mut taken.gpus, previous, &lost);
    taken.driver = rows.driver.map(|version| DriverFacts {
        version,
        cuda: facts.cuda.clone().flatten(),
    });
    taken.trouble = trouble;
    Ok(taken)
}

/// Whether asking again would take long once more.
pub(super) fn hangs(trouble: &GpuTrouble) -> bool {
    matches!(
        trouble.kind,
        TroubleKind::Timeout | TroubleKind::Reading | TroubleKind::Stuck
    )
}

struct Answer {
    rows: Rows,
    trouble: Option<GpuTrouble>,
    /// PCI addresses or UUIDs of GPUs that are called lost.
    lost: Vec<String>,
}

fn gpus(
    ask: &mut impl Ask,
    facts: &mut Facts,
    previous: &[Gpu],
    cards: &[String],
) -> Result<Answer, GpuTrouble> {
    let (finished, rows) = query(ask, facts, None)?;
    let trouble = code_of(&finished).and_then(|code| exit::trouble(code, &finished.stdout, &finished.stderr));
    let Some(trouble) = trouble.or_else(|| nothing_in(&finished, &rows)) else {
        return Ok(Answer {
            rows,
            trouble: None,
            lost: Vec::new(),
        });
    };
    let mut answer = Answer {
        rows,
        trouble: Some(trouble.clone()),
        lost: Vec::new(),
    };
    if !answer.rows.gpus.is_empty() {
        return Ok(answer);
    }
    let both = [finished.stdout, finished.stderr].concat();
    let Some((address, is_lost)) = exit::unreadable_gpu(&both) else {
        return Err(trouble);
    };
    // One GPU without a handle hides all others, unless each is asked for by name.
    if is_lost {
        answer.lost.push(address);
    }
    let names: Vec<String> = if previous.is_empty() {
        cards.to_vec()
    } else {
        previous.iter().map(|gpu| gpu.uuid.clone()).collect()
    };
    for name in names {
        match query(ask, facts, Some(&name)) {
            Ok((finished, rows)) => {
                let both = [finished.stdout, finished.stderr].concat();
                if exit::unreadable_gpu(&both).is_some_and(|(_, is_lost)| is_lost) {
                    answer.lost.push(name);
                }
                answer.rows.driver = answer.rows.driver.take().or(rows.driver);
                answer.rows.gpus.extend(rows.gpus);
                answer.rows.unnumbered.extend(rows.unnumbered);
                answer.rows.nameless.extend(rows.nameless);
            }
            Err(error) if hangs(&error) => {
                answer.trouble = Some(error);
                break;
            }
            Err(_) => {}
        }
    }
    answer.rows.gpus.sort_by_key(|gpu| gpu.index);
    if answer.rows.gpus.is_empty() && previous.is_empty() {
        return Err(answer.trouble.unwrap_or(trouble));
    }
    Ok(answer)
}

/// An answer without an error and without a GPU is not to be believed.
fn nothing_in(finished: &Finished, rows: &Rows) -> Option<GpuTrouble> {
    (rows.gpus.is_empty() && rows.nameless.is_empty()).then(|| GpuTrouble {
        kind: TroubleKind::Garbled,
        detail: super::text::detail(&finished.stdout),
        pid: None,
        for_ms: None,
    })
}

/// Asks for the table of GPUs, or of one, leaving out what the driver does not know.
fn query(ask: &mut impl Ask, facts: &mut Facts, gpu: Option<&str>) -> Result<(Finished, Rows), GpuTrouble> {
    /// The exit code of an argument that is not understood.
    const BAD_ARGUMENT: i32 = 2;
    let mut fields = Fields::from_names(&facts.fields).unwrap_or_default();
    // Each turn drops a name, so they end.
    loop {
        let argument = fields.argument();
        let mut arguments = vec![argument.as_str(), FORMAT];
        if let Some(gpu) = gpu {
            arguments.extend(["-i", gpu]);
        }
        let finished = table(ask, &arguments)?;
        if code_of(&finished) == Some(BAD_ARGUMENT) {
            let both = [finished.stdout.as_slice(), finished.stderr.as_slice()].concat();
            let mut dropped = false;
            for name in fields::unknown(&both) {
                dropped |= fields.without(&name);
            }
            if dropped {
                facts.fields = fields.names();
                continue;
            }
        }
        let rows = rows::parse(&finished.stdout, &fields);
        return Ok((finished, rows));
    }
}

/// Runs the program; an end other than its own is a trouble.
fn table(ask: &mut impl Ask, arguments: &[&str]) -> Result<Finished, GpuTrouble> {
    let finished = ask(arguments);
    let (kind, detail, pid) = match &finished.end {
        End::Exited(_) => return Ok(finished),
        End::Signalled(signal) => (
            TroubleKind::Other,
            Some(format!("nvidia-smi was ended by signal {signal}")),
            None,
        ),
        End::NotStarted(error) => (TroubleKind::ToolMissing, Some(error.clone()), None),
        End::Late => (TroubleKind::Timeout, None, None),
        End::Flooded => (
            TroubleKind::Garbled,
            Some("nvidia-smi printed more than 4 MiB".to_owned()),
            None,
        ),
        End::Stuck(pid) => (TroubleKind::Stuck, None, Some(*pid)),
    };
    Err(GpuTrouble {
        kind,
        detail,
        pid,
        for_ms: None,
    })
}

fn code_of(finished: &Finished) -> Option<i32> {
    match finished.end {
        End::Exited(code) => Some(code),
        _ => None,
    }
}

/// Adds the instances of divided GPUs.
fn divide(ask: &mut impl Ask, gpus: &mut [Gpu]) {
    let Ok(list) = table(ask, &["-L"]) else { return };
    let mut instances = mig::list(&list.stdout);
    if instances.is_empty() {
        return;
    }
    if let Ok(report) = table(ask, &["-q", "-x"]) {
        mig::add_memory(&mut instances, &report.stdout);
    }
    for gpu in gpus.iter_mut().filter(|gpu| gpu.mig) {
        gpu.mig_devices = instances.remove(&gpu.uuid).unwrap_or_default();
    }
}

/// Completes rows in which a GPU does not tell its index or its UUID by the last good reading. One that was never seen
/// cannot be shown, for nothing lasting names it; that there is such a GPU is told all the same.
fn recall(rows: &mut Rows, previous: &[Gpu], lost: &mut Vec<String>, trouble: &mut Option<GpuTrouble>) {
    for gpu in &mut rows.gpus {
        let known = previous.iter().find(|known| known.uuid == gpu.uuid);
        if let Some(known) = known.filter(|_| rows.unnumbered.contains(&gpu.uuid)) {
            gpu.index = known.index;
        }
    }
    rows.gpus.sort_by_key(|gpu| gpu.index);
    for nameless in &rows.nameless {
        let known = previous
            .iter()
            .find(|known| match (&nameless.bus_id, &known.bus_id) {
                (Some(told), Some(bus_id)) => same_address(told, bus_id),
                _ => nameless.index == Some(known.index),
            });
        match (known, nameless.health) {
            (Some(known), Health::Lost) => lost.push(known.uuid.clone()),
            (Some(_), _) => {}
            (None, health) => {
                let index = nameless.index.map(|index| format!("GPU {index}"));
                let name = nameless.bus_id.clone().or(index).unwrap_or_default();
                trouble.get_or_insert(GpuTrouble {
                    kind: match health {
                        Health::ResetRequired => TroubleKind::ResetRequired,
                        _ => TroubleKind::GpuLost,
                    },
                    detail: Some(format!("{name} does not tell its UUID")),
                    pid: None,
                    for_ms: None,
                });
            }
        }
    }
}

/// Shows GPUs that were there and are not listed any more.
fn add_missing(gpus: &mut Vec<Gpu>, previous: &[Gpu], lost: &[String]) {
    for known in previous {
        if gpus.iter().any(|gpu| gpu.uuid == known.uuid) {
            continue;
        }
        let is_lost = known.health == Health::Lost
            || lost.iter().any(|name| {
                *name == known.uuid
                    || known
                        .bus_id
                        .as_deref()
                        .is_some_and(|bus_id| same_address(name, bus_id))
            });
        let reason = if is_lost {
            Absence::GpuLost
        } else {
            Absence::UnknownError
        };
        let absent = Reading::absent(reason);
        gpus.push(Gpu {
            memory_total: absent,
            memory_reserved: absent,
            memory_used: absent,
            memory_free: absent,
            utilization: absent,
            memory_utilization: absent,
            temperature: absent,
            fan: absent,
            power: absent,
            power_limit: absent,
            ecc_errors: absent,
            performance_state: None,
            throttled: None,
            unified_memory: false,
            mig_devices: Vec::new(),
            health: if is_lost { Health::Lost } else { Health::Unreadable },
            ..known.clone()
        });
    }
    gpus.sort_by_key(|gpu| gpu.index);
}

/// PCI addresses are printed with a domain of four or of eight digits.
fn same_address(one: &str, other: &str) -> bool {
    let short = |address: &str| {
        let address = address.to_ascii_lowercase();
        address.trim_start_matches('0').to_owned()
    };
    short(one) == short(other)
}

#[cfg(test)]
mod tests;
