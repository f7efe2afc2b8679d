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
