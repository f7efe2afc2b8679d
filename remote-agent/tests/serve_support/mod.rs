//! The controller's end of a conversation, as small as tests need it.
#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    reason = "each suite uses its own part"
)]

pub mod talk;

use farrun_protocol::frame::{Frame, FrameReader, Kind, write_frame};
use farrun_protocol::log::LogChunk;
use farrun_protocol::message::{FetchLog, Hello, HelloReply, Launch, Secret};
use farrun_protocol::record::RunFacts;
use farrun_protocol::spec::RunSpec;
use farrun_protocol::{ErrorCode, Failure, PROTOCOL, Progress, Reply, Request, RunId};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite};

pub const CONTROLLER: &str = "co_mine0000";

/// Nothing that a test waits for takes longer on a healthy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct Peer {
    frames: FrameReader<Box<dyn AsyncRead + Unpin + Send>>,
    writer: Box<dyn AsyncWrite + Unpin + Send>,
    next_id: u64,
    pub progress: Vec<Progress>,
}

impl Peer {
    pub fn new(
        reader: impl AsyncRead + Unpin + Send + 'static,
        writer: impl AsyncWrite + Unpin + Send + 'static,
        buffered: &[u8],
    ) -> Self {
        Self {
            frames: FrameReader::new(Box::new(reader), buffered),
            writer: Box::new(writer),
            next_id: 1,
            progress: Vec::new(),
        }
    }

    pub async fn send(&mut self, frame: Frame) {
        write_frame(&mut self.writer, &frame).await.unwrap();
    }

    pub async fn post(&mut self, request: &Request) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.send(Frame {
            kind: Kind::Request,
            id,
            payload: serde_json::to_vec(request).unwrap().into(),
        })
        .await;
        id
    }

    pub async fn next(&mut self) -> Option<Frame> {
        tokio::time::timeout(PATIENCE, self.frames.next())
            .await
            .expect("an answer in time")
            .unwrap()
    }

    /// The frame that ends the request with this id; progress is kept aside.
    pub async fn answer(&mut self, id: u64) -> Result<Frame, Failure> {
        loop {
            let frame = self.next().await.expect("an open conversation");
            if frame.id != id {
                continue;
            }
            match frame.kind {
                Kind::Progress => self
                    .progress
                    .push(serde_json::from_slice(&frame.payload).unwrap()),
                Kind::Failure => return Err(serde_json::from_slice(&frame.payload).unwrap()),
                _ => return Ok(frame),
            }
        }
    }

    pub async fn ask(&mut self, request: Request) -> Result<Reply, Failure> {
        let id = self.post(&request).await;
        let frame = self.answer(id).await?;
        assert_eq!(frame.kind, Kind::Reply);
        Ok(serde_json::from_slice(&frame.payload).unwrap())
    }

    pub async fn hello_as(&mut self, controller: &str, docker_host: &str) -> HelloReply {
        let hello = Request::Hello(Hello {
            protocol: PROTOCOL,
            controller_id: controller.parse().unwrap(),
            docker_sudo: false,
            docker_host: Some(docker_host.to_owned()),
        });
        match self.ask(hello).await.unwrap() {
            Reply::Hello(hello) => hello,
            other => panic!("{other:?}"),
        }
    }

    pub async fn run(&mut self, request: Request) -> Result<RunFacts, Failure> {
        match self.ask(request).await? {
            Reply::Run(facts) => Ok(*facts),
            other => panic!("{other:?}"),
        }
    }

    pub async fn launch(&mut self, spec: &RunSpec) -> Result<RunFacts, Failure> {
        self.launch_with(spec, &[]).await
    }

    pub async fn launch_with(
        &mut self,
        spec: &RunSpec,
        secrets: &[(&str, &str)],
    ) -> Result<RunFacts, Failure> {
        let secrets: BTreeMap<_, _> = secrets
            .iter()
            .map(|(name, value)| ((*name).to_owned(), Secret::new(*value)))
            .collect();
        self.run(Request::Launch(Box::new(Launch {
            spec: spec.clone(),
            secrets,
        })))
        .await
    }

    pub async fn facts(&mut self, run_id: &RunId) -> RunFacts {
        let request = Request::Runs {
            run_ids: vec![run_id.clone()],
            page: None,
        };
        match self.ask(request).await.unwrap() {
            Reply::Runs { mut runs, .. } => runs.remove(0),
            other => panic!("{other:?}"),
        }
    }

    pub async fn fetch(&mut self, fetch: FetchLog) -> Result<LogChunk, Failure> {
        let id = self.post(&Request::FetchLog(fetch)).await;
        let frame = self.answer(id).await?;
        assert_eq!(frame.kind, Kind::LogChunk);
        Ok(LogChunk::decode(frame.payload).unwrap())
    }

    /// Follows a run's log to its end; the bytes and the end are checked against one another.
    pub async fn whole_log(&mut self, run_id: &RunId) -> Vec<u8> {
        let mut log = Vec::new();
        let deadline = Instant::now() + PATIENCE;
        loop {
            assert!(
                Instant::now() < deadline,
                "{run_id} ends: {:?}",
                self.facts(run_id).await
            );
            let chunk = self.fetch(from(run_id, log.len() as u64, 20_000)).await.unwrap();
            log.extend_from_slice(&chunk.bytes);
            if let Some(end) = chunk.end {
                assert_eq!(end.length, log.len() as u64);
                assert_eq!(end.sha256, farrun_protocol::Sha256::of(&log));
                return log;
            }
        }
    }
}

pub fn from(run_id: &RunId, offset: u64, wait: u64) -> FetchLog {
    FetchLog {
        run_id: run_id.clone(),
        generation: None,
        offset,
        place: None,
        tail_sha256: None,
        max: u64::MAX,
        wait,
    }
}

pub fn code<T: std::fmt::Debug>(answer: Result<T, Failure>) -> ErrorCode {
    answer.unwrap_err().code
}

/// An order that runs a shell script in the test image.
pub fn order(script: &str) -> RunSpec {
    let mut spec: RunSpec = serde_json::from_value(serde_json::json!({
        "format": 1, "run_id": RunId::random(), "controller_id": CONTROLLER, "operation": "inference",
        "name": "test", "created_at": "2026-01-02T03:04:05Z", "image": "farrun-test:1", "pull": "never",
        "inputs_target": "/farrun/inputs", "outputs_target": "/farrun/outputs", "network": "none",
    }))
    .unwrap();
    spec.command = ["/bin/sh", "-c", script].map(str::to_owned).into();
    spec
}
