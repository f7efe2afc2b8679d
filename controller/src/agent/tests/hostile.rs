//! An agent that lies.

use super::*;

#[tokio::test]
async fn a_frame_that_is_too_large_names_its_host_and_what_was_asked() {
    let (client, mut script) = opened(PATIENT).await;
    let agent = async {
        for _ in 0..2 {
            script.next().await;
        }
        // A gigabyte is announced; not a byte of it is waited for.
        script.stream.write_all(&[0x40, 0, 0, 0]).await.unwrap();
    };
    let calls = async { tokio::join!(client.runs_page(None), client.fetch_log(fetch())) };
    let ((runs, log), ()) = in_time(async { tokio::join!(calls, agent) }).await;
    for error in [runs.unwrap_err(), log.unwrap_err()] {
        let told = crate::error::CommandError::from(error);
        assert_eq!(told.exit, crate::error::Exit::Unreachable);
        assert_eq!(
            told.message,
            "`gpu1` sent something that no agent sends where an answer to `fetch_log` or `runs` was due"
        );
        let size = "a frame of 1073741824 bytes was announced; between 9 and 1048585 are allowed";
        assert_eq!(told.causes, [size]);
    }
}

#[tokio::test]
async fn a_log_without_end_stops_at_what_its_order_allows() {
    use crate::mirror::{From, Mirror, MirrorError, Options};
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.log");
    let most = 3 * 1024 * 1024;
    let (client, mut script) = opened(PATIENT).await;
    let agent = async {
        let generation = Generation::random();
        let mut at = 0;
        loop {
            let frame = script.next().await;
            let chunk = match serde_json::from_slice(&frame.payload) {
                Ok(Request::FetchLog(fetch)) => LogChunk {
                    generation: generation.clone(),
                    offset: at,
                    end: None,
                    bytes: vec![b'x'; fetch.max as usize].into(),
                },
                Ok(Request::HashLog { .. }) => {
                    let sha256 = Some(Sha256::of(b""));
                    script.reply(frame.id, &Reply::LogPrefix { sha256 }).await;
                    continue;
                }
                _ => continue,
            };
            at += chunk.bytes.len() as u64;
            script.say(Kind::LogChunk, frame.id, chunk.encode()).await;
        }
    };
    let mirror = async {
        let mut mirror = Mirror::open(&path, &run_id(), most).unwrap();
        let options = Options::to_the_end(From::Start);
        mirror.follow(&client, options, &mut |_| ()).await.unwrap_err()
    };
    let error = tokio::select! {
        error = in_time(mirror) => error,
        () = agent => panic!("it has no end"),
    };
    assert!(matches!(error, MirrorError::TooLong { .. }), "{error}");
    assert!(path.metadata().unwrap().len() <= most);
}
