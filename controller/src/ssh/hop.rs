//! Making a connection: hop by hop, each with its own key check and login.

use super::algorithms;
use super::ask::{PromptQuestion, Secret};
use super::auth::{Answers, Attempt, Login, Stop};
use super::channel::Traffic;
use super::endpoint::Endpoint;
use super::error::{ShownKey, SshError};
use super::handler::{Client, Notes};
use super::keys;
use super::known_hosts::{self, HostNames, KnownHosts};
use super::options::{Options, Purpose};
use super::session::{Link, Session};
use super::socket;
use super::watched::{self, Watched};
use russh::AlgorithmKind;
use russh::client::{self, Handle};
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Receive window of every channel. It is fixed for a connection, and russh fills it up again only when half of it is
/// used: half of it in a round trip is what a channel carries, 330 MB/s at 50 ms. How much a host sends ahead is bounded
/// by what was asked for, so that a path that carries less does not fill its server's memory.
const WINDOW: u32 = 32 * 1024 * 1024;
const MAXIMUM_PACKET: u32 = 32 * 1024;
const KEEPALIVE: Duration = Duration::from_secs(5);
const KEEPALIVE_MISSES: usize = 3;
/// Nothing at all for so long, with keepalives asking every 5 s, is a dead peer.
const SILENCE: Duration = Duration::from_secs(20);
/// The library's own timer also runs while a person types a code; [`watched::watch`] does this work once logged in.
const INACTIVITY: Duration = Duration::from_secs(120);
const PASSPHRASE_TRIES: usize = 3;
const PASSWORD_TRIES: usize = 3;

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Connects to an endpoint, through its jump hosts.
pub(super) async fn connect(endpoint: &Endpoint, options: &Options) -> Result<Session, SshError> {
    let mut outer = None;
    for hop in endpoint.jumps.iter().chain([endpoint]) {
        outer = Some(connect_hop(hop, outer, options).await?);
    }
    outer.ok_or_else(|| SshError::Lost {
        host: endpoint.name.clone(),
        reason: "nothing to connect to".to_owned(),
    })
}

/// Connects to one host and logs in. Questions to a person are asked while no connection waits: each answer is
/// followed by a new attempt.
async fn connect_hop(
    endpoint: &Endpoint,
    outer: Option<Session>,
    options: &Options,
) -> Result<Session, SshError> {
    let mut answers = Answers::default();
    let mut asked_for_key = false;
    let mut passwords = 0;
    loop {
        match attempt(endpoint, outer.as_ref(), options, &mut answers).await {
            Ok(Outcome::In(link)) => return Ok(Session::new(link, outer)),
            Ok(Outcome::Again) => {}
            Ok(Outcome::NeedsPassphrase(path, text)) => {
                unlock(endpoint, options, &mut answers, path, text).await
            }
            Ok(Outcome::NeedsPassword) => {
                answers.password = ask_password(endpoint, options).await;
                passwords += 1;
                answers.no_password = answers.password.is_none() || passwords >= PASSWORD_TRIES;
            }
            Err(SshError::HostKeyUnknown { host, shown }) if !asked_for_key && endpoint.ask_about_new_key => {
                asked_for_key = true;
                if !trusted(options, &host, &shown).await {
                    return Err(SshError::HostKeyUnknown { host, shown });
                }
                known_hosts::append(endpoint, &shown)?;
            }
            Err(error) => return Err(error),
        }
    }
}

enum Outcome {
    In(Link),
    /// Once more: the host has none of the types of key it is recorded with, so let it show the key it has.
    Again,
    NeedsPassphrase(PathBuf, String),
    NeedsPassword,
}

async fn attempt(
    endpoint: &Endpoint,
    outer: Option<&Session>,
    options: &Options,
    answers: &mut Answers,
) -> Result<Outcome, SshError> {
    let known_hosts = KnownHosts::read(&endpoint.name, &endpoint.known_hosts, &HostNames::of(endpoint))?;
    let recorded = if answers.any_key_type {
        Vec::new()
    } else {
        known_hosts.recorded_types()
    };
    let config = Arc::new(config(&recorded));
    let breaker = CancellationToken::new();
    let breaks = breaker.clone().drop_guard();
    let stream = Watched::new(open_stream(endpoint, outer).await?, &breaker);
    let (heard, said_goodbye) = (stream.heard(), stream.shut());
    let closed = CancellationToken::new();
    let notes = Arc::new(Notes::default());
    let client = Client {
        endpoint: Arc::new(endpoint.clone()),
        known_hosts,
        notes: Arc::clone(&notes),
        _closed: closed.clone().drop_guard(),
    };
    let limit = options.timeouts.handshake;
    let connecting = client::connect_stream(config, stream, client);
    let connected = within(endpoint, "the SSH handshake", limit, connecting).await?;
    let mut handle = match connected {
        Ok(handle) => handle,
        Err(russh::Error::NoCommonAlgo {
            kind: AlgorithmKind::Key,
            ..
        }) if !recorded.is_empty() => {
            answers.any_key_type = true;
            return Ok(Outcome::Again);
        }
        Err(error) => return Err(handshake_error(endpoint, &notes, &error)),
    };

    match login(&mut handle, endpoint, options, answers, &notes).await? {
        Login::Done => {}
        Login::NeedsPassphrase(path, text) => return Ok(Outcome::NeedsPassphrase(path, text)),
        Login::NeedsPassword => return Ok(Outcome::NeedsPassword),
    }
    tokio::spawn(watched::watch(
        Arc::clone(&heard),
        SILENCE,
        breaker.clone(),
        closed.clone(),
    ));
    let mut flags = outer.map(Session::heard).unwrap_or_default();
    flags.push(heard);
    Ok(Outcome::In(Link {
        host: endpoint.name.clone(),
        handle,
        notes,
        closed,
        said_goodbye,
        _breaks: breaks,
        traffic: Traffic {
            channels: watch::Sender::new(0),
            brake_always: options.purpose == Purpose::Bulk,
            heard: flags,
            broken: breaker,
        },
        answer_timeout: options.timeouts.answer,
        quickest_us: AtomicU64::new(u64::MAX),
    }))
}

async fn open_stream(endpoint: &Endpoint, outer: Option<&Session>) -> Result<Box<dyn Stream>, SshError> {
    match outer {
        None => Ok(Box::new(socket::connect(endpoint).await?)),
        Some(outer) => {
            let opening = outer.open_tcp(&endpoint.host_name, endpoint.port);
            let channel = within(
                endpoint,
                "the connection through its jump host",
                endpoint.connect_timeout,
                opening,
            )
            .await?
            .map_err(|error| SshError::Jump {
                host: endpoint.name.clone(),
                via: outer.host().to_owned(),
                reason: error.to_string(),
            })?;
            Ok(Box::new(channel.into_stream()))
        }
    }
}

async fn login(
    handle: &mut Handle<Client>,
    endpoint: &Endpoint,
    options: &Options,
    answers: &mut Answers,
    notes: &Notes,
) -> Result<Login, SshError> {
    let mut attempt = Attempt::new(handle, endpoint, answers, &options.ask);
    let limit = options.timeouts.login;
    let asking = Arc::clone(&attempt.asking);
    let outcome = tokio::select! {
        outcome = attempt.run() => outcome,
        () = patience(limit, &asking) => return Err(timed_out(endpoint, "the login", limit)),
    };
    let stop = match outcome {
        Ok(login) => return Ok(login),
        Err(stop) => stop,
    };
    match stop {
        Stop::Failed(error) => Err(error),
        Stop::Connection(error) => {
            let Some(farewell) = notes.farewell() else {
                return Err(lost(endpoint, error.to_string()));
            };
            if !farewell.by_host {
                return Err(lost(endpoint, farewell.reason));
            }
            // Such as "Too many authentication failures".
            let said = farewell.reason.escape_default();
            attempt.tried.push(format!("the host hung up: {said}"));
            Err(attempt.failure())
        }
    }
}

/// Without a word; see `MaxStartups` and `PerSourcePenalties` in sshd_config(5).
const HUNG_UP: &str = "the host hung up, as servers do where too many connections begin at once (`MaxStartups`) or an address is refused for a while";

fn lost(endpoint: &Endpoint, reason: String) -> SshError {
    SshError::Lost {
        host: endpoint.name.clone(),
        reason,
    }
}

fn handshake_error(endpoint: &Endpoint, notes: &Notes, error: &russh::Error) -> SshError {
    if let Some(refusal) = notes.take_refusal() {
        return refusal;
    }
    let said = notes.farewell().filter(|farewell| farewell.by_host);
    let reason = match (said, error) {
        (Some(farewell), _) => format!("the host hung up: {}", farewell.reason.escape_default()),
        (None, russh::Error::Disconnect | russh::Error::HUP) => HUNG_UP.to_owned(),
        (None, error) => error.to_string(),
    };
    SshError::Handshake {
        host: endpoint.name.clone(),
        reason,
    }
}

async fn within<F: Future>(
    endpoint: &Endpoint,
    step: &'static str,
    limit: Duration,
    future: F,
) -> Result<F::Output, SshError> {
    tokio::time::timeout(limit, future)
        .await
        .map_err(|_| timed_out(endpoint, step, limit))
}

/// Waits for as long as a host may take, not counting the time that a person does.
async fn patience(limit: Duration, asking: &AtomicBool) {
    let mut left = limit;
    while !left.is_zero() {
        let step = left.min(Duration::from_secs(1));
        tokio::time::sleep(step).await;
        if !asking.load(Ordering::Relaxed) {
            left -= step;
        }
    }
}

fn timed_out(endpoint: &Endpoint, step: &'static str, limit: Duration) -> SshError {
    SshError::HandshakeTimeout {
        host: endpoint.name.clone(),
        step,
        seconds: limit.as_secs(),
    }
}

fn config(recorded_types: &[String]) -> client::Config {
    client::Config {
        window_size: WINDOW,
        maximum_packet_size: MAXIMUM_PACKET,
        preferred: algorithms::preferred(recorded_types),
        inactivity_timeout: Some(INACTIVITY),
        keepalive_interval: Some(KEEPALIVE),
        keepalive_max: KEEPALIVE_MISSES,
        nodelay: true,
        ..client::Config::default()
    }
}

async fn trusted(options: &Options, host: &str, shown: &ShownKey) -> bool {
    let (ask, host, shown) = (Arc::clone(&options.ask), host.to_owned(), shown.clone());
    let asking = tokio::task::spawn_blocking(move || ask.trust_host_key(&host, &shown));
    asking.await.unwrap_or(false)
}

async fn unlock(endpoint: &Endpoint, options: &Options, answers: &mut Answers, path: PathBuf, text: String) {
    let text: Arc<str> = text.into();
    for _ in 0..PASSPHRASE_TRIES {
        let (ask, text) = (Arc::clone(&options.ask), Arc::clone(&text));
        let question = question(endpoint, path.display().to_string());
        // Opening a key is slow by design, so it does not run among the connections' tasks either.
        let asking = tokio::task::spawn_blocking(move || {
            ask.passphrase(&question)
                .map(|passphrase| keys::unlock(&text, passphrase.reveal()))
        });
        match asking.await.ok().flatten() {
            Some(Some(key)) => {
                answers.unlocked.insert(path, key);
                return;
            }
            Some(None) => {}
            None => break,
        }
    }
    answers.declined.insert(path);
}

async fn ask_password(endpoint: &Endpoint, options: &Options) -> Option<Secret> {
    let ask = Arc::clone(&options.ask);
    let question = question(endpoint, "password".to_owned());
    tokio::task::spawn_blocking(move || ask.password(&question))
        .await
        .ok()
        .flatten()
}

fn question(endpoint: &Endpoint, subject: String) -> PromptQuestion {
    PromptQuestion {
        host: endpoint.name.clone(),
        user: endpoint.user.clone(),
        subject,
    }
}
