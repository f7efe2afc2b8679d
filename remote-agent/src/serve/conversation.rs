//! Reading frames, one task per request, one writer.

use super::advance::advance_beside;
use super::call::{Answer, Call};
use super::session::Session;
use super::{
    Context, adopt, arriving, asked, collect, diagnose, doctor, fetch_log, fit, gpus, hash_log, hello, host,
    inputs, launch, notify, outputs, runs, series, set_residence, stop_run, watching,
};
use crate::program_pages;
use farrun_protocol::frame::{Frame, FrameError, FrameReader, Kind, write_frame};
use farrun_protocol::{ErrorCode, Failure, Request};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// A peer that lives pings far more often; sshd may keep a dead one's channel open for hours.
const SILENCE: Duration = Duration::from_secs(90);
/// Frames on their way to the writer; each can hold a megabyte.
const QUEUE: usize = 2;
/// Requests that are answered at once; more are refused.
const MOST_REQUESTS: usize = 128;
/// How long observers that are being started are waited for at the end.
const STARTING: Duration = Duration::from_secs(10);
/// How long a reading of the GPUs that was begun is waited for at the end; a driver that hangs is given up before.
const READING: Duration = Duration::from_secs(30);

/// Serves one conversation until the peer closes it or falls silent. The preamble has been written.
///
/// # Errors
/// The stream broke or a frame was malformed.
pub async fn conversation<R, W>(reader: R, writer: W, context: Context) -> Result<(), FrameError>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin + Send + 'static,
{
    let session = Arc::new(Session::new(context));
    let end = converse(reader, writer, Arc::clone(&session)).await;
    // The answer to a short question is read, and the link closed, before an observer that it called for has begun.
    session.starting.close();
    let _ = tokio::time::timeout(STARTING, session.starting.wait()).await;
    session.gpus.finish(READING).await;
    end
}

async fn converse<R, W>(reader: R, writer: W, session: Arc<Session>) -> Result<(), FrameError>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin + Send + 'static,
{
    let (outbox, queue) = mpsc::channel(QUEUE);
    let mut writing = JoinSet::new();
    writing.spawn(write(writer, queue));
    let mut desk = Desk {
        session,
        outbox,
        tasks: JoinSet::new(),
        waiting: HashMap::new(),
    };
    let mut frames = FrameReader::new(reader, &[]);
    loop {
        tokio::select! {
            frame = tokio::time::timeout(SILENCE, frames.next()) => match frame {
                Ok(Ok(Some(frame))) => desk.take(frame),
                Ok(Ok(None)) | Err(_) => return Ok(()),
                Ok(Err(error)) => return Err(error),
            },
            Some(done) = desk.tasks.join_next() => {
                if let Ok(id) = done {
                    desk.waiting.remove(&id);
                }
            }
            Some(written) = writing.join_next() => {
                return written.unwrap_or(Ok(()));
            }
        }
    }
}

async fn write<W: AsyncWrite + Unpin>(
    mut writer: W,
    mut queue: mpsc::Receiver<Frame>,
) -> Result<(), FrameError> {
    while let Some(frame) = queue.recv().await {
        write_frame(&mut writer, &frame).await?;
    }
    Ok(())
}

struct Desk {
    session: Arc<Session>,
    outbox: mpsc::Sender<Frame>,
    tasks: JoinSet<u64>,
    waiting: HashMap<u64, CancellationToken>,
}

impl Desk {
    fn take(&mut self, frame: Frame) {
        match frame.kind {
            Kind::Request => self.request(frame),
            // A full queue means that frames are on their way out, which is a sign of life as well.
            Kind::Ping => {
                let _ = self.outbox.try_send(Frame::empty(Kind::Pong, 0));
            }
            Kind::Cancel => {
                if let Some(token) = self.waiting.get(&frame.id) {
                    token.cancel();
                }
            }
            Kind::Reply | Kind::Failure | Kind::Progress | Kind::LogChunk | Kind::Pong => {}
        }
    }

    fn request(&mut self, frame: Frame) {
        let id = frame.id;
        let token = CancellationToken::new();
        let call = Arc::new(Call::new(id, self.outbox.clone(), token.clone()));
        let refusal = if self.waiting.contains_key(&id) {
            Some("a request with this id is being answered")
        } else if self.waiting.len() >= MOST_REQUESTS {
            Some("too many requests at once")
        } else {
            None
        };
        if let Some(problem) = refusal {
            let failure = Failure::new(ErrorCode::BadRequest, problem);
            self.tasks.spawn(async move {
                call.finish(Err(failure)).await;
                // Not the id of the request that goes on.
                u64::MAX
            });
            return;
        }
        self.waiting.insert(id, token);
        let session = Arc::clone(&self.session);
        self.tasks.spawn(async move {
            let answer = match serde_json::from_slice::<Request>(&frame.payload) {
                Ok(request) => guarded(session, request, Arc::clone(&call)).await,
                Err(error) => Err(Failure::new(ErrorCode::BadRequest, error)),
            };
            call.finish(answer).await;
            id
        });
    }
}

/// A defect in one handler must not end the conversation.
async fn guarded(session: Arc<Session>, request: Request, call: Arc<Call>) -> Result<Answer, Failure> {
    let mut task = JoinSet::new();
    task.spawn(async move { answer(&session, request, &call).await });
    match task.join_next().await {
        Some(Ok(answer)) => answer,
        Some(Err(error)) => Err(Failure::new(ErrorCode::Internal, error)),
        None => Err(Failure::new(ErrorCode::Internal, "no answer")),
    }
}

async fn answer(session: &Arc<Session>, request: Request, call: &Arc<Call>) -> Result<Answer, Failure> {
    asked::note(&session.context.state, &request);
    let reply = match request {
        Request::Hello(hello) => {
            let reply = hello::hello(session, hello).await;
            program_pages::let_go();
            if reply.is_ok() {
                advance_beside(session);
                watching::for_line(session);
                set_residence::follow_beside(session);
            }
            reply
        }
        Request::CheckInputs { inputs } => inputs::check(session, inputs).await,
        Request::CommitInput {
            content,
            size,
            arriving: false,
        } => inputs::commit(session, content, size).await,
        Request::CommitInput { content, size, .. } => arriving::commit(session, content, size, call).await,
        Request::Launch(order) => {
            let reply = launch::launch(session, *order, call).await;
            watching::for_notifications(session);
            reply
        }
        Request::Runs { run_ids, page } => {
            let reply = runs::runs(session, run_ids, page).await;
            watching::for_notifications(session);
            reply
        }
        Request::Spec { run_id } => runs::spec(session, &run_id),
        Request::FetchLog(fetch) => {
            return fetch_log::fetch_log(session, fetch, call)
                .await
                .map(Answer::Chunk);
        }
        Request::HashLog { run_id, length } => hash_log::hash_log(session, run_id, length).await,
        Request::StopRun { run_id, grace, kill } => {
            let reply = stop_run::stop_run(session, &run_id, grace, kill, call).await;
            // What it held may be what another waits for.
            advance_beside(session);
            watching::for_notifications(session);
            reply
        }
        Request::SetHook(set) => notify::set(session, set),
        Request::Outputs { run_id } => outputs::outputs(session, run_id, call).await,
        Request::Diagnose { run_id, anew } => diagnose::diagnose(session, run_id, anew, call).await,
        Request::Adopt { run_id } => adopt::adopt(session, run_id).await,
        Request::Host => host::host(session).await,
        Request::Collect(collect) => collect::collect(session, collect).await,
        Request::Doctor => doctor::doctor(session).await,
        Request::SetResidence { resident } => set_residence::set_residence(session, resident).await,
        Request::Gpus { max_age, detect } => gpus::gpus(session, max_age, detect).await,
        Request::Fit { gpus, placement } => fit::fit(session, gpus, placement).await,
        Request::Series { run_id, after } => series::series(session, &run_id, after).await,
    };
    reply.map(Answer::Reply)
}
