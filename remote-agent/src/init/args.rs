//! The command line of PID 1, composed by `serve` when it creates a container.

use farrun_protocol::spec::{DEFAULT_GRACE, DEFAULT_LOG_CAP};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// What PID 1 was told to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InitArgs {
    /// Folder with the files of the record.
    pub record: PathBuf,
    /// Bytes of job output in `run.log`.
    pub cap: u64,
    /// How long the job may run.
    pub time_limit: Option<Duration>,
    /// Time between SIGTERM and SIGKILL when it ran too long.
    pub grace: Duration,
    /// Folder the job starts in; our own when absent.
    pub working_dir: Option<PathBuf>,
    /// Whether secrets arrive on stdin and have to be waited for.
    pub secrets: bool,
    /// Lock files of the run's GPUs, to be held for as long as we live.
    pub locks: Vec<GpuLock>,
    /// UUIDs of the GPUs that the engine must have handed to this container.
    pub gpus: Vec<String>,
    /// File that holds the boot id.
    pub boot_id_file: PathBuf,
    /// Where our own cgroup is mounted.
    pub cgroup: PathBuf,
    /// The job's program, to be looked up on its PATH.
    pub program: OsString,
    /// Its arguments.
    pub arguments: Vec<OsString>,
}

/// A lock that PID 1 takes before anything else happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GpuLock {
    /// The file.
    pub path: PathBuf,
    /// Whether others may hold it as well.
    pub shared: bool,
}

/// A command line that PID 1 does not understand.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidArgs {
    /// No such flag.
    #[error("`{0}` is not a flag of init")]
    Unknown(String),
    /// The flag needs a value.
    #[error("`{0}` needs a value")]
    NoValue(&'static str),
    /// The flag needs a whole number.
    #[error("`{0}` needs a whole number")]
    NotANumber(&'static str),
    /// The record folder is not named.
    #[error("`--record` is missing")]
    NoRecord,
    /// There is nothing to run.
    #[error("no program after `--`")]
    NoProgram,
}

impl InitArgs {
    /// Reads the words behind `init`:
    /// `--record DIR [--cap BYTES] [--time-limit SECONDS] [--grace SECONDS] [--working-dir DIR] [--secrets]
    /// [--lock PATH]… [--shared-lock PATH]… [--gpu UUID]…
    /// [--boot-id-file PATH] [--cgroup DIR] -- PROGRAM ARGS…`.
    ///
    /// # Errors
    /// The first word that is not understood, or what is missing.
    pub fn parse(words: impl Iterator<Item = OsString>) -> Result<Self, InvalidArgs> {
        let mut words = words;
        let mut record = None;
        let mut args = Self {
            record: PathBuf::new(),
            cap: DEFAULT_LOG_CAP,
            time_limit: None,
            grace: Duration::from_secs(DEFAULT_GRACE),
            working_dir: None,
            secrets: false,
            locks: Vec::new(),
            gpus: Vec::new(),
            boot_id_file: PathBuf::from("/proc/sys/kernel/random/boot_id"),
            cgroup: PathBuf::from("/sys/fs/cgroup"),
            program: OsString::new(),
            arguments: Vec::new(),
        };
        loop {
            let word = words.next().ok_or(InvalidArgs::NoProgram)?;
            match word.to_str() {
                Some("--") => break,
                Some("--record") => record = Some(path(&mut words, "--record")?),
                Some("--cap") => args.cap = number(&mut words, "--cap")?,
                Some("--time-limit") => args.time_limit = Some(seconds(&mut words, "--time-limit")?),
                Some("--grace") => args.grace = seconds(&mut words, "--grace")?,
                Some("--working-dir") => args.working_dir = Some(path(&mut words, "--working-dir")?),
                Some("--secrets") => args.secrets = true,
                Some("--lock") => args.locks.push(lock(&mut words, "--lock", false)?),
                Some("--shared-lock") => args.locks.push(lock(&mut words, "--shared-lock", true)?),
                Some("--gpu") => args
                    .gpus
                    .push(value(&mut words, "--gpu")?.to_string_lossy().into_owned()),
                Some("--boot-id-file") => args.boot_id_file = path(&mut words, "--boot-id-file")?,
                Some("--cgroup") => args.cgroup = path(&mut words, "--cgroup")?,
                _ => return Err(InvalidArgs::Unknown(super::bounded(word.display()))),
            }
        }
        args.record = record.ok_or(InvalidArgs::NoRecord)?;
        args.program = words
            .next()
            .filter(|program| !program.is_empty())
            .ok_or(InvalidArgs::NoProgram)?;
        args.arguments = words.collect();
        Ok(args)
    }
}

fn value(words: &mut impl Iterator<Item = OsString>, flag: &'static str) -> Result<OsString, InvalidArgs> {
    words
        .next()
        .filter(|word| !word.is_empty())
        .ok_or(InvalidArgs::NoValue(flag))
}

fn path(words: &mut impl Iterator<Item = OsString>, flag: &'static str) -> Result<PathBuf, InvalidArgs> {
    value(words, flag).map(PathBuf::from)
}

fn lock(
    words: &mut impl Iterator<Item = OsString>,
    flag: &'static str,
    shared: bool,
) -> Result<GpuLock, InvalidArgs> {
    let path = path(words, flag)?;
    Ok(GpuLock { path, shared })
}

fn number(words: &mut impl Iterator<Item = OsString>, flag: &'static str) -> Result<u64, InvalidArgs> {
    let word = value(words, flag)?;
    word.to_str()
        .and_then(|text| text.parse().ok())
        .ok_or(InvalidArgs::NotANumber(flag))
}

fn seconds(words: &mut impl Iterator<Item = OsString>, flag: &'static str) -> Result<Duration, InvalidArgs> {
    number(words, flag).map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStringExt as _;

    fn parse(line: &str) -> Result<InitArgs, InvalidArgs> {
        InitArgs::parse(line.split(' ').map(OsString::from))
    }

    #[test]
    fn a_full_line_is_understood() {
        let args = parse(
            "--record /r --cap 5 --time-limit 60 --grace 3 --working-dir /w --secrets --boot-id-file /b -- sh --cap",
        )
        .unwrap();
        assert_eq!(args.record, PathBuf::from("/r"));
        assert_eq!(args.cap, 5);
        assert_eq!(args.time_limit, Some(Duration::from_secs(60)));
        assert_eq!(args.grace, Duration::from_secs(3));
        assert_eq!(args.working_dir, Some(PathBuf::from("/w")));
        assert!(args.secrets);
        assert_eq!(args.boot_id_file, PathBuf::from("/b"));
        assert_eq!(args.program, "sh");
        assert_eq!(args.arguments, ["--cap"]);
    }

    #[test]
    fn a_short_line_has_the_defaults_of_the_spec() {
        let args = parse("--record /r -- true").unwrap();
        assert_eq!(args.cap, DEFAULT_LOG_CAP);
        assert_eq!(args.grace, Duration::from_secs(DEFAULT_GRACE));
        assert_eq!(args.time_limit, None);
        assert!(!args.secrets);
    }

    #[test]
    fn arguments_of_the_job_need_not_be_text() {
        let raw = OsString::from_vec(vec![0xff, b'x']);
        let words = ["--record", "/r", "--"].map(OsString::from);
        let args = InitArgs::parse(words.into_iter().chain([raw.clone(), raw.clone()])).unwrap();
        assert_eq!(args.program, raw);
        assert_eq!(args.arguments, [raw]);
    }

    #[test]
    fn locks_are_kept_in_their_order() {
        let args = parse("--record /r --lock /l/b --shared-lock /l/a -- true").unwrap();
        let lock = |path: &str, shared| GpuLock {
            path: path.into(),
            shared,
        };
        assert_eq!(args.locks, [lock("/l/b", false), lock("/l/a", true)]);
        assert_eq!(parse("--record /r --lock"), Err(InvalidArgs::NoValue("--lock")));
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(parse("-- true"), Err(InvalidArgs::NoRecord));
        assert_eq!(parse("--record /r"), Err(InvalidArgs::NoProgram));
        assert_eq!(parse("--record /r --"), Err(InvalidArgs::NoProgram));
        assert_eq!(parse("--record"), Err(InvalidArgs::NoValue("--record")));
        assert_eq!(
            parse("--record /r --cap x -- true"),
            Err(InvalidArgs::NotANumber("--cap"))
        );
        assert_eq!(
            parse("--record /r --grace -1 -- true"),
            Err(InvalidArgs::NotANumber("--grace"))
        );
        assert_eq!(
            parse("--verbose -- true"),
            Err(InvalidArgs::Unknown("--verbose".into()))
        );
    }
}
