//! `farrun host trust`

use super::report;
use crate::cli::{Context, find};
use crate::error::{CommandError, Exit};

/// Arguments of `farrun host trust`.
#[derive(Debug, clap::Args)]
pub struct Trust {
    /// The host
    name: String,
    /// Trust an unknown key unasked
    #[arg(long)]
    accept_new_host_key: bool,
}

pub(super) async fn trust(args: Trust, context: &Context) -> Result<Exit, CommandError> {
    let controller = context.controller_that(args.accept_new_host_key).await?;
    let host = find::host(&controller, &args.name).await?;
    let link = controller.contact(&host).await?;
    link.session.close().await;
    report(
        context,
        "is trusted by its key",
        &find::host(&controller, &host.name).await?,
    );
    Ok(Exit::Completed)
}
