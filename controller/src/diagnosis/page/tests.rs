//! The page as it is, and what cannot happen to it.

use super::page;
use crate::diagnosis::tests::Folder;
use crate::ui::plot::{Plot, Point, Series};
use serde_json::json;

fn folder() -> Folder {
    let log = "\
Loading checkpoint shards: 100%|##########| 4/4\n\
step 17/50  loss 0.0421\n\
Traceback (most recent call last):\n  File \"/app/run.py\", line 212, in <module>\n    main()\n\
torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.15 GiB of which 1.25 GiB is free.\n\
[rank0]: exiting\n";
    let gpu = json!({
        "uuid": "GPU-aaaa", "index": 0, "name": "NVIDIA H100 80GB HBM3", "bus_id": "00000000:0B:00.0", "memory_total": 81559,
        "memory_reserved": 500, "memory_used": 78210, "memory_free": 2849, "utilization": 5, "memory_utilization": 1,
        "temperature": 40, "fan": { "absent": "not_available" }, "power": 70000, "power_limit": 700_000, "ecc_errors": 0,
        "health": "healthy",
    });
    let samples: String = (0..120)
        .map(|step| {
            let at = format!("2026-03-01T10:{:02}:{:02}Z", step / 12, step % 12 * 5);
            let memory = 3000 + step * 640;
            format!("{{\"at\":\"{at}\",\"covers\":5,\"log_offset\":{step},\"gpus\":[{{\"uuid\":\"GPU-aaaa\",\"memory\":{memory},\"utilization\":97}}]}}\n")
        })
        .collect();
    Folder::new()
        .log(log)
        .with("series.jsonl", samples)
        .json("gpus.json", &json!({
            "state": "fresh", "device": { "device": "cuda", "detected_at": "2026-03-01T10:00:00Z", "boot_id": "b" },
            "driver": { "version": "550.54.15", "cuda": "12.4" }, "gpus": [gpu],
            "processes": [{ "gpu_uuid": "GPU-aaaa", "pid": 4711, "memory": 32000,
                            "holder": { "kind": "process", "user": "alice", "command": "python" } }],
        }))
        .json("disks.json", &json!([
            { "role": "engine", "path": "/var/lib/docker", "total": 1_000_000_000_000u64, "free": 120_000_000_000u64,
              "inodes": 9, "inodes_free": 5 },
        ]))
        .json("container.json", &json!({ "Id": "c0ffee", "State": { "ExitCode": 1, "Error": "", "OOMKilled": false } }))
        .with("system.txt", "== /proc/meminfo ==\nMemTotal:       263823560 kB\nMemAvailable:   201823560 kB\n")
        .with("events.jsonl", "{\"Action\":\"start\",\"timeNano\":1772359200500000000}\n{\"Action\":\"die\",\"Actor\":{\"Attributes\":{\"exitCode\":\"1\"}},\"timeNano\":1772359799900000000}\n")
}

/// What the terminal draws as well, from the folder's samples.
fn plot() -> Plot {
    let series = |name: &str, unit: &'static str, value: fn(f64) -> f64, top: f64| Series {
        name: name.to_owned(),
        unit,
        top: Some(top),
        points: (0..120)
            .map(|step| f64::from(step) * 5.0)
            .map(|at| Point {
                at,
                covers: 5.0,
                value: Some(value(at)),
            })
            .collect(),
    };
    Plot {
        series: vec![
            series("GPU 0 memory in use", "GiB", |at| 3.0 + at / 8.0, 79.6),
            series("GPU 0 utilisation", "%", |at| 97.0 - (at / 60.0) % 5.0, 100.0),
        ],
        span: 605.0,
    }
}

#[test]
fn the_page_is_frozen() {
    let folder = folder();
    let html = page(&folder.read(), &folder.run, Some(&plot()));
    if let Ok(path) = std::env::var("FARRUN_TEST_PAGE") {
        std::fs::write(path, &html).unwrap();
    }
    let (before, rest) = html.split_once("<style>").unwrap();
    let (_, after) = rest.split_once("</style>").unwrap();
    let (start, svg) = after.split_once("<polyline").unwrap();
    let (_, end) = svg.rsplit_once("</svg>\n</div>").unwrap();
    insta::assert_snapshot!(format!("{before}…{start}…{end}"));
}

#[test]
fn what_is_not_printed_leaves_no_heading_and_commands_break_nowhere_on_a_screen() {
    let folder = folder();
    let html = page(&folder.read(), &folder.run, None);
    assert!(html.contains("<section class=\"documents\">\n<h2>The evidence itself</h2>"));
    let (screen, print) = super::STYLE.split_once("@media print").unwrap();
    assert!(print.contains("section.documents { display: none; }"));
    let command = screen
        .lines()
        .find(|line| line.starts_with("pre.command "))
        .unwrap();
    assert!(
        command.contains("white-space: pre;") && command.contains("overflow-x: auto;"),
        "{command}"
    );
}

#[test]
fn a_page_without_a_known_cause_says_what_to_try() {
    let folder = Folder::new().log("nobody has seen this before\n");
    let html = page(&folder.read(), &folder.run, None);
    assert!(html.contains("<pre class=\"command\">farrun logs rs_abcdefgh --tail 100</pre>"));
}

#[test]
fn the_policy_allows_this_style_and_nothing_else() {
    let folder = folder();
    let html = page(&folder.read(), &folder.run, Some(&plot()));
    let (_, rest) = html.split_once("<style>").unwrap();
    let (style, _) = rest.split_once("</style>").unwrap();
    use base64::Engine as _;
    use sha2::Digest as _;
    let digest = base64::engine::general_purpose::STANDARD.encode(sha2::Sha256::digest(style));
    assert!(
        html.contains(&format!("default-src 'none'; style-src 'sha256-{digest}'; ")),
        "{html}"
    );
    // The policy forbids these, so they would not work.
    let tags: Vec<&str> = html
        .split('<')
        .filter_map(|part| Some(part.split_once('>')?.0))
        .collect();
    for forbidden in [" style=", "http:", "https:", " on", "javascript:", "href", "src="] {
        assert_eq!(
            tags.iter().find(|tag| tag.contains(forbidden)),
            None,
            "{forbidden}"
        );
    }
    for element in ["script", "link", "img", "iframe", "object", "form", "base"] {
        assert_eq!(
            tags.iter().find(|tag| tag.split(' ').next() == Some(element)),
            None,
            "{element}"
        );
    }
    for forbidden in ["url(", "@import", "http"] {
        assert!(!style.contains(forbidden), "{forbidden}");
    }
}

#[test]
fn hostile_text_is_only_text() {
    const EVIL: [&str; 8] = [
        "<script>alert(1)</script>",
        "\"><img src=x onerror=alert(1)>",
        "' onmouseover='alert(1)",
        "]]></style></title></pre><b>",
        "\u{202e}gnp.exe\u{2066}",
        "\u{1b}[2J\u{1b}]52;c;YQ==\u{7}",
        "&lt;b&gt; &#60;",
        "`</code><h1>`",
    ];
    let all = EVIL.join(" ");
    let log = EVIL.map(|evil| format!("{evil}\n")).concat()
        + "ValueError: "
        + &all
        + "\n"
        + "FileNotFoundError: [Errno 2] No such file or directory: '/x/"
        + EVIL[0]
        + "'\n";
    let mut folder = Folder::new()
        .log(&log)
        .with("system.txt", &all)
        .with("driver.txt", [all.as_bytes(), b"\xff\xfe\x00"].concat())
        .json("container.json", &json!({ "Id": all, "State": { "Error": all, "OOMKilled": false } }))
        .json("engine.json", &json!({ "info": { "ServerVersion": all } }))
        .json("disks.json", &json!([{ "role": all, "path": all, "total": 9, "free": 1, "inodes": 2, "inodes_free": 1 }]))
        .with("events.jsonl", json!({ "Action": "kill", "timeNano": 1_772_359_799_900_000_000u64, "Actor": { "Attributes": { "signal": all } } }).to_string());
    folder.run.spec.command = EVIL.map(str::to_owned).to_vec();
    folder.run.image_digest = Some(all);
    let html = page(&folder.read(), &folder.run, None);
    let clean = page(&Folder::new().log("x\n").read(), &folder.run, None);
    assert!(!clean.contains("<script"));
    for tag in [
        "<script",
        "<img",
        "<b>",
        "<h1>`",
        "</style></title>",
        "\u{202e}",
        "\u{2066}",
        "\u{1b}",
        "\u{7}",
        "\0",
    ] {
        assert!(!html.contains(tag), "{tag:?}");
    }
    // Every attribute is ours.
    assert!(!html.contains("onerror=alert(1)>") && !html.contains("onmouseover='"));
    assert_eq!(html.matches("</style>").count(), 1);
    assert_eq!(html.matches("<h1>").count(), 1);
}
