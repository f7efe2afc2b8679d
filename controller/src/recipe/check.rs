//! What a recipe must keep to beyond its syntax.

use super::error::{RecipeError, RecipeProblem, nearest, position_of};
use super::file::{ArgvItem, FORMAT, InputFrom, Kind, Operation, Parameter, Recipe};
use super::parameter;
use super::template::{self, Piece};
use farrun_protocol::manifest::is_safe_path;
use std::collections::{BTreeMap, BTreeSet};

/// Largest recipe file that is read, in bytes.
pub(super) const MAX_SIZE: u64 = 1024 * 1024;

/// Placeholders of every operation.
const COMMON: [&str; 7] = [
    "run_id",
    "inputs",
    "outputs",
    "prompt",
    "prompt.name",
    "negative",
    "parent.run_id",
];

impl Recipe {
    /// Reads a recipe. `origin` names it in errors.
    ///
    /// # Errors
    /// Where its syntax breaks, or everything else that is wrong with it.
    pub fn parse(text: &str, origin: &str) -> Result<Self, RecipeError> {
        let recipe: Self =
            toml::from_str(text).map_err(|error| RecipeError::of_syntax(origin, text, &error))?;
        let mut check = Check {
            text,
            problems: Vec::new(),
        };
        check.recipe(&recipe);
        if check.problems.is_empty() {
            Ok(recipe)
        } else {
            Err(RecipeError {
                origin: origin.to_owned(),
                problems: check.problems,
            })
        }
    }

    /// The operation of this name.
    pub fn operation(&self, name: &str) -> Option<&Operation> {
        self.operations.get(name)
    }
}

struct Check<'a> {
    text: &'a str,
    problems: Vec<RecipeProblem>,
}

impl Check<'_> {
    fn problem(&mut self, key: &str, message: impl Into<String>) {
        self.problem_with_hint(key, message, None);
    }

    fn problem_with_hint(&mut self, key: &str, message: impl Into<String>, hint: Option<String>) {
        self.problems.push(RecipeProblem {
            position: position_of(self.text, key),
            key: key.to_owned(),
            message: message.into(),
            hint,
        });
    }

    fn recipe(&mut self, recipe: &Recipe) {
        if recipe.format != FORMAT {
            let hint = Some(format!("write `format = {FORMAT}`, or use a newer farrun"));
            self.problem_with_hint(
                "format",
                format!("is {}, which this version does not know", recipe.format),
                hint,
            );
            return;
        }
        if !is_word(&recipe.name) {
            self.problem("name", WORD);
        }
        if recipe.image.is_empty()
            || recipe.image.starts_with('-')
            || recipe.image.contains(char::is_whitespace)
        {
            self.problem("image", "is not an image reference");
        }
        self.container(recipe);
        for (name, parameter) in &recipe.parameters {
            self.parameter(&format!("parameters.{name}"), name, parameter);
        }
        if recipe.operations.is_empty() {
            self.problem("operations", "has no operation");
        }
        for (name, operation) in &recipe.operations {
            self.operation(recipe, name, operation);
        }
    }

    fn container(&mut self, recipe: &Recipe) {
        let container = &recipe.container;
        let dirs = container
            .working_dir
            .iter()
            .map(|dir| ("container.working_dir", dir));
        let targets = container
            .mounts
            .iter()
            .map(|mount| ("container.mounts", &mount.target));
        let own = [
            ("container.inputs", &container.inputs),
            ("container.outputs", &container.outputs),
        ];
        for (key, path) in dirs.chain(targets).chain(own) {
            if !path.starts_with('/')
                || path.len() < 2
                || path.contains(':')
                || path.split('/').any(|part| part == "..")
            {
                self.problem(
                    key,
                    format!("has `{path}`, which is not an absolute path without `..` and `:`"),
                );
            }
        }
        let parameters = recipe
            .parameters
            .iter()
            .map(|(name, parameter)| (name.as_str(), parameter))
            .collect();
        for mount in &container.mounts {
            self.template(
                "container.mounts",
                &mount.source,
                &Known::of(&parameters, None),
                None,
            );
        }
        for (name, value) in &container.env {
            self.template(
                &format!("container.env.{name}"),
                value,
                &Known::of(&parameters, None),
                None,
            );
        }
    }

    fn parameter(&mut self, key: &str, name: &str, parameter: &Parameter) {
        if !is_word(name) || COMMON.contains(&name) {
            self.problem(
                key,
                format!("cannot be a parameter's name: it {WORD}, and none of the common placeholders"),
            );
        }
        if (parameter.kind == Kind::Choice) == parameter.choices.is_empty() {
            self.problem(key, "needs `choices` when it is a choice, and only then");
        }
        if parameter
            .min
            .zip(parameter.max)
            .is_some_and(|(min, max)| min > max)
        {
            self.problem(key, "has a `min` above its `max`");
        }
        if parameter.required && parameter.default.is_some() {
            self.problem(key, "is required and has a default; one of them is enough");
        }
        if let Some(Err(problem)) = parameter.default_value().map(|value| parameter.check(&value)) {
            self.problem(&format!("{key}.default"), problem);
        }
    }

    fn operation(&mut self, recipe: &Recipe, name: &str, operation: &Operation) {
        let key = format!("operations.{name}");
        if !is_word(name) {
            self.problem(&key, WORD);
        }
        if operation.argv.is_empty() && recipe.container.entrypoint.is_none() {
            self.problem(&format!("{key}.argv"), "is empty, so there is nothing to run");
        }
        for (name, parameter) in &operation.parameters {
            self.parameter(&format!("{key}.parameters.{name}"), name, parameter);
        }
        self.paths(&key, operation);
        let parameters = parameter::all(recipe, operation);
        let known = Known::of(&parameters, Some(operation));
        for item in &operation.argv {
            if let ArgvItem::Group(group) = item {
                if group.when.is_some() == group.unless.is_some() {
                    self.problem(
                        &format!("{key}.argv"),
                        "has a group without exactly one of `when` and `unless`",
                    );
                }
                for name in group.when.iter().chain(&group.unless) {
                    self.name(&format!("{key}.argv"), name, &known);
                }
            }
        }
        for (part, guard, text) in operation.templates() {
            self.template(&format!("{key}.{part}"), text, &known, guard);
        }
    }

    fn paths(&mut self, key: &str, operation: &Operation) {
        let inputs = operation
            .inputs
            .iter()
            .map(|(role, rule)| (format!("inputs.{role}"), &rule.file));
        let files = operation
            .files
            .iter()
            .map(|file| ("files".to_owned(), &file.path));
        let mut seen = BTreeSet::new();
        for (part, path) in inputs.chain(files) {
            if !is_safe_path(path) {
                self.problem(
                    &format!("{key}.{part}"),
                    format!("has `{path}`, which is not a plain relative path"),
                );
            } else if !seen.insert(path) {
                self.problem(
                    &format!("{key}.{part}"),
                    format!("has `{path}`, which is used twice"),
                );
            }
        }
        for (role, rule) in &operation.inputs {
            if (rule.from == InputFrom::Parent) != rule.output.is_some() {
                self.problem(
                    &format!("{key}.inputs.{role}"),
                    "needs `output` when it is from the parent, and only then",
                );
            }
        }
        for file in &operation.files {
            if file.json.is_some() == file.text.is_some() {
                self.problem(
                    &format!("{key}.files"),
                    format!("has `{}` without exactly one of `json` and `text`", file.path),
                );
            }
        }
        for output in &operation.outputs {
            if !is_safe_path(&output.path) || (output.required && output.path.contains('*')) {
                let message = format!(
                    "has `{}`, which is not a plain relative path; only optional outputs may have `*`",
                    output.path
                );
                self.problem(&format!("{key}.outputs"), message);
            }
        }
        if operation.outputs.iter().filter(|output| output.primary).count() > 1 {
            self.problem(&format!("{key}.outputs"), "has more than one primary output");
        }
        if operation
            .result
            .as_ref()
            .is_some_and(|result| !is_safe_path(&result.file))
        {
            self.problem(
                &format!("{key}.result"),
                "has a `file` that is not a plain relative path",
            );
        }
    }

    fn name(&mut self, key: &str, name: &str, known: &Known) {
        if !known.names.contains_key(name) {
            let hint = nearest(name, known.names.keys().map(String::as_str))
                .map(|meant| format!("did you mean `{meant}`?"));
            self.problem_with_hint(
                key,
                format!("uses `{{{name}}}`, which is no parameter, input or placeholder"),
                hint,
            );
        }
    }

    fn template(&mut self, key: &str, text: &str, known: &Known, guard: Option<&str>) {
        let pieces = match template::pieces(text) {
            Ok(pieces) => pieces,
            Err(problem) => return self.problem(key, problem),
        };
        for piece in pieces {
            let Piece::Name { name, optional } = piece else {
                continue;
            };
            self.name(key, name, known);
            if !optional && guard != Some(name) && known.names.get(name) == Some(&false) {
                let hint =
                    format!("write `{{{name}?}}`, or put the words into a group with `when = \"{name}\"`");
                self.problem_with_hint(
                    key,
                    format!("uses `{{{name}}}`, which may not be given"),
                    Some(hint),
                );
            }
        }
    }
}

/// The placeholders of an operation, and whether each is always given.
struct Known {
    names: BTreeMap<String, bool>,
}

impl Known {
    fn of(parameters: &BTreeMap<&str, &Parameter>, operation: Option<&Operation>) -> Self {
        let mut names: BTreeMap<String, bool> = parameters
            .iter()
            .map(|(name, parameter)| {
                (
                    (*name).to_owned(),
                    parameter.required || parameter.default.is_some(),
                )
            })
            .collect();
        for name in COMMON {
            let always = match name {
                "negative" => false,
                "parent.run_id" => operation.is_some_and(Operation::needs_parent),
                _ => true,
            };
            names.insert(name.to_owned(), always);
        }
        for (role, rule) in operation.into_iter().flat_map(|operation| &operation.inputs) {
            names.insert(format!("input.{role}"), rule.required);
        }
        Self { names }
    }
}

const WORD: &str = "is not 1 to 63 characters of a-z 0-9 _ - that start with a letter or digit";

fn is_word(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-')
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
}

/// Whether `path` is what `pattern` means, `*` standing for any characters but `/`.
pub(super) fn matches(pattern: &str, path: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == path,
        Some((head, rest)) => path.strip_prefix(head).is_some_and(|tail| {
            let segment = tail.find('/').unwrap_or(tail.len());
            (0..=segment)
                .filter_map(|length| tail.get(length..))
                .any(|remaining| matches(rest, remaining))
        }),
    }
}
