//! Contact with a host: dial it, make sure it is the machine we know, remember that it answered.

use super::RunError;
use super::owner::Owner;
use crate::controller::{Controller, Event};
use crate::host::{Dialer, Link, agents};
use crate::model::{Host, Run, RunStatus};
use crate::ssh::config::ConfigFiles;
use crate::ssh::{Ask, Unasked};
use crate::store::RunFilter;
use chrono::Utc;
use farrun_protocol::RunId;
use std::sync::Arc;

impl Controller {
    /// Makes links in the name of this controller.
    pub fn dialer(&self) -> Dialer {
        Dialer {
            files: ConfigFiles::of_user(),
            agents: agents::search_path(&self.config.data_folder),
            controller_id: self.store.controller_id().clone(),
            ask: self.ask.clone(),
        }
    }

    /// What is known here of a run.
    ///
    /// # Errors
    /// The database, or nothing is known of it.
    pub async fn row(&self, run: &RunId) -> Result<Run, RunError> {
        let found = self.store.run(run).await?;
        found.ok_or_else(|| RunError::NoRun(run.clone()))
    }

    /// The host of a run.
    ///
    /// # Errors
    /// The database, or the host was removed.
    pub async fn host_of(&self, run: &RunId, host: &str) -> Result<Host, RunError> {
        let gone = || RunError::NoHost {
            run: run.clone(),
            host: host.to_owned(),
        };
        self.store.host(host).await?.ok_or_else(gone)
    }

    /// As [`Self::contact`], without a question to the user: for what happens in passing, where a question would be
    /// a surprise and its answer would come too late.
    ///
    /// # Errors
    /// As [`Self::contact`]; [`RunError::AnswerNeeded`] when the host cannot be reached without one.
    pub async fn contact_unasked(&self, host: &Host) -> Result<Link, RunError> {
        let unasked = Arc::new(Unasked::default());
        let link = self.contact_with(host, unasked.clone()).await;
        link.map_err(|error| match unasked.wanted() {
            Some(what) => RunError::AnswerNeeded { what },
            None => error,
        })
    }

    /// Dials a host and writes down who answered.
    ///
    /// # Errors
    /// The host is out of reach, or another machine answers while runs of the one we know are unsettled: settling
    /// them by the word of another machine would invent outcomes.
    pub async fn contact(&self, host: &Host) -> Result<Link, RunError> {
        self.contact_with(host, self.ask.clone()).await
    }

    #[tracing::instrument(skip_all, fields(host = %host.name))]
    async fn contact_with(&self, host: &Host, ask: Arc<dyn Ask>) -> Result<Link, RunError> {
        self.tell(&Event::Connecting { host: &host.name });
        let deploying = || self.tell(&Event::Deploying { host: &host.name });
        let dialer = Dialer { ask, ..self.dialer() };
        let link = tokio::select! {
            link = dialer.dial(host, &deploying) => link?,
            () = self.interrupt.cancelled() => return Err(RunError::Interrupted { detached: None }),
        };
        self.tell(&Event::StepDone);
        tracing::info!(machine = %link.hello.host_id, agent = %link.hello.agent_sha256, deployed = link.deployed, "The agent answers");
        for warning in &link.warnings {
            self.tell(&Event::Warning(warning));
        }
        self.recognise(host, &link).await?;
        Ok(link)
    }

    async fn recognise(&self, host: &Host, link: &Link) -> Result<(), RunError> {
        let answered = &link.hello.host_id;
        if let Some(expected) = &host.host_id
            && expected != answered
        {
            let open = RunFilter {
                statuses: RunStatus::ALL
                    .into_iter()
                    .filter(|status| !status.is_final())
                    .collect(),
                host: Some(host.name.clone()),
                ..RunFilter::default()
            };
            // Outputs that are still to come lie on the machine we know as well.
            let runs = self.store.runs(&open).await?;
            let elsewhere = runs.iter().filter(|run| Owner::has_asked(run)).count();
            if elsewhere > 0 {
                return Err(RunError::OtherMachine {
                    host: host.name.clone(),
                    expected: expected.to_string(),
                    answered: answered.to_string(),
                    runs: elsewhere,
                });
            }
            self.tell(&Event::Note(&format!(
                "another machine than before answers as `{}`",
                host.name
            )));
        }
        let platform = link.platform.clone();
        self.store
            .change_host(&host.name, |row| {
                row.host_id = Some(answered.clone());
                row.platform = Some(platform);
                row.last_seen = Some(Utc::now());
            })
            .await?;
        Ok(())
    }
}
