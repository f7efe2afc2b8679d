//! How values lie in the database, so that SQLite and PostgreSQL give back exactly what was put in.

use super::StoreError;
use chrono::{DateTime, Utc};
use std::str::FromStr;

/// Nanoseconds since 1970. Times outside 1677 to 2262 become the nearest one inside: only a host whose clock lies
/// sends such.
pub(super) fn nanoseconds(time: DateTime<Utc>) -> i64 {
    time.timestamp_nanos_opt()
        .unwrap_or(if time.timestamp() < 0 { i64::MIN } else { i64::MAX })
}

/// The reverse of [`nanoseconds`].
pub(super) fn time(nanoseconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_nanos(nanoseconds)
}

/// A record that is being written or read, for messages.
pub(super) struct Record<'a> {
    /// Which database.
    pub(super) database: &'a str,
    /// Which record, such as `run rs_…`.
    pub(super) of: String,
}

impl Record<'_> {
    /// Reads a value that has a text form.
    pub(super) fn parse<T: FromStr>(&self, field: &str, text: &str) -> Result<T, StoreError> {
        text.parse().map_err(|_| self.damaged(field, text))
    }

    /// Reads a value that has a text form and may be absent.
    pub(super) fn parse_some<T: FromStr>(
        &self,
        field: &str,
        text: Option<&str>,
    ) -> Result<Option<T>, StoreError> {
        text.map(|text| self.parse(field, text)).transpose()
    }

    /// Reads a value kept as JSON.
    pub(super) fn json<T: serde::de::DeserializeOwned>(
        &self,
        field: &str,
        text: &str,
    ) -> Result<T, StoreError> {
        serde_json::from_str(text).map_err(|error| self.damaged(field, &error.to_string()))
    }

    /// Reads a size.
    pub(super) fn unsigned(&self, field: &str, number: i64) -> Result<u64, StoreError> {
        u64::try_from(number).map_err(|_| self.damaged(field, &number.to_string()))
    }

    /// Writes a size.
    pub(super) fn signed(&self, field: &'static str, number: u64) -> Result<i64, StoreError> {
        i64::try_from(number).map_err(|_| self.unstorable(field, "it is larger than 2^63 - 1"))
    }

    /// Refuses NUL, which PostgreSQL cannot keep in a text and SQLite cuts at in places.
    pub(super) fn plain(&self, fields: &[(&'static str, Option<&str>)]) -> Result<(), StoreError> {
        let nul = |value: &Option<&str>| value.is_some_and(|text| text.contains('\0'));
        match fields.iter().find(|(_, value)| nul(value)) {
            Some((field, _)) => Err(self.unstorable(field, "it holds a NUL")),
            None => Ok(()),
        }
    }

    fn unstorable(&self, field: &'static str, problem: &'static str) -> StoreError {
        StoreError::Unstorable {
            of: self.of.clone(),
            field,
            problem,
        }
    }

    fn damaged(&self, field: &str, found: &str) -> StoreError {
        let found: String = found.chars().take(120).collect();
        StoreError::Damaged {
            database: self.database.to_owned(),
            of: self.of.clone(),
            problem: format!("{field} is {found:?}"),
        }
    }
}

/// Free text for people, which may come from a host: NUL is replaced, and it is cut to `limit` characters.
pub(super) fn sentence(text: &str, limit: usize) -> String {
    text.chars()
        .take(limit)
        .map(|c| if c == '\0' { char::REPLACEMENT_CHARACTER } else { c })
        .collect()
}

/// A pattern for LIKE with [`ESCAPE`] in which `text` stands for itself.
pub(super) fn literal(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '%' | '_' | ESCAPE) {
            pattern.push(ESCAPE);
        }
        pattern.push(c);
    }
    pattern
}

/// Escapes wildcards in a pattern. Not a backslash, which PostgreSQL's string literals may treat on their own.
pub(super) const ESCAPE: char = '!';

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn times_survive(nanos in any::<i64>()) {
            prop_assert_eq!(nanoseconds(time(nanos)), nanos);
        }
    }

    #[test]
    fn times_no_clock_should_show_become_the_nearest() {
        assert_eq!(nanoseconds(DateTime::<Utc>::MAX_UTC), i64::MAX);
        assert_eq!(nanoseconds(DateTime::<Utc>::MIN_UTC), i64::MIN);
    }

    #[test]
    fn wildcards_stand_for_themselves() {
        assert_eq!(literal("50%_of!"), "50!%!_of!!");
    }

    #[test]
    fn sentences_are_cut_by_characters() {
        assert_eq!(sentence("äöü\0", 4), "äöü\u{fffd}");
        assert_eq!(sentence("äöü", 2), "äö");
    }
}
