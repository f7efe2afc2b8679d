//! Reads files of evidence: plain files only, a bounded part of each, and never more than that in memory.

use rustix::fs::OFlags;
use serde::de::DeserializeOwned;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Most bytes of a file of JSON that are parsed; each takes many times its size in memory.
const JSON: u64 = 2 * 1024 * 1024;

/// A file, or why there is none.
pub(super) type Had<T> = Result<T, String>;

/// A piece of a file.
pub(super) struct Piece {
    /// Its bytes.
    pub(super) bytes: Vec<u8>,
    /// Bytes of the file before it.
    pub(super) from: u64,
    /// Length of the whole file.
    pub(super) length: u64,
}

/// Opens a plain file; a link, a pipe or a device is none.
fn open(path: &Path) -> Had<(File, u64)> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path)
        .map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => "it is not there".to_owned(),
            _ => error.to_string(),
        })?;
    let meta = file.metadata().map_err(|error| error.to_string())?;
    if !meta.is_file() {
        return Err("it is no plain file".to_owned());
    }
    Ok((file, meta.len()))
}

/// At most `most` bytes from `from`.
fn read(file: &mut File, from: u64, most: u64) -> Had<Vec<u8>> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(from))
        .and_then(|_| file.take(most).read_to_end(&mut bytes))
        .map_err(|error| error.to_string())?;
    Ok(bytes)
}

/// The first `most` bytes.
pub(super) fn start(path: &Path, most: u64) -> Had<Piece> {
    let (mut file, length) = open(path)?;
    let bytes = read(&mut file, 0, most)?;
    Ok(Piece {
        bytes,
        from: 0,
        length,
    })
}

/// The bytes from `from`, at most `most`.
pub(super) fn part(path: &Path, from: u64, most: u64) -> Had<Vec<u8>> {
    let (mut file, _) = open(path)?;
    read(&mut file, from, most)
}

/// The last `most` bytes, none of them before `from`.
pub(super) fn end(path: &Path, most: u64, from: u64) -> Had<Piece> {
    let (mut file, length) = open(path)?;
    let from = length.saturating_sub(most).max(from).min(length);
    let bytes = read(&mut file, from, most)?;
    Ok(Piece { bytes, from, length })
}

/// The first `most` bytes as text; what is no UTF-8 is replaced.
pub(super) fn text(path: &Path, most: u64) -> Had<String> {
    start(path, most).map(|piece| String::from_utf8_lossy(&piece.bytes).into_owned())
}

/// A document of JSON.
pub(super) fn json<T: DeserializeOwned>(path: &Path) -> Had<T> {
    let piece = start(path, JSON)?;
    if piece.length > JSON {
        return Err(format!("it is larger than {JSON} bytes"));
    }
    serde_json::from_slice(&piece.bytes).map_err(|error| format!("it is not of the expected form: {error}"))
}

/// Documents of JSON, one a line, at most `count`; what is none is left out.
pub(super) fn json_lines<T: DeserializeOwned>(path: &Path, most: u64, count: usize) -> Had<Vec<T>> {
    let text = text(path, most)?;
    let documents = text.lines().filter_map(|line| serde_json::from_str(line).ok());
    Ok(documents.take(count).collect())
}
