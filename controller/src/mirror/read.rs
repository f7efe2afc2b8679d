//! The mirror file alone, for a host that cannot be reached.

use super::MirrorError;
use rustix::fs::{Mode, OFlags};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

/// Bytes looked at in one step.
const PIECE: u64 = 64 * 1024;

/// Opens a mirror file for reading; none when there is none. Nothing is locked or created.
///
/// # Errors
/// The file system refuses, or the name is not a plain file's.
pub fn open(path: &Path) -> Result<Option<File>, MirrorError> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        Err(error) => return Err(MirrorError::io(path)(error.into())),
    };
    if !file.metadata().map_err(MirrorError::io(path))?.is_file() {
        return Err(MirrorError::NotAFile {
            path: path.to_owned(),
        });
    }
    Ok(Some(file))
}

/// Hands what lies in the file from byte `from` on to `sink`, piece by piece; answers with the offset behind it.
///
/// # Errors
/// The file system refuses, or the name is not a plain file's.
pub fn read(path: &Path, from: u64, sink: &mut dyn FnMut(&[u8])) -> Result<u64, MirrorError> {
    let Some(file) = open(path)? else { return Ok(from) };
    let mut piece = vec![0; PIECE as usize];
    let mut at = from;
    loop {
        match file.read_at(&mut piece, at) {
            Ok(0) => return Ok(at),
            Ok(count) => {
                sink(piece.get(..count).unwrap_or(&piece));
                at += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(MirrorError::io(path)(error)),
        }
    }
}

/// Bytes before an offset that are looked at for lines, at most.
const LOOK_BACK: u64 = 4096;
/// Most characters of such a line.
const LINE: usize = 500;

/// The last `count` lines that end before byte `offset`, oldest first; what a carriage return begins anew counts as a
/// line. None when the file does not reach there.
///
/// # Errors
/// The file system refuses, or the name is not a plain file's.
pub fn lines_before(path: &Path, offset: u64, count: usize) -> Result<Vec<String>, MirrorError> {
    let Some(file) = open(path)? else {
        return Ok(Vec::new());
    };
    let length = file.metadata().map_err(MirrorError::io(path))?.len();
    if offset > length {
        return Ok(Vec::new());
    }
    let start = offset.saturating_sub(LOOK_BACK);
    let mut piece = vec![0; (offset - start) as usize];
    file.read_exact_at(&mut piece, start)
        .map_err(MirrorError::io(path))?;
    let text = String::from_utf8_lossy(&piece);
    let lines: Vec<&str> = text
        .split(['\n', '\r'])
        .map(str::trim_end)
        .filter(|line| !line.is_empty())
        .collect();
    Ok(lines
        .iter()
        .skip(lines.len().saturating_sub(count))
        .map(|line| line.chars().take(LINE).collect())
        .collect())
}

/// Offset at which the last `lines` lines of the file begin. A last line without newline counts as one.
///
/// # Errors
/// The file system refuses, or the name is not a plain file's.
pub fn tail_offset(path: &Path, lines: u64) -> Result<u64, MirrorError> {
    let Some(file) = open(path)? else { return Ok(0) };
    let length = file.metadata().map_err(MirrorError::io(path))?.len();
    if lines == 0 {
        return Ok(length);
    }
    let mut left = lines;
    // The newline that ends the last line starts no other.
    let mut end = length.saturating_sub(1);
    while end > 0 {
        let start = end.saturating_sub(PIECE);
        let mut piece = vec![0; (end - start) as usize];
        file.read_exact_at(&mut piece, start)
            .map_err(MirrorError::io(path))?;
        for (index, _) in piece.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
            left -= 1;
            if left == 0 {
                return Ok(start + index as u64 + 1);
            }
        }
        end = start;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_begin_where_tail_says() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.log");
        assert_eq!(tail_offset(&path, 3).unwrap(), 0);
        for (text, lines, expected) in [
            ("", 1, 0),
            ("one", 1, 0),
            ("one\n", 1, 0),
            ("one\ntwo\n", 1, 4),
            ("one\ntwo", 1, 4),
            ("one\ntwo\n\n", 1, 8),
            ("one\ntwo\n", 2, 0),
            ("one\ntwo\n", 0, 8),
        ] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(tail_offset(&path, lines).unwrap(), expected, "{text:?} {lines}");
        }
        let long = format!("{}\n{}\nlast", "x".repeat(200_000), "y".repeat(100_000));
        std::fs::write(&path, &long).unwrap();
        assert_eq!(tail_offset(&path, 2).unwrap(), 200_001);
    }

    #[test]
    fn reading_needs_no_file_and_follows_no_link() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.log");
        assert_eq!(read(&path, 7, &mut |_| panic!("no bytes")).unwrap(), 7);
        std::os::unix::fs::symlink("/etc/hostname", &path).unwrap();
        assert!(read(&path, 0, &mut |_| ()).is_err());
    }
}
