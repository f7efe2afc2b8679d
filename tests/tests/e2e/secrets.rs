//! A secret reaches the job and lies nowhere else.

use crate::pull::files;
use farrun_tests::Lab;

const CANARY: &str = "canary-9c41f0e7-do-not-print";

#[test]
fn secret_reaches_the_job_and_no_file() {
    let mut lab = Lab::new();
    let key = lab.home.write("token", CANARY);
    lab.home.set("FARRUN_LOG", "trace");
    let option = format!("TOKEN=@{}", key.display());
    let outcome = lab
        .shell(&["--secret", &option], "printf %s \"$TOKEN\" | sha256sum; exit 3")
        .expect_code(1);
    std::fs::remove_file(&key).unwrap();
    let hash = farrun_protocol::Sha256::of(CANARY.as_bytes());
    assert!(outcome.text().starts_with(hash.as_str()), "{outcome}");
    for folder in [lab.home.path().to_path_buf(), lab.state()] {
        for (path, bytes) in files(&folder) {
            let found = bytes
                .windows(CANARY.len())
                .any(|window| window == CANARY.as_bytes());
            assert!(!found, "the secret lies in {}", path.display());
        }
    }
}

#[test]
fn secret_is_not_in_the_containers_settings() {
    let lab = Lab::new();
    let key = lab.home.write("token", CANARY);
    let option = format!("TOKEN=@{}", key.display());
    let run = lab.detached(&["--secret", &option], "sleep 600");
    let settings = lab.engine.ask(&["inspect", &format!("farrun-{run}")]);
    assert!(!settings.contains(CANARY));
    let _ = lab.home.farrun(&["stop", &run]).ok();
}

#[test]
fn secret_is_in_no_command_line_while_the_job_runs() {
    let lab = Lab::new();
    let key = lab.home.write("token", CANARY);
    let option = format!("TOKEN=@{}", key.display());
    let run = lab.detached(&["--secret", &option], "echo on; exec sleep 600");
    let mut follow = lab.home.spawn(&["logs", "-f", &run]);
    follow.wait_for("the job", crate::SOON, |follow| follow.stdout() == b"on\n");
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        assert!(
            !String::from_utf8_lossy(&line).contains(CANARY),
            "{}",
            entry.path().display()
        );
    }
    for place in ["show", "logs"] {
        let shown = lab.home.farrun(&[place, &run]).ok();
        assert!(!shown.text().contains(CANARY), "{shown}");
    }
    let _ = lab.home.farrun(&["stop", "--kill", &run]).ok();
}

#[test]
fn secret_comes_from_stdin_and_from_a_command() {
    let lab = Lab::new();
    let key = lab.home.write("token", CANARY);
    let hash = farrun_protocol::Sha256::of(CANARY.as_bytes());
    let command = format!("TOKEN=!/bin/cat {}", key.display());
    let script = "printf %s \"$TOKEN\" | sha256sum";
    let outcome = lab.shell(&["--secret", &command], script).ok();
    assert!(outcome.text().starts_with(hash.as_str()), "{outcome}");
    let arguments = lab.shell_arguments(farrun_tests::BUSYBOX, &["--secret", "TOKEN=-"], script);
    let outcome = lab
        .home
        .farrun_with_input(format!("{CANARY}\n").as_bytes(), &arguments)
        .ok();
    assert!(outcome.text().starts_with(hash.as_str()), "{outcome}");
    // It was kept nowhere, so a repetition asks again.
    let _ = lab.home.farrun(&["rerun", "@last"]).expect_code(2);
    let again = lab
        .home
        .farrun_with_input(format!("{CANARY}\n").as_bytes(), &["rerun", "@last"])
        .ok();
    assert!(again.text().starts_with(hash.as_str()), "{again}");
}

#[test]
fn secret_on_the_command_line_is_refused() {
    let lab = Lab::new();
    let outcome = lab
        .shell(&["--secret", "TOKEN=plain-value"], "true")
        .expect_code(2);
    assert!(!outcome.errors().contains("plain-value"), "{outcome}");
    let _ = lab
        .shell(&["--secret", "TOKEN=@/no/such/file"], "true")
        .expect_code(2);
    let _ = lab
        .shell(&["--secret", "TOKEN=!/bin/false"], "true")
        .expect_code(2);
    let listed = lab.home.farrun(&["list", "--json"]).ok().json();
    assert_eq!(listed["runs"].as_array().unwrap().len(), 0, "{listed}");
}
