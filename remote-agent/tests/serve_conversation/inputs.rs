//! What a run reads: sent once, verified while it arrives.

use crate::support::{CONTROLLER, Peer, code};
use crate::talk;
use farrun_protocol::message::InputState;
use farrun_protocol::spec::Input;
use farrun_protocol::{ContentId, ErrorCode, Reply, Request, layout};
use std::path::Path;

#[tokio::test]
async fn an_input_is_uploaded_once() {
    let state = tempfile::tempdir().unwrap();
    let (mut peer, _serving) = talk(state.path()).await;
    let input = Input {
        path: "a".into(),
        content: ContentId::of(b"bytes"),
        size: 5,
        parent: None,
    };
    let check = || Request::CheckInputs {
        inputs: vec![input.clone()],
    };
    let commit = || Request::CommitInput {
        content: input.content.clone(),
        size: 5,
        arriving: false,
    };
    let missing = async |peer: &mut Peer| match peer.ask(check()).await.unwrap() {
        Reply::Inputs { mut states } => states.remove(0),
        other => panic!("{other:?}"),
    };
    let InputState::Missing { path, have: 0 } = missing(&mut peer).await else {
        panic!("missing")
    };
    assert_eq!(code(peer.ask(commit()).await), ErrorCode::InputMissing);
    std::fs::write(&path, b"byt").unwrap();
    assert_eq!(
        missing(&mut peer).await,
        InputState::Missing {
            path: path.clone(),
            have: 3
        }
    );
    std::fs::write(&path, b"bites").unwrap();
    assert_eq!(code(peer.ask(commit()).await), ErrorCode::HashMismatch);
    assert_eq!(
        missing(&mut peer).await,
        InputState::Missing {
            path: path.clone(),
            have: 0
        }
    );
    std::fs::write(&path, b"bytes").unwrap();
    assert_eq!(peer.ask(commit()).await, Ok(Reply::Done));
    assert_eq!(missing(&mut peer).await, InputState::Present);
}

/// Where a controller's upload of content goes, and its marks.
fn arriving(state: &Path, id: &ContentId) -> (std::path::PathBuf, std::path::PathBuf) {
    let controller = CONTROLLER.parse().unwrap();
    let path = state.join(layout::incoming(id, &controller));
    let marks = layout::marks(path.to_str().unwrap());
    (path, marks.into())
}

#[tokio::test]
async fn an_input_is_verified_while_it_arrives() {
    let state = tempfile::tempdir().unwrap();
    let (mut peer, _serving) = talk(state.path()).await;
    let size = 9 * layout::UPLOAD_PIECE + 3;
    let content = vec![7; usize::try_from(size).unwrap()];
    let id = ContentId::of(&content);
    let (path, marks) = arriving(state.path(), &id);
    let follow = || Request::CommitInput {
        content: id.clone(),
        size,
        arriving: true,
    };
    let missing = peer.ask(follow()).await;
    assert_eq!(code(missing), ErrorCode::InputMissing, "nothing has begun");
    // Wrong content is found although every piece is marked, and leaves nothing behind.
    std::fs::write(&path, vec![8; content.len()]).unwrap();
    std::fs::write(&marks, [1; 10]).unwrap();
    assert_eq!(code(peer.ask(follow()).await), ErrorCode::HashMismatch);
    assert!(!path.exists() && !marks.exists());
    // The pieces come in any order, and the answer with the last of them.
    std::fs::write(&path, &content).unwrap();
    std::fs::write(&marks, [0, 1]).unwrap();
    let waiting = peer.post(&follow()).await;
    std::fs::write(&marks, [1, 1]).unwrap();
    std::fs::write(&marks, [1; 10]).unwrap();
    peer.answer(waiting).await.unwrap();
    assert_eq!(
        std::fs::read(state.path().join(layout::blob(&id))).unwrap(),
        content
    );
    assert!(!path.exists() && !marks.exists());
    assert_eq!(peer.ask(follow()).await, Ok(Reply::Done), "it is among the blobs");
}

#[tokio::test]
async fn an_upload_that_another_one_took_away_is_not_waited_for() {
    let state = tempfile::tempdir().unwrap();
    let (mut peer, _serving) = talk(state.path()).await;
    let content = vec![7; usize::try_from(layout::UPLOAD_PIECE).unwrap() + 1];
    let id = ContentId::of(&content);
    let (path, marks) = arriving(state.path(), &id);
    std::fs::write(&path, &content).unwrap();
    std::fs::write(&marks, [1]).unwrap();
    let request = Request::CommitInput {
        content: id,
        size: content.len() as u64,
        arriving: true,
    };
    let waiting = peer.post(&request).await;
    std::fs::remove_file(&path).unwrap();
    std::fs::remove_file(&marks).unwrap();
    let answer = peer.answer(waiting).await;
    assert_eq!(answer.unwrap_err().code, ErrorCode::InputMissing);
}
