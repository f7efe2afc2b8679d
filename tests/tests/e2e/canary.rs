//! Fifty planted secrets, and every place that is looked at afterwards.
//!
//! Half of them are given as secrets: they may be nowhere but in what the job itself printed. The others look like secrets
//! and are printed by the job: evidence is to be free of them, the run log is never altered.

use crate::pull::files;
use farrun_protocol::Sha256;
use farrun_tests::Lab;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Where pieces of a log end that are worked on one after the other.
const BORDER: usize = 65_536;

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
    // The job reads what it prints of shapes from a file, so that the order does not hold it.
    let lines: Vec<String> = shaped
        .iter()
        .enumerate()
        .map(|(n, text)| printed(n, text))
        .collect();
    let shapes = lab.home.write("planted/shapes", lines.join("\n") + "\n");
    options.extend(["--input".to_owned(), format!("shapes={}", shapes.display())]);
    sources.push(shapes);
    // The first is cut by a border.
    let prints: String = given
        .iter()
        .map(|(name, _)| format!("printf '%s\\n' \"${name}\"; "))
        .collect();
    let script = format!(
        "head -c {} /dev/zero | tr '\\0' x; {prints} cat /farrun/inputs/shapes; exit 3",
        BORDER - 7
    );

    let stop = Arc::new(AtomicBool::new(false));
    let sampler = std::thread::spawn({
        let stop = Arc::clone(&stop);
        move || sample(&stop)
    });
    let texts: Vec<&str> = options.iter().map(String::as_str).collect();
    let _ = lab.shell(&texts, &script).expect_code(1);
    let run = crate::trouble::last_id(&lab);
    let shown = lab.home.farrun(&["show", &run, "--json"]).ok();
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
        look("the answer of show".into(), shown.stdout.as_slice());
        look("the container's settings".into(), inspected.as_bytes());
        for line in &arguments {
            look(format!("arguments {:?}", String::from_utf8_lossy(line)), line);
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
            let shapes = shaped.iter().filter(|_| evidence).cloned();
            for text in values.chain(shapes) {
                if holds(&bytes, &text) {
                    wrong.push(format!("`{text}` is in {}", path.display()));
                }
            }
        }
    }
    assert!(arguments.len() > 20, "nothing was sampled");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
