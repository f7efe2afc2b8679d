//! Contact with a host: dial it, make sure it is the machine we know, remember that it answered.

use super::RunError;
use crate::controller::{Controller, Event};
use crate::host::{Dialer, Link, agents};
use crate::model::Host;
use crate::ssh::config::ConfigFiles;
use chrono::Utc;
use farrun_protocol::RunId;

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

    /// Dials a host and writes down who answered.
    ///
    /// # Errors
    /// The host is out of reach, or another machine answers while runs of the one we know are unsettled: settling
    /// them by the word of another machine would invent outcomes.
    pub async fn contact(&self, host: &Host) -> Result<Link, RunError> {
        self.tell(&Event::Connecting { host: &host.name });
        let deploying = || self.tell(&Event::Deploying { host: &host.name });
        let dialer = self.dialer();
        let link = tokio::select! {
            link = dialer.dial(host, &deploying) => link?,
            () = self.interrupt.cancelled() => return Err(RunError::Interrupted { detached: None }),
        };
        self.tell(&Event::StepDone);
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
            let runs = self.store.unsettled_runs(Some(&host.name)).await?;
            let elsewhere = runs.iter().filter(|run| run.launched_at.is_some()).count();
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
