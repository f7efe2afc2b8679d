//! Fifty planted secrets, and every place that is looked at afterwards.
//!
//! Half of them are given as secrets: they may be nowhere but in what the job itself printed. The others look like secrets
//! and are printed by the job: evidence and what is said of it are to be free of them, the run log is never altered. One
//! more is in the address of a webhook, which only one file of the host may hold.

use crate::pull::files;
use farrun_protocol::Sha256;
use farrun_tests::{Lab, wait_until};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Where pieces of a log end that are worked on one after the other.
const BORDER: usize = 65_536;
/// In the address of the webhook that nobody answers.
const HOOK: &str = "hook-5d0c1be97f42";
/// Those printed last, which whoever asks for the cause is shown.
const LAST: usize = 5;

/// Values given as secrets: plain, with what shells and JSON escape, of several lines, not of ASCII.
fn given() -> Vec<(String, String)> {
    (0..25)
        .map(|n| {
            let value = match n % 5 {
                0 => format!("given-{n:02}-4f1c9d7e2b"),
                1 => format!("giv\"en'{n:02}\\$HOME`x`"),
                2 => format!("given-{n:02}-one of\ngiven-{n:02}-two of\ngiven-{n:02}-three"),
                3 => format!("gegében-{n:02}-schlüssel"),
                _ => format!("Z2l2ZW4{n:02}+/Z2l2ZW4=="),
            };
            (format!("PLANTED_{n:02}"), value)
        })
        .collect()
}

/// Texts of known shapes that a job prints.
fn shaped() -> Vec<String> {
    let tail = |n: usize| Sha256::of(format!("planted {n}").as_bytes()).as_str().to_owned();
    (0..25)
        .map(|n| {
            let tail = tail(n);
            match n % 5 {
                0 => format!("hf_{}", &tail[..34]),
                1 => format!("ghp_{}", &tail[..36]),
                2 => format!("AKIA{}", tail[..16].to_uppercase()),
                3 => format!("sk-proj-{}", &tail[..40]),
                _ => format!("pw{}", &tail[..20]),
            }
        })
        .collect()
}

/// How the job prints the text of a shape: as tools do.
fn printed(n: usize, text: &str) -> String {
    match n % 5 {
        4 => format!("fetching https://ada:{text}@models.example.org/x?size=1"),
        _ => format!("Authorization: Bearer {text}"),
    }
}

/// Secrets that were not given as such: in the environment by an order, under names that say so and names that do not,
/// and from there in what the engine says of the container.
fn surrounding() -> Vec<(&'static str, String)> {
    let tail = |n: usize| Sha256::of(format!("around {n}").as_bytes()).as_str().to_owned();
    vec![
        ("HF_TOKEN", format!("hf_{}", &tail(0)[..34])),
        ("DB_PASSWORD", format!("plain words {}", &tail(1)[..8])),
        ("NOTE", format!("use ghp_{} there", &tail(2)[..36])),
        (
            "MIRROR",
            format!("https://ada:pw{}@mirror.example.org/simple", &tail(3)[..20]),
        ),
        ("AWS", format!("AKIA{}", tail(4)[..16].to_uppercase())),
    ]
}

/// The part of such a value that is secret.
fn core(value: &str) -> &str {
    let from = ["hf_", "plain words ", "ghp_", "pw", "AKIA"]
        .iter()
        .find_map(|begin| value.find(begin));
    let rest = &value[from.unwrap_or(0)..];
    rest.split([' ', '@']).max_by_key(|part| part.len()).unwrap()
}

/// A value as it could lie somewhere: each of its lines, which are as bad in part, also as JSON writes it.
fn forms(value: &str) -> Vec<String> {
    let plain = value.lines().map(str::to_owned);
    let json = value
        .lines()
        .map(|line| serde_json::to_string(line).unwrap().trim_matches('"').to_owned());
    plain.chain(json).collect()
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

/// The arguments of every process, as often as can be, until told to stop.
fn sample(stop: &AtomicBool) -> BTreeSet<Vec<u8>> {
    let mut seen = BTreeSet::new();
    while !stop.load(Ordering::Relaxed) {
        let processes = std::fs::read_dir("/proc").unwrap();
        seen.extend(processes.filter_map(|entry| std::fs::read(entry.ok()?.path().join("cmdline")).ok()));
    }
    seen
}

/// What the job wrote, which is never altered: there and here.
fn is_log(path: &Path) -> bool {
    let name = path.file_name().unwrap().to_string_lossy();
    ["run.log", "run.tail"].contains(&&*name) || (name.starts_with("run_rs_") && name.ends_with(".log"))
}

/// Everything that is said of why a run failed: on the terminal, as JSON, and as a page.
fn said_of(lab: &Lab, run: &str) -> Vec<(&'static str, Vec<u8>)> {
    let page = lab.home.path().join("page.html");
    let option = format!("--html={}", page.display());
    let told = lab.home.farrun(&["why", run]).ok();
    let json = lab.home.farrun(&["why", run, "--json", &option]).ok();
    assert!(json.json()["absent"].is_null(), "{json}");
    let shown = lab.home.farrun(&["show", run, "--json"]).ok();
    let diagnosed = lab.home.farrun(&["diagnose", run, "--json"]).ok();
    let page = std::fs::read(page).unwrap();
    // They quote the log's last lines, or there would be nothing to find in them.
    for (what, bytes) in [
        ("why", &told.stdout),
        ("why --json", &json.stdout),
        ("page", &page),
    ] {
        assert!(holds(bytes, "[redacted:PLANTED_"), "{what} quotes nothing");
    }
    vec![
        ("why", [told.stdout, told.stderr].concat()),
        ("why --json", [json.stdout, json.stderr].concat()),
        ("why --html", page),
        ("show --json", [shown.stdout, shown.stderr].concat()),
        ("diagnose --json", [diagnosed.stdout, diagnosed.stderr].concat()),
    ]
}

/// The evidence in a folder: whole, about this run, and with every given secret counted among what was replaced.
fn check_bundle(folder: &Path, run: &str) {
    let bundle: Value = serde_json::from_slice(&std::fs::read(folder.join("bundle.json")).unwrap()).unwrap();
    assert_eq!(
        (&bundle["run_id"], &bundle["trigger"]),
        (&run.into(), &"failure".into())
    );
    for (name, _) in given() {
        assert!(
            bundle["redactions"][&name].as_u64() >= Some(1),
            "{name}: {bundle}"
        );
    }
    for shape in [
        "log.head",
        "log.tail",
        "settled.json",
        "spec.json",
        "container.json",
    ] {
        assert!(
            folder.join(shape).exists(),
            "{shape} is not in {}",
            folder.display()
        );
    }
    for (path, bytes) in files(folder) {
        let of_hook = path.components().any(|part| part.as_os_str() == "notify");
        assert!(!of_hook && !holds(&bytes, HOOK), "{}", path.display());
    }
}

#[test]
fn planted_secrets_are_only_where_the_job_put_them() {
    let mut lab = Lab::new();
    lab.home.set("FARRUN_LOG", "trace");
    let (given, shaped) = (given(), shaped());
    let mut options = Vec::new();
    let mut sources: Vec<PathBuf> = Vec::new();
    for (name, value) in &given {
        let file = lab.home.write(&format!("planted/{name}"), value);
        options.extend(["--secret".to_owned(), format!("{name}=@{}", file.display())]);
        sources.push(file);
    }
    let surrounding = surrounding();
    for (name, value) in &surrounding {
        options.extend(["--env".to_owned(), format!("{name}={value}")]);
    }
    // The job reads what it prints of shapes from a file, so that the order does not hold it.
    let lines: Vec<String> = shaped
        .iter()
        .enumerate()
        .map(|(n, text)| printed(n, text))
        .collect();
    let shapes = lab.home.write("planted/shapes", lines.join("\n") + "\n");
    options.extend(["--input".to_owned(), format!("shapes={}", shapes.display())]);
    sources.push(shapes);
    let hook = lab
        .home
        .write("planted/hook", format!("http://127.0.0.1:9/{HOOK}\n"));
    let _ = lab
        .home
        .farrun_with_input(
            &std::fs::read(&hook).unwrap(),
            &["host", "set", "lab", "--notify-url", "-"],
        )
        .ok();
    sources.push(hook);
    // The first is cut by a border.
    let print = |given: &[(String, String)]| -> String {
        let one = |(name, _): &(String, String)| format!("printf '%s\\n' \"${name}\"; ");
        given.iter().map(one).collect()
    };
    let last = &given[given.len() - LAST..];
    let script = format!(
        "head -c {} /dev/zero | tr '\\0' x; {} cat /farrun/inputs/shapes; {} exit 3",
        BORDER - 7,
        print(&given),
        print(last)
    );

    let stop = Arc::new(AtomicBool::new(false));
    let sampler = std::thread::spawn({
        let stop = Arc::clone(&stop);
        move || sample(&stop)
    });
    let texts: Vec<&str> = options.iter().map(String::as_str).collect();
    let attached = lab.shell(&texts, &script).expect_code(1);
    let run = crate::trouble::last_id(&lab);
    // Whoever was attached has the evidence here before the command ends.
    let shown = lab.show(&run);
    let here = PathBuf::from(shown["run"]["diagnostics_path"].as_str().unwrap());
    check_bundle(&here, &run);
    check_bundle(&lab.run_folder(&run).join("diagnostics"), &run);
    let mut said = said_of(&lab, &run);
    // What the job printed is passed on as it is; what is said beside it is ours.
    said.push(("the attached command's messages", attached.stderr));
    wait_until("the values to be gone from the host", crate::SOON, || {
        !lab.run_folder(&run).join("secrets.json").exists()
    });
    wait_until("the webhook to be tried", crate::SOON, || {
        lab.run_folder(&run).join("notified").exists()
    });
    let inspected = lab.engine.ask(&["inspect", &format!("farrun-{run}")]);
    stop.store(true, Ordering::Relaxed);
    let arguments = sampler.join().unwrap();

    // The log is what the job wrote, byte for byte.
    let mut expected = vec![b'x'; BORDER - 7];
    for (_, value) in &given {
        expected.extend_from_slice(value.as_bytes());
        expected.push(b'\n');
    }
    expected.extend_from_slice((lines.join("\n") + "\n").as_bytes());
    for (_, value) in last {
        expected.extend_from_slice(value.as_bytes());
        expected.push(b'\n');
    }
    assert!(
        lab.mirror(&run) == expected,
        "the mirror is not what the job wrote"
    );
    let there = std::fs::read(lab.run_folder(&run).join("record/run.log")).unwrap();
    assert!(there == expected, "the log is not what the job wrote");

    for source in sources {
        std::fs::remove_file(source).unwrap();
    }
    let mut wrong = Vec::new();
    for (name, value) in &given {
        let mut look = |place: String, bytes: &[u8]| {
            if forms(value).iter().any(|form| holds(bytes, form)) {
                wrong.push(format!("{name} is in {place}"));
            }
        };
        look("the container's settings".into(), inspected.as_bytes());
        for line in &arguments {
            look(format!("arguments {:?}", String::from_utf8_lossy(line)), line);
        }
        for (what, bytes) in &said {
            look((*what).to_owned(), bytes);
        }
    }
    for text in shaped.iter().map(String::as_str).chain([HOOK]) {
        let said = said.iter().map(|(what, bytes)| (*what, bytes));
        let arguments = arguments.iter().map(|line| ("arguments", line));
        for (what, _) in said.chain(arguments).filter(|(_, bytes)| holds(bytes, text)) {
            wrong.push(format!("`{text}` is in {what}"));
        }
    }
    // They are part of the order, and so in its record and in what the engine has; not in what is sent to colleagues.
    for (name, value) in &surrounding {
        assert!(
            holds(inspected.as_bytes(), core(value)),
            "{name} is in no environment"
        );
        for (what, bytes) in said.iter().filter(|(what, _)| *what != "show --json") {
            if holds(bytes, core(value)) {
                wrong.push(format!("{name} is in {what}"));
            }
        }
    }
    for folder in [lab.home.path().to_path_buf(), lab.state()] {
        for (path, bytes) in files(&folder) {
            if is_log(&path) {
                continue;
            }
            let evidence = path.components().any(|part| part.as_os_str() == "diagnostics");
            let values = given.iter().flat_map(|(_, value)| forms(value));
            // What looks like a secret was never given as one: only evidence is free of it.
            let around = surrounding.iter().map(|(_, value)| core(value).to_owned());
            let shapes = shaped.iter().cloned().chain(around).filter(|_| evidence);
            let is_hook = path.starts_with(lab.state().join("notify"));
            let hook = [HOOK.to_owned()].into_iter().filter(|_| !is_hook);
            for text in values.chain(shapes).chain(hook) {
                if holds(&bytes, &text) {
                    wrong.push(format!("`{text}` is in {}", path.display()));
                }
            }
        }
    }
    assert!(arguments.len() > 20, "nothing was sampled");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_secret_of_no_known_shape_is_told_by_nothing_that_has_only_the_log() {
    const PLAIN: &str = "correct-horse-battery-staple";
    let lab = Lab::new();
    let key = lab.home.write("plain", PLAIN);
    let option = format!("PLAIN=@{}", key.display());
    // As programs write it, with the value among its words.
    let script =
        "echo \"OSError: [Errno 28] No space left on device: '/data/$PLAIN'\"; echo last $PLAIN; exit 1";
    let run = lab.detached(&["--secret", &option], script);
    std::fs::remove_file(key).unwrap();
    lab.wait_status(&run, &["failed"], crate::SOON);
    let _ = lab.home.farrun(&["logs", &run]).ok();
    assert!(holds(&lab.mirror(&run), PLAIN));
    wait_until("the values to be gone from the host", crate::SOON, || {
        !lab.run_folder(&run).join("secrets.json").exists()
    });

    let page = lab.home.path().join("page.html");
    let html = format!("--html={}", page.display());
    let told = lab.home.farrun(&["why", &run, "--offline"]).ok();
    let json = lab.home.farrun(&["why", &run, "--offline", "--json", &html]).ok();
    let cause = json.json()["diagnosis"]["cause"].clone();
    assert_eq!(cause["code"], "disk_full", "{json}");
    assert!(told.text().contains("it is not quoted"), "{told}");
    let listed = lab.home.farrun(&["list", "--offline"]).ok();
    let page = std::fs::read(page).unwrap();
    for bytes in [&told.stdout, &told.stderr, &json.stdout, &listed.stdout, &page] {
        assert!(!holds(bytes, PLAIN), "{}", String::from_utf8_lossy(bytes));
    }
    let nowhere = || {
        for folder in [lab.home.path().to_path_buf(), lab.state()] {
            for (path, bytes) in files(&folder) {
                assert!(is_log(&path) || !holds(&bytes, PLAIN), "{}", path.display());
            }
        }
    };
    nowhere();

    // The host's evidence has the words without the value, also when it is collected again after the value is gone.
    let with = lab.home.farrun(&["why", &run]).ok();
    assert!(with.text().contains("/data/[redacted:PLAIN]"), "{with}");
    let _ = lab.home.farrun(&["diagnose", &run, "--anew"]).ok();
    let again = lab.home.farrun(&["why", &run]).ok();
    assert!(again.text().contains("/data/[redacted:PLAIN]"), "{again}");
    nowhere();
}
