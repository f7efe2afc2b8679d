//! The answer to `--query-gpu`: one row per GPU.
//!
//! Lines are split by line and then by `, ` into a fixed number of columns; a line of another shape (a warning, the
//! kernel's words, half a row) is left out alone. A row in which a lost GPU does not even tell its UUID is kept apart.

use super::cell;
use super::fields::{Column, Fields};
use super::text::lines;
use farrun_protocol::gpu::{Absence, Gpu, Health, Reading};

/// What a query answered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Rows {
    /// Every GPU, by index.
    pub(super) gpus: Vec<Gpu>,
    /// Version of the driver.
    pub(super) driver: Option<String>,
    /// UUIDs of GPUs whose index is their place in the answer, because their row does not tell it.
    pub(super) unnumbered: Vec<String>,
    /// GPUs that do not tell who they are.
    pub(super) nameless: Vec<Nameless>,
}

/// What is left of the row of a GPU whose UUID cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Nameless {
    pub(super) index: Option<u32>,
    pub(super) bus_id: Option<String>,
    pub(super) health: Health,
}

/// Reads an answer whose columns are `fields`.
pub(super) fn parse(output: &[u8], fields: &Fields) -> Rows {
    let mut rows = Rows::default();
    let mut place = 0;
    for line in lines(output) {
        let cells: Vec<&str> = line.split(", ").map(str::trim).collect();
        if cells.len() != fields.columns().len() {
            continue;
        }
        let row = Row { fields, cells };
        if let Some(nameless) = row.nameless() {
            rows.nameless.push(nameless);
            place += 1;
            continue;
        }
        let Some(gpu) = row.gpu(place) else { continue };
        if rows.gpus.iter().any(|known: &Gpu| known.uuid == gpu.uuid) {
            continue;
        }
        place += 1;
        if row.index().is_none() {
            rows.unnumbered.push(gpu.uuid.clone());
        }
        if rows.driver.is_none() {
            rows.driver = row.text(Column::Driver);
        }
        rows.gpus.push(gpu);
    }
    rows.gpus.sort_by_key(|gpu| gpu.index);
    rows
}

/// Whether a text is the UUID of a GPU or of an instance.
pub(super) fn is_uuid(text: &str) -> bool {
    let rest = text.strip_prefix("GPU-").or_else(|| text.strip_prefix("MIG-"));
    rest.is_some_and(|rest| {
        (1..=100).contains(&rest.len())
            && rest
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-/".contains(&byte))
    })
}

struct Row<'a> {
    fields: &'a Fields,
    cells: Vec<&'a str>,
}

impl Row<'_> {
    fn cell(&self, wanted: Column) -> Option<&str> {
        let place = self.fields.columns().position(|column| column == wanted)?;
        self.cells.get(place).copied()
    }

    fn number(&self, column: Column, most: u64) -> Reading<u64> {
        let unknown = Reading::absent(Absence::UnknownField);
        self.cell(column).map_or(unknown, |text| cell::number(text, most))
    }

    fn thousandths(&self, column: Column) -> Reading<u64> {
        /// Ten kilowatts, in milliwatts.
        const MOST: u64 = 10_000_000;
        let unknown = Reading::absent(Absence::UnknownField);
        self.cell(column)
            .map_or(unknown, |text| cell::thousandths(text, MOST))
    }

    fn text(&self, column: Column) -> Option<String> {
        self.cell(column).and_then(cell::text)
    }

    fn switch(&self, column: Column) -> Option<bool> {
        self.cell(column).and_then(cell::switch)
    }

    fn index(&self) -> Option<u32> {
        self.number(Column::Index, 10_000).value()?.try_into().ok()
    }

    /// Whether a cell gives a reason instead of its value.
    fn is_absent(&self, column: Column) -> bool {
        self.cell(column).and_then(cell::absence).is_some()
    }

    /// The GPU of this row, unless it tells its UUID. A row that tells neither its index nor its address is nobody's.
    fn nameless(&self) -> Option<Nameless> {
        if !self.is_absent(Column::Uuid) {
            return None;
        }
        let found = Nameless {
            index: self.index(),
            bus_id: self.text(Column::BusId),
            health: self.illness()?,
        };
        (found.index.is_some() || found.bus_id.is_some()).then_some(found)
    }

    /// The GPU of this row; `place` is the row's, which is the index where a lost GPU does not tell it.
    fn gpu(&self, place: u32) -> Option<Gpu> {
        /// A pebibyte, in MiB.
        const MEMORY: u64 = 1 << 30;
        let uuid = self.cell(Column::Uuid)?;
        if !is_uuid(uuid) {
            return None;
        }
        let index = match self.index() {
            None if self.is_absent(Column::Index) => place,
            told => told?,
        };
        let mut gpu = Gpu {
            uuid: uuid.to_owned(),
            index,
            name: self.text(Column::Name).unwrap_or_else(|| "unknown".to_owned()),
            bus_id: self.text(Column::BusId),
            memory_total: self.number(Column::MemoryTotal, MEMORY),
            memory_reserved: self.number(Column::MemoryReserved, MEMORY),
            memory_used: self.number(Column::MemoryUsed, MEMORY),
            memory_free: self.number(Column::MemoryFree, MEMORY),
            unified_memory: false,
            utilization: self.number(Column::Utilization, 100),
            memory_utilization: self.number(Column::MemoryUtilization, 100),
            temperature: self.number(Column::Temperature, 300),
            fan: self.number(Column::Fan, 200),
            power: self.thousandths(Column::Power),
            power_limit: self.thousandths(Column::PowerLimit),
            performance_state: self.text(Column::PerformanceState),
            throttled: self.cell(Column::Throttled).and_then(throttled),
            persistence: self.switch(Column::Persistence),
            compute_mode: self.text(Column::ComputeMode),
            display: self.switch(Column::Display),
            ecc_errors: self.number(Column::EccErrors, u64::MAX),
            compute_capability: self.text(Column::ComputeCapability),
            mig: self.switch(Column::Mig) == Some(true),
            mig_devices: Vec::new(),
            health: Health::Healthy,
            history: Vec::new(),
        };
        gpu.health = self.health(&gpu);
        Some(gpu)
    }

    /// What cells say of the GPU as a whole. One that names a lost GPU is enough, although the program ends with 0 and
    /// other cells look well.
    fn illness(&self) -> Option<Health> {
        let says = |reason: Absence| self.cells.iter().any(|text| cell::absence(text) == Some(reason));
        if says(Absence::GpuLost) {
            Some(Health::Lost)
        } else if says(Absence::ResetRequired) || self.cell(Column::Recovery).is_some_and(needs_reset) {
            Some(Health::ResetRequired)
        } else if says(Absence::UnknownError) {
            Some(Health::Unreadable)
        } else {
            None
        }
    }

    fn health(&self, gpu: &Gpu) -> Health {
        let failed = Reading::absent(Absence::UnknownError);
        let silent = gpu.memory_total == failed && gpu.memory_used == failed;
        match self.illness() {
            // Fields may fail for themselves.
            Some(Health::Unreadable) if !silent => Health::Healthy,
            found => found.unwrap_or(Health::Healthy),
        }
    }
}

/// What `gpu_recovery_action` asks for; draining its links does not keep a GPU from computing.
fn needs_reset(action: &str) -> bool {
    let action = action.to_ascii_lowercase();
    cell::absence(&action).is_none() && (action.contains("reset") || action.contains("reboot"))
}

/// Names of the bits of the reasons that hold clocks down; an idle GPU's is left out.
fn throttled(cell: &str) -> Option<String> {
    const REASONS: &[(u64, &str)] = &[
        (0x2, "applications_clocks_setting"),
        (0x4, "sw_power_cap"),
        (0x8, "hw_slowdown"),
        (0x10, "sync_boost"),
        (0x20, "sw_thermal_slowdown"),
        (0x40, "hw_thermal_slowdown"),
        (0x80, "hw_power_brake_slowdown"),
        (0x100, "display_clock_setting"),
    ];
    let bits = u64::from_str_radix(cell.trim().strip_prefix("0x")?, 16).ok()?;
    let names: Vec<&str> = REASONS
        .iter()
        .filter(|(bit, _)| bits & bit != 0)
        .map(|(_, name)| *name)
        .collect();
    (!names.is_empty()).then(|| names.join(","))
}
