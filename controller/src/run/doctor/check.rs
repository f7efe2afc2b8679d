//! One thing that was looked at, and what to do about it.

use serde::Serialize;

/// How something stands. The greater one is the worse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It could not be looked at, or there is nothing to look at.
    Skipped,
    /// As it should be.
    Ok,
    /// Worth knowing.
    Note,
    /// Runs can suffer from it.
    Warning,
    /// Runs cannot go on like this.
    Broken,
}

impl Verdict {
    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Skipped => "skipped",
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Broken => "broken",
        }
    }
}

/// What a check is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Group {
    /// The line to the host.
    Ssh,
    /// The account and its state folder.
    Account,
    /// The container engine.
    Engine,
    /// GPUs, their driver, and how containers get them.
    Gpu,
    /// The rest of the host.
    Host,
}

impl Group {
    /// Its heading.
    pub fn heading(self) -> &'static str {
        match self {
            Self::Ssh => "SSH",
            Self::Account => "Account and state folder",
            Self::Engine => "Container engine",
            Self::Gpu => "GPUs",
            Self::Host => "Host",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What it is about.
    pub group: Group,
    /// Stable name.
    pub name: &'static str,
    /// How it stands.
    pub verdict: Verdict,
    /// A sentence without a period.
    pub text: String,
    /// What was seen, in the words of the host.
    pub evidence: Option<String>,
    /// What to do, mostly a command.
    pub remedy: Option<String>,
}

impl Check {
    fn new(group: Group, name: &'static str, verdict: Verdict, text: impl Into<String>) -> Self {
        Self {
            group,
            name,
            verdict,
            text: text.into(),
            evidence: None,
            remedy: None,
        }
    }

    /// As it should be.
    pub fn ok(group: Group, name: &'static str, text: impl Into<String>) -> Self {
        Self::new(group, name, Verdict::Ok, text)
    }

    /// Worth knowing.
    pub fn note(group: Group, name: &'static str, text: impl Into<String>) -> Self {
        Self::new(group, name, Verdict::Note, text)
    }

    /// Runs can suffer from it.
    pub fn warning(group: Group, name: &'static str, text: impl Into<String>) -> Self {
        Self::new(group, name, Verdict::Warning, text)
    }

    /// Runs cannot go on like this.
    pub fn broken(group: Group, name: &'static str, text: impl Into<String>) -> Self {
        Self::new(group, name, Verdict::Broken, text)
    }

    /// Not looked at.
    pub fn skipped(group: Group, name: &'static str, text: impl Into<String>) -> Self {
        Self::new(group, name, Verdict::Skipped, text)
    }

    /// Adds what was seen; nothing when it is empty.
    #[must_use]
    pub fn seen(mut self, evidence: impl Into<String>) -> Self {
        self.evidence = Some(evidence.into()).filter(|text| !text.trim().is_empty());
        self
    }

    /// Adds what to do.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }
}
