//! Whether PID 1 of a run still lives, told without the engine.

use super::RunFolder;
use rustix::fs::{FlockOperation, Mode, OFlags, flock};

impl RunFolder {
    /// Whether PID 1 had claimed the run and lives no more: it holds a lock on its claim for as long as it lives, and
    /// only the kernel lets go of it. Not asked before the claim is written, for then it would be in PID 1's way. With
    /// PID 1 ends all that runs in its container.
    pub fn claim_was_let_go(&self) -> bool {
        if !self.claimed() {
            return false;
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let path = self.record().join("started");
        rustix::fs::open(path, flags, Mode::empty())
            .is_ok_and(|started| flock(&started, FlockOperation::NonBlockingLockShared).is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    #[test]
    fn a_claim_that_is_held_or_not_made_was_not_let_go() {
        let state = tempfile::tempdir().unwrap();
        let folder = RunFolder::new(state.path(), &"rs_aaaaaaaa".parse().unwrap());
        assert!(!folder.claim_was_let_go());
        std::fs::create_dir_all(folder.record()).unwrap();
        let path = folder.record().join("started");
        File::create(&path).unwrap();
        assert!(!folder.claim_was_let_go());
        std::fs::write(&path, "claimed").unwrap();
        let held = File::open(&path).unwrap();
        flock(&held, FlockOperation::NonBlockingLockExclusive).unwrap();
        assert!(!folder.claim_was_let_go());
        drop(held);
        assert!(folder.claim_was_let_go());
    }
}
