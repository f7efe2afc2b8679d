//! Hosts.

use super::entity::host::{Entity, Model};
use super::error::{Doing as _, is_duplicate};
use super::value::{Record, nanoseconds, time};
use super::{Store, StoreError};
use crate::model::Host;
use sea_orm::{ActiveModelTrait as _, EntityTrait as _, IntoActiveModel as _, QuerySelect as _};

impl Store {
    /// Adds a host.
    ///
    /// # Errors
    /// [`StoreError::HostExists`] when its name is taken.
    pub async fn add_host(&self, host: &Host) -> Result<(), StoreError> {
        let row = self.host_row(host)?.into_active_model();
        match Entity::insert(row).exec_without_returning(&self.connection).await {
            Err(error) if is_duplicate(&error) => Err(StoreError::HostExists {
                name: host.name.clone(),
            }),
            other => other.doing(&self.database, "adding a host").map(drop),
        }
    }

    /// The host of this name.
    ///
    /// # Errors
    /// The database could not be read.
    pub async fn host(&self, name: &str) -> Result<Option<Host>, StoreError> {
        let row = Entity::find_by_id(name)
            .one(&self.connection)
            .await
            .doing(&self.database, "reading a host")?;
        row.map(|row| self.host_model(row)).transpose()
    }

    /// All hosts, by name.
    ///
    /// # Errors
    /// The database could not be read.
    pub async fn hosts(&self) -> Result<Vec<Host>, StoreError> {
        let rows = Entity::find()
            .all(&self.connection)
            .await
            .doing(&self.database, "reading the hosts")?;
        let mut hosts = rows
            .into_iter()
            .map(|row| self.host_model(row))
            .collect::<Result<Vec<_>, _>>()?;
        // Here, because the order of text differs between databases.
        hosts.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(hosts)
    }

    /// Changes a host in one transaction; its name stays.
    ///
    /// # Errors
    /// [`StoreError::HostUnknown`] when there is none of this name.
    pub async fn change_host<T>(
        &self,
        name: &str,
        change: impl FnOnce(&mut Host) -> T,
    ) -> Result<(Host, T), StoreError> {
        let doing = "changing a host";
        let transaction = self.begin(doing).await?;
        let row = Entity::find_by_id(name)
            .lock_exclusive()
            .one(&transaction)
            .await
            .doing(&self.database, doing)?;
        let Some(row) = row else {
            return Err(StoreError::HostUnknown {
                name: name.to_owned(),
            });
        };
        let mut host = self.host_model(row)?;
        let answer = change(&mut host);
        name.clone_into(&mut host.name);
        let row = self.host_row(&host)?.into_active_model().reset_all();
        Entity::update(row)
            .exec(&transaction)
            .await
            .doing(&self.database, doing)?;
        transaction.commit().await.doing(&self.database, doing)?;
        Ok((host, answer))
    }

    /// Removes a host; false when there was none. Its runs stay.
    ///
    /// # Errors
    /// The database refused.
    pub async fn remove_host(&self, name: &str) -> Result<bool, StoreError> {
        let done = Entity::delete_by_id(name)
            .exec(&self.connection)
            .await
            .doing(&self.database, "removing a host")?;
        self.forget_report(name).await?;
        Ok(done.rows_affected > 0)
    }

    fn host_row(&self, host: &Host) -> Result<Model, StoreError> {
        let record = self.host_record(&host.name);
        record.plain(&[("name", Some(&host.name)), ("platform", host.platform.as_deref())])?;
        Ok(Model {
            name: host.name.clone(),
            // A struct of texts and flags always serialises.
            settings: serde_json::to_string(&host.settings).unwrap_or_default(),
            host_id: host.host_id.clone().map(String::from),
            platform: host.platform.clone(),
            added_at: nanoseconds(host.added_at),
            last_seen: host.last_seen.map(nanoseconds),
        })
    }

    fn host_model(&self, row: Model) -> Result<Host, StoreError> {
        let record = self.host_record(&row.name);
        Ok(Host {
            settings: record.json("settings", &row.settings)?,
            host_id: record.parse_some("host_id", row.host_id.as_deref())?,
            name: row.name,
            platform: row.platform,
            added_at: time(row.added_at),
            last_seen: row.last_seen.map(time),
        })
    }

    fn host_record(&self, name: &str) -> Record<'_> {
        Record {
            database: &self.database,
            of: format!("host `{name}`"),
        }
    }
}
