//! Folders that somebody made to hurt.

use super::{Folder, codes};
use crate::diagnosis::page::page;
use crate::diagnosis::{Diagnosis, Facts, read};
use farrun_protocol::diagnostics as names;
use proptest::prelude::*;
use std::time::{Duration, Instant};

const FILES: [&str; 21] = [
    names::BUNDLE,
    names::SPEC,
    names::AGENT,
    names::SETTLED,
    names::LOG_HEAD_FILE,
    names::LOG_TAIL_FILE,
    names::LOG_PLACES,
    names::CONTAINER,
    names::IMAGE,
    names::EVENTS,
    names::ENGINE,
    names::CGROUP,
    names::KERNEL,
    names::DISKS,
    names::SYSTEM,
    names::PROCESSES,
    names::DRIVER,
    names::GPUS,
    names::LEASES,
    names::SERIES,
    names::TOOLKIT,
];

/// Pieces that get far into the readers, and some that should not.
const PIECES: [&str; 16] = [
    "{\"format\":1,\"length\":18446744073709551615,\"head\":18446744073709551615,\"tail_from\":18446744073709551615,\"tail\":18446744073709551615,\"dropped\":0}",
    "{\"State\":{\"Error\":\"could not select device driver \\\"\\\" with capabilities: [[gpu]]\"},\"HostConfig\":{\"Memory\":-1}}",
    "[{\"role\":\"\\u0000\",\"path\":\"\\u001b[2J\",\"total\":1,\"free\":18446744073709551615,\"inodes\":1,\"inodes_free\":0}]",
    "[[[[[[[[[[[[[[[[",
    "{\"a\":{\"a\":{\"a\":",
    "null",
    "2026-03-01T10:05:00Z NVRM: Xid (PCI:0000:0b:00): 79, x\n",
    "9999999-99-99T99:99:99Z oom-kill:\n",
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 99999999999999999999999 GiB\n",
    "Traceback (most recent call last):\n",
    "\u{1b}]0;x\u{7}\u{1b}[31m\r\r\r\n",
    "{\"Action\":\"die\",\"time\":9223372036854775807,\"timeNano\":-9223372036854775808}\n",
    "{\"at\":\"2026-03-01T10:00:00Z\",\"covers\":4294967295,\"log_offset\":18446744073709551615,\"gpus\":[]}\n",
    "name 18446744073709551616\nmemory.peak -1\n",
    "<script>alert(1)</script>]]>\"'&\u{202e}",
    "MemTotal: 18446744073709551615 kB\n",
];

fn content() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        proptest::sample::select(&PIECES[..]).prop_map(|text| text.as_bytes().to_vec()),
        proptest::collection::vec(any::<u8>(), 0..60),
    ];
    proptest::collection::vec(piece, 0..4).prop_map(|pieces| pieces.concat())
}

fn harmless(diagnosis: &Diagnosis, folder: &Folder) -> Result<(), TestCaseError> {
    let html = page(diagnosis, &folder.run, None);
    let forbidden = ["<script", "\u{1b}", "\u{202e}"];
    prop_assert!(!forbidden.iter().any(|text| html.contains(text)), "{html:?}");
    let whole = serde_json::to_string(diagnosis).unwrap();
    prop_assert!(whole.len() < 4 << 20);
    for remedy in diagnosis
        .cause
        .iter()
        .chain(&diagnosis.also)
        .flat_map(|finding| &finding.remedies)
    {
        let command = remedy.command.as_deref().unwrap_or_default();
        prop_assert!(
            !command.contains([';', '$', '`', '|', '&', '\n', '<', '>', '\'', '"']),
            "{command}"
        );
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn any_folder_gives_a_harmless_diagnosis(files in proptest::collection::vec((0..FILES.len(), content()), 0..12)) {
        let mut folder = Folder::new();
        for (file, content) in files {
            folder = folder.with(FILES[file], content);
        }
        harmless(&folder.read(), &folder)?;
    }
}

#[test]
fn links_pipes_and_folders_are_not_followed() {
    let folder = Folder::new();
    let secret = folder.dir.path().join("secret");
    std::fs::write(&secret, "ModuleNotFoundError: No module named 'x'\n").unwrap();
    std::os::unix::fs::symlink(&secret, folder.dir.path().join(names::LOG_TAIL_FILE)).unwrap();
    std::fs::create_dir(folder.dir.path().join(names::KERNEL)).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        folder.dir.path().join(names::GPUS),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )
    .unwrap();
    let diagnosis = folder.read();
    assert_eq!(codes(&diagnosis), Vec::<&str>::new());
    let told = |file: &str| diagnosis.missing.iter().any(|missing| missing.file == file);
    assert!(told(names::LOG_TAIL_FILE) && told(names::KERNEL) && told(names::GPUS));
}

#[test]
fn floods_take_bounded_time_and_room() {
    let folder = Folder::new();
    // Sparse: a gigabyte of NUL in one line, for every file, and the mirror as well.
    for name in FILES {
        let file = std::fs::File::create(folder.dir.path().join(name)).unwrap();
        file.set_len(1 << 30).unwrap();
    }
    let mirror = folder.dir.path().join("mirror.log");
    std::fs::File::create(&mirror).unwrap().set_len(1 << 30).unwrap();
    let mut facts = Facts::of(&folder.run);
    facts.log = Some(&mirror);
    let start = Instant::now();
    let diagnosis = read(Some(folder.dir.path()), &facts).unwrap();
    // Without optimisation and on a busy machine; it reads a few MiB.
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
    assert_eq!(diagnosis.cause, None);
    assert!(page(&diagnosis, &folder.run, None).len() < 16 << 20);
}

#[test]
fn secrets_of_a_log_do_not_reach_findings_or_the_page() {
    let token = "hf_AbCdEfGhIjKlMnOpQrStUvWxYz012345";
    let log = format!(
        "HF_TOKEN={token}\nAuthorization: Bearer {token}\nhttps://user:{token}@huggingface.co/x\n\
         FileNotFoundError: [Errno 2] No such file or directory: '/x/{token}/y'\n{token}\n"
    );
    let folder = Folder::new()
        .with(names::SYSTEM, format!("TOKEN={token}\n"))
        .log(&log);
    let mut folder = folder;
    folder.run.spec.command = vec!["run".to_owned(), format!("--token={token}")];
    let diagnosis = folder.read();
    assert_eq!(codes(&diagnosis), ["file_missing"]);
    let whole = serde_json::to_string(&diagnosis).unwrap() + &page(&diagnosis, &folder.run, None);
    assert!(!whole.contains(token), "{whole}");
    assert!(whole.contains("[redacted:"));
}
