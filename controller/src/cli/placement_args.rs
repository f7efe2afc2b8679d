//! The flags that say where a run goes and which GPUs it gets, and how their values are read.

use super::launch_args::{parse_seconds, parse_size};
use crate::error::CommandError;
use farrun_protocol::lease::{Placement, Wait};
use farrun_protocol::spec::Gpus;

/// Where a run goes.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct PlacementArgs {
    /// Host to run on, or `any` for the one that fits best; default the configured one or the only one, for `upscale` and
    /// `rerun` that of the earlier run
    #[arg(long, value_name = "NAME|any", help_heading = "Where")]
    pub host: Option<String>,
    /// GPUs: how many, `all`, `none`, or which ones with commas: UUIDs, places (`gpu0`, or `0,1` in a list) or parts of
    /// a model's name
    #[arg(long, value_name = "GPUS", value_parser = parse_gpus, help_heading = "Where")]
    pub gpus: Option<Gpus>,
    /// Free memory that each GPU must have (`40g`)
    #[arg(long, value_name = "SIZE", value_parser = parse_size, help_heading = "Where")]
    pub min_free: Option<u64>,
    /// Share the GPUs with other runs that say so, too
    #[arg(long, help_heading = "Where")]
    pub share: bool,
    /// Wait in line on the host until the GPUs are free, or at most this long (`--wait=30m`); recipes that need a GPU
    /// wait anyway
    #[arg(
        long,
        value_name = "TIME",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "",
        value_parser = parse_wait,
        help_heading = "Where"
    )]
    pub wait: Option<Wait>,
    /// Do not wait: without free GPUs the order is refused
    #[arg(long, conflicts_with = "wait", help_heading = "Where")]
    pub no_wait: bool,
    /// Place in line: greater goes first, equal ones by age
    #[arg(
        long,
        value_name = "NUMBER",
        allow_negative_numbers = true,
        help_heading = "Where"
    )]
    pub priority: Option<i32>,
}

/// The word that leaves the choice of a host to farrun.
pub const ANY: &str = "any";

impl PlacementArgs {
    /// Whether the host that fits best is wanted.
    pub fn any_host(&self) -> bool {
        self.host.as_deref() == Some(ANY)
    }

    /// Refuses what says how GPUs are chosen where a run gets none. `--wait` and `--priority` may stand there: such a run
    /// never waits.
    ///
    /// # Errors
    /// The flag that would be ignored.
    pub fn check(&self, gpus: &Gpus) -> Result<(), CommandError> {
        let flag = match () {
            () if *gpus != Gpus::None => return Ok(()),
            () if self.min_free.is_some() => "--min-free",
            () if self.share => "--share",
            () => return Ok(()),
        };
        Err(
            CommandError::usage(format!("{flag} says which GPUs will do, and this run gets none"))
                .hint("say how many with `--gpus`, or leave the flag away"),
        )
    }

    /// What a spec says beyond the GPUs; `wait` is what happens without a free one unless the flags say otherwise.
    pub fn placement(&self, gpus: &Gpus, wait: Wait) -> Placement {
        if *gpus == Gpus::None {
            return Placement::default();
        }
        Placement {
            min_free: self.min_free.map(mebibytes),
            share: self.share,
            wait: match self.wait {
                _ if self.no_wait => Wait::No,
                Some(wait) => wait,
                None => wait,
            },
            priority: self.priority.unwrap_or_default(),
        }
    }

    /// As [`Self::placement`], where what is not said stays as it was.
    pub fn changed(&self, gpus: &Gpus, before: &Placement) -> Placement {
        let changed = self.placement(gpus, before.wait);
        if *gpus == Gpus::None {
            return changed;
        }
        Placement {
            min_free: changed.min_free.or(before.min_free),
            share: changed.share || before.share,
            priority: self.priority.unwrap_or(before.priority),
            ..changed
        }
    }
}

/// Bytes in whole MiB, rounded up: less than what was asked for would not do.
fn mebibytes(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 20)
}

fn parse_wait(text: &str) -> Result<Wait, String> {
    if text.is_empty() {
        return Ok(Wait::Until);
    }
    parse_seconds(text).map(Wait::Seconds)
}

/// Reads a number, `none`, `all` or a list.
fn parse_gpus(text: &str) -> Result<Gpus, String> {
    let text = text.trim();
    match text {
        "none" | "0" => return Ok(Gpus::None),
        "all" => return Ok(Gpus::All),
        _ => {}
    }
    if text.bytes().all(|byte| byte.is_ascii_digit()) && !text.is_empty() {
        return text
            .parse()
            .map(Gpus::Count)
            .map_err(|_| format!("`{text}` is more GPUs than any host has"));
    }
    let devices: Vec<String> = text.split(',').map(|device| place(device.trim())).collect();
    let plain = |device: &String| {
        !device.is_empty()
            && device.len() <= 100
            && device
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || " -/_.".contains(c))
    };
    if devices.iter().all(plain) {
        Ok(Gpus::Devices(devices))
    } else {
        Err("expected a number, `all`, `none`, or UUIDs, places or names with commas".to_owned())
    }
}

/// `gpu0` is the GPU at place 0; everything else stays as it is.
fn place(device: &str) -> String {
    let lower = device.to_ascii_lowercase();
    match lower.strip_prefix("gpu") {
        Some(digits) if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            digits.to_owned()
        }
        _ => device.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Exit;

    fn devices(names: &[&str]) -> Result<Gpus, String> {
        Ok(Gpus::Devices(
            names.iter().map(|name| (*name).to_owned()).collect(),
        ))
    }

    #[test]
    fn gpus_are_a_number_words_or_devices() {
        assert_eq!(parse_gpus("none"), Ok(Gpus::None));
        assert_eq!(parse_gpus("0"), Ok(Gpus::None));
        assert_eq!(parse_gpus("all"), Ok(Gpus::All));
        assert_eq!(parse_gpus("2"), Ok(Gpus::Count(2)));
        assert_eq!(parse_gpus("gpu0"), devices(&["0"]));
        assert_eq!(parse_gpus("0,GPU-ab12"), devices(&["0", "GPU-ab12"]));
        assert_eq!(parse_gpus("RTX 4090"), devices(&["RTX 4090"]));
        for wrong in ["", "0,,1", "$(x)", "99999999999", "a;b"] {
            assert!(parse_gpus(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn who_waits_and_how_long() {
        assert_eq!(parse_wait(""), Ok(Wait::Until));
        assert_eq!(parse_wait("30m"), Ok(Wait::Seconds(1800)));
        assert!(parse_wait("soon").is_err());
        let one = Gpus::Count(1);
        let says = |args: &PlacementArgs| args.placement(&one, Wait::Until).wait;
        assert_eq!(says(&PlacementArgs::default()), Wait::Until);
        let no_wait = PlacementArgs {
            no_wait: true,
            ..PlacementArgs::default()
        };
        assert_eq!(says(&no_wait), Wait::No);
        let some = PlacementArgs {
            wait: Some(Wait::Seconds(5)),
            ..PlacementArgs::default()
        };
        assert_eq!(says(&some), Wait::Seconds(5));
        assert!(some.placement(&Gpus::None, Wait::Until).is_default());
    }

    #[test]
    fn a_flag_about_gpus_is_not_ignored() {
        let free = PlacementArgs {
            min_free: Some(1 << 30),
            ..PlacementArgs::default()
        };
        let share = PlacementArgs {
            share: true,
            ..PlacementArgs::default()
        };
        for (args, flag) in [(&free, "--min-free"), (&share, "--share")] {
            let refused = args.check(&Gpus::None).unwrap_err();
            assert_eq!(refused.exit, Exit::Usage);
            assert!(refused.message.contains(flag), "{refused:?}");
            assert!(args.check(&Gpus::Count(1)).is_ok());
        }
        assert!(PlacementArgs::default().check(&Gpus::None).is_ok());
    }

    #[test]
    fn a_repetition_keeps_what_is_not_said_anew() {
        let before = Placement {
            min_free: Some(100),
            share: true,
            wait: Wait::Until,
            priority: 3,
        };
        let one = Gpus::Count(1);
        assert_eq!(PlacementArgs::default().changed(&one, &before), before);
        let args = PlacementArgs {
            min_free: Some((1 << 20) + 1),
            priority: Some(-1),
            ..PlacementArgs::default()
        };
        let after = args.changed(&one, &before);
        assert_eq!((after.min_free, after.priority, after.share), (Some(2), -1, true));
        assert!(args.changed(&Gpus::None, &before).is_default());
    }
}
