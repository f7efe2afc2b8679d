//! Logging in: the agent's keys, key files, then what a person can answer.

use super::agent;
use super::ask::{Ask, PromptQuestion, Secret};
use super::endpoint::Endpoint;
use super::error::SshError;
use super::handler::Client;
use super::keys::{self, KeyFile};
use russh::client::{AuthResult, Handle, KeyboardInteractiveAuthResponse, Prompt};
use russh::keys::{HashAlg, PrivateKey, PrivateKeyWithHashAlg, PublicKey};
use russh::{MethodKind, MethodSet};
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Most rounds of questions a server may ask, and most questions in one of them.
const MOST_ROUNDS: usize = 8;
const MOST_PROMPTS: usize = 8;

/// What is known so far, most of it from a person. It outlives a connection: questions are asked between two attempts.
#[derive(Default)]
pub(super) struct Answers {
    pub(super) unlocked: HashMap<PathBuf, Arc<PrivateKey>>,
    pub(super) declined: HashSet<PathBuf>,
    pub(super) password: Option<Secret>,
    pub(super) no_password: bool,
    /// Not a person's answer but the host's: it has no key of a recorded type.
    pub(super) any_key_type: bool,
}

/// How an attempt to log in came out.
pub(super) enum Login {
    /// We are in.
    Done,
    /// This encrypted key is left to try.
    NeedsPassphrase(PathBuf, String),
    /// The password is left to try.
    NeedsPassword,
}

/// One attempt on one connection.
pub(super) struct Attempt<'a> {
    pub(super) handle: &'a mut Handle<Client>,
    pub(super) endpoint: &'a Endpoint,
    pub(super) answers: &'a mut Answers,
    pub(super) ask: &'a Arc<dyn Ask>,
    pub(super) tried: Vec<String>,
    /// Set while a person thinks, which counts against no time limit of ours.
    pub(super) asking: Arc<AtomicBool>,
    remaining: Option<MethodSet>,
    offered: Vec<PublicKey>,
    rsa_hash: Option<Option<HashAlg>>,
    spoiled: Option<SshError>,
}

impl<'a> Attempt<'a> {
    pub(super) fn new(
        handle: &'a mut Handle<Client>,
        endpoint: &'a Endpoint,
        answers: &'a mut Answers,
        ask: &'a Arc<dyn Ask>,
    ) -> Self {
        Self {
            handle,
            endpoint,
            answers,
            ask,
            tried: Vec::new(),
            asking: Arc::default(),
            remaining: None,
            offered: Vec::new(),
            rsa_hash: None,
            spoiled: None,
        }
    }

    /// Tries whatever can be tried without asking, then says what could be asked for.
    pub(super) async fn run(&mut self) -> Result<Login, Stop> {
        let mut locked = None;
        if self.endpoint.may_use("publickey") {
            if self.unlocked_files().await? || self.agent().await? || self.files(&mut locked).await? {
                return Ok(Login::Done);
            }
            if let Some((path, text)) = locked {
                return Ok(Login::NeedsPassphrase(path, text));
            }
        }
        if self.remaining.is_none() {
            let outcome = self.handle.authenticate_none(&self.endpoint.user).await?;
            if self.accepted(outcome, "no proof at all".to_owned()) {
                return Ok(Login::Done);
            }
        }
        if self.allows(MethodKind::KeyboardInteractive) && self.questions().await? {
            return Ok(Login::Done);
        }
        if self.allows(MethodKind::Password) {
            match self.answers.password.take() {
                Some(password) => {
                    let user = &self.endpoint.user;
                    let outcome = self.handle.authenticate_password(user, password.reveal()).await?;
                    if self.accepted(outcome, "password".to_owned()) {
                        return Ok(Login::Done);
                    }
                }
                None if !self.answers.no_password => return Ok(Login::NeedsPassword),
                None => {}
            }
        }
        Err(Stop::Failed(self.failure()))
    }

    /// The error for a login that failed after what was tried.
    pub(super) fn failure(&mut self) -> SshError {
        // A key that could not be used is the likeliest reason, and one the user can do something about.
        self.spoiled.take().unwrap_or_else(|| SshError::AuthFailed {
            host: self.endpoint.name.clone(),
            user: self.endpoint.user.clone(),
            tried: std::mem::take(&mut self.tried),
        })
    }

    async fn unlocked_files(&mut self) -> Result<bool, russh::Error> {
        let unlocked: Vec<_> = self
            .answers
            .unlocked
            .iter()
            .map(|(path, key)| (path.clone(), Arc::clone(key)))
            .collect();
        for (path, key) in unlocked {
            if self.offer_file(&path, key).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn files(&mut self, locked: &mut Option<(PathBuf, String)>) -> Result<bool, russh::Error> {
        for path in &self.endpoint.identities {
            if self.answers.unlocked.contains_key(path) {
                continue;
            }
            match keys::read(&self.endpoint.name, path) {
                Ok(KeyFile::Usable(key)) => {
                    if self.offer_file(path, key).await? {
                        return Ok(true);
                    }
                }
                Ok(KeyFile::Encrypted(_)) if self.answers.declined.contains(path) => {
                    self.tried
                        .push(format!("key {}: it is encrypted", path.display()));
                }
                Ok(KeyFile::Encrypted(text)) => {
                    locked.get_or_insert((path.clone(), text));
                }
                Ok(KeyFile::Absent) if self.endpoint.identities_named => {
                    self.tried.push(format!("key {}: no such file", path.display()));
                }
                Ok(KeyFile::Absent) => {}
                Err(error) => {
                    self.tried.push(error.to_string());
                    self.spoiled.get_or_insert(error);
                }
            }
        }
        Ok(false)
    }

    async fn offer_file(&mut self, path: &Path, key: Arc<PrivateKey>) -> Result<bool, russh::Error> {
        let what = format!("key {}", path.display());
        if !self.is_new(key.public_key()) {
            return Ok(false);
        }
        let Some(hash) = self.hash_for(key.public_key()).await? else {
            self.tried
                .push(format!("{what}: the host takes RSA only with SHA-1"));
            return Ok(false);
        };
        let key = PrivateKeyWithHashAlg::new(key, hash);
        let outcome = self
            .handle
            .authenticate_publickey(&self.endpoint.user, key)
            .await?;
        Ok(self.accepted(outcome, what))
    }

    async fn agent(&mut self) -> Result<bool, russh::Error> {
        let mut agent = match agent::open(self.endpoint).await {
            Ok(Some(agent)) => agent,
            Ok(None) => return Ok(false),
            Err(reason) => {
                self.tried.push(format!("ssh-agent: {reason}"));
                return Ok(false);
            }
        };
        for (key, comment) in std::mem::take(&mut agent.keys) {
            let what = format!("agent's key `{}`", comment.escape_default());
            if !self.is_new(&key) {
                continue;
            }
            let Some(hash) = self.hash_for(&key).await? else {
                self.tried
                    .push(format!("{what}: the host takes RSA only with SHA-1"));
                continue;
            };
            let user = &self.endpoint.user;
            match self
                .handle
                .authenticate_publickey_with(user, key, hash, &mut agent.client)
                .await
            {
                Ok(outcome) => {
                    if self.accepted(outcome, what) {
                        return Ok(true);
                    }
                }
                Err(russh::AgentAuthError::Key(error)) => self.tried.push(format!("{what}: {error}")),
                Err(russh::AgentAuthError::Send(_)) => return Err(russh::Error::SendError),
            }
        }
        Ok(false)
    }

    /// Lets a person answer what the server asks, such as a one-time code.
    async fn questions(&mut self) -> Result<bool, russh::Error> {
        let user = self.endpoint.user.clone();
        let mut response = self
            .handle
            .authenticate_keyboard_interactive_start(user, None)
            .await?;
        for _ in 0..MOST_ROUNDS {
            let prompts = match response {
                KeyboardInteractiveAuthResponse::Success => return Ok(true),
                KeyboardInteractiveAuthResponse::Failure {
                    remaining_methods, ..
                } => {
                    self.remaining = Some(remaining_methods);
                    break;
                }
                KeyboardInteractiveAuthResponse::InfoRequest { prompts, .. } => prompts,
            };
            let Some(answers) = self.answer(prompts).await else {
                break;
            };
            response = self
                .handle
                .authenticate_keyboard_interactive_respond(answers)
                .await?;
        }
        self.tried.push("keyboard-interactive".to_owned());
        Ok(false)
    }

    async fn answer(&self, prompts: Vec<Prompt>) -> Option<Vec<String>> {
        if prompts.len() > MOST_PROMPTS {
            return None;
        }
        let (ask, host, user) = (
            Arc::clone(self.ask),
            self.endpoint.name.clone(),
            self.endpoint.user.clone(),
        );
        let asking = tokio::task::spawn_blocking(move || {
            prompts
                .into_iter()
                .map(|prompt| {
                    let question = PromptQuestion {
                        host: host.clone(),
                        user: user.clone(),
                        subject: prompt.prompt.chars().take(300).collect(),
                    };
                    ask.answer(&question, prompt.echo)
                        .map(|secret| secret.reveal().to_owned())
                })
                .collect()
        });
        self.asking.store(true, Ordering::Relaxed);
        let answers = asking.await.ok().flatten();
        self.asking.store(false, Ordering::Relaxed);
        answers
    }

    fn accepted(&mut self, outcome: AuthResult, what: String) -> bool {
        match outcome {
            AuthResult::Success => true,
            AuthResult::Failure {
                remaining_methods,
                partial_success,
            } => {
                self.remaining = Some(remaining_methods);
                let verdict = if partial_success {
                    "accepted, but not enough"
                } else {
                    "refused"
                };
                self.tried.push(format!("{what}: {verdict}"));
                false
            }
        }
    }

    fn allows(&self, method: MethodKind) -> bool {
        let remaining = self.remaining.as_ref();
        self.endpoint.may_use((&method).into()) && remaining.is_some_and(|methods| methods.contains(&method))
    }

    fn is_new(&mut self, key: &PublicKey) -> bool {
        if self
            .offered
            .iter()
            .any(|offered| offered.key_data() == key.key_data())
        {
            return false;
        }
        self.offered.push(key.clone());
        true
    }

    /// The hash to sign with: none needed for other keys than RSA, and no answer if only SHA-1 would do.
    async fn hash_for(&mut self, key: &PublicKey) -> Result<Option<Option<HashAlg>>, russh::Error> {
        if !key.algorithm().is_rsa() {
            return Ok(Some(None));
        }
        if self.rsa_hash.is_none() {
            // A server that names no algorithms is an old one; those that know RSA at all know SHA-512.
            let best = self.handle.best_supported_rsa_hash().await?;
            self.rsa_hash = Some(best.unwrap_or(Some(HashAlg::Sha512)));
        }
        Ok(self.rsa_hash.flatten().map(Some))
    }
}

/// Why an attempt ended early.
pub(super) enum Stop {
    /// The connection went away in the middle.
    Connection(russh::Error),
    /// There is nothing left to try.
    Failed(SshError),
}

impl From<russh::Error> for Stop {
    fn from(error: russh::Error) -> Self {
        Self::Connection(error)
    }
}
