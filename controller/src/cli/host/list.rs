//! `farrun host list`

use crate::cli::Context;
use crate::cli::view::{Hosts, document};
use crate::error::{CommandError, Exit};
use crate::ui::{Table, format};
use chrono::Utc;

pub(super) async fn list(context: &Context) -> Result<Exit, CommandError> {
    let controller = context.controller().await?;
    let hosts = controller.store.hosts().await?;
    if context.ui.is_json() {
        context
            .ui
            .json(&document("farrun.hosts/1", Hosts { hosts: &hosts }));
        return Ok(Exit::Completed);
    }
    if hosts.is_empty() {
        context
            .ui
            .note("no hosts; add one with `farrun host add NAME --address user@host`");
        return Ok(Exit::Completed);
    }
    let mut table = Table::new(["HOST", "ADDRESS", "PLATFORM", "LAST SEEN"]);
    let now = Utc::now();
    for host in &hosts {
        table.row([
            host.name.clone(),
            host.settings
                .address
                .clone()
                .unwrap_or_else(|| "(ssh config)".to_owned()),
            host.platform.clone().unwrap_or_else(|| "-".to_owned()),
            host.last_seen
                .map_or_else(|| "never".to_owned(), |seen| format::age(seen, now)),
        ]);
    }
    context.ui.table(&table);
    Ok(Exit::Completed)
}
