//! Links that several stories of one process share: those that follow runs of one host talk over one link to it.

use super::RunError;
use crate::controller::Controller;
use crate::host::Link;
use crate::model::Host;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// The links of one process, by host. Each lives as long as somebody uses it.
#[derive(Debug, Default)]
pub struct Links(Mutex<HashMap<String, Arc<Place>>>);

/// Where the link to one host is.
#[derive(Debug, Default)]
struct Place {
    link: tokio::sync::Mutex<Weak<Link>>,
    /// How often dialing failed.
    failed: AtomicU64,
}

impl Links {
    /// The link to a host that is there, or a new one. Whoever comes while one dials waits for it; when that failed, all
    /// of them dial, so that a host that is away costs each of them its limit once and not once for each before it.
    ///
    /// # Errors
    /// As [`Controller::contact`].
    pub(super) async fn to(&self, controller: &Controller, host: &Host) -> Result<Arc<Link>, RunError> {
        let place = self.place(&host.name);
        let failed = place.failed.load(Relaxed);
        let mut shared = place.link.lock().await;
        if let Some(link) = shared.upgrade().filter(|link| !link.session.is_closed()) {
            return Ok(link);
        }
        if place.failed.load(Relaxed) != failed {
            drop(shared);
            let link = Arc::new(controller.contact(host).await?);
            *place.link.lock().await = Arc::downgrade(&link);
            return Ok(link);
        }
        match controller.contact(host).await {
            Ok(link) => {
                let link = Arc::new(link);
                *shared = Arc::downgrade(&link);
                Ok(link)
            }
            Err(error) => {
                place.failed.fetch_add(1, Relaxed);
                Err(error)
            }
        }
    }

    /// Nobody is given this link any more.
    pub(super) async fn broke(&self, host: &str, link: &Arc<Link>) {
        let place = self.place(host);
        let mut shared = place.link.lock().await;
        if shared.ptr_eq(&Arc::downgrade(link)) {
            *shared = Weak::new();
        }
    }

    fn place(&self, host: &str) -> Arc<Place> {
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(places.entry(host.to_owned()).or_default())
    }
}
