//! Outputs of runs that have succeeded, listed with hashes before anybody asks: whoever brings them home then begins with
//! their content. Beside the rounds, one run at a time; one that somebody else lists already is left to him.

use crate::record::RunFolder;
use crate::serve::ListingTurn;
use farrun_protocol::verdict::RunResult;
use std::collections::VecDeque;
use std::thread::JoinHandle;

/// What is to be listed, oldest end first.
#[derive(Debug, Default)]
pub(super) struct Listings {
    wanted: VecDeque<RunFolder>,
    listing: Option<JoinHandle<()>>,
}

impl Listings {
    /// A run that has ended. What a failed one left is brought home on request only, and what its owner could not open
    /// is opened when it is asked for.
    pub(super) fn ended(&mut self, run: &RunFolder) {
        let Ok(Some(settled)) = run.settled() else { return };
        let wanted = settled.verdict.result == RunResult::Succeeded
            && settled.outputs_error.is_none()
            && !self.wanted.iter().any(|known| known.run_id() == run.run_id())
            && std::fs::read_dir(run.outputs()).is_ok_and(|mut entries| entries.next().is_some());
        if wanted {
            self.wanted.push_back(run.clone());
        }
    }

    /// Goes on with it; answers whether there is anything left.
    pub(super) fn go_on(&mut self) -> bool {
        if self.listing.as_ref().is_some_and(JoinHandle::is_finished) {
            self.listing = None;
        }
        if self.listing.is_none()
            && let Some(turn) = self.wanted.pop_front().and_then(|run| ListingTurn::take(&run))
        {
            let thread = std::thread::Builder::new().name("listing".to_owned());
            // Whoever asks for the outputs lists them as well, and says what is wrong.
            let listing = thread.spawn(move || drop(turn.list(|_| {})));
            self.listing = listing.ok();
        }
        self.listing.is_some() || !self.wanted.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use farrun_protocol::log::LogEnd;
    use farrun_protocol::record::Settled;
    use farrun_protocol::verdict::{Reason, Verdict};
    use farrun_protocol::{Generation, Sha256};
    use std::path::Path;
    use std::time::{Duration, Instant};

    fn ended(state: &Path, name: &str, result: RunResult) -> RunFolder {
        let run = RunFolder::new(state, &name.parse().unwrap());
        std::fs::create_dir_all(run.outputs()).unwrap();
        std::fs::write(run.outputs().join("a"), "content").unwrap();
        let verdict = Verdict {
            result,
            reason: Reason::ExitCode,
            exit_code: None,
            signal: None,
            detail: None,
        };
        let log = LogEnd {
            length: 0,
            sha256: Sha256::of(b""),
        };
        let settled = Settled::of(run.run_id().clone(), verdict, log, Generation::random());
        run.write_settled(&settled).unwrap();
        run
    }

    fn finish(listings: &mut Listings) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while listings.go_on() {
            assert!(Instant::now() < deadline, "it does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn what_succeeded_is_listed_and_what_did_not_is_left() {
        let state = tempfile::tempdir().unwrap();
        let ended = |name, result| ended(state.path(), name, result);
        let first = ended("rs_aaaaaaaaaaa1", RunResult::Succeeded);
        let second = ended("rs_aaaaaaaaaaa2", RunResult::Succeeded);
        let failed = ended("rs_aaaaaaaaaaa3", RunResult::Failed);
        let empty = ended("rs_aaaaaaaaaaa4", RunResult::Succeeded);
        std::fs::remove_file(empty.outputs().join("a")).unwrap();
        let mut listings = Listings::default();
        for run in [&first, &first, &second, &failed, &empty] {
            listings.ended(run);
        }
        assert_eq!(listings.wanted.len(), 2);
        finish(&mut listings);
        for (run, listed) in [(first, true), (second, true), (failed, false), (empty, false)] {
            assert_eq!(run.manifest().exists(), listed, "{}", run.run_id());
        }
    }

    #[test]
    fn what_somebody_else_lists_is_left_to_him() {
        let state = tempfile::tempdir().unwrap();
        let run = ended(state.path(), "rs_aaaaaaaaaaaa", RunResult::Succeeded);
        let _turn = ListingTurn::take(&run).unwrap();
        let mut listings = Listings::default();
        listings.ended(&run);
        finish(&mut listings);
        assert!(!run.manifest().exists());
    }
}
