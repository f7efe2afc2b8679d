//! `farrun host show`

use super::Named;
use crate::cli::view::document;
use crate::cli::{Context, find};
use crate::error::{CommandError, Exit};
use crate::model::HostSettings;
use crate::run::residence;
use crate::ui::format;

pub(super) async fn show(args: Named, context: &Context) -> Result<Exit, CommandError> {
    let controller = context.controller().await?;
    let host = find::host(&controller, &args.name).await?;
    if context.ui.is_json() {
        context.ui.json(&document("farrun.host/1", &host));
        return Ok(Exit::Completed);
    }
    let (endpoint, warnings) = controller.dialer().endpoint(&host)?;
    let settings = &host.settings;
    context.ui.fields(&[
        ("host", host.name.clone()),
        (
            "address",
            settings
                .address
                .clone()
                .unwrap_or_else(|| "(ssh config)".to_owned()),
        ),
        (
            "resolves to",
            format!("{}@{}:{}", endpoint.user, endpoint.host_name, endpoint.port),
        ),
        (
            "identity",
            settings
                .identity
                .clone()
                .unwrap_or_else(|| "(ssh config or agent)".to_owned()),
        ),
        ("state folder", settings.state_folder().to_owned()),
        ("docker", docker(settings)),
        ("after a boot", residence::words(settings.resident).to_owned()),
        (
            "notifies by",
            settings.notify.clone().unwrap_or_else(|| "-".to_owned()),
        ),
        (
            "machine",
            host.host_id
                .as_ref()
                .map_or_else(|| "-".to_owned(), ToString::to_string),
        ),
        (
            "platform",
            host.platform.clone().unwrap_or_else(|| "-".to_owned()),
        ),
        ("added", format::time(host.added_at)),
        (
            "last seen",
            host.last_seen.map_or_else(|| "never".to_owned(), format::time),
        ),
    ]);
    for warning in warnings {
        context.ui.warning(warning);
    }
    Ok(Exit::Completed)
}

fn docker(settings: &HostSettings) -> String {
    let address = settings.docker_host.as_deref().unwrap_or("the usual socket");
    if settings.docker_sudo {
        format!("{address}, through sudo")
    } else {
        address.to_owned()
    }
}
