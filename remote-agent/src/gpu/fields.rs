//! Which fields a driver is asked for. One that it does not know fails the whole query, so it is left out, or asked
//! for by its older name, and the list that works is remembered.

/// What a column of the query tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Column {
    Index,
    Uuid,
    Name,
    BusId,
    Driver,
    MemoryTotal,
    MemoryReserved,
    MemoryUsed,
    MemoryFree,
    Utilization,
    MemoryUtilization,
    Temperature,
    Fan,
    Power,
    PowerLimit,
    PerformanceState,
    Persistence,
    ComputeMode,
    Mig,
    EccErrors,
    ComputeCapability,
    Throttled,
    Recovery,
    Display,
}

/// Every column with its names, the preferred one first.
const KNOWN: &[(Column, &[&str])] = &[
    (Column::Index, &["index"]),
    (Column::Uuid, &["uuid"]),
    (Column::Name, &["name"]),
    (Column::BusId, &["pci.bus_id"]),
    (Column::Driver, &["driver_version", "kmd_version"]),
    (Column::MemoryTotal, &["memory.total"]),
    (Column::MemoryReserved, &["memory.reserved"]),
    (Column::MemoryUsed, &["memory.used"]),
    (Column::MemoryFree, &["memory.free"]),
    (Column::Utilization, &["utilization.gpu"]),
    (Column::MemoryUtilization, &["utilization.memory"]),
    (Column::Temperature, &["temperature.gpu"]),
    (Column::Fan, &["fan.speed"]),
    (Column::Power, &["power.draw"]),
    (Column::PowerLimit, &["power.limit"]),
    (Column::PerformanceState, &["pstate"]),
    (Column::Persistence, &["persistence_mode"]),
    (Column::ComputeMode, &["compute_mode"]),
    (Column::Mig, &["mig.mode.current"]),
    (Column::EccErrors, &["ecc.errors.uncorrected.volatile.total"]),
    (Column::ComputeCapability, &["compute_cap"]),
    (
        Column::Throttled,
        &["clocks_event_reasons.active", "clocks_throttle_reasons.active"],
    ),
    (Column::Recovery, &["gpu_recovery_action"]),
    (Column::Display, &["display_active"]),
];

/// Without these a row says nothing.
const REQUIRED: &[Column] = &[Column::Index, Column::Uuid, Column::Name];

/// The fields of a query, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fields(Vec<(Column, &'static str)>);

impl Default for Fields {
    fn default() -> Self {
        let preferred = |(column, names): &(Column, &[&'static str])| Some((*column, *names.first()?));
        Self(KNOWN.iter().filter_map(preferred).collect())
    }
}

impl Fields {
    /// The list that these names make; `None` when one is unknown or a required one is missing.
    pub(super) fn from_names<S: AsRef<str>>(names: &[S]) -> Option<Self> {
        let find = |wanted: &str| {
            KNOWN.iter().find_map(|(column, names)| {
                let name = names.iter().find(|name| **name == wanted)?;
                Some((*column, *name))
            })
        };
        let fields = names
            .iter()
            .map(|name| find(name.as_ref()))
            .collect::<Option<Vec<_>>>()?;
        let has = |wanted: &Column| fields.iter().any(|(column, _)| column == wanted);
        REQUIRED.iter().all(has).then_some(Self(fields))
    }

    /// Their names.
    pub(super) fn names(&self) -> Vec<String> {
        self.0.iter().map(|(_, name)| (*name).to_owned()).collect()
    }

    /// What they tell.
    pub(super) fn columns(&self) -> impl ExactSizeIterator<Item = Column> + '_ {
        self.0.iter().map(|(column, _)| *column)
    }

    /// The argument for `nvidia-smi`.
    pub(super) fn argument(&self) -> String {
        format!("--query-gpu={}", self.names().join(","))
    }

    /// Replaces a field that the driver does not know by its other name, or leaves it out. Answers false when that
    /// cannot be done: it is none of ours, or one without which a row says nothing.
    pub(super) fn without(&mut self, unknown: &str) -> bool {
        let Some(place) = self.0.iter().position(|(_, name)| *name == unknown) else {
            return false;
        };
        let Some((column, name)) = self.0.get(place).copied() else {
            return false;
        };
        let names = KNOWN.iter().find(|(known, _)| *known == column);
        let later = names.and_then(|(_, names)| names.iter().skip_while(|known| **known != name).nth(1));
        if let (Some(other), Some(slot)) = (later, self.0.get_mut(place)) {
            slot.1 = other;
            return true;
        }
        if REQUIRED.contains(&column) {
            return false;
        }
        self.0.remove(place);
        true
    }
}

/// The fields that an answer calls unknown: `Field "x" is not a valid field to query.`
pub(super) fn unknown(output: &[u8]) -> Vec<String> {
    super::text::lines(output)
        .iter()
        .filter_map(|line| {
            let (name, rest) = line.trim().strip_prefix("Field \"")?.split_once('"')?;
            rest.contains("not a valid field").then(|| name.to_owned())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_field_is_named_by_the_driver() {
        let said = b"Field \"gpu_recovery_action\" is not a valid field to query.\n\n";
        assert_eq!(unknown(said), ["gpu_recovery_action"]);
        assert!(unknown(b"Format modifier is not recognized.\n").is_empty());
    }

    #[test]
    fn a_field_is_asked_for_by_its_older_name_and_then_left_out() {
        let mut fields = Fields::default();
        let all = fields.names().len();
        assert!(fields.without("clocks_event_reasons.active"));
        assert!(fields.argument().contains("clocks_throttle_reasons.active"));
        assert_eq!(fields.names().len(), all);
        assert!(fields.without("clocks_throttle_reasons.active"));
        assert_eq!(fields.names().len(), all - 1);
        assert!(!fields.without("clocks_throttle_reasons.active"));
        assert!(!fields.without("uuid"));
        assert!(fields.without("driver_version"));
        assert!(fields.argument().contains("kmd_version"));
        assert_eq!(Fields::from_names(&fields.names()), Some(fields));
    }

    #[test]
    fn a_remembered_list_must_make_sense() {
        assert_eq!(Fields::from_names(&["index", "uuid"]), None);
        assert_eq!(Fields::from_names(&["index", "uuid", "name", "soul"]), None);
        assert!(Fields::from_names(&["name", "uuid", "index"]).is_some());
    }
}
