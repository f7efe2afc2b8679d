//! What an operation offers, for people and for `--json`.

use super::file::{InputFrom, Kind, Operation, OutputRule, Recipe, ResultRule};
use super::parameter;
use serde::Serialize;
use serde_json::Value;

/// What an operation offers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OperationHelp {
    /// Its name.
    pub name: String,
    /// What it does.
    pub help: String,
    /// Whether it can only run with a prompt.
    pub needs_prompt: bool,
    /// Whether it can only run on the outputs of an earlier run.
    pub needs_parent: bool,
    /// What can be set.
    pub parameters: Vec<ParameterHelp>,
    /// What it reads.
    pub inputs: Vec<InputHelp>,
    /// What it leaves.
    pub outputs: Vec<OutputRule>,
    /// Which output holds the text of a new prompt.
    pub result: Option<ResultRule>,
}

/// Something that can be set.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ParameterHelp {
    /// Its name.
    pub name: String,
    /// What it holds.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// What is accepted, in words.
    pub expected: String,
    /// Its value unless it is set.
    pub default: Option<Value>,
    /// Whether it must be set.
    pub required: bool,
    /// What it does.
    pub help: String,
}

/// A file that an operation reads.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct InputHelp {
    /// Its role.
    pub role: String,
    /// Where it comes from.
    pub from: InputFrom,
    /// Whether it must be given.
    pub required: bool,
    /// What it is.
    pub help: String,
}

impl Recipe {
    /// What the operation of this name offers.
    pub fn help(&self, name: &str) -> Option<OperationHelp> {
        let operation = self.operation(name)?;
        Some(OperationHelp {
            name: name.to_owned(),
            help: operation.help.clone(),
            needs_prompt: operation.needs_prompt(),
            needs_parent: operation.needs_parent(),
            parameters: self.parameter_help(operation),
            inputs: operation
                .inputs
                .iter()
                .map(|(role, rule)| InputHelp {
                    role: role.clone(),
                    from: rule.from,
                    required: rule.required,
                    help: rule.help.clone(),
                })
                .collect(),
            outputs: operation.outputs.clone(),
            result: operation.result.clone(),
        })
    }

    fn parameter_help(&self, operation: &Operation) -> Vec<ParameterHelp> {
        let parameters = parameter::all(self, operation);
        parameters
            .into_iter()
            .map(|(name, parameter)| ParameterHelp {
                name: name.to_owned(),
                kind: parameter.kind,
                expected: parameter.expected(),
                default: parameter.default_value(),
                required: parameter.required,
                help: parameter.help.clone(),
            })
            .collect()
    }
}
