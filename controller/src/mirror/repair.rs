//! The longest common prefix of the local file and the log.

use super::local::Local;
use super::{LogSource, MirrorError};
use farrun_protocol::{RunId, Sha256};
use sha2::Digest as _;

/// Cuts off what is not of the log, and answers with how many bytes stay. What stays is proven.
///
/// Each step hashes only what lies between the bytes known to be right and the middle, so that the local work is
/// one pass over the file and not one per step.
pub(super) async fn repair<S: LogSource>(
    local: &mut Local,
    source: &S,
    run_id: &RunId,
) -> Result<u64, MirrorError> {
    local.load().await?;
    let (mut right, mut hasher) = (0, sha2::Sha256::new());
    // The whole may be right after all: the log may only have been read while it was shorter.
    let mut wrong = local.length() + 1;
    let mut middle = local.length();
    while right + 1 < wrong {
        let tried = local.hash_on(hasher.clone(), right, middle).await?;
        let here = Sha256::from_bytes(tried.clone().finalize().into());
        if source.hash(run_id, middle).await? == Some(here) {
            (right, hasher) = (middle, tried);
        } else {
            wrong = middle;
        }
        middle = right + (wrong - right) / 2;
    }
    local.truncate(right, hasher)?;
    local.proven = true;
    Ok(right)
}
