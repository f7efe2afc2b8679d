//! What a container mounts, made before it is.

use super::RunFolder;
use crate::record::{RecordError, make_private_folder, write_all_in_place, write_in_place};
use farrun_protocol::Generation;
use farrun_protocol::record::EXIT_SIZE;
use std::os::unix::fs::PermissionsExt as _;

/// Enough for `settled.json` and the folder that names it.
const RESERVE: usize = 64 * 1024;

impl RunFolder {
    /// Makes what the container mounts. Files of `record/` are made now and written in place later, because PID 1
    /// may run as any user; the folders are open to that user, their parent is not open to other accounts.
    ///
    /// # Errors
    /// The kernel's.
    pub fn make_skeleton(&self) -> Result<(), RecordError> {
        for (folder, mode) in [
            (self.inputs(), 0o755),
            (self.outputs(), 0o777),
            (self.record(), 0o755),
            (self.path.join("diagnostics"), 0o700),
        ] {
            make_private_folder(&folder)?;
            std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(mode))
                .map_err(RecordError::io(&folder))?;
        }
        let record = self.record();
        let generation = format!("{}\n", Generation::random());
        let mut files: Vec<(&str, &[u8], u32)> = vec![("generation", generation.as_bytes(), 0o644)];
        files.extend(["run.log", "run.tail", "started"].map(|name| (name, &b""[..], 0o666)));
        // Their blocks are written now: a disk that is full at the end must not turn a success into a failure.
        let exit = vec![0; EXIT_SIZE];
        files.push(("exit.json", &exit, 0o666));
        write_all_in_place(&record, &files)?;
        if self.path.join("settled.json").exists() {
            return Ok(());
        }
        write_in_place(&self.reserve(), &vec![1; RESERVE], 0o600)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn a_skeleton_is_made_once_and_kept() {
        let state = tempfile::tempdir().unwrap();
        let folder = RunFolder::new(state.path(), &"rs_abcdefgh".parse().unwrap());
        folder.make().unwrap();
        folder.make_skeleton().unwrap();
        let generation = folder.generation().unwrap();
        std::fs::write(folder.log(), b"kept").unwrap();
        folder.make_skeleton().unwrap();
        assert_eq!(folder.generation().unwrap(), generation);
        assert_eq!(folder.log_length(), 4);
        assert_eq!(folder.exit().unwrap(), None);
        assert!(!folder.claimed());
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(folder.path()), 0o700);
        assert_eq!(mode(&folder.outputs()), 0o777);
        assert_eq!(mode(&folder.log()), 0o666);
        assert_eq!(
            std::fs::metadata(folder.record().join("exit.json"))
                .unwrap()
                .len(),
            8192
        );
    }
}
