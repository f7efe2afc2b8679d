mod ending;
mod hostile;

use super::*;
use bytes::Bytes;
use farrun_protocol::frame::{Frame, FrameReader, Kind, write_frame};
use farrun_protocol::log::LogChunk;
use farrun_protocol::message::{FetchLog, Hello, HelloReply};
use farrun_protocol::spec::Input;
use farrun_protocol::{
    ContentId, ControllerId, ErrorCode, Failure, Generation, HostId, PROTOCOL, Progress, Reply, Request,
    RunId, Sha256, preamble,
};
use std::time::Duration;
use tokio::io::{AsyncWriteExt as _, DuplexStream, ReadHalf, WriteHalf};

const DEADLINE: Duration = Duration::from_secs(20);
const QUICK: Timing = Timing {
    opening: Duration::from_secs(10),
    ping: Duration::from_millis(20),
    silence: Duration::from_millis(300),
};
/// Nothing but the script speaks.
const PATIENT: Timing = Timing {
    opening: Duration::from_secs(20),
    ping: Duration::from_secs(3600),
    silence: Duration::from_secs(3600),
};

/// The far end of a conversation, told frame by frame what to do.
struct Script {
    frames: FrameReader<ReadHalf<DuplexStream>>,
    stream: WriteHalf<DuplexStream>,
}

impl Script {
    async fn next(&mut self) -> Frame {
        let next = tokio::time::timeout(DEADLINE, self.frames.next()).await;
        next.expect("a frame in time").unwrap().expect("a frame")
    }
    async fn say(&mut self, kind: Kind, id: u64, payload: impl Into<Bytes>) {
        let payload = payload.into();
        write_frame(&mut self.stream, &Frame { kind, id, payload })
            .await
            .unwrap();
    }
    async fn reply(&mut self, id: u64, reply: &Reply) {
        self.say(Kind::Reply, id, serde_json::to_vec(reply).unwrap())
            .await;
    }
}

fn nonce() -> String {
    "0f".repeat(32)
}

fn hello() -> Hello {
    Hello {
        protocol: PROTOCOL,
        controller_id: ControllerId::random(),
        docker_sudo: false,
        docker_host: None,
    }
}

fn greeting() -> HelloReply {
    HelloReply {
        protocol: PROTOCOL,
        version: "0.1.0".into(),
        agent_sha256: Sha256::of(b"agent"),
        host_id: HostId::random(),
        boot_id: "boot".into(),
        machine: "x86_64".into(),
        state: "/home/u/.local/share/farrun".into(),
        now: chrono::DateTime::UNIX_EPOCH,
    }
}

async fn opened(timing: Timing) -> (Client, Script) {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let (reader, mut writer) = tokio::io::split(near);
    let (far_reader, far_writer) = tokio::io::split(far);
    let mut script = Script {
        frames: FrameReader::new(far_reader, &[]),
        stream: far_writer,
    };
    let nonce = nonce();
    let first = Client::greeting(hello(), "gpu1").unwrap();
    writer.write_all(&first).await.unwrap();
    let start = Client::start_with(reader, writer, &nonce, "gpu1", timing);
    let agent = async {
        script.stream.write_all(b"motd\n").await.unwrap();
        script.stream.write_all(&preamble::line(&nonce)).await.unwrap();
        let frame = script.next().await;
        assert!(matches!(
            serde_json::from_slice(&frame.payload),
            Ok(Request::Hello(_))
        ));
        script.reply(frame.id, &Reply::Hello(greeting())).await;
    };
    let (started, ()) = tokio::join!(start, agent);
    (started.unwrap().0, script)
}

fn run_id() -> RunId {
    "rs_abcdefgh".parse().unwrap()
}

fn fetch() -> FetchLog {
    FetchLog {
        run_id: run_id(),
        generation: None,
        offset: 0,
        place: None,
        tail_sha256: None,
        max: 100,
        wait: 25_000,
    }
}

async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future)
        .await
        .expect("an answer in time")
}

#[tokio::test]
async fn answers_find_their_callers_whatever_their_order() {
    let (client, mut script) = opened(PATIENT).await;
    let done = client.commit_input(ContentId::of(b""), 0);
    let log = client.fetch_log(fetch());
    let refused = client.spec(run_id());
    let agent = async {
        let ids = [
            script.next().await.id,
            script.next().await.id,
            script.next().await.id,
        ];
        script.reply(77, &Reply::Done).await;
        script.say(Kind::Request, ids[0], "{}").await;
        let failure = Failure::new(ErrorCode::RunUnknown, "no such run");
        script
            .say(Kind::Failure, ids[2], serde_json::to_vec(&failure).unwrap())
            .await;
        let chunk = LogChunk {
            generation: Generation::random(),
            offset: 0,
            end: None,
            bytes: Bytes::from_static(b"\xff\0"),
        };
        script.say(Kind::LogChunk, ids[1], chunk.encode()).await;
        script.reply(ids[0], &Reply::Done).await;
        script.reply(ids[0], &Reply::Done).await;
    };
    let (done, log, refused, ()) = in_time(async { tokio::join!(done, log, refused, agent) }).await;
    done.unwrap();
    assert_eq!(&log.unwrap().bytes[..], b"\xff\0");
    assert_eq!(
        refused.unwrap_err().failure().unwrap().code,
        ErrorCode::RunUnknown
    );
}

#[tokio::test]
async fn an_answer_that_does_not_fit_is_an_error_and_the_conversation_goes_on() {
    let (client, mut script) = opened(PATIENT).await;
    for (kind, payload) in [
        (Kind::Reply, &br#"{"answer":"done"}"#[..]),
        (Kind::Reply, b"{\"answer\":"),
        (Kind::Reply, b"\xff"),
        (Kind::Failure, b"[]"),
        (Kind::LogChunk, b"short"),
        (Kind::LogChunk, &[0; 30]),
    ] {
        let agent = async {
            let id = script.next().await.id;
            script.say(kind, id, Bytes::copy_from_slice(payload)).await;
        };
        let (answer, ()) = in_time(async { tokio::join!(client.runs_page(None), agent) }).await;
        let error = answer.unwrap_err();
        assert!(matches!(error, AgentError::Unexpected { .. }), "{error}");
        assert!(!error.is_over());
    }
}

#[tokio::test]
async fn progress_is_told_before_the_reply_and_never_holds_it_up() {
    let (client, mut script) = opened(PATIENT).await;
    let agent = async {
        let id = script.next().await.id;
        for _ in 0..100 {
            script.say(Kind::Progress, id, r#"{"step":"starting"}"#).await;
        }
        script.say(Kind::Progress, id, r#"{"step":"dancing"}"#).await;
        script.reply(id, &Reply::Done).await;
    };
    let mut seen = Vec::new();
    let call = client.call_with_progress(Request::Host, |step| seen.push(step));
    let (reply, ()) = in_time(async { tokio::join!(call, agent) }).await;
    assert_eq!(reply.unwrap(), Reply::Done);
    assert!(!seen.is_empty() && seen.iter().all(|step| *step == Progress::Starting));
}

#[tokio::test]
async fn a_dropped_call_is_cancelled_under_its_id() {
    let (client, mut script) = opened(PATIENT).await;
    let asked = {
        let call = client.fetch_log(fetch());
        tokio::pin!(call);
        tokio::select! {
            _ = &mut call => panic!("nobody answered"),
            frame = script.next() => frame,
        }
    };
    let cancel = script.next().await;
    assert_eq!((cancel.kind, cancel.id), (Kind::Cancel, asked.id));
}

#[tokio::test]
async fn an_answered_call_is_not_cancelled() {
    let (client, mut script) = opened(PATIENT).await;
    let agent = async {
        let id = script.next().await.id;
        script.reply(id, &Reply::Done).await;
    };
    let (done, ()) = in_time(async { tokio::join!(client.commit_input(ContentId::of(b""), 0), agent) }).await;
    done.unwrap();
    tokio::spawn(async move { client.call(Request::Host).await });
    assert_eq!(script.next().await.kind, Kind::Request);
}

#[tokio::test]
async fn pings_are_answered_and_sent() {
    let (_client, mut script) = opened(QUICK).await;
    script.say(Kind::Ping, 0, "").await;
    let mut kinds = vec![];
    while !(kinds.contains(&Kind::Ping) && kinds.contains(&Kind::Pong)) {
        kinds.push(script.next().await.kind);
    }
}

#[tokio::test]
async fn a_request_that_fits_no_frame_is_refused_here() {
    let (client, _script) = opened(PATIENT).await;
    let input = Input {
        path: "x".repeat(100),
        content: ContentId::of(b""),
        size: 0,
        parent: None,
    };
    let error = in_time(client.check_inputs(vec![input; 100_000]))
        .await
        .unwrap_err();
    assert!(!error.is_over());
    let told = crate::error::CommandError::from(error);
    assert_eq!(told.exit, crate::error::Exit::Usage);
    assert!(
        told.message
            .starts_with("the request `check_inputs` to `gpu1` has ")
            && told
                .message
                .ends_with(" bytes; 1048576 are the most that one can have"),
        "{told:?}"
    );
}

/// Answers log requests from memory until the controller hangs up.
async fn serve_log(mut script: Script, log: &[u8]) {
    let generation = Generation::random();
    let mut reached = 0;
    while let Ok(Some(frame)) = script.frames.next().await {
        if frame.kind != Kind::Request {
            continue;
        }
        match serde_json::from_slice(&frame.payload).unwrap() {
            Request::FetchLog(fetch) => {
                // Answered one by one, so each goes on where the last one ended.
                let start = match fetch.place {
                    Some(place) if place.index > 0 => reached,
                    _ => fetch.offset as usize,
                };
                let stop = log.len().min(start + fetch.max as usize);
                reached = stop;
                let end = (stop == log.len()).then(|| farrun_protocol::log::LogEnd {
                    length: log.len() as u64,
                    sha256: Sha256::of(log),
                });
                let chunk = LogChunk {
                    generation: generation.clone(),
                    offset: start as u64,
                    end,
                    bytes: Bytes::copy_from_slice(&log[start..stop]),
                };
                script.say(Kind::LogChunk, frame.id, chunk.encode()).await;
            }
            Request::HashLog { length, .. } => {
                let sha256 = log.get(..length as usize).map(Sha256::of);
                script.reply(frame.id, &Reply::LogPrefix { sha256 }).await;
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_mirror_is_filled_through_a_conversation() {
    use crate::mirror::{From, Mirror, Options};
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.log");
    let log: Vec<u8> = (0..10_000_000_u32).map(|at| (at % 251) as u8).collect();
    // What an earlier process left, and what a power loss made of its end.
    std::fs::write(&path, [&log[..3_000_000], &[0; 1000]].concat()).unwrap();
    let (client, script) = opened(PATIENT).await;
    let mirror = async {
        let mut mirror = Mirror::open(&path, &run_id(), u64::MAX).unwrap();
        let options = Options::to_the_end(From::Start);
        let followed = mirror.follow(&client, options, &mut |_| ()).await.unwrap();
        drop(client);
        followed
    };
    let (followed, ()) = in_time(async { tokio::join!(mirror, serve_log(script, &log)) }).await;
    assert!(followed.complete);
    assert!(std::fs::read(&path).unwrap() == log);
}

#[tokio::test]
async fn many_runs_are_asked_for_in_parts_and_pages_never_go_back() {
    let (client, mut script) = opened(PATIENT).await;
    let mut asked = Vec::new();
    let agent = async {
        for _ in 0..3 {
            let frame = script.next().await;
            let Ok(Request::Runs { run_ids, page: None }) = serde_json::from_slice(&frame.payload) else {
                panic!("{frame:?}")
            };
            asked.extend(run_ids);
            script
                .say(Kind::Reply, frame.id, r#"{"answer":"runs","runs":[]}"#)
                .await;
        }
        // A host that sends the caller in a circle.
        for _ in 0..2 {
            let id = script.next().await.id;
            let circle = r#"{"answer":"runs","runs":[],"next":"rs_abcdefgh"}"#;
            script.say(Kind::Reply, id, circle).await;
        }
    };
    let run_ids: Vec<RunId> = (0..250).map(|_| RunId::random()).collect();
    let calls = async {
        client.runs(run_ids.clone()).await.unwrap();
        let (_, next) = client.runs_page(None).await.unwrap();
        client.runs_page(next).await.unwrap_err()
    };
    let (error, ()) = in_time(async { tokio::join!(calls, agent) }).await;
    assert!(matches!(error, AgentError::Unexpected { .. }), "{error}");
    assert_eq!(asked, run_ids);
}
