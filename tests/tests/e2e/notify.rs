//! Telling that a run has ended: from the host while nobody is connected, and from this machine.

use crate::SOON;
use crate::trouble::Counter;
use farrun_tests::{Lab, wait_for, wait_until};
use serde_json::Value;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

const SECRET: &str = "T0KEN-of-the-webhook";

/// A webhook. Each request is handed to the test, which answers it with a status.
struct Webhook {
    port: u16,
    requests: Receiver<(String, Sender<u16>)>,
}

impl Webhook {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (told, requests) = channel();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut request = Vec::new();
                let mut buffer = [0; 4096];
                while !is_whole(&request) {
                    match stream.read(&mut buffer) {
                        Ok(0) | Err(_) => break,
                        Ok(count) => request.extend_from_slice(&buffer[..count]),
                    }
                }
                let (answer, status) = channel();
                let request = String::from_utf8_lossy(&request).into_owned();
                if told.send((request, answer)).is_err() {
                    return;
                }
                let status: u16 = status.recv().unwrap_or(500);
                let _ = write!(
                    stream,
                    "HTTP/1.1 {status} X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                );
            }
        });
        Self { port, requests }
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}/hooks/{SECRET}", self.port)
    }

    fn next(&self) -> (String, Sender<u16>) {
        self.requests.recv_timeout(SOON).expect("a call of the webhook")
    }
}

/// Whether the head is there and as much body as it says.
fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head.lines().find_map(|line| {
        line.to_lowercase()
            .strip_prefix("content-length: ")?
            .trim()
            .parse()
            .ok()
    });
    body.len() >= length.unwrap_or(0)
}

fn lines(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn warnings(lab: &Lab, run: &str) -> Vec<String> {
    let shown = lab.show(run);
    let warnings = shown["warnings"].as_array().unwrap();
    warnings
        .iter()
        .map(|warning| warning.as_str().unwrap().to_owned())
        .collect()
}

/// Has a shell script run on the host at every end.
fn hook(lab: &Lab, script: &str) {
    let command = format!("sh -c '{script}'");
    let _ = lab
        .home
        .farrun(&["host", "set", "lab", "--notify-command", &command])
        .ok();
}

#[test]
fn ends_are_told_by_the_host_while_nobody_is_connected_and_never_twice() {
    let lab = Lab::new();
    let told = Counter::new();
    let (documents, variables) = (told.file("documents"), told.file("variables"));
    hook(
        &lab,
        &format!(
            "cat >> {}; echo \"$FARRUN_RUN_ID $FARRUN_STATUS $FARRUN_REASON $FARRUN_EXIT_CODE\" >> {}",
            documents.display(),
            variables.display()
        ),
    );
    let shown = lab.home.farrun(&["host", "show", "lab"]).ok();
    assert!(shown.text().contains("command sh"), "{shown}");
    let start = told.file("start");
    let options = ["--mount", &told.mount()];
    let wait = "until [ -e /count/start ]; do sleep 0.1; done;";
    let good = lab.detached(&options, &format!("{wait} exit 0"));
    let bad = lab.detached(&options, &format!("{wait} exit 3"));
    let killed = lab.detached(&options, &format!("{wait} kill -SEGV $$"));
    // All at once, and nobody asks the host for anything from here on.
    std::fs::write(start, "").unwrap();
    wait_until("every end to be told", SOON, || lines(&variables).len() == 3);
    let mut expected = [
        format!("{good} succeeded ok 0"),
        format!("{bad} failed exit_code 3"),
        format!("{killed} failed signal "),
    ];
    expected.sort();
    let mut said = lines(&variables);
    said.sort();
    assert_eq!(said, expected);
    let documents: Vec<Value> = lines(&documents)
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let of_bad = documents
        .iter()
        .find(|document| document["run_id"] == bad.as_str())
        .unwrap();
    assert_eq!(of_bad["schema"], "farrun.notification/1");
    assert_eq!(of_bad["host"], "lab");
    assert_eq!(of_bad["error_message"], "the job exited with code 3");
    assert!(
        of_bad["text"]
            .as_str()
            .unwrap()
            .contains("on lab failed: the job exited with code 3")
    );
    for run in [&good, &bad, &killed] {
        let _ = lab.home.farrun(&["wait", run]);
        assert!(warnings(&lab, run).is_empty());
    }
    assert_eq!(lines(&variables).len(), 3);
    // Nothing more is told once it was taken away.
    let _ = lab.home.farrun(&["host", "set", "lab", "--no-notify"]).ok();
    let _ = lab.shell(&[], "exit 0").ok();
    assert!(
        !lab.state().join("notify/due").exists()
            || lab.state().join("notify/due").read_dir().unwrap().count() == 0
    );
    assert_eq!(lines(&variables).len(), 3);
}

#[test]
fn a_webhook_is_called_and_its_address_lies_in_one_closed_file() {
    let lab = Lab::new();
    let webhook = Webhook::start();
    let input = format!("{}\n", webhook.url());
    let _ = lab
        .home
        .farrun_with_input(input.as_bytes(), &["host", "set", "lab", "--notify-url", "-"])
        .ok();
    let shown = lab.home.farrun(&["host", "show", "lab"]).ok();
    let place = format!("webhook http://127.0.0.1:{}/…", webhook.port);
    assert!(shown.text().contains(&place), "{shown}");
    let run = lab.detached(&[], "exit 4");
    let (request, answer) = webhook.next();
    // The call waits for its answer, so its processes can be looked at.
    let arguments = arguments_of_all();
    assert!(
        arguments
            .iter()
            .any(|line| line.starts_with("curl\0-q\0--config\0-\0")),
        "{arguments:?}"
    );
    assert!(!arguments.iter().any(|line| line.contains(SECRET)));
    answer.send(204).unwrap();
    assert!(
        request.starts_with(&format!("POST /hooks/{SECRET} HTTP/1.1\r\n")),
        "{request}"
    );
    let body = request.split_once("\r\n\r\n").unwrap().1;
    let document: Value = serde_json::from_str(body).unwrap();
    assert_eq!(
        (&document["run_id"], &document["reason"]),
        (&run.as_str().into(), &"exit_code".into())
    );
    let _ = lab.home.farrun(&["wait", &run]);
    assert!(warnings(&lab, &run).is_empty());
    assert!(holders(lab.home.path()).is_empty());
    let files = holders(&lab.state());
    assert_eq!(files.len(), 1, "{files:?}");
    let mode = std::fs::metadata(&files[0]).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    // One that refuses is a warning of the run, and the run is as it is.
    let run = lab.detached(&[], "exit 0");
    webhook.next().1.send(503).unwrap();
    let _ = lab.home.farrun(&["wait", &run]).ok();
    let said = wait_for("the warning", SOON, || warnings(&lab, &run).pop());
    assert_eq!(
        said,
        "the hook of `lab` failed: the webhook answered with HTTP status 503"
    );
    assert_eq!(lab.status(&run), "completed");
}

/// The arguments of every process, each ended by a NUL.
fn arguments_of_all() -> Vec<String> {
    let processes = std::fs::read_dir("/proc").unwrap();
    processes
        .filter_map(|entry| std::fs::read(entry.ok()?.path().join("cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).into_owned())
        .collect()
}

/// Files below a folder that hold the secret.
fn holders(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_symlink() {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if std::fs::read(&path).is_ok_and(|bytes| {
                bytes
                    .windows(SECRET.len())
                    .any(|window| window == SECRET.as_bytes())
            }) {
                found.push(path);
            }
        }
    }
    found
}

#[test]
fn a_hook_that_fails_or_hangs_is_a_warning_and_holds_nothing_up() {
    let lab = Lab::new();
    let _ = lab
        .home
        .farrun(&["host", "set", "lab", "--notify-command", "/no/such/hook --now"])
        .ok();
    let run = lab.detached(&[], "exit 0");
    let _ = lab.home.farrun(&["wait", &run]).ok();
    let said = wait_for("the warning", SOON, || warnings(&lab, &run).pop());
    assert!(said.contains("`/no/such/hook` could not be started"), "{said}");
    assert_eq!(lab.status(&run), "completed");

    // Longer than it may, and short enough to leave nothing behind when its observer is ended.
    hook(&lab, "exec sleep 45");
    let begun = Instant::now();
    for _ in 0..3 {
        let _ = lab.shell(&[], "exit 0").ok();
    }
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
    let hanging = arguments_of_all();
    assert!(hanging.iter().any(|line| line == "sleep\x0045\0"));
    assert!(warnings(&lab, "@last").is_empty());
}

#[test]
fn addresses_and_commands_that_cannot_be_are_refused_before_a_host_is_asked() {
    let lab = Lab::new();
    lab.engine.answers();
    for (flag, value, said) in [
        ("--notify-url", "file:///etc/passwd", "https://"),
        ("--notify-url", "https://x/ y", "blanks"),
        ("--notify-command", "", "program"),
        ("--notify-command", "say 'hello", "has no end"),
    ] {
        let outcome = lab.home.farrun(&["host", "set", "lab", flag, value]);
        let _ = outcome.expect_code(2).expect_error(said);
    }
    assert!(!lab.state().join("notify").exists());
}

#[test]
fn this_machine_tells_once_whoever_learns_of_the_end() {
    let lab = Lab::new();
    let told = Counter::new();
    let log = told.file("told");
    let script = format!(
        "echo \"$FARRUN_RUN_ID $FARRUN_STATUS $FARRUN_HOST\" >> {}",
        log.display()
    );
    lab.home.write(
        ".config/farrun/config.toml",
        format!("[notify]\ncommand = [\"sh\", \"-c\", '{script}']\n"),
    );
    // Attached: whoever follows it learns of it.
    let _ = lab.shell(&[], "exit 0").ok();
    let first = crate::trouble::last_id(&lab);
    wait_until("the first to be told", SOON, || lines(&log).len() == 1);
    // Detached, and several commands look at once.
    let run = lab.detached(&[], "exit 9");
    let record = lab.run_folder(&run).join("record/exit.json");
    wait_until("the end", SOON, || {
        std::fs::read(&record).is_ok_and(|bytes| bytes.starts_with(b"FARRUN-EXIT"))
    });
    let looks = [(); 4].map(|()| lab.home.spawn(&["list"]));
    for look in looks {
        let _ = look.finish(SOON).ok();
    }
    let _ = lab.home.farrun(&["wait", &run]).expect_code(1);
    wait_until("the second to be told", SOON, || lines(&log).len() == 2);
    // By hand it tells nobody again.
    let _ = lab.home.farrun(&["tell", &run]).ok();
    assert_eq!(
        lines(&log),
        [format!("{first} succeeded lab"), format!("{run} failed lab")]
    );
    // One that fails is a warning.
    lab.home
        .write(".config/farrun/config.toml", "[notify]\ncommand = ['false']\n");
    let _ = lab.shell(&[], "exit 0").ok();
    let said = wait_for("the warning", SOON, || warnings(&lab, "@last").pop());
    assert_eq!(
        said,
        "the command false of this machine failed: it ended with code 1"
    );
}
