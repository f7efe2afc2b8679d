//! What the account and its host offer to runs, looked at for `farrun host doctor`: facts, no verdicts.
//!
//! Each part has a file, a time limit, and a thread of its own, so that a file system or a driver that hangs takes no
//! other part with it. What can hang comes last.
//!
//! ```text
//! account state space mounts    the account, its folder, and what that lies on
//! driver kernel_log toolkit     what the kernel and the installed programs say about GPUs
//! login locks caches            sessions, the folder that accounts share, models that are there
//! trial inside                  a short container, and what is seen in it
//! program                       a foreign program, started within limits
//! ```

mod account;
mod caches;
mod driver;
mod inside;
mod kernel_log;
mod locks;
mod login;
mod mounts;
mod program;
mod space;
mod state;
mod toolkit;
mod trial;

pub use inside::{ROLE as INSIDE_ROLE, look as look_inside};

pub(crate) use account::facts as account_facts;
pub(crate) use caches::facts as cache_facts;
pub(crate) use driver::facts as driver_facts;
pub(crate) use kernel_log::facts as kernel_log_facts;
pub(crate) use locks::facts as lock_facts;
pub(crate) use login::{facts as login_facts, is_in_session, kills as kills_processes, lingers};
pub(crate) use program::{
    CHANGES, Printed, Said, print_with as print_program_with, run_with as run_program_with,
};
pub(crate) use space::of as space_of;
pub(crate) use state::facts as state_facts;
pub(crate) use toolkit::facts as toolkit_facts;
pub(crate) use trial::{Wanted, run as run_trial, tidy as tidy_trials};

use farrun_protocol::doctor::{Looked, Unseen, Why};
use std::io;
use std::time::Duration;

/// Runs one part in a thread of its own and gives it up after `limit`; the thread then ends when the kernel lets it.
pub(crate) async fn within<T: Send + 'static>(
    limit: Duration,
    work: impl FnOnce() -> Looked<T> + Send + 'static,
) -> Looked<T> {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let thread = std::thread::Builder::new().name("doctor".to_owned());
    let started = thread.spawn(move || {
        // Nobody waits any longer when it is late.
        drop(sender.send(work()));
    });
    if let Err(error) = started {
        return Err(Unseen::because(Why::Failed, error));
    }
    match tokio::time::timeout(limit, receiver).await {
        Ok(Ok(looked)) => looked,
        Ok(Err(_)) => Err(Unseen::because(Why::Failed, "a defect of the agent")),
        Err(_) => Err(Unseen::because(Why::Late, format!("{} s", limit.as_secs()))),
    }
}

/// What the kernel refused.
pub(crate) fn refused(error: &io::Error) -> Unseen {
    let why = match error.kind() {
        io::ErrorKind::PermissionDenied => Why::NotPermitted,
        io::ErrorKind::NotFound => Why::Absent,
        _ => Why::Failed,
    };
    Unseen::because(why, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_part_that_hangs_is_given_up() {
        let (release, wait) = std::sync::mpsc::channel::<()>();
        let limit = Duration::from_millis(20);
        let late = within(limit, move || {
            let _ = wait.recv();
            Ok(())
        })
        .await;
        assert_eq!(late.unwrap_err().why, Why::Late);
        drop(release);
        let panicked: Looked<()> = within(Duration::from_secs(5), || panic!("a defect")).await;
        assert_eq!(panicked.unwrap_err().why, Why::Failed);
        assert_eq!(within(Duration::from_secs(5), || Ok(7)).await, Ok(7));
    }
}
