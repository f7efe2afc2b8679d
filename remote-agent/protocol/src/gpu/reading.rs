//! A value that may be missing, and then says why.

use serde::{Deserialize, Serialize};

/// A value, or why there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Reading<T> {
    /// The value.
    Value(T),
    /// Why there is none.
    Absent {
        /// The reason.
        absent: Absence,
    },
}

impl<T: Copy> Reading<T> {
    /// No value, for this reason.
    pub fn absent(absent: Absence) -> Self {
        Self::Absent { absent }
    }
    /// The value, when there is one.
    pub fn value(&self) -> Option<T> {
        match self {
            Self::Value(value) => Some(*value),
            Self::Absent { .. } => None,
        }
    }
}

/// Why there is no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Absence {
    /// `N/A`: the GPU has no such thing, or the driver says no more.
    NotAvailable,
    /// The GPU does not support it.
    NotSupported,
    /// The driver failed to read it.
    UnknownError,
    /// The account may not read it.
    NoPermission,
    /// The driver has given it up.
    Deprecated,
    /// The driver's library is too old for it.
    FunctionNotFound,
    /// The GPU has fallen off the bus.
    GpuLost,
    /// The GPU must be reset.
    ResetRequired,
    /// This driver does not know the field.
    UnknownField,
    /// What was printed is no such value.
    Garbled,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_value_is_told_with_its_reason() {
        let known: Reading<u64> = serde_json::from_str("7").unwrap();
        assert_eq!(known.value(), Some(7));
        let absent = Reading::<u64>::absent(Absence::NotSupported);
        let json = serde_json::to_string(&absent).unwrap();
        assert_eq!(json, r#"{"absent":"not_supported"}"#);
        assert_eq!(serde_json::from_str::<Reading<u64>>(&json).unwrap(), absent);
    }
}
