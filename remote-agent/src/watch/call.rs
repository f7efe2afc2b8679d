//! So that no run is left to an observer that is about to leave.
//!
//! Whoever finds an observer starts none. One that has just looked for the last time would not see what was brought
//! since. So both sides say something before they look: whoever brings work writes it down, leaves a call
//! (`watch.call`) and looks for an observer again; an observer lets go of its post and only then looks for a call. Either
//! the caller finds the post free and starts another observer, or the observer finds the call and takes its post again.

use super::card::{self, Post};
use farrun_protocol::Sha256;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

#[cfg(test)]
use tests::pass;
/// Between two steps; tests let others go first there.
#[cfg(not(test))]
const fn pass() {}

fn path(state: &Path) -> PathBuf {
    state.join("watch.call")
}

/// Whether an observer lives and will see what is written down already.
pub(super) fn is_heard(state: &Path) -> bool {
    if !card::lives(state) {
        return false;
    }
    pass();
    let made = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path(state));
    pass();
    // Where nothing can be left, one more observer is started: it ends where another stays.
    made.is_ok() && card::lives(state)
}

/// Takes up a call, if there is one; what it is about is seen by whoever looks from now on.
pub(super) fn answer(state: &Path) -> bool {
    std::fs::remove_file(path(state)).is_ok()
}

/// Observes until nothing is left and nobody has called. A shift ends without its post and says whether another may
/// follow.
pub(super) async fn shifts(
    state: &Path,
    agent_sha256: &Sha256,
    first: Post,
    mut shift: impl AsyncFnMut(Post) -> bool,
) {
    let mut post = first;
    while shift(post).await {
        pass();
        if !path(state).exists() {
            return;
        }
        pass();
        // Who is quicker looks at everything there is.
        let Ok(Some(again)) = Post::take(state, agent_sha256) else {
            return;
        };
        post = again;
    }
}

#[cfg(test)]
mod tests;
