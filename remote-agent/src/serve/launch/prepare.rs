//! What must hold before an order is stored.

use crate::record::RecordError;
use crate::serve::call::blocking;
use crate::serve::inputs::is_here;
use crate::serve::session::{Peer, Session};
use farrun_protocol::message::Secret;
use farrun_protocol::spec::{Mount, RunSpec};
use farrun_protocol::{ErrorCode, Failure};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Checks the order itself.
pub(super) fn check(session: &Session, peer: &Peer, spec: &RunSpec) -> Result<(), Failure> {
    let wrong = |problem: &str| Err(Failure::new(ErrorCode::BadRequest, problem));
    spec.check()
        .map_err(|error| Failure::new(ErrorCode::BadRequest, error))?;
    if !is_image_reference(&spec.image) {
        return wrong("image of the run spec is not an image reference");
    }
    let known = session.folder(&spec.run_id).spec_sha256()?.is_some();
    if !known && spec.controller_id != peer.controller_id {
        return wrong("controller_id of the run spec is another controller's");
    }
    Ok(())
}

/// An image reference becomes part of a URL, where `..`, `?` and `#` would name another call.
fn is_image_reference(text: &str) -> bool {
    !text.contains("..")
        && !text.starts_with('/')
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._-/:@".contains(&byte))
}

/// Checks that what the order names is on the host and that its secrets came along.
pub(super) async fn require(
    session: &Session,
    spec: &RunSpec,
    secrets: &BTreeMap<String, Secret>,
) -> Result<(), Failure> {
    if let Some(name) = spec.secret_names.iter().find(|name| !secrets.contains_key(*name)) {
        return Err(Failure::new(
            ErrorCode::BadRequest,
            format!("no value for the secret {name}"),
        ));
    }
    let (state, inputs) = (session.context.state.clone(), spec.inputs.clone());
    // An output of an earlier run is hashed, which takes as long as it is large.
    blocking(
        move || match inputs.iter().find(|input| !is_here(&state, input)) {
            Some(input) => Err(Failure::new(ErrorCode::InputMissing, &input.path)),
            None => Ok(()),
        },
    )
    .await?;
    for mount in spec.mounts.iter().filter(|mount| !mount.create) {
        let source = source(&session.context.home, mount);
        if !source.exists() {
            return Err(Failure::new(ErrorCode::MountMissing, source.display()));
        }
    }
    Ok(())
}

/// Makes the folders that mounts ask for.
pub(super) fn make_mounts(home: &Path, spec: &RunSpec) -> Result<(), Failure> {
    for mount in spec.mounts.iter().filter(|mount| mount.create) {
        let source = source(home, mount);
        std::fs::create_dir_all(&source).map_err(RecordError::io(&source))?;
    }
    Ok(())
}

/// A mount's source with `~/` resolved.
pub(super) fn source(home: &Path, mount: &Mount) -> PathBuf {
    match mount.source.strip_prefix("~/") {
        Some(below) => home.join(below.trim_start_matches('/')),
        None => PathBuf::from(&mount.source),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_that_would_name_another_call_are_refused() {
        for text in [
            "busybox",
            "a/b:1",
            "h:5000/a@sha256:0f",
            "nvcr.io/nvidia/cosmos:1.0",
        ] {
            assert!(is_image_reference(text), "{text}");
        }
        for text in ["../containers/x", "a?b", "a#b", "/x", "a b", "a%2e"] {
            assert!(!is_image_reference(text), "{text}");
        }
    }
}
