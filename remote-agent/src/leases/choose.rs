//! Choosing: a report, what is held and a wish in, GPUs or the reasons out. Nothing here looks at the world.

use super::matching::match_all;
use super::obstacles::{broken, lasting, passing};
use super::units::{Unit, units};
use farrun_protocol::RunId;
use farrun_protocol::gpu::{Freshness, GpuReport, GpuTrouble, HeldLease, TroubleKind};
use farrun_protocol::lease::{GpuRefusal, LeasedGpu, Obstacle, Placement};
use farrun_protocol::spec::{Gpus, RunSpec};
use farrun_protocol::{ErrorCode, Failure};

/// What a run wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// The run; what it holds itself is no obstacle.
    pub run_id: Option<RunId>,
    /// How many, or which.
    pub gpus: Gpus,
    /// What else.
    pub placement: Placement,
}

impl Wish {
    /// What an order wants.
    pub fn of(spec: &RunSpec) -> Self {
        Self {
            run_id: Some(spec.run_id.clone()),
            gpus: spec.gpus.clone(),
            placement: spec.placement.clone(),
        }
    }
}

/// A GPU that is kept for a run that stands before in line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reserved {
    /// The GPU.
    pub uuid: String,
    /// The run, when it is of this account.
    pub run_id: Option<RunId>,
}

/// Why nothing was given. Never a part: all or nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// There is no GPU that could be read.
    NoGpu(GpuTrouble),
    /// This host can never do it.
    NoSuch {
        /// In a few words.
        why: String,
        /// Every GPU, and what speaks against it.
        gpus: Vec<GpuRefusal>,
    },
    /// Not now.
    NotFree(Vec<GpuRefusal>),
    /// The figures are too old to choose by.
    Stale {
        /// Their age, when there are any.
        age_ms: Option<u64>,
    },
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::NoGpu(trouble) => {
                let kind = serde_json::to_value(trouble.kind).unwrap_or_default();
                let kind = kind.as_str().unwrap_or("other").to_owned();
                let detail = trouble
                    .detail
                    .map(|detail| format!(": {detail}"))
                    .unwrap_or_default();
                Self::new(ErrorCode::NoGpu, format!("{kind}{detail}"))
            }
            Refused::NoSuch { why, gpus } => Self {
                gpus,
                ..Self::new(ErrorCode::NoSuchGpu, why)
            },
            Refused::NotFree(gpus) => Self {
                gpus,
                ..ErrorCode::NoFreeGpu.into()
            },
            Refused::Stale { age_ms } => {
                let age = age_ms.map_or("none".to_owned(), |age| format!("{} s old", age / 1000));
                Self::new(ErrorCode::NoGpu, format!("stale: the newest reading is {age}"))
            }
        }
    }
}

/// Chooses GPUs for `wish`; sorted by UUID.
///
/// # Errors
/// Why not.
pub fn choose(
    report: &GpuReport,
    held: &[HeldLease],
    reserved: &[Reserved],
    wish: &Wish,
) -> Result<Vec<LeasedGpu>, Refused> {
    if wish.gpus == Gpus::None {
        return Ok(Vec::new());
    }
    let units = readable(report)?;
    let parts = wanted(&units, wish);
    possible(&units, &parts, wish).map_err(|why| Refused::NoSuch {
        why,
        gpus: refusals(&units, &parts, |unit| {
            [lasting(unit, wish), broken(unit)].concat()
        }),
    })?;
    let now = |unit: &Unit| against(unit, report, held, reserved, wish);
    let ranked = ranked(&units, |unit| now(unit).is_empty());
    match assign(&units, &ranked, &parts) {
        Some(mut chosen) => {
            chosen.sort_by(|one, other| one.uuid.cmp(&other.uuid));
            Ok(chosen)
        }
        None => Err(Refused::NotFree(refusals(&units, &parts, now))),
    }
}

/// How many GPUs could be given for `wish` now, one at a time, and how many there are.
pub fn count_free(
    report: &GpuReport,
    held: &[HeldLease],
    reserved: &[Reserved],
    wish: &Wish,
) -> (usize, usize) {
    let units = units(report);
    let parts = wanted(&units, wish);
    let free = |unit: &&Unit| {
        parts.iter().any(|part| part.fits(unit)) && against(unit, report, held, reserved, wish).is_empty()
    };
    let whole = units.iter().filter(|unit| !unit.divided);
    (whole.clone().filter(free).count(), whole.count())
}

/// Everything that speaks against a GPU now.
fn against(
    unit: &Unit,
    report: &GpuReport,
    held: &[HeldLease],
    reserved: &[Reserved],
    wish: &Wish,
) -> Vec<Obstacle> {
    let mut found = lasting(unit, wish);
    if !unit.divided {
        found.extend(broken(unit));
        found.extend(passing(unit, report, held, reserved, wish));
    }
    found
}

/// The GPUs that a waiting run could be given one day, which later ones must leave alone. None when it could not be
/// served even on an idle host, for then it would hold up everybody for nothing.
pub fn usable(report: &GpuReport, wish: &Wish) -> Vec<String> {
    let Ok(units) = readable(report) else {
        return Vec::new();
    };
    let parts = wanted(&units, wish);
    let fit = |unit: &Unit| lasting(unit, wish).is_empty() && broken(unit).is_empty();
    let ranked = ranked(&units, fit);
    if possible(&units, &parts, wish).is_err() || assign(&units, &ranked, &parts).is_none() {
        return Vec::new();
    }
    ranked
        .iter()
        .filter_map(|at| units.get(*at))
        .filter(|unit| parts.iter().any(|part| part.fits(unit)))
        .map(|unit| unit.uuid.clone())
        .collect()
}

fn readable(report: &GpuReport) -> Result<Vec<Unit>, Refused> {
    if report.gpus.is_empty() {
        let none = GpuTrouble {
            kind: TroubleKind::NoGpu,
            detail: None,
            pid: None,
            for_ms: None,
        };
        let trouble = report.trouble.clone().or_else(|| report.device.broken.clone());
        return Err(Refused::NoGpu(trouble.unwrap_or(none)));
    }
    let old = report
        .age_ms
        .is_none_or(|age| age > farrun_protocol::gpu::STALE_AFTER);
    if old || report.state == Freshness::Unavailable {
        return match &report.trouble {
            Some(trouble) => Err(Refused::NoGpu(trouble.clone())),
            None => Err(Refused::Stale {
                age_ms: report.age_ms,
            }),
        };
    }
    Ok(units(report))
}

/// One GPU of a wish.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Any,
    Named(Vec<String>),
}

impl Part {
    fn fits(&self, unit: &Unit) -> bool {
        match self {
            Self::Any => true,
            Self::Named(uuids) => uuids.contains(&unit.uuid),
        }
    }
}

fn wanted(units: &[Unit], wish: &Wish) -> Vec<Part> {
    match &wish.gpus {
        Gpus::None => Vec::new(),
        Gpus::All => vec![Part::Any; units.iter().filter(|unit| !unit.divided).count()],
        Gpus::Count(count) => vec![Part::Any; usize::try_from(*count).unwrap_or(usize::MAX).min(4096)],
        Gpus::Devices(words) => words.iter().map(|word| Part::Named(named(units, word))).collect(),
    }
}

/// UUIDs that a word means: the most exact meaning that there is.
fn named(units: &[Unit], word: &str) -> Vec<String> {
    let word = word.trim().to_lowercase();
    let meaning = |means: &dyn Fn(&Unit) -> bool| -> Vec<String> {
        let found = units.iter().filter(|unit| means(unit));
        found.map(|unit| unit.uuid.clone()).collect()
    };
    let uuid = |unit: &Unit| unit.uuid.to_lowercase();
    let bare = |unit: &Unit| {
        let uuid = uuid(unit);
        uuid.split_once('-')
            .map(|(_, rest)| rest.to_owned())
            .unwrap_or_default()
    };
    let index: Option<u32> = word.parse().ok();
    let meanings: [&dyn Fn(&Unit) -> bool; 4] = [
        &|unit| uuid(unit) == word,
        &|unit| unit.parent.is_none() && index == Some(unit.index),
        &|unit| uuid(unit).starts_with(&word) || (word.len() >= 4 && bare(unit).starts_with(&word)),
        &|unit| !unit.divided && unit.name.to_lowercase().contains(&word),
    ];
    let mut found = meanings
        .into_iter()
        .map(meaning)
        .filter(|found| !found.is_empty());
    found.next().unwrap_or_default()
}

/// Whether an idle host of this kind could serve the wish; else why not.
fn possible(units: &[Unit], parts: &[Part], wish: &Wish) -> Result<(), String> {
    let there = units.iter().filter(|unit| !unit.divided).count();
    if let Gpus::Devices(words) = &wish.gpus {
        let none = |part: &Part| !units.iter().any(|unit| part.fits(unit));
        if let Some((word, _)) = words.iter().zip(parts).find(|(_, part)| none(part)) {
            return Err(format!("no GPU is named by `{word}`"));
        }
    }
    if parts.len() > there {
        return Err(format!("{} are wanted and {there} are there", parts.len()));
    }
    if wish.gpus == Gpus::All && parts.is_empty() {
        return Err("there is none".to_owned());
    }
    let ranked = ranked(units, |unit| lasting(unit, wish).is_empty());
    if assign(units, &ranked, parts).is_some() {
        return Ok(());
    }
    if parts.len() > 1 && units.iter().any(|unit| unit.parent.is_some()) {
        return Err(
            "a run can have one instance of a divided GPU, and there are too few whole ones".to_owned(),
        );
    }
    Err(match wish.placement.min_free {
        Some(wanted) => format!("too few have {wanted} MiB in all"),
        None => "too few fit".to_owned(),
    })
}

/// Positions of the units that pass, best first.
fn ranked(units: &[Unit], passes: impl Fn(&Unit) -> bool) -> Vec<usize> {
    let mut found: Vec<(usize, &Unit)> = units
        .iter()
        .enumerate()
        .filter(|(_, unit)| passes(unit))
        .collect();
    found.sort_by(|(_, one), (_, other)| one.rank().cmp(&other.rank()));
    found.into_iter().map(|(at, _)| at).collect()
}

/// A GPU for every part, or nothing. CUDA lets a process use one instance at most, and none beside whole GPUs.
fn assign(units: &[Unit], ranked: &[usize], parts: &[Part]) -> Option<Vec<LeasedGpu>> {
    let usable: Vec<&Unit> = ranked
        .iter()
        .filter_map(|at| units.get(*at))
        .filter(|unit| parts.len() <= 1 || unit.parent.is_none())
        .collect();
    let chosen = match_all(
        parts.len(),
        usable.len(),
        |part, unit| matches!((parts.get(part), usable.get(unit)), (Some(part), Some(unit)) if part.fits(unit)),
    )?;
    Some(
        chosen
            .into_iter()
            .filter_map(|at| usable.get(at))
            .map(|unit| unit.leased())
            .collect(),
    )
}

fn refusals(units: &[Unit], parts: &[Part], against: impl Fn(&Unit) -> Vec<Obstacle>) -> Vec<GpuRefusal> {
    let refusal = |unit: &Unit| {
        let mut obstacles = against(unit);
        if !unit.divided && !parts.iter().any(|part| part.fits(unit)) {
            obstacles.insert(0, Obstacle::NotNamed);
        }
        GpuRefusal {
            uuid: unit.uuid.clone(),
            index: unit.index,
            name: unit.name.clone(),
            obstacles,
        }
    };
    units.iter().map(refusal).collect()
}

#[cfg(test)]
mod tests;
