//! Files of host keys, read as `ssh-keygen -F` reads them.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use farrun::ssh::KnownHostsFiles;
use farrun::ssh::known_hosts::{Decision, HostNames, KnownHosts};
use hmac::{Hmac, Mac as _};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use std::fs;
use std::path::Path;
use std::process::Command;

const NAMES: &[&str] = &[
    "gpu1",
    "gpu1.lab",
    "gpu2.lab",
    "[gpu1]:2222",
    "[gpu1.lab]:2222",
    "10.0.0.1",
    "[::1]:22022",
];

/// An encoded key of a type, different for each number. Nothing here looks inside beyond the type.
fn key(key_type: &str, number: u8) -> Vec<u8> {
    let mut key = u32::try_from(key_type.len()).unwrap().to_be_bytes().to_vec();
    key.extend(key_type.as_bytes());
    key.extend(32_u32.to_be_bytes());
    key.extend([number; 32]);
    key
}

fn hashed(name: &str, salt: [u8; 20]) -> String {
    let mut hash = Hmac::<sha1::Sha1>::new_from_slice(&salt).unwrap();
    hash.update(name.as_bytes());
    format!(
        "|1|{}|{}",
        STANDARD.encode(salt),
        STANDARD.encode(hash.finalize().into_bytes())
    )
}

fn hosts() -> impl Strategy<Value = String> {
    let name = proptest::sample::select(NAMES).prop_map(str::to_owned);
    let pattern = proptest::sample::select(&[
        "*",
        "gpu?",
        "*.lab",
        "!gpu1.lab",
        "!*.lab",
        "GPU1.LAB",
        "[*]:2222",
        "10.0.*",
        "?",
        "gpu1*",
        "!gpu1",
        "[gpu1",
        "**b",
        "",
    ])
    .prop_map(str::to_owned);
    let list =
        proptest::collection::vec(prop_oneof![name.clone(), pattern], 1..4).prop_map(|list| list.join(","));
    let hash = (name, any::<[u8; 20]>()).prop_map(|(name, salt)| hashed(&name, salt));
    let broken_hash = Just("|1|AAAA|AAAA".to_owned());
    prop_oneof![6 => list, 3 => hash, 1 => broken_hash]
}

fn line() -> impl Strategy<Value = String> {
    let marker = prop_oneof![8 => Just(""), 1 => Just("@revoked "), 1 => Just("@cert-authority  ")];
    let space = proptest::sample::select(&[" ", "\t", "  ", " \t "]);
    let comment = proptest::sample::select(&["", " comment", " user@host # x", " \t"]);
    let entry =
        (marker, hosts(), space, 0_u8..3, comment).prop_map(|(marker, hosts, space, number, comment)| {
            let key = STANDARD.encode(key("ssh-ed25519", number));
            format!("{marker}{hosts}{space}ssh-ed25519{space}{key}{comment}")
        });
    let other =
        proptest::sample::select(&["", "# gpu1 ssh-ed25519 AAAA", "   ", "\t# x"]).prop_map(str::to_owned);
    (
        prop_oneof![8 => entry, 1 => other],
        proptest::sample::select(&["", " ", "\t"]),
    )
        .prop_map(|(line, indent)| format!("{indent}{line}"))
}

/// The lines that `ssh-keygen -F` finds for a name: number and marker.
fn found_by_ssh_keygen(file: &Path, name: &str) -> Vec<(usize, String)> {
    let output = Command::new("ssh-keygen")
        .arg("-F")
        .arg(name)
        .arg("-f")
        .arg(file)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines()
        .filter_map(|line| line.strip_prefix(&format!("# Host {name} found: line ")))
        .map(|rest| {
            let (number, marker) = rest.split_once(' ').unwrap_or((rest, ""));
            (number.trim().parse().unwrap(), marker.trim().to_owned())
        })
        .collect()
}

/// What those lines say about a key, by the rules of `ssh`.
fn expected(lines: &[String], found: &[(usize, String)], number: u8) -> &'static str {
    let has = |line: usize| lines[line - 1].contains(&STANDARD.encode(key("ssh-ed25519", number)));
    let plain = || found.iter().filter(|(_, marker)| marker.is_empty());
    if found
        .iter()
        .any(|(line, marker)| marker == "REVOKED" && has(*line))
    {
        "revoked"
    } else if plain().any(|(line, _)| has(*line)) {
        "known"
    } else if plain().next().is_some() {
        "changed"
    } else if found.iter().any(|(_, marker)| marker == "CA") {
        "certificate"
    } else {
        "unknown"
    }
}

fn word(decision: &Decision) -> &'static str {
    match decision {
        Decision::Known => "known",
        Decision::Unknown => "unknown",
        Decision::Changed { .. } => "changed",
        Decision::Revoked { .. } => "revoked",
        Decision::Certificate { .. } => "certificate",
    }
}

fn read(file: &Path, name: &str) -> KnownHosts {
    let files = KnownHostsFiles {
        user: vec![file.to_owned()],
        global: Vec::new(),
    };
    let names = HostNames {
        name: name.to_owned(),
        without_port: None,
    };
    KnownHosts::read("test", &files, &names).unwrap()
}

#[test]
fn every_decision_is_the_one_of_openssh() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("known_hosts");
    let config = Config {
        cases: 400,
        failure_persistence: None,
        ..Config::default()
    };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let strategy = (
        proptest::collection::vec(line(), 0..8),
        proptest::sample::select(NAMES),
        any::<bool>(),
    );
    let mut seen = std::collections::BTreeMap::new();
    let seen_in_cases = std::cell::RefCell::new(&mut seen);
    runner
        .run(&strategy, |(lines, name, newline)| {
            fs::write(&file, lines.join("\n") + if newline { "\n" } else { "" }).unwrap();
            let found = found_by_ssh_keygen(&file, name);
            let known = read(&file, name);
            for number in 0..3 {
                let decision = known.check(&key("ssh-ed25519", number));
                let wanted = expected(&lines, &found, number);
                prop_assert_eq!(
                    word(&decision),
                    wanted,
                    "{} in {:#?}, found {:?}",
                    name,
                    lines,
                    found
                );
                *seen_in_cases.borrow_mut().entry(wanted).or_insert(0) += 1;
            }
            Ok(())
        })
        .unwrap();
    assert_eq!(seen.len(), 5, "each decision occurs: {seen:?}");
}

fn decide(content: &str, names: &HostNames, key: &[u8]) -> Result<Decision, farrun::ssh::SshError> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("known_hosts");
    fs::write(&file, content).unwrap();
    let files = KnownHostsFiles {
        user: vec![file],
        global: Vec::new(),
    };
    Ok(KnownHosts::read("test", &files, names)?.check(key))
}

fn names(name: &str, without_port: Option<&str>) -> HostNames {
    HostNames {
        name: name.to_owned(),
        without_port: without_port.map(str::to_owned),
    }
}

fn entry(hosts: &str, key_type: &str, number: u8) -> String {
    format!("{hosts} {key_type} {}\n", STANDARD.encode(key(key_type, number)))
}

#[test]
fn a_key_of_another_type_is_a_changed_key() {
    let content = entry("gpu1", "ssh-rsa", 1);
    let decision = decide(&content, &names("gpu1", None), &key("ssh-ed25519", 2)).unwrap();
    assert_eq!(word(&decision), "changed");
}

#[test]
fn the_bare_name_helps_on_another_port_only_if_the_key_is_the_same() {
    let both = names("[gpu1]:2222", Some("gpu1"));
    let content = entry("gpu1", "ssh-ed25519", 1);
    assert_eq!(
        word(&decide(&content, &both, &key("ssh-ed25519", 1)).unwrap()),
        "known"
    );
    assert_eq!(
        word(&decide(&content, &both, &key("ssh-ed25519", 2)).unwrap()),
        "unknown"
    );
    let revoked = format!("@revoked {content}");
    assert_eq!(
        word(&decide(&revoked, &both, &key("ssh-ed25519", 1)).unwrap()),
        "revoked"
    );
    let with_port = content + &entry("[gpu1]:2222", "ssh-ed25519", 3);
    assert_eq!(
        word(&decide(&with_port, &both, &key("ssh-ed25519", 1)).unwrap()),
        "changed"
    );
}

#[test]
fn a_line_about_the_host_that_makes_no_sense_is_an_error() {
    for content in [
        "gpu1\n",
        "gpu1 ssh-ed25519\n",
        "gpu1 ssh-ed25519 not-base64!\n",
        "@revoked gpu1 ssh-ed25519 AAAA\n",
        "@sometimes gpu1 ssh-ed25519 AAAA\n",
    ] {
        assert!(
            decide(content, &names("gpu1", None), b"key").is_err(),
            "{content}"
        );
        assert_eq!(
            decide(content, &names("gpu2", None), b"key").unwrap(),
            Decision::Unknown,
            "{content}"
        );
    }
    let mislabelled = format!("gpu1 ssh-rsa {}\n", STANDARD.encode(key("ssh-ed25519", 1)));
    assert!(decide(&mislabelled, &names("gpu1", None), &key("ssh-ed25519", 1)).is_err());
}

#[test]
fn a_tab_after_a_marker_counts_although_ssh_passes_over_such_a_line() {
    let content = format!("@revoked\t{}", entry("gpu1", "ssh-ed25519", 1));
    assert_eq!(
        word(&decide(&content, &names("gpu1", None), &key("ssh-ed25519", 1)).unwrap()),
        "revoked"
    );
}

#[test]
fn a_revocation_in_any_file_counts() {
    let folder = tempfile::tempdir().unwrap();
    let (user, global) = (folder.path().join("user"), folder.path().join("global"));
    fs::write(&user, entry("gpu1", "ssh-ed25519", 1)).unwrap();
    fs::write(&global, format!("@revoked {}", entry("*", "ssh-ed25519", 1))).unwrap();
    let files = KnownHostsFiles {
        user: vec![user],
        global: vec![global.clone(), folder.path().join("absent")],
    };
    let known = KnownHosts::read("test", &files, &names("gpu1", None)).unwrap();
    assert_eq!(
        known.check(&key("ssh-ed25519", 1)),
        Decision::Revoked {
            file: global,
            line: 1
        }
    );
}

proptest! {
    #[test]
    fn no_file_makes_the_reader_fall_over(content in proptest::collection::vec(any::<u8>(), 0..400)) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("known_hosts");
        fs::write(&file, &content).unwrap();
        let files = KnownHostsFiles { user: vec![file], global: Vec::new() };
        if let Ok(known) = KnownHosts::read("test", &files, &names("gpu1", None)) {
            prop_assert_ne!(known.check(&key("ssh-ed25519", 1)), Decision::Known);
        }
    }
}
