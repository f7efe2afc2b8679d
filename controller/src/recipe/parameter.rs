//! Values of parameters.

use super::error::nearest;
use super::file::{Kind, Operation, Parameter, Recipe};
use serde_json::Value;
use std::collections::BTreeMap;

/// The parameters of an operation: its own and the recipe's.
pub(super) fn all<'a>(recipe: &'a Recipe, operation: &'a Operation) -> BTreeMap<&'a str, &'a Parameter> {
    recipe
        .parameters
        .iter()
        .chain(&operation.parameters)
        .map(|(name, parameter)| (name.as_str(), parameter))
        .collect()
}

/// The values for what the user set; the last setting of a name wins. Problems are added to `problems`.
pub(super) fn values(
    parameters: &BTreeMap<&str, &Parameter>,
    set: &[(String, String)],
    problems: &mut Vec<String>,
) -> BTreeMap<String, Value> {
    let mut values: BTreeMap<String, Value> = parameters
        .iter()
        .filter_map(|(name, parameter)| Some(((*name).to_owned(), parameter.default_value()?)))
        .collect();
    for (name, text) in set {
        match parameters
            .get(name.as_str())
            .map(|parameter| parameter.read(text))
        {
            Some(Ok(value)) => {
                values.insert(name.clone(), value);
            }
            Some(Err(problem)) => problems.push(format!("parameter `{name}` {problem}")),
            None => problems.push(unknown(name, parameters)),
        }
    }
    for (name, parameter) in parameters {
        if parameter.required && !values.contains_key(*name) && !set.iter().any(|(given, _)| given == name) {
            problems.push(format!("parameter `{name}` must be set"));
        }
    }
    values
}

fn unknown(name: &str, parameters: &BTreeMap<&str, &Parameter>) -> String {
    match nearest(name, parameters.keys().copied()) {
        Some(meant) => format!("there is no parameter `{name}`; did you mean `{meant}`?"),
        None if parameters.is_empty() => format!("there is no parameter `{name}`; this operation has none"),
        None => {
            let known: Vec<_> = parameters.keys().map(|name| format!("`{name}`")).collect();
            format!("there is no parameter `{name}`; there are {}", known.join(", "))
        }
    }
}

impl Parameter {
    /// The value unless it is set.
    pub fn default_value(&self) -> Option<Value> {
        self.default.as_ref().map(|value| match (self.kind, value) {
            (Kind::Float, toml::Value::Integer(number)) => (*number as f64).into(),
            (_, toml::Value::Integer(number)) => (*number).into(),
            (_, toml::Value::Float(number)) => (*number).into(),
            (_, toml::Value::Boolean(truth)) => (*truth).into(),
            (_, toml::Value::String(text)) => text.clone().into(),
            (_, other) => other.to_string().into(),
        })
    }

    /// The value of a text that the user gave.
    ///
    /// # Errors
    /// What is wrong with it, as the end of a sentence.
    pub fn read(&self, text: &str) -> Result<Value, String> {
        let value = match self.kind {
            Kind::Int => text.trim().parse::<i64>().ok().map(Value::from),
            Kind::Float => text
                .trim()
                .parse::<f64>()
                .ok()
                .filter(|number| number.is_finite())
                .map(Value::from),
            Kind::Bool => match text.trim() {
                "true" | "yes" | "1" => Some(true.into()),
                "false" | "no" | "0" => Some(false.into()),
                _ => None,
            },
            Kind::String | Kind::Choice => (!text.contains('\0')).then(|| text.into()),
        };
        let value = value.ok_or_else(|| format!("must be {}, not `{}`", self.expected(), shortened(text)))?;
        self.check(&value)?;
        Ok(value)
    }

    /// Checks type and range of a value.
    pub(super) fn check(&self, value: &Value) -> Result<(), String> {
        let measure = match (self.kind, value) {
            (Kind::Int, Value::Number(number)) if number.is_i64() => number.as_f64(),
            (Kind::Float, Value::Number(number)) => number.as_f64(),
            (Kind::String, Value::String(text)) => Some(text.chars().count() as f64),
            (Kind::Bool, Value::Bool(_)) => return Ok(()),
            (Kind::Choice, Value::String(text)) if self.choices.contains(text) => return Ok(()),
            _ => None,
        };
        let inside = measure.is_some_and(|measure| {
            self.min.is_none_or(|min| measure >= min) && self.max.is_none_or(|max| measure <= max)
        });
        if inside {
            return Ok(());
        }
        let shown = value.as_str().map_or_else(|| value.to_string(), shortened);
        Err(format!("must be {}, not `{shown}`", self.expected()))
    }

    /// What is accepted, in words.
    pub fn expected(&self) -> String {
        let what = match self.kind {
            Kind::Int => "a whole number",
            Kind::Float => "a number",
            Kind::String => "a text",
            Kind::Bool => return "`true` or `false`".to_owned(),
            Kind::Choice => {
                let choices: Vec<_> = self.choices.iter().map(|choice| format!("`{choice}`")).collect();
                return format!("one of {}", choices.join(", "));
            }
        };
        let unit = if self.kind == Kind::String {
            " characters"
        } else {
            ""
        };
        match (self.min, self.max) {
            (Some(min), Some(max)) => format!("{what} from {min} to {max}{unit}"),
            (Some(min), None) => format!("{what} of at least {min}{unit}"),
            (None, Some(max)) => format!("{what} of at most {max}{unit}"),
            (None, None) => what.to_owned(),
        }
    }
}

fn shortened(text: &str) -> String {
    if text.chars().count() <= 60 {
        return text.to_owned();
    }
    text.chars().take(60).chain(['…']).collect()
}
