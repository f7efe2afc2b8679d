//! The SHA-256 of large outputs, taken when something needs it: when one becomes an input of another run.
//!
//! A pull does without: it would be a third of its work, and blocks prove what arrived. Where the output lies here it is
//! read here, and its blocks are looked at on the way; otherwise its host is asked.

use super::order::{OrderInput, OrderSource};
use super::{RunError, stop};
use crate::controller::Controller;
use crate::host::LinkError;
use crate::model::OutputRecord;
use crate::store::OUTPUTS_PAGE;
use farrun_protocol::manifest::{BLOCK, hash_of_blocks};
use farrun_protocol::spec::ParentOutput;
use farrun_protocol::{BlockHash, ErrorCode, Sha256};
use sha2::Digest as _;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

/// What is read at once; a block is a multiple of it.
const PIECE: usize = 256 * 1024;

/// Completes the inputs that are earlier outputs whose SHA-256 nobody has taken.
///
/// # Errors
/// The database, or the output is not here and its host does not tell.
pub(super) async fn complete(controller: &Controller, inputs: &mut [OrderInput]) -> Result<(), RunError> {
    for input in inputs {
        if let OrderSource::Parent {
            output,
            sha256: sha256 @ None,
            local,
            ..
        } = &mut input.source
        {
            *sha256 = Some(of_output(controller, output, local).await?);
        }
    }
    Ok(())
}

/// The hash of an output, which is written down. A copy here that is no longer what was pulled is passed over.
async fn of_output(
    controller: &Controller,
    output: &ParentOutput,
    local: &mut Option<PathBuf>,
) -> Result<Sha256, RunError> {
    let unknown = || RunError::NoDigest {
        run: output.run_id.clone(),
        path: output.path.clone(),
    };
    let record = controller.store.output(&output.run_id, &output.path).await?;
    let record = record.ok_or_else(unknown)?;
    if let Some(sha256) = record.sha256 {
        return Ok(sha256);
    }
    let blocks = record.blocks.as_ref().ok_or_else(unknown)?;
    let here = match local.clone() {
        Some(file) => read_here(controller, file, record.size, blocks.clone()).await?,
        None => None,
    };
    let sha256 = match here {
        Some(sha256) => sha256,
        None => {
            *local = None;
            ask_host(controller, output).await?.ok_or_else(unknown)?
        }
    };
    controller
        .store
        .set_digest(&output.run_id, &output.path, blocks, &sha256)
        .await?;
    Ok(sha256)
}

async fn read_here(
    controller: &Controller,
    file: PathBuf,
    size: u64,
    blocks: BlockHash,
) -> Result<Option<Sha256>, RunError> {
    // Nothing waits for one that is left behind: it only reads.
    let reading = tokio::task::spawn_blocking(move || digest(&file, size));
    let read = tokio::select! {
        read = reading => read,
        () = controller.interrupt.cancelled() => return Err(RunError::Interrupted { detached: None }),
    };
    Ok(match read {
        Ok(Ok((sha256, found))) if found == blocks => Some(sha256),
        _ => None,
    })
}

/// The SHA-256 of a file and the hash over its blocks.
fn digest(path: &Path, size: u64) -> io::Result<(Sha256, BlockHash)> {
    let mut file = File::open(path)?;
    let (mut whole, mut block) = (sha2::Sha256::new(), blake3::Hasher::new());
    let mut blocks = Vec::new();
    let mut buffer = vec![0; PIECE];
    let mut length = 0_u64;
    while length < size {
        let in_block = BLOCK - length % BLOCK;
        let most = PIECE.min(usize::try_from(in_block.min(size - length)).unwrap_or(PIECE));
        let piece = buffer.get_mut(..most).unwrap_or_default();
        file.read_exact(piece)?;
        whole.update(&*piece);
        block.update(piece);
        length += most as u64;
        if length.is_multiple_of(BLOCK) || length == size {
            blocks.push(BlockHash::from_bytes(block.finalize().into()));
            block.reset();
        }
    }
    if file.read(buffer.get_mut(..1).unwrap_or_default())? > 0 {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let sha256 = Sha256::from_bytes(whole.finalize().into());
    Ok((sha256, hash_of_blocks(size, &blocks)))
}

/// What the host says; nothing when its outputs are no longer those that are known here.
async fn ask_host(controller: &Controller, output: &ParentOutput) -> Result<Option<Sha256>, RunError> {
    let run = controller.row(&output.run_id).await?;
    let host = controller.host_of(&run.id, &run.host).await?;
    let link = controller.contact(&host).await?;
    let known = controller.store.outputs_total(&run.id).await?;
    let before = large_before(controller, output).await?;
    let asking = async {
        let manifest = link.client.outputs(run.id.clone(), |_| {}).await?;
        if (manifest.files, manifest.bytes) != (known.files, known.bytes) {
            return Ok(None);
        }
        link.client.digest(run.id.clone(), manifest.sha256, before).await
    };
    let answer = tokio::select! {
        answer = asking => answer,
        () = controller.interrupt.cancelled() => return Err(RunError::Interrupted { detached: None }),
    };
    link.session.close().await;
    match answer {
        Ok(sha256) => Ok(sha256),
        Err(error) if gone(stop::code(&error)) => Ok(None),
        Err(error) => Err(LinkError::from(error).into()),
    }
}

/// How many outputs of several blocks a manifest lists before this one.
async fn large_before(controller: &Controller, output: &ParentOutput) -> Result<u64, RunError> {
    let (mut large, mut after) = (0, None);
    loop {
        let (page, next) = controller
            .store
            .outputs_page(&output.run_id, after.as_deref(), OUTPUTS_PAGE)
            .await?;
        let before = |record: &&OutputRecord| record.size > BLOCK && record.path < output.path;
        large += page.iter().filter(before).count() as u64;
        if next.is_none() {
            return Ok(large);
        }
        after = next;
    }
}

/// Whether a host no longer has what was asked about.
fn gone(code: Option<ErrorCode>) -> bool {
    matches!(code, Some(ErrorCode::RunUnknown | ErrorCode::HashMismatch))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_read_once_for_both_hashes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("large");
        for size in [BLOCK + 1, 2 * BLOCK] {
            let content: Vec<u8> = (0..size).map(|at| (at % 251) as u8).collect();
            std::fs::write(&path, &content).unwrap();
            let blocks: Vec<_> = content.chunks(BLOCK as usize).map(BlockHash::of).collect();
            let expected = (Sha256::of(&content), hash_of_blocks(size, &blocks));
            assert_eq!(digest(&path, size).unwrap(), expected);
            assert!(digest(&path, size - 1).is_err(), "it is longer");
            assert!(digest(&path, size + 1).is_err(), "it is shorter");
        }
    }
}
