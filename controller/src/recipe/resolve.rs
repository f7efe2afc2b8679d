//! From recipe and order to a resolved run.

use super::file::{ArgvItem, Group, Operation, Recipe, ResultRule};
use super::input::{self, ResolvedInput};
use super::template::{self, Values};
use super::{GpuNeed, parameter};
use crate::model::{OutputRecord, Prompt};
use farrun_protocol::RunId;
use farrun_protocol::spec::{Capture, DEFAULT_GRACE, DEFAULT_LOG_CAP, Mount, PullPolicy};
use serde_json::Value;
use std::collections::BTreeMap;

/// An order.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    /// The run that it is for.
    pub run_id: &'a RunId,
    /// What is wanted.
    pub prompt: Option<&'a Prompt>,
    /// The run to work on.
    pub parent: Option<&'a ParentRun>,
    /// Parameters as the user set them; the last setting of a name wins.
    pub set: &'a [(String, String)],
    /// What the user wants otherwise than the recipe says.
    pub overrides: Overrides,
}

/// The run that another works on.
#[derive(Debug, Clone)]
pub struct ParentRun {
    /// Its id.
    pub run_id: RunId,
    /// Its outputs.
    pub outputs: Vec<OutputRecord>,
}

/// What the user wants otherwise than the recipe says.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// Another image.
    pub image: Option<String>,
    /// Another time to fetch it.
    pub pull: Option<PullPolicy>,
    /// Other GPUs.
    pub gpus: Option<GpuNeed>,
    /// Environment beyond the recipe's, or instead of it.
    pub env: BTreeMap<String, String>,
    /// More mounts; one with the target of a recipe's mount replaces it.
    pub mounts: Vec<Mount>,
    /// Another time limit in seconds.
    pub time_limit: Option<u64>,
    /// Another memory limit in bytes.
    pub memory: Option<u64>,
    /// Another size of `/dev/shm` in bytes.
    pub shm_size: Option<u64>,
}

/// A run without anything left to decide but its host and its GPUs.
#[derive(Debug, Clone, PartialEq)]
pub struct Resolved {
    /// Name of the recipe.
    pub recipe: String,
    /// Name of the operation.
    pub operation: String,
    /// Image reference.
    pub image: String,
    /// When it is fetched.
    pub pull: PullPolicy,
    /// Replaces the image's entrypoint.
    pub entrypoint: Option<Vec<String>>,
    /// The command.
    pub command: Vec<String>,
    /// Working directory.
    pub working_dir: Option<String>,
    /// User.
    pub user: Option<String>,
    /// Environment.
    pub env: BTreeMap<String, String>,
    /// Folders of the host.
    pub mounts: Vec<Mount>,
    /// Files that it reads.
    pub inputs: Vec<ResolvedInput>,
    /// Where they are in the container.
    pub inputs_target: String,
    /// Where its outputs go in the container.
    pub outputs_target: String,
    /// Outputs without which it failed.
    pub required_outputs: Vec<String>,
    /// The output that the user wants to look at.
    pub primary_output: Option<String>,
    /// Which output holds the text of a new prompt.
    pub result: Option<ResultRule>,
    /// GPUs.
    pub gpus: GpuNeed,
    /// Size of `/dev/shm`.
    pub shm_size: Option<u64>,
    /// Whether the host's IPC namespace is shared.
    pub ipc_host: bool,
    /// Memory limit.
    pub memory: Option<u64>,
    /// Network mode.
    pub network: Option<String>,
    /// Time limit in seconds.
    pub time_limit: Option<u64>,
    /// Seconds between SIGTERM and SIGKILL.
    pub grace: u64,
    /// Most bytes of the run log.
    pub log_cap: u64,
    /// Who captures the output.
    pub capture: Capture,
    /// Every parameter with a value.
    pub parameters: BTreeMap<String, Value>,
}

/// An order that cannot be carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// The recipe has no such operation.
    #[error("recipe `{recipe}` has no operation `{operation}`; it has {}", .known.join(", "))]
    UnknownOperation {
        /// The recipe.
        recipe: String,
        /// What was asked for.
        operation: String,
        /// What it has.
        known: Vec<String>,
    },
    /// Parameters or inputs are wrong.
    #[error("`{operation}` of recipe `{recipe}` cannot run: {}", .problems.join("; "))]
    Refused {
        /// The recipe.
        recipe: String,
        /// The operation.
        operation: String,
        /// Everything that is wrong, one sentence each.
        problems: Vec<String>,
    },
}

impl ResolveError {
    /// Everything that is wrong, one sentence each; empty where the message says it all.
    pub fn problems(&self) -> &[String] {
        match self {
            Self::UnknownOperation { .. } => &[],
            Self::Refused { problems, .. } => problems,
        }
    }
}

/// Turns an order into a run. Nothing is sent and nothing is written.
///
/// # Errors
/// Everything that is wrong with the order, at once.
pub fn resolve(recipe: &Recipe, name: &str, request: &Request<'_>) -> Result<Resolved, ResolveError> {
    let operation = recipe
        .operation(name)
        .ok_or_else(|| ResolveError::UnknownOperation {
            recipe: recipe.name.clone(),
            operation: name.to_owned(),
            known: recipe.operations.keys().map(|name| format!("`{name}`")).collect(),
        })?;
    let mut problems = Vec::new();
    let resolved = Resolver {
        recipe,
        operation,
        request,
    }
    .run(name, &mut problems);
    if problems.is_empty() {
        return Ok(resolved);
    }
    Err(ResolveError::Refused {
        recipe: recipe.name.clone(),
        operation: name.to_owned(),
        problems,
    })
}

struct Resolver<'a> {
    recipe: &'a Recipe,
    operation: &'a Operation,
    request: &'a Request<'a>,
}

impl Resolver<'_> {
    fn run(&self, name: &str, problems: &mut Vec<String>) -> Resolved {
        let (container, overrides) = (&self.recipe.container, &self.request.overrides);
        if self.request.prompt.is_none() && self.operation.needs_prompt() {
            problems.push("this operation needs a prompt, and none is given".to_owned());
        }
        let parameters = parameter::values(
            &parameter::all(self.recipe, self.operation),
            self.request.set,
            problems,
        );
        let given = input::given(self.operation, self.request, problems);
        let values = self.values(&parameters, &given);
        let mut inputs: Vec<_> = given.into_iter().map(|(_, input)| input).collect();
        // What a missing parameter, prompt or input makes impossible was already said.
        let mut missing = Vec::new();
        inputs.extend(input::written(self.operation, &values, &mut missing));
        let command = self.command(&values, &mut missing);
        let env = self.env(&values, &mut missing);
        let mounts = self.mounts(&values, &mut missing);
        if problems.is_empty() {
            problems.append(&mut missing);
        }
        let outputs = &self.operation.outputs;
        Resolved {
            recipe: self.recipe.name.clone(),
            operation: name.to_owned(),
            image: overrides
                .image
                .clone()
                .unwrap_or_else(|| self.recipe.image.clone()),
            pull: overrides.pull.unwrap_or(self.recipe.pull),
            entrypoint: container.entrypoint.clone(),
            command,
            working_dir: self
                .operation
                .working_dir
                .clone()
                .or_else(|| container.working_dir.clone()),
            user: container.user.clone(),
            env,
            mounts,
            inputs,
            inputs_target: container.inputs.clone(),
            outputs_target: container.outputs.clone(),
            required_outputs: outputs
                .iter()
                .filter(|rule| rule.required)
                .map(|rule| rule.path.clone())
                .collect(),
            primary_output: outputs
                .iter()
                .find(|rule| rule.primary)
                .map(|rule| rule.path.clone()),
            result: self.operation.result.clone(),
            gpus: overrides
                .gpus
                .or(self.operation.gpus)
                .or(container.gpus)
                .unwrap_or_default(),
            shm_size: overrides.shm_size.or(container.shm_size),
            ipc_host: container.ipc_host,
            memory: overrides.memory.or(container.memory),
            network: container.network.clone(),
            time_limit: overrides
                .time_limit
                .or(self.operation.time_limit)
                .or(container.time_limit),
            grace: container.grace.unwrap_or(DEFAULT_GRACE),
            log_cap: container.log_cap.unwrap_or(DEFAULT_LOG_CAP),
            capture: container.capture,
            parameters,
        }
    }

    /// What placeholders stand for.
    fn values(&self, parameters: &BTreeMap<String, Value>, given: &[(&str, ResolvedInput)]) -> Values {
        let container = &self.recipe.container;
        let mut values: Values = parameters.clone();
        let mut put = |name: &str, text: &str| values.insert(name.to_owned(), text.into());
        put("run_id", self.request.run_id.as_str());
        put("inputs", &container.inputs);
        put("outputs", &container.outputs);
        if let Some(prompt) = self.request.prompt {
            put("prompt", &prompt.text);
            put("prompt.name", &prompt.name);
            if let Some(negative) = &prompt.negative {
                put("negative", negative);
            }
        }
        if let Some(parent) = self.request.parent {
            put("parent.run_id", parent.run_id.as_str());
        }
        for (role, input) in given {
            put(
                &format!("input.{role}"),
                &format!("{}/{}", container.inputs, input.path_in_inputs),
            );
        }
        values
    }

    fn command(&self, values: &Values, problems: &mut Vec<String>) -> Vec<String> {
        let mut command = Vec::new();
        for item in &self.operation.argv {
            let words = match item {
                ArgvItem::Word(word) => std::slice::from_ref(word),
                ArgvItem::Group(group) if applies(group, values) => group.args.as_slice(),
                ArgvItem::Group(_) => &[],
            };
            command.extend(
                words
                    .iter()
                    .filter_map(|word| said(template::text(word, values), "the command", problems)),
            );
        }
        command
    }

    fn env(&self, values: &Values, problems: &mut Vec<String>) -> BTreeMap<String, String> {
        let mut env = BTreeMap::new();
        for (name, template) in self.recipe.container.env.iter().chain(&self.operation.env) {
            let place = format!("environment variable `{name}`");
            env.extend(
                said(template::text(template, values), &place, problems).map(|value| (name.clone(), value)),
            );
        }
        env.extend(self.request.overrides.env.clone());
        env
    }

    fn mounts(&self, values: &Values, problems: &mut Vec<String>) -> Vec<Mount> {
        let more = &self.request.overrides.mounts;
        let own = self
            .recipe
            .container
            .mounts
            .iter()
            .filter(|mount| more.iter().all(|other| other.target != mount.target));
        let mut mounts: Vec<Mount> = own
            .filter_map(|mount| {
                let source = said(template::text(&mount.source, values), "a mount", problems)?;
                let target = mount.target.clone();
                Some(Mount {
                    source,
                    target,
                    read_only: mount.read_only,
                    create: mount.create,
                })
            })
            .collect();
        mounts.extend(more.iter().cloned());
        mounts
    }
}

fn said(text: Result<String, String>, place: &str, problems: &mut Vec<String>) -> Option<String> {
    text.map_err(|problem| problems.push(format!("{place} {problem}")))
        .ok()
}

fn applies(group: &Group, values: &Values) -> bool {
    let given = |name: &String| values.get(name).is_some_and(|value| *value != Value::Bool(false));
    group.when.as_ref().is_none_or(given) && !group.unless.as_ref().is_some_and(given)
}
