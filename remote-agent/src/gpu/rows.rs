//! The answer to `--query-gpu`: one row per GPU.
//!
//! Lines are split by line and then by `, ` into a fixed number of columns; a line of another shape (a warning, the
//! kernel's words, half a row) is left out alone.

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
}

/// Reads an answer whose columns are `fields`.
pub(super) fn parse(output: &[u8], fields: &Fields) -> Rows {
    let mut rows = Rows::default();
    for line in lines(output) {
        let cells: Vec<&str> = line.split(", ").map(str::trim).collect();
        if cells.len() != fields.columns().len() {
            continue;
        }
        let row = Row { fields, cells };
        let Some(gpu) = row.gpu() else { continue };
        if rows.gpus.iter().any(|known: &Gpu| known.uuid == gpu.uuid) {
            continue;
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

    fn gpu(&self) -> Option<Gpu> {
        /// A pebibyte, in MiB.
        const MEMORY: u64 = 1 << 30;
        let uuid = self.cell(Column::Uuid)?;
        if !is_uuid(uuid) {
            return None;
        }
        let index = self.number(Column::Index, 10_000).value()?;
        let mut gpu = Gpu {
            uuid: uuid.to_owned(),
            index: index.try_into().ok()?,
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

    /// One cell that names a lost GPU is enough, although the program ends with 0 and other cells look well.
    fn health(&self, gpu: &Gpu) -> Health {
        let says = |reason: Absence| self.cells.iter().any(|text| cell::absence(text) == Some(reason));
        let failed = Reading::absent(Absence::UnknownError);
        if says(Absence::GpuLost) {
            Health::Lost
        } else if says(Absence::ResetRequired) || self.cell(Column::Recovery).is_some_and(needs_reset) {
            Health::ResetRequired
        } else if gpu.memory_total == failed && gpu.memory_used == failed {
            Health::Unreadable
        } else {
            Health::Healthy
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
