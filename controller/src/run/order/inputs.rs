//! The inputs of an order: hashed before the order is written, and found again by hash when they are uploaded.
//!
//! What is remembered lies in a folder of the order's own, closed to others: prompts and paths are nobody else's
//! business.

use crate::config::Config;
use crate::run::RunError;
use farrun_protocol::content::ContentHasher;
use farrun_protocol::spec::{Input, ParentOutput};
use farrun_protocol::{ContentId, RunId};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{channel, sync_channel};
use tokio_util::sync::CancellationToken;

/// What is read of a file at once.
const PIECE: usize = 256 * 1024;
/// From this size on a file is read ahead of its hash.
const READ_AHEAD: u64 = 16 * PIECE as u64;

/// One input of an order.
#[derive(Debug, Clone)]
pub struct OrderInput {
    /// Path below the run's inputs.
    pub path: String,
    /// Where it comes from.
    pub source: OrderSource,
}

/// Where an input comes from.
#[derive(Debug, Clone)]
pub enum OrderSource {
    /// A file of this machine.
    Local(PathBuf),
    /// Bytes made for this run.
    Inline(Vec<u8>),
    /// Content of an earlier order, which its host may still have.
    Content {
        /// What it is known by.
        content: ContentId,
        /// Its size in bytes.
        size: u64,
        /// The file of this machine that had it then.
        local: Option<PathBuf>,
    },
    /// An output of an earlier run; `local` is its verified copy here, when there is one.
    Parent {
        /// Names the output on the host.
        output: ParentOutput,
        /// Its size in bytes.
        size: u64,
        /// What it is known by.
        content: ContentId,
        /// Its copy here.
        local: Option<PathBuf>,
    },
}

/// Where the content of inputs lies on this machine, by what it is known by as text.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Sources {
    format: u32,
    files: BTreeMap<String, PathBuf>,
    /// Content that its file had when an earlier run was ordered, and was not read since.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    unread: BTreeSet<String>,
}

impl Sources {
    /// The file with this content.
    pub fn file(&self, content: &ContentId) -> Option<&Path> {
        self.files.get(&content.to_string()).map(PathBuf::as_path)
    }

    /// Whether the file with this content has to be read before it is believed.
    pub fn is_unread(&self, content: &ContentId) -> bool {
        self.unread.contains(&content.to_string())
    }

    /// A copy that was right when an earlier run was ordered or brought home, if there is one.
    fn add_unread(&mut self, content: &ContentId, copy: Option<PathBuf>) {
        if let Some(copy) = copy {
            self.unread.insert(content.to_string());
            self.files.insert(content.to_string(), copy);
        }
    }

    /// Whether this machine remembers the order at all; one that was placed on another machine it does not.
    pub fn is_remembered(&self) -> bool {
        self.format != 0
    }
}

/// Where the inputs of an order come from; empty when it was placed elsewhere.
///
/// # Errors
/// The file exists and cannot be read.
pub(in crate::run) fn sources(config: &Config, run: &RunId) -> Result<Sources, RunError> {
    read_sources(&folder(config, run).join("order.json"))
}

/// Which files of this machine the inputs of an earlier run were, whatever has become of them; empty when it was ordered
/// elsewhere or had none.
///
/// # Errors
/// The file exists and cannot be read.
pub fn files_of(config: &Config, run: &RunId) -> Result<Sources, RunError> {
    read_sources(&kept(config, run))
}

fn read_sources(path: &Path) -> Result<Sources, RunError> {
    let local = |source| RunError::Local {
        path: path.to_owned(),
        source,
    };
    match std::fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| local(error.into())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Sources::default()),
        Err(error) => Err(local(error)),
    }
}

/// Removes what was remembered for an order; best effort, for nothing reads it any more.
pub fn forget(config: &Config, run: &RunId) {
    let folder = folder(config, run);
    if let Err(error) = std::fs::remove_dir_all(&folder)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(%run, %error, "An order's folder could not be removed");
    }
}

pub(super) fn folder(config: &Config, run: &RunId) -> PathBuf {
    config.state_folder.join("orders").join(run.as_str())
}

/// Where the files of a run's inputs are remembered beyond its order.
fn kept(config: &Config, run: &RunId) -> PathBuf {
    config.state_folder.join("inputs").join(format!("{run}.json"))
}

/// Remembers for a later order of the same which files the inputs of a run were; best effort, for then the host may still
/// have them.
pub(super) fn keep_files(config: &Config, run: &RunId, sources: &Sources) {
    let orders = config.state_folder.join("orders");
    let files = sources
        .files
        .iter()
        .filter(|(_, file)| !file.starts_with(&orders));
    let files = Sources {
        format: sources.format,
        files: files
            .map(|(content, file)| (content.clone(), file.clone()))
            .collect(),
        unread: BTreeSet::new(),
    };
    let path = kept(config, run);
    if files.files.is_empty() {
        return;
    }
    if let Err(error) = write_json(&path, &files) {
        tracing::warn!(%run, %error, "The files of its inputs could not be remembered");
    }
}

pub(super) fn write_sources(config: &Config, run: &RunId, sources: &Sources) -> Result<(), RunError> {
    let path = folder(config, run).join("order.json");
    write_json(&path, sources).map_err(|source| RunError::Local {
        path: path.clone(),
        source,
    })
}

fn write_json(path: &Path, sources: &Sources) -> std::io::Result<()> {
    make_private(path.parent().unwrap_or(path))?;
    write_private(path, &serde_json::to_vec(sources)?)
}

/// Prompts and paths are nobody else's business.
fn make_private(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
}

fn write_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

pub(super) fn hash_inputs(
    inputs: Vec<OrderInput>,
    folder: &Path,
    interrupt: &CancellationToken,
) -> Result<(Vec<Input>, Sources), RunError> {
    let mut sources = Sources {
        format: 1,
        ..Sources::default()
    };
    let mut hashed = Vec::with_capacity(inputs.len());
    let mut hashes = hash_local(&inputs, interrupt).into_iter();
    for OrderInput { path, source } in inputs {
        let input = match source {
            OrderSource::Local(file) => {
                let (content, size) = hashes
                    .next()
                    .unwrap_or_else(|| hash_file(&file, None, interrupt))?;
                sources
                    .files
                    .insert(content.to_string(), std::path::absolute(&file).unwrap_or(file));
                Input {
                    path,
                    content,
                    size,
                    parent: None,
                }
            }
            OrderSource::Inline(bytes) => {
                let content = ContentId::of(&bytes);
                let file = folder.join(content.to_string());
                let local = |source| RunError::Local {
                    path: file.clone(),
                    source,
                };
                make_private(folder).map_err(local)?;
                write_private(&file, &bytes).map_err(local)?;
                sources.files.insert(content.to_string(), file);
                Input {
                    path,
                    content,
                    size: bytes.len() as u64,
                    parent: None,
                }
            }
            OrderSource::Content { content, size, local } => {
                sources.add_unread(&content, local);
                Input {
                    path,
                    content,
                    size,
                    parent: None,
                }
            }
            OrderSource::Parent {
                output,
                size,
                content,
                local,
            } => {
                sources.add_unread(&content, local);
                Input {
                    path,
                    content,
                    size,
                    parent: Some(output),
                }
            }
        };
        hashed.push(input);
    }
    Ok((hashed, sources))
}

/// What every local file is known by, and its size, among `inputs`, in their order, as many at once as there are processors.
fn hash_local(
    inputs: &[OrderInput],
    interrupt: &CancellationToken,
) -> Vec<Result<(ContentId, u64), RunError>> {
    let local = |input: &OrderInput| match &input.source {
        OrderSource::Local(file) => Some(file.clone()),
        _ => None,
    };
    let files: Vec<PathBuf> = inputs.iter().filter_map(local).collect();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let next = AtomicUsize::new(0);
    let work = || {
        std::iter::from_fn(|| {
            let at = next.fetch_add(1, Ordering::Relaxed);
            files.get(at).map(|file| (at, hash_file(file, None, interrupt)))
        })
        .collect::<Vec<_>>()
    };
    let mut hashes: HashMap<usize, _> = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads.min(files.len())).map(|_| scope.spawn(work)).collect();
        let mut hashes = work();
        hashes.extend(others.into_iter().filter_map(|other| other.join().ok()).flatten());
        hashes.into_iter().collect()
    });
    let hash_of = |(at, file): (usize, &PathBuf)| {
        hashes
            .remove(&at)
            .unwrap_or_else(|| hash_file(file, None, interrupt))
    };
    files.iter().enumerate().map(hash_of).collect()
}

/// What a file is known by, taken as `like` was if there is one, and its size.
///
/// # Errors
/// It cannot be read, or the user interrupted: a large one takes minutes.
pub(in crate::run) fn hash_file(
    path: &Path,
    like: Option<&ContentId>,
    interrupt: &CancellationToken,
) -> Result<(ContentId, u64), RunError> {
    read_and_hash(path, like, interrupt).map_err(|source| match source.kind() {
        std::io::ErrorKind::Interrupted => RunError::Interrupted { detached: None },
        _ => RunError::Input {
            path: path.to_owned(),
            source,
        },
    })
}

/// A file of many pieces is read by a thread of its own: hashing is work for one processor, and reading takes half of
/// that time.
fn read_and_hash(
    path: &Path,
    like: Option<&ContentId>,
    interrupt: &CancellationToken,
) -> std::io::Result<(ContentId, u64)> {
    let file = File::open(path)?;
    let expected = file.metadata()?.len();
    let mut hasher = like.map_or_else(|| ContentHasher::for_size(expected), ContentHasher::like);
    if expected < READ_AHEAD {
        read_pieces(file, interrupt, |buffer| {
            hasher.update(&buffer);
            Some(buffer)
        })?;
    } else {
        let (sender, pieces) = sync_channel(2);
        let (back, used) = channel();
        std::thread::scope(|scope| {
            let read = move || {
                read_pieces(file, interrupt, |buffer| {
                    sender.send(buffer).ok()?;
                    Some(used.try_recv().unwrap_or_default())
                })
            };
            let reading = scope.spawn(read);
            for piece in pieces {
                hasher.update(&piece);
                let _ = back.send(piece);
            }
            let lost = |_| Err(std::io::Error::other("the thread that read it ended early"));
            reading.join().unwrap_or_else(lost)
        })?;
    }
    let size = hasher.length();
    Ok((hasher.finish(), size))
}

/// Reads a file to its end. `take` gets each piece and answers with a buffer for the next, or nothing to stop. An
/// interrupt of the user is an error of that kind, which reading itself never ends with.
fn read_pieces(
    mut file: File,
    interrupt: &CancellationToken,
    mut take: impl FnMut(Vec<u8>) -> Option<Vec<u8>>,
) -> std::io::Result<()> {
    let mut buffer = vec![0; PIECE];
    loop {
        if interrupt.is_cancelled() {
            return Err(std::io::ErrorKind::Interrupted.into());
        }
        match file.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(read) => buffer.truncate(read),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        }
        match take(buffer) {
            Some(next) => buffer = next,
            None => return Ok(()),
        }
        buffer.resize(PIECE, 0);
    }
}

#[cfg(test)]
mod tests;
