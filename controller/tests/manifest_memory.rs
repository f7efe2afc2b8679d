//! How much memory the longest list of outputs takes, and what lists of hosts that lie do; alone in its process, because
//! the process is measured.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "the functions that tests share may fail like tests"
)]

mod measured;

use farrun::model::OutputRecord;
use farrun::run::RunError;
use farrun::run::manifest_of::{self, ManifestRead};
use farrun::ssh::transfer::{Sftp, Wanted};
use farrun_protocol::manifest::{MAX_FILES, MAX_SIZE};
use farrun_protocol::message::ManifestReply;
use farrun_protocol::{RunId, Sha256};
use measured::{KIB_PER_MIB, connect};
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

/// The highest resident size so far, in MiB.
fn peak() -> u64 {
    measured::peak() / KIB_PER_MIB
}

fn run_id() -> RunId {
    "rs_abcdefgh".parse().unwrap()
}

/// Writes a list of so many entries, piece by piece, and announces it.
fn list(at: &Path, files: usize, entry: impl Fn(usize) -> String) -> ManifestReply {
    let mut file = std::io::BufWriter::new(std::fs::File::create(at).unwrap());
    write!(file, r#"{{"format":2,"run_id":"rs_abcdefgh","files":["#).unwrap();
    for index in 0..files {
        let comma = if index == 0 { "" } else { "," };
        write!(file, "{comma}{}", entry(index)).unwrap();
    }
    write!(file, r#"],"skipped":[]}}"#).unwrap();
    file.flush().unwrap();
    announce(at, files as u64)
}

fn announce(at: &Path, files: u64) -> ManifestReply {
    // In pieces, for this process is measured.
    let hash = std::process::Command::new("sha256sum").arg(at).output().unwrap();
    let hash = String::from_utf8(hash.stdout).unwrap();
    ManifestReply {
        path: at.to_str().unwrap().to_owned(),
        size: at.metadata().unwrap().len(),
        sha256: hash.split(' ').next().unwrap().parse::<Sha256>().unwrap(),
        outputs: "/outputs".to_owned(),
        pack: None,
        files,
        bytes: 3 * files,
    }
}

fn honest(index: usize) -> String {
    let (hash, folder) = (
        Sha256::of(&index.to_le_bytes()),
        "frames/of/a/long/film/with/a/long/name".repeat(2),
    );
    format!(
        r#"{{"path":"{folder}/{index:08}.png","size":3,"mode":420,"modified_ns":1700000000000000000,"sha256":"{hash}","packed_at":{}}}"#,
        3 * index
    )
}

async fn refused(sftp: &Sftp, reply: &ManifestReply) -> String {
    match manifest_of::read(sftp, "liar", Some(&run_id()), reply, MAX_SIZE).await {
        Err(RunError::Hostile { host, what }) => {
            assert_eq!(host, "liar");
            what
        }
        other => panic!("{other:?}"),
    }
}

fn record(file: &Wanted) -> OutputRecord {
    OutputRecord {
        path: file.path.clone(),
        size: file.size,
        sha256: file.sha256.clone(),
        blocks: None,
        pulled_at: None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_longest_list_fits_and_longer_ones_are_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().join("manifest.json");
    let (sftp, _server) = connect("liar").await;

    // Lists of hosts that lie: too many entries, other content than was announced, more bytes than any list has.
    let many = list(&at, 1_200_000, |_| {
        r#"{"path":"a","size":3,"mode":0,"modified_ns":0}"#.to_owned()
    });
    assert!(many.size < MAX_SIZE);
    let what = refused(&sftp, &many).await;
    assert!(what.contains("a list of at most 200000 entries"), "{what}");
    let torn = list(&at, MAX_FILES / 4, honest);
    let other = ManifestReply {
        sha256: Sha256::of(b"other"),
        ..torn.clone()
    };
    let what = refused(&sftp, &other).await;
    assert_eq!(what, "a manifest that does not hash to what was announced");
    let giant = ManifestReply {
        size: MAX_SIZE + 1,
        ..torn
    };
    let what = refused(&sftp, &giant).await;
    assert_eq!(
        what,
        format!("a manifest of {} bytes, larger than any manifest", MAX_SIZE + 1)
    );

    // The longest one that an agent makes, as far as the database.
    let reply = list(&at, MAX_FILES, honest);
    assert!((40 << 20..MAX_SIZE).contains(&reply.size), "{}", reply.size);
    let read = manifest_of::read(&sftp, "liar", Some(&run_id()), &reply, MAX_SIZE).await;
    let ManifestRead { manifest, bytes } = read.unwrap();
    assert!(bytes.is_none());
    let outputs = Arc::from(reply.outputs.as_str());
    let wanted = Wanted::of_manifest(manifest.files, &outputs, None);
    assert!(wanted[7].path.ends_with("/00000007.png"), "the order is kept");
    assert_eq!(wanted.len(), MAX_FILES);
    let store = store_with_run(folder.path()).await;
    store
        .set_outputs(&run_id(), wanted.iter().map(record))
        .await
        .unwrap();
    let all = wanted.iter().map(record);
    assert!(
        store
            .mark_all_pulled(&run_id(), all, chrono::Utc::now())
            .await
            .unwrap()
    );
    // 32 MiB are for content that is on its way.
    let most = peak();
    assert!(most <= 96, "{most} MiB");
}

async fn store_with_run(folder: &Path) -> farrun::store::Store {
    let location = farrun::store::Location::parse(folder.join("farrun.db").to_str().unwrap()).unwrap();
    let store = farrun::store::Store::open(&location, "laptop").await.unwrap();
    let run = serde_json::from_value(serde_json::json!({
        "id": "rs_abcdefgh", "host": "gpu1", "controller_id": store.controller_id(), "operation": "run",
        "status": "pending", "log_complete": false, "gpus": "none",
        "created_at": "2026-01-02T03:04:05Z", "updated_at": "2026-01-02T03:04:05Z",
        "spec": {
            "format": 1, "run_id": "rs_abcdefgh", "controller_id": store.controller_id(), "operation": "run", "name": "x",
            "created_at": "2026-01-02T03:04:05Z", "image": "demo:1", "inputs_target": "/i", "outputs_target": "/o",
        },
    }));
    store.create_run(&run.unwrap()).await.unwrap();
    store
}
