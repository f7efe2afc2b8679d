//! Where in which file something is wrong.

use std::fmt;
use std::ops::Range;

/// A recipe that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("recipe `{origin}` cannot be used: {}", list(.problems))]
pub struct RecipeError {
    /// The file, or the name of a built-in recipe.
    pub origin: String,
    /// Everything that was found.
    pub problems: Vec<RecipeProblem>,
}

/// One thing that is wrong with a recipe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecipeProblem {
    /// Line and column, from 1, where they are known.
    pub position: Option<(usize, usize)>,
    /// The key, such as `operations.inference.argv`; empty where the syntax is broken.
    pub key: String,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

impl fmt::Display for RecipeProblem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((line, column)) = self.position {
            write!(formatter, "line {line}, column {column}: ")?;
        }
        if !self.key.is_empty() {
            write!(formatter, "`{}` ", self.key)?;
        }
        formatter.write_str(&self.message)
    }
}

fn list(problems: &[RecipeProblem]) -> String {
    problems
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("; ")
}

impl RecipeError {
    pub(super) fn of_file(origin: &str, message: String) -> Self {
        let problem = RecipeProblem {
            position: None,
            key: String::new(),
            message,
            hint: None,
        };
        Self {
            origin: origin.to_owned(),
            problems: vec![problem],
        }
    }

    pub(super) fn of_syntax(origin: &str, text: &str, error: &toml::de::Error) -> Self {
        let message = error.message().to_owned();
        let problem = RecipeProblem {
            position: error.span().map(|span| position(text, span)),
            key: String::new(),
            hint: misspelt(&message),
            message,
        };
        Self {
            origin: origin.to_owned(),
            problems: vec![problem],
        }
    }
}

fn position(text: &str, span: Range<usize>) -> (usize, usize) {
    let before = text.get(..span.start).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |index| index + 1);
    let column = before.get(line_start..).map_or(0, |line| line.chars().count());
    (before.matches('\n').count() + 1, column + 1)
}

/// Position of `key`, found as the table or entry whose last name it is; good enough to open the right line.
pub(super) fn position_of(text: &str, key: &str) -> Option<(usize, usize)> {
    let (table, last) = key.rsplit_once('.').unwrap_or(("", key));
    let last = last.split('[').next().unwrap_or(last);
    let mut current = String::new();
    for (index, line) in text.lines().enumerate() {
        let trimmed = line.trim();
        if let Some(header) = trimmed.strip_prefix('[') {
            current = header.trim_matches(['[', ']', ' ']).to_owned();
            if current == key {
                return Some((index + 1, 1));
            }
        } else if current == table && trimmed.split(['=', ' ']).next() == Some(last) {
            return Some((index + 1, line.len() - line.trim_start().len() + 1));
        }
    }
    (!table.is_empty()).then(|| position_of(text, table)).flatten()
}

/// The hint for an unknown key: the known one that is nearest.
fn misspelt(message: &str) -> Option<String> {
    let mut quoted = message.split('`').skip(1).step_by(2);
    let wrong = message.starts_with("unknown").then(|| quoted.next()).flatten()?;
    nearest(wrong, quoted).map(|name| format!("did you mean `{name}`?"))
}

/// The name among `known` that `wrong` was probably meant to be.
pub(super) fn nearest<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = wrong.chars().count() / 3 + 1;
    known
        .into_iter()
        .map(|name| (strsim::osa_distance(wrong, name), name))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, name)| name)
}
