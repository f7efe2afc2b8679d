//! One link to a host that is kept, what it tells, and the end of one run's log.

use crate::controller::Controller;
use crate::host::Link;
use crate::model::Host;
use crate::run::look::{self, Seen, Wish};
use farrun_protocol::RunId;
use farrun_protocol::message::FetchLog;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// Between two readings of the GPUs: their time to live on the host.
const APART: Duration = Duration::from_secs(2);
/// Every how many readings the host and its runs are asked about as well.
const THOROUGH: u32 = 3;
/// Pauses before a link is made again.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Bytes of a log that are fetched before its end, and at one time.
const TAIL: u64 = 16 * 1024;
const CHUNK: u64 = 64 * 1024;
/// How long the host may wait for the next byte of a log, in milliseconds.
const WAIT: u64 = 20_000;

/// Whose log is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Following {
    pub(super) host: String,
    pub(super) run: RunId,
}

/// What a host told.
#[derive(Debug)]
pub(super) enum News {
    /// An answer.
    Seen { host: usize, seen: Box<Seen> },
    /// It is out of reach.
    Away { host: usize, cause: String },
    /// A log begins here, perhaps in its middle.
    LogBegins { run: RunId },
    /// More of it.
    Log { run: RunId, bytes: Vec<u8> },
    /// Nothing more comes, and why.
    LogEnds { run: RunId, why: String },
}

/// Keeps a link to a host for as long as somebody listens.
pub(super) async fn keep(
    controller: Arc<Controller>,
    place: usize,
    host: Host,
    following: watch::Receiver<Option<Following>>,
    news: mpsc::Sender<News>,
) {
    let mut pause = FIRST_PAUSE;
    loop {
        let cause = match tokio::time::timeout(look::CONNECT, controller.contact_unasked(&host)).await {
            Ok(Ok(link)) => {
                pause = FIRST_PAUSE;
                let cause = tokio::select! {
                    cause = look_again(&controller, &link, place, &news) => cause,
                    () = tail(&link, following.clone(), &news) => "nobody listens".to_owned(),
                };
                link.session.close().await;
                cause
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {} s", look::CONNECT.as_secs()),
        };
        if news.send(News::Away { host: place, cause }).await.is_err() {
            return;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Asks again and again; ends with the reason why the link is no good any more.
async fn look_again(controller: &Controller, link: &Link, host: usize, news: &mpsc::Sender<News>) -> String {
    let mut round = 0_u32;
    loop {
        let thorough = round.is_multiple_of(THOROUGH);
        let wish = Wish {
            host: thorough,
            runs: thorough,
            ..Wish::default()
        };
        let seen = look::through(controller, link, wish).await;
        if seen.round_trip.is_none() {
            return "the link broke".to_owned();
        }
        let seen = Box::new(seen);
        if news.send(News::Seen { host, seen }).await.is_err() {
            return "nobody listens".to_owned();
        }
        round = round.wrapping_add(1);
        tokio::time::sleep(APART).await;
    }
}

/// Fetches the log that is shown, while it is one of this host's. Ends when nobody listens.
async fn tail(link: &Link, mut following: watch::Receiver<Option<Following>>, news: &mpsc::Sender<News>) {
    loop {
        let current = following.borrow_and_update().clone();
        let other = match current.filter(|current| current.host == link.host) {
            Some(Following { run, .. }) => tokio::select! {
                other = following.changed() => other,
                why = follow(link, &run, news) => {
                    if news.send(News::LogEnds { run, why }).await.is_err() {
                        return;
                    }
                    following.changed().await
                }
            },
            None => following.changed().await,
        };
        if other.is_err() {
            return;
        }
    }
}

/// Fetches the end of a log and what comes after; ends with the reason why nothing more comes.
async fn follow(link: &Link, run: &RunId, news: &mpsc::Sender<News>) -> String {
    // A log that grows faster than it is fetched is entered anew at its end.
    'anew: loop {
        let facts = match link.client.runs(vec![run.clone()]).await {
            Ok(facts) => facts,
            Err(error) => return error.to_string(),
        };
        let Some(facts) = facts.into_iter().find(|facts| &facts.run_id == run) else {
            return "the host does not know this run".to_owned();
        };
        let mut offset = facts.log_length.saturating_sub(TAIL);
        if news.send(News::LogBegins { run: run.clone() }).await.is_err() {
            return String::new();
        }
        loop {
            let fetch = FetchLog {
                place: None,
                run_id: run.clone(),
                generation: None,
                offset,
                tail_sha256: None,
                max: CHUNK,
                wait: WAIT,
            };
            let chunk = match link.client.fetch_log(fetch).await {
                Ok(chunk) => chunk,
                Err(error) => return error.to_string(),
            };
            let length = chunk.bytes.len() as u64;
            offset = offset.saturating_add(length);
            let told = News::Log {
                run: run.clone(),
                bytes: chunk.bytes.to_vec(),
            };
            if length > 0 && news.send(told).await.is_err() {
                return String::new();
            }
            if chunk.end.is_some() {
                return "ended".to_owned();
            }
            if length >= CHUNK {
                continue 'anew;
            }
        }
    }
}
