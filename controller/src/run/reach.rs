//! A link to a run's host that is made again whenever it broke.

use super::RunError;
use super::links::Links;
use crate::agent::AgentError;
use crate::controller::{Controller, Event};
use crate::host::deploy::DeployError;
use crate::host::{Link, LinkError};
use crate::model::{Host, Run};
use crate::ssh::{ErrorKind, SshError};
use rand::Rng as _;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// First pause before a broken link is made again; each next one is twice as long, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A link that is made again whenever it broke.
pub(super) struct Reach<'a> {
    pub(super) controller: &'a Controller,
    pub(super) run: &'a Run,
    link: Option<Arc<Link>>,
    /// The links that it shares with others.
    links: Option<&'a Links>,
    /// The one that was handed out last.
    newest: Weak<Link>,
    patience: Duration,
    /// Since when the host is away.
    since: Option<Instant>,
    /// When the last link was made.
    made: Option<Instant>,
    pause: Duration,
    /// How long it has to be away before that is told again where nothing else shows it.
    tell_after: Duration,
}

/// [`Reach::tell_after`] at first; each next time is twice as late.
const FIRST_TOLD: Duration = Duration::from_secs(60);

impl<'a> Reach<'a> {
    /// Reaches the host of `run`, over `link` first when there is one. Once it was there it may stay away for `patience`.
    pub(super) fn new(
        controller: &'a Controller,
        run: &'a Run,
        link: Option<Arc<Link>>,
        patience: Duration,
    ) -> Self {
        Self {
            controller,
            run,
            link,
            links: None,
            newest: Weak::new(),
            patience,
            since: None,
            made: None,
            pause: FIRST_PAUSE,
            tell_after: FIRST_TOLD,
        }
    }

    /// The same, over links that it shares with others.
    pub(super) fn sharing(self, links: Option<&'a Links>) -> Self {
        Self { links, ..self }
    }

    /// A link that was alive a moment ago.
    pub(super) async fn link(&mut self) -> Result<Arc<Link>, RunError> {
        let link = match self.link.take() {
            Some(link) => link,
            None => self.new_link().await?,
        };
        self.newest = Arc::downgrade(&link);
        Ok(link)
    }

    async fn contact(&self, host: &Host) -> Result<Arc<Link>, RunError> {
        match self.links {
            Some(links) => links.to(self.controller, host).await,
            None => self.controller.contact(host).await.map(Arc::new),
        }
    }

    async fn new_link(&mut self) -> Result<Arc<Link>, RunError> {
        loop {
            let host = self.controller.host_of(&self.run.id, &self.run.host).await?;
            match self.contact(&host).await {
                Ok(link) => {
                    self.tell_after = FIRST_TOLD;
                    if let Some(since) = self.since.take() {
                        let away = format!("back after {} s", since.elapsed().as_secs());
                        self.note(&away).await;
                        self.controller.tell(&Event::LinkBack { host: &host.name });
                    }
                    self.made = Some(Instant::now());
                    return Ok(link);
                }
                // Before the first contact an error is an answer; afterwards the host is known to work.
                Err(error)
                    if self.since.is_some_and(|since| since.elapsed() < self.patience)
                        && may_pass(&error) =>
                {
                    tracing::info!(host = %host.name, %error, "The host is still away");
                    self.wait().await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The link that is there, when there is one.
    pub(super) fn at_hand(&mut self) -> Option<Arc<Link>> {
        self.link.take()
    }

    /// Gives a link back for the next use.
    pub(super) fn keep(&mut self, link: Arc<Link>) {
        self.link = Some(link);
    }

    /// Says that the link broke, and waits a little.
    pub(super) async fn lost(&mut self, cause: &dyn std::fmt::Display) {
        if let (Some(links), Some(link)) = (self.links, self.newest.upgrade()) {
            links.broke(&self.run.host, &link).await;
        }
        // A link that breaks as soon as it is used is no reason to hurry.
        if self.made.is_none_or(|made| made.elapsed() > LONGEST_PAUSE) {
            self.pause = FIRST_PAUSE;
        }
        if self.since.is_none() {
            self.since = Some(Instant::now());
            let cause = cause.to_string();
            self.controller.tell(&Event::LinkLost {
                host: &self.run.host,
                cause: &cause,
            });
            self.note(&format!("lost: {cause}")).await;
        }
        self.wait().await;
    }

    /// Says how long the host has been away.
    fn tell_away(&mut self) {
        let Some(away) = self.since.map(|since| since.elapsed()) else {
            return;
        };
        let due = away >= self.tell_after;
        if due {
            self.tell_after = self.tell_after.saturating_mul(2);
        }
        self.controller.tell(&Event::StillAway {
            host: &self.run.host,
            away,
            acknowledged: self.run.launched_at.is_some(),
            due,
        });
    }

    /// Writes into the run's history what became of the link. A database that refuses is no reason to stop following.
    async fn note(&self, detail: &str) {
        if let Err(error) = self
            .controller
            .store
            .add_event(&self.run.id, "link", detail)
            .await
        {
            tracing::warn!(%error, "The history of the run does not tell of its link");
        }
    }

    async fn wait(&mut self) {
        self.tell_away();
        // Jitter, so that many followers of one host do not come back in one instant.
        let pause = self.pause.mul_f64(rand::rng().random_range(0.75..1.25));
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            // The next contact sees it.
            () = self.controller.interrupt.cancelled() => {}
        }
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }
}

/// Whether trying again later can help.
pub(super) fn may_pass(error: &RunError) -> bool {
    let RunError::Link(error) = error else {
        return false;
    };
    match error {
        LinkError::Ssh(error) => ssh_may_pass(error),
        // What no agent sends was sent on purpose or by a defect: SSH lets no damage through.
        LinkError::Agent(AgentError::Frame { .. }) => false,
        LinkError::Agent(error) => error.is_over(),
        LinkError::Transfer(error) => error.is_connection(),
        LinkError::Deploy(DeployError::Ssh(error)) => ssh_may_pass(error),
        LinkError::Deploy(DeployError::Transfer { source, .. }) => source.is_connection(),
        LinkError::Deploy(_) | LinkError::NoAgent { .. } => false,
    }
}

fn ssh_may_pass(error: &SshError) -> bool {
    error.kind() == ErrorKind::Unreachable
}
