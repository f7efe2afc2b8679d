//! An engine that answers from a script: it can lose an answer, lose a request, or keep one waiting for good.

use rustix::fs::{FlockOperation, flock};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;

/// What happens to one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The connection closes; the call has no effect.
    LostRequest,
    /// The call has its effect; the connection closes before the answer.
    LostAnswer,
    /// The call has no effect and no end.
    HeldRequest,
    /// The call has its effect and no end.
    HeldAnswer,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    /// Calls in order, as `METHOD path`.
    pub(crate) calls: Vec<String>,
    /// Containers by name.
    pub(crate) containers: HashMap<String, Container>,
    /// How often a job was executed.
    pub(crate) executions: usize,
    /// The call with this number meets this fault, once.
    pub(crate) fault: Option<(usize, Fault)>,
    /// The first call with this in its path has no effect and no end.
    pub(crate) holds: Option<&'static str>,
    /// What a start answers instead of success.
    pub(crate) start_refusal: Option<String>,
    /// What reading a container's output answers instead of it.
    pub(crate) logs_refusal: Option<String>,
    /// What every container has printed so far.
    pub(crate) output: Vec<u8>,
    /// What a second program in a container prints; it is refused when there is nothing.
    pub(crate) executed: Option<String>,
}

#[derive(Debug, Clone)]
pub(crate) struct Container {
    pub(crate) body: Value,
    pub(crate) status: &'static str,
    error: String,
    /// Its PID 1's lock on the run, for as long as it lives.
    claim: Option<Arc<File>>,
}

impl Container {
    /// One that runs and was made by somebody else.
    pub(crate) fn of_somebody(labels: &Value) -> Self {
        Self {
            body: json!({"Labels": labels, "Entrypoint": ["/bin/job"]}),
            status: "running",
            error: String::new(),
            claim: None,
        }
    }
}

pub(crate) struct Scripted {
    pub(crate) state: Arc<Mutex<State>>,
    /// Rung when a call is being held.
    pub(crate) held: Arc<Notify>,
    socket: PathBuf,
    _serving: JoinSet<()>,
}

impl Scripted {
    pub(crate) fn start(folder: &Path) -> Self {
        let socket = folder.join("engine");
        let listener = UnixListener::bind(&socket).unwrap();
        let (state, held) = (Arc::new(Mutex::new(State::default())), Arc::new(Notify::new()));
        let mut serving = JoinSet::new();
        let shared = (Arc::clone(&state), Arc::clone(&held));
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, Arc::clone(&shared.0), Arc::clone(&shared.1)));
            }
        });
        Self {
            state,
            held,
            socket,
            _serving: serving,
        }
    }

    pub(crate) fn host(&self) -> String {
        format!("unix://{}", self.socket.display())
    }
}

async fn serve(mut stream: UnixStream, state: Arc<Mutex<State>>, held: Arc<Notify>) {
    let Some((method, path, body)) = request(&mut stream).await else {
        return;
    };
    let fault = {
        let mut state = state.lock().unwrap();
        let number = state.calls.len();
        state.calls.push(format!("{method} {path}"));
        let holds = state.holds.take_if(|part| path.contains(*part));
        state
            .fault
            .take_if(|(at, _)| *at == number)
            .map(|(_, fault)| fault)
            .or(holds.map(|_| Fault::HeldRequest))
    };
    match fault {
        Some(Fault::LostRequest) => return,
        Some(Fault::HeldRequest) => {
            held.notify_one();
            return std::future::pending().await;
        }
        Some(Fault::LostAnswer | Fault::HeldAnswer) | None => {}
    }
    let refusal = state.lock().unwrap().logs_refusal.clone();
    if path.contains("/logs?") && refusal.is_none() {
        return hand_out(stream, &state, path.contains("follow=true")).await;
    }
    if path.contains("/exec/") {
        let printed = state.lock().unwrap().executed.clone().unwrap_or_default();
        return print(stream, &printed).await;
    }
    let (status, answer) = act(&mut state.lock().unwrap(), &method, &path, body);
    match fault {
        Some(Fault::LostAnswer) => return,
        Some(Fault::HeldAnswer) => {
            held.notify_one();
            return std::future::pending().await;
        }
        _ => {}
    }
    let answer = if status == 204 {
        String::new()
    } else {
        answer.to_string()
    };
    let head = format!(
        "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        answer.len()
    );
    let _ = stream.write_all(format!("{head}{answer}").as_bytes()).await;
}

/// Sends the output in frames, as an engine does for containers without a terminal; it stays with a follower.
async fn hand_out(mut stream: UnixStream, state: &Mutex<State>, follow: bool) {
    let head =
        "HTTP/1.1 200 X\r\nContent-Type: application/vnd.docker.raw-stream\r\nConnection: close\r\n\r\n";
    let mut sent = 0;
    if stream.write_all(head.as_bytes()).await.is_err() {
        return;
    }
    loop {
        let fresh = state.lock().unwrap().output[sent..].to_vec();
        if !fresh.is_empty() {
            let mut frame = vec![1, 0, 0, 0];
            frame.extend(u32::try_from(fresh.len()).unwrap().to_be_bytes());
            frame.extend(&fresh);
            if stream.write_all(&frame).await.is_err() {
                return;
            }
            sent += fresh.len();
        }
        if !follow {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

/// Answers as an engine does that has started a program and hands over its connection.
async fn print(mut stream: UnixStream, printed: &str) {
    let head = "HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\n\
                Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n";
    let mut answer = head.as_bytes().to_vec();
    answer.extend([1, 0, 0, 0]);
    answer.extend(u32::try_from(printed.len()).unwrap().to_be_bytes());
    answer.extend(printed.as_bytes());
    let _ = stream.write_all(&answer).await;
}

async fn request(stream: &mut UnixStream) -> Option<(String, String, Value)> {
    let mut bytes = Vec::new();
    let head_end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8_lossy(&bytes[..head_end]).into_owned();
    let length: usize = head
        .lines()
        .find_map(|line| {
            line.to_lowercase()
                .strip_prefix("content-length:")?
                .trim()
                .parse()
                .ok()
        })
        .unwrap_or(0);
    while bytes.len() < head_end + length {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    let mut words = head.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let body = serde_json::from_slice(&bytes[head_end..]).unwrap_or(Value::Null);
    Some((method, path, body))
}

fn act(state: &mut State, method: &str, path: &str, body: Value) -> (u16, Value) {
    if path == "/_ping" {
        // An engine behind something that takes the heads of answers away.
        return (200, json!("OK"));
    }
    if path == "/version" {
        return (200, json!({"Version": "20.10", "ApiVersion": "1.41"}));
    }
    // Everything but the question for the version must carry it.
    let Some(path) = path.strip_prefix("/v1.41") else {
        return (400, json!({"message": "no version"}));
    };
    if path.starts_with("/images/") {
        return (
            200,
            json!({"Id": "sha256:image", "Config": {"Cmd": ["/bin/job"]}}),
        );
    }
    if let Some(query) = path.strip_prefix("/containers/create?name=") {
        let name = query.split('&').next().unwrap_or_default().to_owned();
        if state.containers.contains_key(&name) {
            return (409, json!({"message": "name is taken"}));
        }
        let container = Container {
            body,
            status: "created",
            error: String::new(),
            claim: None,
        };
        state.containers.insert(name.clone(), container);
        return (201, json!({"Id": id_of(&name), "Warnings": []}));
    }
    if path.starts_with("/containers/json") {
        let listed: Vec<Value> = state
            .containers
            .iter()
            .map(|(name, container)| listed(name, container))
            .collect();
        return (200, Value::Array(listed));
    }
    let mut parts = path.trim_start_matches("/containers/").split(['/', '?']);
    let (id, verb) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let refusal = state.start_refusal.clone();
    let found = state
        .containers
        .iter_mut()
        .find(|(name, _)| name.as_str() == id || id_of(name) == id);
    let Some((name, container)) = found else {
        return (404, json!({"message": "no such container"}));
    };
    match (method, verb) {
        ("GET", "logs") => (500, json!({"message": state.logs_refusal})),
        ("GET", "json") => (200, inspect(name, container)),
        ("DELETE", _) => {
            let name = name.clone();
            state.containers.remove(&name);
            (204, Value::Null)
        }
        ("POST", "start") => {
            if let Some(message) = refusal {
                container.error.clone_from(&message);
                return (500, json!({"message": message}));
            }
            // As a real engine does: whatever does not run is executed, however often it ran before.
            if container.status != "running" {
                container.status = "running";
                container.claim = claim(container);
                state.executions += 1;
            }
            (204, Value::Null)
        }
        ("POST", "exec") if state.executed.is_some() => (201, json!({"Id": "program"})),
        ("POST", "kill") => {
            container.status = "exited";
            container.claim = None;
            (204, Value::Null)
        }
        _ => (404, json!({"message": "page not found"})),
    }
}

/// As PID 1 does once it holds the locks of its GPUs; one that nobody holds would tell of its end.
fn claim(container: &Container) -> Option<Arc<File>> {
    let mounts = container.body["HostConfig"]["Mounts"].as_array()?;
    let record = mounts.iter().find(|mount| mount["Target"] == "/.farrun/record")?;
    let mut claim = File::create(Path::new(record["Source"].as_str().unwrap()).join("started")).unwrap();
    flock(&claim, FlockOperation::LockExclusive).unwrap();
    claim.write_all(b"now\n").unwrap();
    Some(Arc::new(claim))
}

fn listed(name: &str, container: &Container) -> Value {
    json!({
        "Id": id_of(name), "Names": [format!("/{name}")], "Labels": container.body["Labels"],
        "State": container.status, "Command": container.body["Entrypoint"].as_array().unwrap()[0],
        "Created": chrono::Utc::now().timestamp(),
    })
}

fn id_of(name: &str) -> String {
    farrun_protocol::Sha256::of(name.as_bytes()).to_string()
}

fn inspect(name: &str, container: &Container) -> Value {
    let started = if container.status == "created" {
        "0001-01-01T00:00:00Z"
    } else {
        "2026-01-02T03:04:05Z"
    };
    json!({
        "Id": id_of(name),
        "Image": "sha256:image",
        "State": {
            "Status": container.status, "ExitCode": 0, "Error": container.error, "OOMKilled": false,
            "StartedAt": started, "FinishedAt": "0001-01-01T00:00:00Z",
        },
        "Config": {"Labels": container.body["Labels"], "Entrypoint": container.body["Entrypoint"]},
    })
}
