//! Configuration: file, then environment, then flags; and the folders that follow from it (XDG Base Directory).

use farrun_protocol::message::Secret;
use farrun_protocol::notify::Hook;
use serde::{Deserialize, Serialize};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Longest outputs folder in bytes; with it every `log_path` fits its 500 characters.
pub const MAX_OUTPUTS: usize = 300;

/// What the configuration file may say. Every key but `[notify]` has a `FARRUN_…` environment variable of the same name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Where logs, outputs and diagnostics go (`FARRUN_OUTPUTS`); default `~/farrun/outputs`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outputs: Option<PathBuf>,
    /// Database: a path for SQLite or a `postgres://` URL (`FARRUN_DATABASE`); default `farrun.db` in the state folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// Host for runs that name none (`FARRUN_HOST`); without it the only host there is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Recipe for runs that name none (`FARRUN_RECIPE`); default `cosmos-transfer1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recipe: Option<String>,
    /// Days that telemetry files are kept (`FARRUN_TELEMETRY_DAYS`); default 14.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub telemetry_days: Option<u32>,
    /// Bytes of a run log before the rolling tail begins (`FARRUN_LOG_CAP`); default 100 MB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_cap: Option<u64>,
    /// What is done on this machine when a run has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub notify: Option<NotifySettings>,
}

/// What is done on this machine when a run has ended: one of the two.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NotifySettings {
    /// Program and arguments.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    /// Address of a webhook, which is as good as a password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<Secret>,
}

impl NotifySettings {
    fn hook(self) -> Result<Hook, ConfigError> {
        let wrong = |value: String, expected| ConfigError::Value {
            name: "notify".to_owned(),
            value,
            expected,
        };
        let hook = match (self.command, self.url) {
            (Some(argv), None) => Hook::Command { argv },
            (None, Some(url)) => Hook::Webhook { url },
            (Some(_), Some(_)) => return Err(wrong("both".to_owned(), "one of `command` and `url`")),
            (None, None) => return Err(wrong("empty".to_owned(), "one of `command` and `url`")),
        };
        match hook.check() {
            Ok(()) => Ok(hook),
            Err(_) => Err(wrong(
                hook.shown(),
                "a command of at most 100 words, or an https:// or http:// address",
            )),
        }
    }
}

/// The settled configuration and the folders of this user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// `~`.
    pub home: PathBuf,
    /// `$XDG_CONFIG_HOME/farrun`.
    pub config_folder: PathBuf,
    /// `$XDG_STATE_HOME/farrun`: database, telemetry, orders that were not acknowledged, manifests
    /// of outputs that are here.
    pub state_folder: PathBuf,
    /// `$XDG_DATA_HOME/farrun`: agents installed apart from the program.
    pub data_folder: PathBuf,
    /// Where logs, outputs and diagnostics go; absolute.
    pub outputs: PathBuf,
    /// Where the database is: a path or a URL.
    pub database: String,
    /// Host for runs that name none.
    pub host: Option<String>,
    /// Recipe for runs that name none.
    pub recipe: String,
    /// Days that telemetry files are kept.
    pub telemetry_days: u32,
    /// Bytes of a run log before the rolling tail begins.
    pub log_cap: u64,
    /// What is done on this machine when a run has ended.
    pub notify: Option<Hook>,
    /// The configuration file, when one was named.
    pub file: Option<PathBuf>,
}

/// The configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// No home folder is known.
    #[error("no home folder is known: HOME is not set")]
    NoHome,
    /// The file could not be read.
    #[error("`{}` cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is not what it should be.
    #[error("`{}` is not a valid configuration", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// The file holds a secret and others may read it.
    #[error("`{}` holds {what} and is open to other users", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// The secret.
        what: &'static str,
    },
    /// A value is not acceptable.
    #[error("{name} is `{value}`, which is not {expected}")]
    Value {
        /// Name of the key or variable.
        name: String,
        /// What it says.
        value: String,
        /// What it should be.
        expected: &'static str,
    },
    /// The outputs folder is too long.
    #[error("the outputs folder `{}` is longer than {MAX_OUTPUTS} bytes", path.display())]
    OutputsTooLong {
        /// The folder.
        path: PathBuf,
    },
}

impl Config {
    /// Reads the configuration of this user. `file` replaces the usual file and must exist then.
    ///
    /// # Errors
    /// An unreadable or invalid file, an invalid variable, or no home folder.
    pub fn load(
        file: Option<&Path>,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        let variable = |name: &str| environment(name).filter(|value| !value.is_empty());
        let home = variable("HOME").map(PathBuf::from).ok_or(ConfigError::NoHome)?;
        let folder = |name: &str, default: &str| {
            // XDG: relative values must be ignored.
            let base = variable(name)
                .map(PathBuf::from)
                .filter(|path| path.is_absolute());
            base.unwrap_or_else(|| home.join(default)).join("farrun")
        };
        let config_folder = folder("XDG_CONFIG_HOME", ".config");
        let state_folder = folder("XDG_STATE_HOME", ".local/state");
        let data_folder = folder("XDG_DATA_HOME", ".local/share");

        let named = file
            .map(Path::to_owned)
            .or_else(|| variable("FARRUN_CONFIG").map(PathBuf::from));
        let settings = match &named {
            Some(path) => read(path, true)?,
            None => read(&config_folder.join("config.toml"), false)?,
        };
        let outputs = variable("FARRUN_OUTPUTS").map(PathBuf::from).or(settings.outputs);
        let outputs = absolute(outputs.unwrap_or_else(|| home.join("farrun/outputs")), &home);
        if outputs.as_os_str().len() > MAX_OUTPUTS {
            return Err(ConfigError::OutputsTooLong { path: outputs });
        }
        if outputs.to_str().is_none() {
            // The database keeps paths as text; another spelling of this one would name another folder.
            let value = outputs.to_string_lossy().into_owned();
            return Err(ConfigError::Value {
                name: "outputs".to_owned(),
                value,
                expected: "a path in UTF-8",
            });
        }
        let database = variable("FARRUN_DATABASE").or(settings.database);
        let database = database.map(|text| match text.strip_prefix("~/") {
            Some(below) => home.join(below).to_string_lossy().into_owned(),
            None => text,
        });
        Ok(Self {
            database: database
                .unwrap_or_else(|| state_folder.join("farrun.db").to_string_lossy().into_owned()),
            host: variable("FARRUN_HOST").or(settings.host),
            recipe: variable("FARRUN_RECIPE")
                .or(settings.recipe)
                .unwrap_or_else(|| "cosmos-transfer1".to_owned()),
            telemetry_days: number(&variable, "FARRUN_TELEMETRY_DAYS")?
                .or(settings.telemetry_days)
                .unwrap_or(14),
            log_cap: number(&variable, "FARRUN_LOG_CAP")?
                .or(settings.log_cap)
                .unwrap_or(farrun_protocol::spec::DEFAULT_LOG_CAP),
            notify: settings.notify.map(NotifySettings::hook).transpose()?,
            file: named,
            home,
            config_folder,
            state_folder,
            data_folder,
            outputs,
        })
    }
}

fn number<T: std::str::FromStr>(
    variable: &dyn Fn(&str) -> Option<String>,
    name: &str,
) -> Result<Option<T>, ConfigError> {
    let Some(value) = variable(name) else {
        return Ok(None);
    };
    match value.parse() {
        Ok(number) => Ok(Some(number)),
        Err(_) => Err(ConfigError::Value {
            name: name.to_owned(),
            value,
            expected: "a whole number",
        }),
    }
}

fn absolute(path: PathBuf, home: &Path) -> PathBuf {
    if let Ok(rest) = path.strip_prefix("~") {
        return home.join(rest);
    }
    std::path::absolute(&path).unwrap_or(path)
}

fn read(path: &Path, must_exist: bool) -> Result<Settings, ConfigError> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !must_exist => {
            return Ok(Settings::default());
        }
        Err(source) => {
            return Err(ConfigError::Read {
                path: path.to_owned(),
                source,
            });
        }
    };
    let settings: Settings = toml::from_str(&text).map_err(|source| ConfigError::Parse {
        path: path.to_owned(),
        source: Box::new(source),
    })?;
    let open = std::fs::metadata(path).is_ok_and(|file| file.mode() & 0o077 != 0);
    let password = settings.database.as_deref().is_some_and(has_password);
    let webhook = settings
        .notify
        .as_ref()
        .is_some_and(|notify| notify.url.is_some());
    for (what, holds) in [
        ("the database's password", password),
        ("the address of a webhook", webhook),
    ] {
        if open && holds {
            return Err(ConfigError::Exposed {
                path: path.to_owned(),
                what,
            });
        }
    }
    Ok(settings)
}

/// Whether a database URL holds a password: `postgres://user:password@…` or `…?password=…`.
fn has_password(database: &str) -> bool {
    let Some((_, rest)) = database.split_once("://") else {
        return false;
    };
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    let account = place.rsplit_once('@').map_or("", |(account, _)| account);
    account.contains(':') || query.split('&').any(|pair| pair.starts_with("password="))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn load(file: Option<&str>, variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        if let Some(text) = file {
            std::fs::write(&path, text).unwrap();
        }
        let variables: HashMap<_, _> = variables.iter().copied().collect();
        Config::load(file.map(|_| path.as_path()), &|name| {
            variables.get(name).map(ToString::to_string)
        })
    }

    #[test]
    fn defaults_follow_the_home_folder() {
        let config = load(None, &[("HOME", "/home/ada")]).unwrap();
        assert_eq!(config.outputs, Path::new("/home/ada/farrun/outputs"));
        assert_eq!(config.database, "/home/ada/.local/state/farrun/farrun.db");
        assert_eq!(config.recipe, "cosmos-transfer1");
    }

    #[test]
    fn environment_beats_the_file() {
        let file = "outputs = '~/made'\nhost = 'gpu1'\ndatabase = '~/f.db'\n";
        let config = load(Some(file), &[("HOME", "/home/ada"), ("FARRUN_HOST", "gpu2")]).unwrap();
        assert_eq!(config.outputs, Path::new("/home/ada/made"));
        assert_eq!(config.database, "/home/ada/f.db");
        assert_eq!(config.host.as_deref(), Some("gpu2"));
    }

    #[test]
    fn mistakes_are_named() {
        assert!(matches!(
            load(Some("outptus = 'x'"), &[("HOME", "/h")]),
            Err(ConfigError::Parse { .. })
        ));
        assert!(matches!(load(None, &[]), Err(ConfigError::NoHome)));
        assert!(matches!(
            load(None, &[("HOME", "/h"), ("FARRUN_LOG_CAP", "many")]),
            Err(ConfigError::Value { .. })
        ));
        let long = format!("/{}", "x".repeat(400));
        assert!(matches!(
            load(None, &[("HOME", "/h"), ("FARRUN_OUTPUTS", &long)]),
            Err(ConfigError::OutputsTooLong { .. })
        ));
    }

    #[test]
    fn a_file_with_a_password_is_not_open_to_others() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        let home = |name: &str| (name == "HOME").then(|| "/h".to_owned());
        for (url, mode, fits) in [
            ("postgres://ada:secret@db/farrun", 0o600, true),
            ("postgres://ada:secret@db/farrun", 0o640, false),
            ("postgres://db/farrun?user=ada&password=secret", 0o604, false),
            ("postgres://ada@db:5432/farrun", 0o644, true),
            ("/srv/a:b@c.db", 0o644, true),
            ("f.db'\nnotify.url = 'https://x/secret", 0o644, false),
            ("f.db'\nnotify.url = 'https://x/secret", 0o600, true),
        ] {
            std::fs::write(&path, format!("database = '{url}'\n")).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let loaded = Config::load(Some(&path), &home);
            assert_eq!(loaded.is_ok(), fits, "{url} {mode:o}");
            assert!(fits || matches!(loaded, Err(ConfigError::Exposed { .. })));
        }
    }

    #[test]
    fn a_hook_is_a_command_or_an_address() {
        let hook = |text: &str| load(Some(text), &[("HOME", "/h")]).map(|config| config.notify);
        assert_eq!(
            hook("[notify]\ncommand = ['notify-send', 'a run has ended']").unwrap(),
            Some(Hook::Command {
                argv: vec!["notify-send".into(), "a run has ended".into()]
            })
        );
        assert_eq!(hook("").unwrap(), None);
        for wrong in [
            "[notify]",
            "[notify]\ncommand = []",
            "[notify]\ncommand = ['a']\nurl = 'https://x/'",
        ] {
            assert!(hook(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn relative_xdg_folders_are_ignored() {
        let config = load(None, &[("HOME", "/h"), ("XDG_STATE_HOME", "here")]).unwrap();
        assert_eq!(config.state_folder, Path::new("/h/.local/state/farrun"));
    }
}
