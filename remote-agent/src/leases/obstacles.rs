//! What speaks against giving a GPU now.

use super::choose::{Reserved, Wish};
use super::units::Unit;
use farrun_protocol::RunId;
use farrun_protocol::gpu::{GpuProcess, GpuReport, Health, HeldLease, Holder};
use farrun_protocol::lease::{IDLE_MEMORY, Obstacle};

/// Obstacles that do not pass by waiting for other jobs: the order wants other GPUs than this.
pub(super) fn lasting(unit: &Unit, wish: &Wish) -> Vec<Obstacle> {
    let mut found = Vec::new();
    if unit.divided {
        found.push(Obstacle::Divided);
    }
    if let Some(wanted) = wish.placement.min_free
        && unit.memory_total.is_some_and(|total| total < wanted)
    {
        found.push(Obstacle::TooSmall {
            free: unit.memory_free,
            wanted,
        });
    }
    found
}

/// Obstacles that a repair or an administrator can take away, and no end of a job.
pub(super) fn broken(unit: &Unit) -> Vec<Obstacle> {
    let mut found = Vec::new();
    // A name that is none can be neither locked nor handed to an engine.
    let nameless = super::lock_file::file_name(&unit.uuid).is_none();
    let health = if nameless { Health::Unreadable } else { unit.health };
    if health != Health::Healthy {
        found.push(Obstacle::Unhealthy { health });
    }
    if unit.compute_mode.as_deref() == Some("Prohibited") {
        found.push(Obstacle::Prohibited);
    }
    found
}

/// Obstacles of this moment.
pub(super) fn passing(
    unit: &Unit,
    report: &GpuReport,
    held: &[HeldLease],
    reserved: &[Reserved],
    wish: &Wish,
) -> Vec<Obstacle> {
    let holders: Vec<&HeldLease> = held
        .iter()
        .filter(|lease| lease.gpu_uuid == unit.uuid)
        .filter(|lease| lease.run_id.is_none() || lease.run_id != wish.run_id)
        .collect();
    let alone = unit.compute_mode.as_deref() == Some("Exclusive_Process");
    let joins = wish.placement.share && !alone && holders.iter().all(|lease| lease.shared && !lease.draining);
    let mut found: Vec<Obstacle> = holders
        .iter()
        .filter(|_| !joins)
        .map(|lease| holder_obstacle(lease))
        .collect();
    let of_holders = |run_id: &RunId| holders.iter().any(|lease| lease.run_id.as_ref() == Some(run_id));
    // Processes are known by GPU; which instance one uses is not, so an instance goes by its memory.
    let here = report
        .processes
        .iter()
        .filter(|process| unit.parent.is_none() && process.gpu_uuid == unit.uuid);
    for process in here {
        match &process.holder {
            Holder::Run { run_id } if of_holders(run_id) || wish.run_id.as_ref() == Some(run_id) => {}
            Holder::Run { run_id } => found.push(Obstacle::Draining {
                run_id: Some(run_id.clone()),
            }),
            _ => found.push(process_obstacle(process)),
        }
    }
    // Memory of holders we share with is theirs to use; any other obstacle says more than a number.
    let shared_in_use = joins && !holders.is_empty();
    if let Some(used) = unit.memory_used.filter(|used| *used > IDLE_MEMORY)
        && found.is_empty()
        && !shared_in_use
    {
        found.push(Obstacle::MemoryInUse { used });
    }
    if let Some(wanted) = wish.placement.min_free
        && unit.memory_free.is_none_or(|free| free < wanted)
        && unit.memory_total.is_none_or(|total| total >= wanted)
    {
        found.push(Obstacle::TooSmall {
            free: unit.memory_free,
            wanted,
        });
    }
    if let Some(first) = reserved.iter().find(|reserved| reserved.uuid == unit.uuid) {
        found.push(Obstacle::Reserved {
            run_id: first.run_id.clone(),
        });
    }
    found
}

fn holder_obstacle(lease: &HeldLease) -> Obstacle {
    if lease.draining {
        return Obstacle::Draining {
            run_id: lease.run_id.clone(),
        };
    }
    Obstacle::Leased {
        run_id: lease.run_id.clone(),
        user: lease.user.clone(),
        since: lease.since,
    }
}

fn process_obstacle(process: &GpuProcess) -> Obstacle {
    let memory = process.memory.value();
    let pid = process.pid;
    match &process.holder {
        Holder::Container {
            id,
            name,
            user,
            command,
        } => Obstacle::Process {
            pid,
            user: user.clone(),
            command: command.clone(),
            container: Some(name.clone().unwrap_or_else(|| id.chars().take(12).collect())),
            memory,
        },
        Holder::Process { user, command } => Obstacle::Process {
            pid,
            user: user.clone(),
            command: command.clone(),
            container: None,
            memory,
        },
        Holder::Run { run_id } => Obstacle::Draining {
            run_id: Some(run_id.clone()),
        },
        Holder::Dead => Obstacle::Draining { run_id: None },
    }
}
