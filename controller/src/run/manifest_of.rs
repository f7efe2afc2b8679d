//! Reads the manifest of files on a host, which is only as good as its hash and its paths.
//!
//! One of usual size lies in memory until its files are here. A larger one is read while it arrives, and what was read of it
//! counts only when all of it turns out to be what was announced.

use super::RunError;
use crate::ssh::transfer::Sftp;
use bytes::{Buf as _, Bytes};
use farrun_protocol::manifest::{self, Manifest};
use farrun_protocol::message::ManifestReply;
use farrun_protocol::{RunId, Sha256};
use sha2::Digest as _;
use std::io::{self, BufReader, Read};
use tokio::sync::mpsc;

/// Larger ones do not lie in memory beside what was read from them.
const MOST_KEPT: u64 = 8 * 1024 * 1024;
/// Pieces of a larger one that wait to be read.
const AHEAD: usize = 16;

/// A manifest that was read and checked.
#[derive(Debug)]
pub struct ManifestRead {
    /// What it says.
    pub manifest: Manifest,
    /// Its bytes, unless they are many.
    pub bytes: Option<Vec<u8>>,
}

/// The manifest that `reply` announces, of at most `most` bytes. It is one of `run`, when that is said.
///
/// # Errors
/// The connection, or what the host sends is not what it announced, or no manifest that anybody would believe.
pub async fn read(
    sftp: &Sftp,
    host: &str,
    run: Option<&RunId>,
    reply: &ManifestReply,
    most: u64,
) -> Result<ManifestRead, RunError> {
    let hostile = |what: String| RunError::Hostile {
        host: host.to_owned(),
        what,
    };
    if reply.size > most {
        return Err(hostile(format!(
            "a manifest of {} bytes, larger than any manifest",
            reply.size
        )));
    }
    let (read, sha256, bytes) = if reply.size > MOST_KEPT {
        let (read, sha256) = read_arriving(sftp, reply).await?;
        (read, sha256, None)
    } else {
        let bytes = sftp.read_exactly(&reply.path, reply.size).await?;
        (serde_json::from_slice(&bytes), Sha256::of(&bytes), Some(bytes))
    };
    if sha256 != reply.sha256 {
        return Err(hostile(
            "a manifest that does not hash to what was announced".to_owned(),
        ));
    }
    let manifest = read
        .map_err(|error| format!("a manifest that cannot be read: {error}"))
        .and_then(|manifest| check(manifest, run, reply))
        .map_err(hostile)?;
    Ok(ManifestRead { manifest, bytes })
}

type Parsed = Result<Manifest, serde_json::Error>;

/// Reads a manifest while it arrives; answers with the hash of all of it as well.
async fn read_arriving(sftp: &Sftp, reply: &ManifestReply) -> Result<(Parsed, Sha256), RunError> {
    let (to, from) = mpsc::channel(AHEAD);
    let reading = tokio::task::spawn_blocking(move || {
        let mut arriving = BufReader::with_capacity(64 * 1024, Arriving::new(from));
        let parsed = serde_json::from_reader(&mut arriving);
        (parsed, arriving.into_inner().finish())
    });
    sftp.read_pieces(&reply.path, reply.size, to).await?;
    reading.await.map_err(|error| RunError::Local {
        path: reply.path.clone().into(),
        source: io::Error::other(error),
    })
}

/// What arrives, as something that a parser reads.
struct Arriving {
    from: mpsc::Receiver<Bytes>,
    piece: Bytes,
    hasher: sha2::Sha256,
}

impl Arriving {
    fn new(from: mpsc::Receiver<Bytes>) -> Self {
        Self {
            from,
            piece: Bytes::new(),
            hasher: sha2::Sha256::new(),
        }
    }

    /// The hash of everything, also of what the parser did not want.
    fn finish(mut self) -> Sha256 {
        while let Some(piece) = self.from.blocking_recv() {
            self.hasher.update(&piece);
        }
        Sha256::from_bytes(self.hasher.finalize().into())
    }
}

impl Read for Arriving {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.piece.is_empty()
            && let Some(piece) = self.from.blocking_recv()
        {
            self.hasher.update(&piece);
            self.piece = piece;
        }
        let count = buffer.len().min(self.piece.len());
        self.piece
            .copy_to_slice(buffer.get_mut(..count).unwrap_or_default());
        Ok(count)
    }
}

/// The manifest, or what cannot be right about it.
fn check(manifest: Manifest, run: Option<&RunId>, reply: &ManifestReply) -> Result<Manifest, String> {
    let total = manifest
        .files
        .iter()
        .try_fold(0u64, |sum, file| sum.checked_add(file.size));
    let other = run.is_some_and(|run| run != &manifest.run_id);
    if manifest.format != manifest::FORMAT || other || total != Some(reply.bytes) {
        return Err("a manifest of something else".to_owned());
    }
    let mut files = manifest.files.iter();
    if let Some(file) = files.find(|file| !manifest::is_safe_path(&file.path)) {
        return Err(format!("an output path that leaves its folder: {:?}", file.path));
    }
    let mut files = manifest.files.iter();
    if files.any(|file| file.size <= manifest::BLOCK && file.sha256.is_none()) {
        return Err("a manifest with a file that has no hash".to_owned());
    }
    let short = |file: &manifest::OutputFile| {
        file.size > manifest::BLOCK && file.blocks.len() as u64 != file.size.div_ceil(manifest::BLOCK)
    };
    if manifest.files.iter().any(short) {
        return Err("a manifest with a file that lacks hashes of blocks".to_owned());
    }
    Ok(manifest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use farrun_protocol::manifest::OutputFile;

    fn manifest(path: &str) -> Manifest {
        Manifest {
            format: manifest::FORMAT,
            run_id: "rs_abcdefgh".parse().unwrap(),
            files: vec![OutputFile {
                path: path.to_owned(),
                size: 3,
                mode: 0o644,
                modified_ns: 0,
                sha256: Some(Sha256::of(b"one")),
                blocks: Vec::new(),
                packed_at: None,
            }],
            skipped: Vec::new(),
        }
    }

    fn checked(manifest: &Manifest, run: Option<&str>, bytes: u64) -> Result<Manifest, String> {
        let json = serde_json::to_vec(manifest).unwrap();
        let reply = ManifestReply {
            path: "/m".to_owned(),
            size: json.len() as u64,
            sha256: Sha256::of(&json),
            outputs: "/o".to_owned(),
            pack: None,
            files: 1,
            bytes,
        };
        let run = run.map(|run| run.parse().unwrap());
        check(manifest.clone(), run.as_ref(), &reply)
    }

    #[test]
    fn what_arrives_is_read_and_hashed_whole() {
        let content: Vec<u8> = (0..200_000_u32).flat_map(u32::to_le_bytes).collect();
        let (to, from) = mpsc::channel(AHEAD);
        let sending = content.clone();
        let sender = std::thread::spawn(move || {
            for piece in sending.chunks(7001) {
                to.blocking_send(Bytes::copy_from_slice(piece)).unwrap();
            }
        });
        let mut arriving = Arriving::new(from);
        // Who reads it stops early, as at a mistake in it.
        let mut read = vec![0; 10_000];
        arriving.read_exact(&mut read).unwrap();
        assert!(read == content[..10_000]);
        assert_eq!(arriving.finish(), Sha256::of(&content));
        sender.join().unwrap();
    }

    #[test]
    fn a_manifest_is_of_the_run_and_stays_in_its_folder() {
        let good = manifest("a");
        assert_eq!(checked(&good, Some("rs_abcdefgh"), 3), Ok(good.clone()));
        assert_eq!(checked(&good, None, 3), Ok(good.clone()));
        let mut unhashed = good.clone();
        unhashed.files[0].sha256 = None;
        let mut newer = good.clone();
        newer.format += 1;
        for (wrong, run, bytes) in [
            (&good, "rs_zzzzzzzz", 3),
            (&good, "rs_abcdefgh", 4),
            (&manifest("../a"), "rs_abcdefgh", 3),
            (&unhashed, "rs_abcdefgh", 3),
            (&newer, "rs_abcdefgh", 3),
        ] {
            assert!(checked(wrong, Some(run), bytes).is_err(), "{wrong:?}");
        }
    }
}
