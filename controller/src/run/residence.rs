//! Having a host start its observer after a boot, or no longer.

use super::RunError;
use crate::controller::Controller;
use crate::host::LinkError;
use crate::model::Host;
use chrono::Utc;
use farrun_protocol::doctor::Residence;

/// Asks the host and writes down what it answered.
///
/// # Errors
/// The host is out of reach, or offers no way; then nothing has changed here.
pub async fn set(
    controller: &Controller,
    host: &Host,
    resident: bool,
) -> Result<Option<Residence>, RunError> {
    let link = controller.contact(host).await?;
    let answer = link.client.set_residence(resident).await;
    link.session.close().await;
    let by = answer.map_err(LinkError::from)?;
    controller
        .store
        .change_host(&host.name, |row| {
            row.settings.resident = by;
            row.last_seen = Some(Utc::now());
        })
        .await?;
    Ok(by)
}

/// What starts the observer, in words.
pub fn words(by: Option<Residence>) -> &'static str {
    match by {
        Some(Residence::UserUnit) => "a unit of the account's systemd starts what waits",
        Some(Residence::Crontab) => "the account's crontab starts what waits",
        None => "the next contact starts what waits",
    }
}
