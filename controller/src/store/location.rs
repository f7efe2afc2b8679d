//! Where a database is.

use super::StoreError;
use std::fmt;
use std::path::PathBuf;

/// Where a database is. Neither `Debug` nor `Display` shows a password.
#[derive(Clone, PartialEq, Eq)]
pub enum Location {
    /// A file of this machine.
    Sqlite(PathBuf),
    /// A server, by its `postgres://` URL.
    Postgres(String),
}

impl Location {
    /// Reads `postgres://…`, `sqlite:PATH` or a path.
    ///
    /// # Errors
    /// [`StoreError::Location`] when it is empty or a URL of something else.
    pub fn parse(text: &str) -> Result<Self, StoreError> {
        let wrong = |problem| {
            Err(StoreError::Location {
                location: redacted(text),
                problem,
            })
        };
        if let Some(rest) = ["postgres://", "postgresql://"]
            .iter()
            .find_map(|scheme| text.strip_prefix(scheme))
        {
            return if rest.is_empty() {
                wrong("the server is missing")
            } else {
                Ok(Self::Postgres(format!("postgres://{rest}")))
            };
        }
        let path = text.strip_prefix("sqlite:").unwrap_or(text);
        let path = match path.strip_prefix("//") {
            // `sqlite:///a` is how others write the path `/a`.
            Some(rest) if text.starts_with("sqlite:") => rest,
            _ => path,
        };
        if path.is_empty() || path.contains('\0') {
            return wrong("it is empty or holds a NUL");
        }
        if path == ":memory:" {
            return wrong("a database in memory forgets every run");
        }
        if path.contains("://") {
            return wrong("only `postgres://`, `sqlite:` and paths are understood");
        }
        Ok(Self::Sqlite(PathBuf::from(path)))
    }
}

impl fmt::Display for Location {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => path.display().fmt(formatter),
            Self::Postgres(url) => formatter.write_str(&redacted(url)),
        }
    }
}

impl fmt::Debug for Location {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Location({self})")
    }
}

/// The URL without what may hold a password: user information after a colon, and every parameter.
fn redacted(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    let rest = match rest.split_once('?') {
        Some((before, _)) => format!("{before}?…"),
        None => rest.to_owned(),
    };
    // A password may hold an unescaped `@` or `/`; the last `@` is the one before the server.
    let rest = match rest.rsplit_once('@') {
        Some((user, server)) => match user.split_once(':') {
            Some((name, _)) => format!("{name}:…@{server}"),
            None => format!("{user}@{server}"),
        },
        None => rest,
    };
    format!("{scheme}://{rest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_are_told_apart() {
        let sqlite = |path: &str| Some(Location::Sqlite(PathBuf::from(path)));
        assert_eq!(Location::parse("/a/b.db").ok(), sqlite("/a/b.db"));
        assert_eq!(Location::parse("sqlite:/a/b.db").ok(), sqlite("/a/b.db"));
        assert_eq!(Location::parse("sqlite:///a/b.db").ok(), sqlite("/a/b.db"));
        assert_eq!(Location::parse("sqlite:b.db").ok(), sqlite("b.db"));
        let server = Location::parse("postgresql://me@db/farrun").ok();
        assert_eq!(
            server,
            Some(Location::Postgres("postgres://me@db/farrun".to_owned()))
        );
        for wrong in [
            "",
            "sqlite:",
            "mysql://x/y",
            "postgres://",
            ":memory:",
            "sqlite::memory:",
        ] {
            assert!(Location::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn passwords_are_never_shown() {
        for url in [
            "postgres://me:se/cr@et@db:5432/farrun",
            "postgres://me:secret@db/farrun?sslmode=require",
            "postgres://me@db/farrun?password=secret",
            "mysql://me:secret@db/farrun",
        ] {
            let shown = match Location::parse(url) {
                Ok(location) => format!("{location} {location:?}"),
                Err(error) => format!("{error} {error:?}"),
            };
            for part in ["secret", "se/", "cr@"] {
                assert!(!shown.contains(part), "{shown}");
            }
            assert!(shown.contains("me"), "{shown}");
        }
    }
}
