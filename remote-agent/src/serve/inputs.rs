//! Inputs by content: which are here, taking in an upload, and handing them to a run.

use super::call::blocking;
use super::session::Session;
use crate::record::{
    RecordError, RunFolder, copy_or_clone, make_private_folder, open_beneath, read_pieces, remove_if_present,
    sync_folder,
};
use farrun_protocol::content::ContentHasher;
use farrun_protocol::manifest::is_safe_path;
use farrun_protocol::message::InputState;
use farrun_protocol::spec::Input;
use farrun_protocol::{ContentId, ControllerId, ErrorCode, Failure, Reply, layout};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

pub(crate) async fn check(session: &Session, inputs: Vec<Input>) -> Result<Reply, Failure> {
    let controller_id = session.peer()?.controller_id.clone();
    let state = session.context.state.clone();
    blocking(move || {
        let states: Result<_, Failure> = inputs
            .iter()
            .map(|input| state_of(&state, input, &controller_id))
            .collect();
        Ok(Reply::Inputs { states: states? })
    })
    .await
}

fn state_of(state: &Path, input: &Input, controller_id: &ControllerId) -> Result<InputState, Failure> {
    if is_here(state, input) {
        return Ok(InputState::Present);
    }
    let path = state.join(layout::incoming(&input.content, controller_id));
    let mut have = std::fs::metadata(&path).map_or(0, |partial| partial.len());
    if have > input.size {
        discard(&path)?;
        have = 0;
    }
    Ok(InputState::Missing {
        path: path.to_string_lossy().into_owned(),
        have,
    })
}

fn has_blob(state: &Path, input: &Input) -> bool {
    let blob = state.join(layout::blob(&input.content));
    std::fs::symlink_metadata(blob).is_ok_and(|blob| blob.is_file() && blob.len() == input.size)
}

/// Whether a run with this input could be launched now.
pub(crate) fn is_here(state: &Path, input: &Input) -> bool {
    has_blob(state, input) || parent_output(state, input).is_some()
}

/// The output of an earlier run that this input names, when its content is still the same.
fn parent_output(state: &Path, input: &Input) -> Option<File> {
    let parent = input
        .parent
        .as_ref()
        .filter(|parent| is_safe_path(&parent.path))?;
    let root = RunFolder::new(state, &parent.run_id).outputs();
    let file = open_beneath(&root, &parent.path).ok()?;
    if file.metadata().ok()?.len() != input.size {
        return None;
    }
    let (content, _) = identify(&file, &input.content, input.size).ok()?;
    rustix::fs::seek(&file, rustix::fs::SeekFrom::Start(0)).ok()?;
    (content == input.content).then_some(file)
}

pub(crate) async fn commit(session: &Session, content: ContentId, size: u64) -> Result<Reply, Failure> {
    let controller_id = session.peer()?.controller_id.clone();
    let state = session.context.state.clone();
    blocking(move || {
        let incoming = state.join(layout::incoming(&content, &controller_id));
        accept(&state, &incoming, &content, size)?;
        Ok(Reply::Done)
    })
    .await
}

/// Verifies a file and gives it its name among the blobs.
fn accept(state: &Path, incoming: &Path, content: &ContentId, size: u64) -> Result<(), Failure> {
    let Some(file) = open_incoming(state, incoming, content, size)? else {
        return Ok(());
    };
    let found = identify(&file, content, size.saturating_add(1)).map_err(RecordError::io(incoming))?;
    admit(state, incoming, &file, found, (content, size))
}

/// The upload; none when its content is among the blobs: the reply to an earlier commit may have been lost, or
/// another upload of the same content was quicker.
pub(super) fn open_incoming(
    state: &Path,
    incoming: &Path,
    content: &ContentId,
    size: u64,
) -> Result<Option<File>, Failure> {
    match File::open(incoming) {
        Ok(file) => Ok(Some(file)),
        Err(_) if is_blob(state, content, size) => Ok(None),
        Err(_) => Err(Failure::new(ErrorCode::InputMissing, content)),
    }
}

fn is_blob(state: &Path, content: &ContentId, size: u64) -> bool {
    std::fs::metadata(state.join(layout::blob(content))).is_ok_and(|blob| blob.len() == size)
}

/// Gives a file its name among the blobs if what was `found` in it is what was `promised`.
pub(super) fn admit(
    state: &Path,
    incoming: &Path,
    file: &File,
    found: (ContentId, u64),
    promised: (&ContentId, u64),
) -> Result<(), Failure> {
    let (content, size) = promised;
    let blob = state.join(layout::blob(content));
    if found != (content.clone(), size) {
        discard(incoming)?;
        return Err(Failure::new(ErrorCode::HashMismatch, content));
    }
    let named = file
        .set_permissions(std::fs::Permissions::from_mode(0o444))
        .and_then(|()| file.sync_all())
        .and_then(|()| std::fs::rename(incoming, &blob));
    match named {
        // Another upload to the same name was verified meanwhile.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && is_blob(state, content, size) => {}
        named => named.map_err(RecordError::io(&blob))?,
    }
    remove_if_present(&marks_of(incoming))?;
    sync_folder(&state.join("blobs"))?;
    Ok(())
}

/// What at most `length` bytes are known by, taken as `like` was, and how many there were.
fn identify(reader: impl Read, like: &ContentId, length: u64) -> io::Result<(ContentId, u64)> {
    let mut hasher = ContentHasher::like(like);
    read_pieces(reader.take(length), |piece| hasher.update(piece))?;
    let length = hasher.length();
    Ok((hasher.finish(), length))
}

/// Removes an upload that is of no use.
fn discard(incoming: &Path) -> Result<(), RecordError> {
    remove_if_present(incoming)?;
    remove_if_present(&marks_of(incoming))
}

pub(super) fn marks_of(incoming: &Path) -> PathBuf {
    PathBuf::from(layout::marks(&incoming.to_string_lossy()))
}

/// From this size on a container gets the blob itself, mounted read-only over an empty file: a copy would take longer
/// than the start of the container, and as much of the disk again.
const MOUNTED: u64 = 16 * 1024 * 1024;

/// The blobs that a container gets mounted, each with the path below its inputs.
pub(crate) fn mounted<'a>(state: &Path, inputs: &'a [Input]) -> Vec<(PathBuf, &'a str)> {
    let large = inputs.iter().filter(|input| input.size >= MOUNTED);
    large
        .map(|input| (state.join(layout::blob(&input.content)), input.path.as_str()))
        .collect()
}

/// Puts a run's inputs where its container mounts them. Does nothing for those that are there.
pub(crate) fn lay_out(state: &Path, folder: &RunFolder, inputs: &[Input]) -> Result<(), Failure> {
    for input in inputs {
        let target = folder.inputs().join(&input.path);
        if input.size >= MOUNTED {
            blob_of(state, input)?;
            make_parents(&folder.inputs(), &target)?;
            make_mount_point(&target)?;
            continue;
        }
        if holds(&target, input) {
            continue;
        }
        let blob = blob_of(state, input)?;
        make_parents(&folder.inputs(), &target)?;
        let temporary = folder
            .path()
            .join(format!(".input.{}", uuid::Uuid::new_v4().simple()));
        let mut source = File::open(&blob).map_err(RecordError::io(&blob))?;
        copy_or_clone(&mut source, &temporary, 0o444)?;
        std::fs::rename(&temporary, &target).map_err(RecordError::io(&target))?;
    }
    sync_folder(&folder.inputs())?;
    Ok(())
}

/// The empty file over which a blob is mounted; a copy that an older agent made serves as well.
fn make_mount_point(target: &Path) -> Result<(), RecordError> {
    match File::create_new(target) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        made => made.map(drop).map_err(RecordError::io(target)),
    }
}

/// Whether a copy that an earlier attempt made is still good. Copies are not synced, for after a power loss no
/// container uses them: whoever finds one reads it.
fn holds(target: &Path, input: &Input) -> bool {
    std::fs::symlink_metadata(target).is_ok_and(|file| file.is_file() && file.len() == input.size)
        && File::open(target)
            .and_then(|file| identify(file, &input.content, input.size))
            .is_ok_and(|(content, _)| content == input.content)
}

/// The blob of an input, made from its parent's output when only that is here.
fn blob_of(state: &Path, input: &Input) -> Result<PathBuf, Failure> {
    let blob = state.join(layout::blob(&input.content));
    if has_blob(state, input) {
        return Ok(blob);
    }
    let mut file =
        parent_output(state, input).ok_or_else(|| Failure::new(ErrorCode::InputMissing, &input.path))?;
    let incoming = state.join("blobs/incoming");
    make_private_folder(&incoming)?;
    let temporary = incoming.join(format!("{}.{}", input.content, uuid::Uuid::new_v4().simple()));
    copy_or_clone(&mut file, &temporary, 0o444)?;
    // The earlier job is over, but another one may have its folder mounted: what was copied is what counts.
    accept(state, &temporary, &input.content, input.size)?;
    Ok(blob)
}

/// Folders between `root` and `target`, which the job's user must be able to enter whatever our umask is.
fn make_parents(root: &Path, target: &Path) -> Result<(), RecordError> {
    let below = target.parent().and_then(|parent| parent.strip_prefix(root).ok());
    let mut folder = root.to_owned();
    for part in below.into_iter().flat_map(Path::components) {
        folder.push(part);
        make_private_folder(&folder)?;
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o755))
            .map_err(RecordError::io(&folder))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(content: &[u8]) -> Input {
        Input {
            path: "a/b".into(),
            content: ContentId::of(content),
            size: content.len() as u64,
            parent: None,
        }
    }

    #[test]
    fn an_upload_is_verified_before_it_has_a_name() {
        let state = tempfile::tempdir().unwrap();
        make_private_folder(&state.path().join("blobs/incoming")).unwrap();
        let incoming = state.path().join("blobs/incoming/x");
        let wanted = input(b"right");
        std::fs::write(&incoming, b"wrong").unwrap();
        let error = accept(state.path(), &incoming, &wanted.content, 5).unwrap_err();
        assert_eq!(error.code, ErrorCode::HashMismatch);
        assert!(!incoming.exists());
        std::fs::write(&incoming, b"right").unwrap();
        accept(state.path(), &incoming, &wanted.content, 5).unwrap();
        accept(state.path(), &incoming, &wanted.content, 5).unwrap();
        assert!(is_here(state.path(), &wanted));
    }

    #[test]
    fn a_large_input_is_mounted_and_not_copied() {
        let state = tempfile::tempdir().unwrap();
        let content = vec![7; usize::try_from(MOUNTED).unwrap()];
        let inputs = [
            input(b"small"),
            Input {
                path: "large".into(),
                ..input(&content)
            },
        ];
        let run = RunFolder::new(state.path(), &"rs_child000".parse().unwrap());
        run.make().unwrap();
        run.make_skeleton().unwrap();
        make_private_folder(&state.path().join("blobs/incoming")).unwrap();
        for (input, content) in inputs.iter().zip([b"small".as_slice(), &content]) {
            assert!(
                lay_out(state.path(), &run, std::slice::from_ref(input)).is_err(),
                "it is not here"
            );
            std::fs::write(state.path().join(layout::blob(&input.content)), content).unwrap();
        }
        for _ in 0..2 {
            lay_out(state.path(), &run, &inputs).unwrap();
        }
        let blob = state.path().join(layout::blob(&inputs[1].content));
        assert_eq!(mounted(state.path(), &inputs), [(blob, "large")]);
        assert_eq!(std::fs::read(run.inputs().join("a/b")).unwrap(), b"small");
        assert_eq!(std::fs::read(run.inputs().join("large")).unwrap(), b"");
    }

    #[test]
    fn an_earlier_output_is_an_input_only_while_it_is_the_same() {
        let state = tempfile::tempdir().unwrap();
        make_private_folder(&state.path().join("blobs/incoming")).unwrap();
        let parent = RunFolder::new(state.path(), &"rs_parent00".parse().unwrap());
        let child = RunFolder::new(state.path(), &"rs_child000".parse().unwrap());
        for folder in [&parent, &child] {
            folder.make().unwrap();
            folder.make_skeleton().unwrap();
        }
        let output = parent.outputs().join("video");
        std::fs::write(&output, b"frames").unwrap();
        let mut wanted = input(b"frames");
        wanted.parent = Some(farrun_protocol::spec::ParentOutput {
            run_id: parent.run_id().clone(),
            path: "video".into(),
        });
        assert!(is_here(state.path(), &wanted));
        lay_out(state.path(), &child, std::slice::from_ref(&wanted)).unwrap();
        std::fs::write(&output, b"FRAMES").unwrap();
        assert_eq!(std::fs::read(child.inputs().join("a/b")).unwrap(), b"frames");
        std::fs::remove_file(state.path().join(layout::blob(&wanted.content))).unwrap();
        assert!(!is_here(state.path(), &wanted));
    }
}
