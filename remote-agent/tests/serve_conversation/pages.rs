//! A host with thousands of runs.

use crate::support::code;
use crate::{run_with_log, settle, talk};
use farrun_agent::record::RunFolder;
use farrun_protocol::message::RunsPage;
use farrun_protocol::{ErrorCode, Reply, Request, RunId};
use std::path::Path;

/// Copies a folder of small files with another run id in them. Thousands of folders that are made and synced one by
/// one would take minutes.
fn copy_renamed(from: &Path, to: &Path, old: &RunId, new: &RunId) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_renamed(&entry.path(), &target, old, new);
            continue;
        }
        match std::fs::read_to_string(entry.path()) {
            Ok(text) if text.contains(old.as_str()) => {
                std::fs::write(target, text.replace(old.as_str(), new.as_str())).unwrap();
            }
            _ => std::fs::hard_link(entry.path(), target).unwrap(),
        }
    }
}

#[tokio::test]
async fn a_host_full_of_runs_tells_them_page_by_page() {
    let state = tempfile::tempdir().unwrap();
    let first = run_with_log(state.path());
    settle(&first);
    let mut made = std::collections::BTreeSet::from([first.run_id().clone()]);
    while made.len() < 3000 {
        let run_id = RunId::random();
        let copy = RunFolder::new(state.path(), &run_id);
        copy_renamed(first.path(), copy.path(), first.run_id(), &run_id);
        made.insert(run_id);
    }
    let (mut peer, _serving) = talk(state.path()).await;
    let (mut told, mut after, mut pages) = (Vec::new(), None, 0);
    loop {
        let request = Request::Runs {
            run_ids: vec![],
            page: Some(RunsPage { after }),
        };
        let Reply::Runs { runs, next } = peer.ask(request).await.unwrap() else {
            panic!("no runs")
        };
        assert!(runs.iter().all(|run| run.settled.is_some()));
        told.extend(runs.into_iter().map(|run| run.run_id));
        pages += 1;
        after = next;
        if after.is_none() {
            break;
        }
    }
    assert!(told.is_sorted(), "each page goes on behind the last");
    assert_eq!(told, made.into_iter().collect::<Vec<_>>());
    assert_eq!(pages, 6);
    // A controller that knows no pages gets one answer or a failure, and never a part that looks like the whole.
    let all = Request::Runs {
        run_ids: vec![],
        page: None,
    };
    assert_eq!(code(peer.ask(all).await), ErrorCode::Internal);
}
