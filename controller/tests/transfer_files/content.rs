//! Files with known content and what a host would announce about them.

use farrun::ssh::transfer::{DownloadOptions, Progress, Report, Sftp, TransferError, Wanted};
use farrun_protocol::manifest::BLOCK;
use farrun_protocol::{BlockHash, Sha256};
use std::path::Path;

/// Bytes that look random and depend on `seed` alone.
pub(crate) fn bytes(size: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut content = Vec::with_capacity(size + 8);
    while content.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        content.extend_from_slice(&state.to_le_bytes());
    }
    content.truncate(size);
    content
}

/// What is announced for `content` at `folder/path`.
pub(crate) fn announce(folder: &Path, path: &str, content: &[u8]) -> Wanted {
    let blocks = content
        .chunks(BLOCK as usize)
        .map(BlockHash::of)
        .collect::<Vec<_>>();
    Wanted {
        folder: folder.to_str().unwrap().into(),
        path: path.to_owned(),
        size: content.len() as u64,
        sha256: Some(Sha256::of(content)).filter(|_| content.len() as u64 <= BLOCK),
        blocks: if blocks.len() > 1 { blocks } else { Vec::new() },
        mode: 0o640,
        modified_ns: 1_600_000_000_123_456_789,
        packed: None,
    }
}

/// Whether `content` is what was announced.
pub(crate) fn is_announced(content: &[u8], file: &Wanted) -> bool {
    let announced = announce(Path::new("/"), &file.path, content);
    (announced.size, announced.sha256, announced.blocks)
        == (file.size, file.sha256.clone(), file.blocks.clone())
}

/// Writes a file and announces it.
pub(crate) fn make(folder: &Path, path: &str, size: usize, seed: u64) -> Wanted {
    let content = bytes(size, seed);
    let place = folder.join(path);
    std::fs::create_dir_all(place.parent().unwrap()).unwrap();
    std::fs::write(&place, &content).unwrap();
    announce(folder, path, &content)
}

/// Whether every wanted file is below `folder` with the announced content.
pub(crate) fn assert_here(folder: &Path, wanted: &[Wanted]) {
    for file in wanted {
        let content = std::fs::read(folder.join(&file.path)).unwrap();
        assert!(is_announced(&content, file), "{}", file.path);
    }
    assert!(!folder.join(".farrun-part").exists());
}

/// Whether every file that has a wanted name below `folder` has the announced content.
pub(crate) fn assert_nothing_unverified(folder: &Path, wanted: &[Wanted]) {
    for file in wanted {
        if let Ok(content) = std::fs::read(folder.join(&file.path)) {
            assert!(is_announced(&content, file), "{}", file.path);
        }
    }
}

/// Downloads over one connection.
pub(crate) async fn fetch(sftp: &Sftp, wanted: &[Wanted], home: &Path) -> Result<Report, TransferError> {
    sftp.download(wanted, home, &Progress::new(), &DownloadOptions::default())
        .await
}
