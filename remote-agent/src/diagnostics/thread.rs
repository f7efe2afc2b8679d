//! Work that may block for good, on a thread that is left behind when it does.

use super::item::{Found, Looked};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;

/// Threads of collectors there may be; those of a file system or driver that hangs stay.
const MOST: usize = 8;

static THREADS: AtomicUsize = AtomicUsize::new(0);

/// What work has so far, for the case that it does not end in time.
#[derive(Debug, Clone, Default)]
pub(super) struct SoFar(Arc<Mutex<Vec<u8>>>);

impl SoFar {
    /// Adds to it.
    pub(super) fn add(&self, bytes: &[u8]) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend_from_slice(bytes);
    }

    fn take(&self) -> Vec<u8> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What was added, as the whole.
    pub(super) fn whole(&self) -> Looked {
        Ok(Found::Whole(self.take()))
    }
}

struct Counted;

impl Counted {
    fn new() -> Option<Self> {
        let one_more = |threads: usize| (threads < MOST).then_some(threads + 1);
        THREADS
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_more)
            .ok()
            .map(|_| Self)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        THREADS.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Runs `work` for at most `limit`.
pub(super) async fn on_thread(
    limit: Duration,
    work: impl FnOnce(&SoFar) -> Looked + Send + 'static,
) -> Looked {
    let Some(counted) = Counted::new() else {
        return Err("earlier attempts to read the host still hang".to_owned());
    };
    let so_far = SoFar::default();
    let own = so_far.clone();
    let (tell, told) = oneshot::channel();
    let thread = std::thread::Builder::new().name("evidence".to_owned());
    let started = thread.spawn(move || {
        let _counted = counted;
        let _ = tell.send(work(&own));
    });
    started.map_err(|error| error.to_string())?;
    let part = |why: String| match so_far.take() {
        bytes if bytes.is_empty() => Err(why),
        bytes => Ok(Found::Part(bytes, why)),
    };
    match tokio::time::timeout(limit, told).await {
        Ok(Ok(looked)) => looked,
        Ok(Err(_)) => part("its collector broke off, which is a defect of the agent".to_owned()),
        Err(_) => part(format!("it took longer than {:.1} s", limit.as_secs_f64())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_that_hangs_or_breaks_off_leaves_what_it_had() {
        let limit = Duration::from_millis(50);
        let (release, held) = std::sync::mpsc::channel::<()>();
        let hangs = on_thread(limit, move |so_far| {
            so_far.add(b"half");
            let _ = held.recv();
            so_far.whole()
        });
        let looked = hangs.await.unwrap();
        assert!(
            matches!(&looked, Found::Part(bytes, why) if bytes == b"half" && why.contains("longer")),
            "{looked:?}"
        );
        drop(release);
        let breaks = on_thread(Duration::from_secs(30), |so_far| {
            so_far.add(b"half");
            panic!("a defect")
        });
        let looked = breaks.await.unwrap();
        assert!(
            matches!(&looked, Found::Part(_, why) if why.contains("defect")),
            "{looked:?}"
        );
        let silent = on_thread(limit, |_| panic!("a defect")).await;
        assert!(silent.is_err_and(|why| why.contains("defect")));
        let whole = on_thread(Duration::from_secs(30), |so_far| {
            so_far.add(b"all");
            so_far.whole()
        });
        assert_eq!(whole.await, Ok(Found::Whole(b"all".to_vec())));
    }
}
