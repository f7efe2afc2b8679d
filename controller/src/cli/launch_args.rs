//! The flags that every verb that starts a run shares, and how their values are read.

use super::placement_args::PlacementArgs;
use super::secrets;
use crate::recipe::{self, Overrides};
use farrun_protocol::spec::{Mount, PullPolicy};

/// Flags of every verb that starts a run.
#[derive(Debug, Clone, clap::Args)]
pub struct LaunchArgs {
    #[command(flatten)]
    #[allow(missing_docs, reason = "its own documentation")]
    pub place: PlacementArgs,
    /// Set a variable of the job's environment; may be given several times, as --secret and --mount
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_pair, help_heading = "The job")]
    pub env: Vec<(String, String)>,
    #[arg(long, value_name = "NAME[=SOURCE]", help = secrets::HELP, help_heading = "The job")]
    #[allow(missing_docs, reason = "the help text is the documentation")]
    pub secret: Vec<String>,
    /// End the job after this time (`90s`, `30m`, `2h`)
    #[arg(long, value_name = "TIME", value_parser = parse_seconds, help_heading = "The job")]
    pub time_limit: Option<u64>,
    /// How much of the log is kept from its beginning (`100m`); beyond it the last 4 MiB are kept on the host
    #[arg(long, value_name = "SIZE", value_parser = parse_size, help_heading = "The job")]
    pub log_cap: Option<u64>,
    /// A folder of the host inside the container: `SOURCE:TARGET[:ro]`; `~/…` is the account's home there
    #[arg(long, value_name = "MOUNT", value_parser = parse_mount, help_heading = "The job")]
    pub mount: Vec<Mount>,
    /// Memory limit (`16g`)
    #[arg(long, value_name = "SIZE", value_parser = parse_size, help_heading = "The job")]
    pub memory: Option<u64>,
    /// Size of /dev/shm (`8g`)
    #[arg(long, value_name = "SIZE", value_parser = parse_size, help_heading = "The job")]
    pub shm: Option<u64>,
    /// When the host fetches the image: `missing`, `never` or `always`; default the recipe's, else `missing`
    #[arg(long, value_name = "WHEN", value_parser = parse_pull, help_heading = "The job")]
    pub pull_image: Option<PullPolicy>,
    /// Return as soon as the host has acknowledged the order; `farrun attach` comes back
    #[arg(long, short, help_heading = "How")]
    pub detach: bool,
    /// Give up on a host that stays out of reach for this time while the run is followed (`2h`); the run goes on.
    /// Without it: never on a terminal, else after 15 minutes
    #[arg(long, value_name = "TIME", value_parser = parse_seconds, help_heading = "How")]
    pub patience: Option<u64>,
    /// Show the plan and start nothing
    #[arg(long, help_heading = "How")]
    pub dry_run: bool,
    /// A name of your own for this order: given again, it finds the run it made instead of starting a second one
    #[arg(long, value_name = "KEY", help_heading = "How")]
    pub key: Option<String>,
}

impl LaunchArgs {
    /// Names of the secrets the job gets.
    pub fn secret_names(&self) -> Vec<String> {
        self.secret
            .iter()
            .map(|text| text.split('=').next().unwrap_or(text).to_owned())
            .collect()
    }

    /// What the flags want otherwise than a recipe says.
    pub fn overrides(&self, image: Option<String>) -> Overrides {
        Overrides {
            image,
            pull: self.pull_image,
            gpus: None,
            env: self.env.iter().cloned().collect(),
            mounts: self.mount.clone(),
            time_limit: self.time_limit,
            memory: self.memory,
            shm_size: self.shm,
        }
    }
}

fn parse_mount(text: &str) -> Result<Mount, String> {
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, read_only) = match parts.as_slice() {
        [source, target] | [source, target, "rw"] => (source, target, false),
        [source, target, "ro"] => (source, target, true),
        _ => return Err("expected SOURCE:TARGET or SOURCE:TARGET:ro".to_owned()),
    };
    Ok(Mount {
        source: (*source).to_owned(),
        target: (*target).to_owned(),
        read_only,
        create: false,
    })
}

/// Reads `NAME=VALUE`.
pub fn parse_pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected NAME=VALUE".to_owned()),
    }
}

/// Reads a time as recipes write it, longer than nothing.
///
/// # Errors
/// What is wrong with it.
pub fn parse_seconds(text: &str) -> Result<u64, String> {
    recipe::parse_duration(text).and_then(more_than_nothing)
}

/// Reads a size as recipes write it, larger than nothing.
pub fn parse_size(text: &str) -> Result<u64, String> {
    recipe::parse_size(text).and_then(more_than_nothing)
}

fn more_than_nothing(number: u64) -> Result<u64, String> {
    if number > 0 {
        Ok(number)
    } else {
        Err("it must be more than 0".to_owned())
    }
}

fn parse_pull(text: &str) -> Result<PullPolicy, String> {
    match text {
        "missing" => Ok(PullPolicy::Missing),
        "never" => Ok(PullPolicy::Never),
        "always" => Ok(PullPolicy::Always),
        _ => Err("expected `missing`, `never` or `always`".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_are_those_of_recipes_and_never_nothing() {
        assert_eq!(parse_seconds("1h30m"), Ok(5400));
        assert_eq!(parse_size("8g"), Ok(8 << 30));
        for wrong in ["", "0", "0m", "-1", "1x", "99999999999999999999", "1é"] {
            assert!(parse_seconds(wrong).is_err(), "{wrong}");
            assert!(parse_size(wrong).is_err(), "{wrong}");
        }
    }
}
