//! Reads the manifest of files on a host, which is only as good as its hash and its paths.

use super::RunError;
use crate::ssh::transfer::Sftp;
use farrun_protocol::manifest::{self, Manifest};
use farrun_protocol::message::ManifestReply;
use farrun_protocol::{RunId, Sha256};

/// The manifest that `reply` announces, of at most `most` bytes, and its bytes. It is one of `run`, when that is said.
pub(super) async fn read(
    sftp: &Sftp,
    host: &str,
    run: Option<&RunId>,
    reply: &ManifestReply,
    most: u64,
) -> Result<(Manifest, Vec<u8>), RunError> {
    let hostile = |what: &str| RunError::Hostile {
        host: host.to_owned(),
        what: what.to_owned(),
    };
    if reply.size > most {
        return Err(hostile("a manifest larger than any manifest"));
    }
    let bytes = sftp.read_exactly(&reply.path, reply.size).await?;
    if Sha256::of(&bytes) != reply.sha256 {
        return Err(hostile("a manifest that does not hash to what was announced"));
    }
    let manifest = check(&bytes, run, reply).map_err(|what| hostile(&what))?;
    Ok((manifest, bytes))
}

/// Reads a manifest, or says what cannot be right about it.
fn check(bytes: &[u8], run: Option<&RunId>, reply: &ManifestReply) -> Result<Manifest, String> {
    let manifest: Manifest =
        serde_json::from_slice(bytes).map_err(|error| format!("a manifest that cannot be read: {error}"))?;
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
        check(&json, run.map(|run| run.parse().unwrap()).as_ref(), &reply)
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
