//! One item of a bundle: which file, how large at most, and what became of it.

/// Milliseconds an item may take unless it says otherwise.
pub(super) const USUAL: std::time::Duration = std::time::Duration::from_secs(5);

/// What a look came to: something, or why there is nothing.
pub(super) type Looked = Result<Found, String>;

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    /// All there is.
    Whole(Vec<u8>),
    /// A part, and why not all.
    Part(Vec<u8>, String),
    /// As [`Self::Whole`], redacted already: where it was cut matters.
    Redacted(Vec<u8>),
}

impl Found {
    /// A value as a JSON document that people can read.
    pub(super) fn json(value: &impl serde::Serialize) -> Looked {
        let mut bytes = serde_json::to_vec_pretty(value).map_err(|error| error.to_string())?;
        bytes.push(b'\n');
        Ok(Self::Whole(bytes))
    }
}

/// A file of a bundle and its limit in bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct File {
    pub(super) name: &'static str,
    pub(super) most: usize,
    /// Whether the newest part is kept where it is too long, and not the oldest.
    pub(super) newest: bool,
}

impl File {
    pub(super) const fn new(name: &'static str, kibibytes: usize) -> Self {
        Self {
            name,
            most: kibibytes * 1024,
            newest: false,
        }
    }

    pub(super) const fn newest(name: &'static str, kibibytes: usize) -> Self {
        Self {
            newest: true,
            ..Self::new(name, kibibytes)
        }
    }
}
