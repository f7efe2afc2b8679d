//! What ends a conversation, and what does not.

use super::*;

#[tokio::test]
async fn silence_ends_the_conversation_for_everyone_who_waits() {
    let (client, _script) = opened(QUICK).await;
    let (call, closed) = in_time(async { tokio::join!(client.runs_page(None), client.closed()) }).await;
    assert!(matches!(call, Err(AgentError::Silent { .. })));
    assert!(matches!(closed, AgentError::Silent { .. }));
    // And for whoever comes later, at once.
    assert!(matches!(
        in_time(client.runs_page(None)).await,
        Err(AgentError::Silent { .. })
    ));
}

#[tokio::test]
async fn any_frame_is_a_sign_of_life() {
    let (client, mut script) = opened(QUICK).await;
    let until = client.last_heard() + 3 * QUICK.silence;
    let agent = async {
        let mut id = None;
        while client.last_heard() < until {
            // Our own pings set the pace.
            let frame = script.next().await;
            if frame.kind == Kind::Request {
                id = Some(frame.id);
            }
            script
                .say(Kind::Progress, id.unwrap_or(99), r#"{"step":"opening"}"#)
                .await;
        }
        script.reply(id.unwrap(), &Reply::Done).await;
    };
    let (reply, ()) =
        in_time(async { tokio::join!(client.commit_input(ContentId::of(b""), 0), agent) }).await;
    reply.unwrap();
}

#[tokio::test]
async fn a_frame_that_takes_long_to_come_is_no_silence() {
    let (client, mut script) = opened(QUICK).await;
    let until = client.last_heard() + 3 * QUICK.silence;
    let agent = async {
        // A frame of 4000 bytes: its head, and then a byte for each of our pings.
        script
            .stream
            .write_all(&[0, 0, 0x0f, 0xa0, Kind::Progress as u8])
            .await
            .unwrap();
        while client.last_heard() < until {
            script.next().await;
            script.stream.write_all(b" ").await.unwrap();
        }
    };
    tokio::select! {
        error = client.closed() => panic!("{error}"),
        () = agent => {}
    }
}

#[tokio::test]
async fn the_last_handle_ends_the_conversation() {
    let (client, mut script) = opened(PATIENT).await;
    let other = client.clone();
    drop(client);
    drop(other);
    assert!(in_time(script.frames.next()).await.unwrap().is_none());
}

#[tokio::test]
async fn a_malformed_frame_ends_the_conversation() {
    let (client, mut script) = opened(PATIENT).await;
    script.stream.write_all(&[0x7f, 0, 0, 0, 1]).await.unwrap();
    let error = in_time(client.runs_page(None)).await.unwrap_err();
    assert!(matches!(error, AgentError::Frame { .. }), "{error}");
    assert!(error.is_over());
}

/// Speaks a recorded conversation, and hangs up after `cut` bytes of it.
async fn speak(far: DuplexStream, opening: Vec<u8>, reply: Vec<u8>, cut: usize) {
    let (reader, mut writer) = tokio::io::split(far);
    let mut frames = FrameReader::new(reader, &[]);
    writer
        .write_all(&opening[..cut.min(opening.len())])
        .await
        .unwrap();
    if cut <= opening.len() {
        return;
    }
    while let Ok(Some(frame)) = frames.next().await {
        if frame.id == 2 {
            let _ = writer.write_all(&reply[..cut - opening.len()]).await;
            return;
        }
    }
}

#[tokio::test]
async fn a_cut_at_any_byte_is_an_error_and_never_a_hang() {
    let frame = |id, reply: &Reply| {
        let mut wire = bytes::BytesMut::new();
        let payload = serde_json::to_vec(reply).unwrap().into();
        Frame {
            kind: Kind::Reply,
            id,
            payload,
        }
        .encode(&mut wire)
        .unwrap();
        wire.to_vec()
    };
    let mut opening = b"motd".to_vec();
    opening.extend(preamble::line(&nonce()));
    opening.extend(frame(1, &Reply::Hello(greeting())));
    let reply = frame(2, &Reply::Done);
    for cut in 0..=opening.len() + reply.len() {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let (reader, writer) = tokio::io::split(near);
        tokio::spawn(speak(far, opening.clone(), reply.clone(), cut));
        let conversation = async {
            let (client, _) = Client::start_with(reader, writer, &nonce(), "gpu1", PATIENT).await?;
            client.commit_input(ContentId::of(b""), 0).await
        };
        let outcome = in_time(conversation).await;
        assert_eq!(
            outcome.is_ok(),
            cut == opening.len() + reply.len(),
            "cut at {cut}: {outcome:?}"
        );
    }
}
