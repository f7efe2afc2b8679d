//! What the run left: what PID 1 wrote, and how it ended.

use super::RunFolder;
use crate::record::{RecordError, read_json, read_value, remove_if_present, write_json};
use farrun_protocol::Generation;
use farrun_protocol::record::{self, EXIT_SIZE, ExitRecord, Settled};
use farrun_protocol::verdict::RunResult;

impl RunFolder {
    /// Whether PID 1 claimed the run.
    pub fn claimed(&self) -> bool {
        std::fs::metadata(self.record().join("started")).is_ok_and(|started| started.len() > 0)
    }

    /// Life of the run log.
    ///
    /// # Errors
    /// The kernel's or a damaged file.
    pub fn generation(&self) -> Result<Option<Generation>, RecordError> {
        read_value(&self.record().join("generation"), 100)
    }

    /// Length of the run log now.
    pub fn log_length(&self) -> u64 {
        std::fs::metadata(self.log()).map_or(0, |log| log.len())
    }

    /// PID 1's record, when it is valid.
    ///
    /// # Errors
    /// The kernel's.
    pub fn exit(&self) -> Result<Option<ExitRecord>, RecordError> {
        // The job could have grown the file, so only the part that counts is read.
        use std::io::Read as _;
        let path = self.record().join("exit.json");
        let mut bytes = Vec::new();
        match std::fs::File::open(&path) {
            Ok(file) => file.take(EXIT_SIZE as u64).read_to_end(&mut bytes),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => Err(error),
        }
        .map_err(RecordError::io(&path))?;
        Ok(ExitRecord::decode(&bytes))
    }

    /// How the run ended, once it is settled.
    ///
    /// # Errors
    /// The kernel's, damage, or a newer format.
    pub fn settled(&self) -> Result<Option<Settled>, RecordError> {
        read_json(&self.path.join("settled.json"), record::FORMAT)
    }

    /// Writes `settled.json`; the caller holds the lock and has seen that there is none, or one that awaits its engine.
    ///
    /// # Errors
    /// The kernel's.
    pub fn write_settled(&self, settled: &Settled) -> Result<(), RecordError> {
        let path = self.path.join("settled.json");
        if let Err(error) = write_json(&path, settled) {
            // A full disk must not keep a run from ever being settled: this is what the reserve is for.
            remove_if_present(&self.reserve())?;
            write_json(&path, settled).map_err(|_| error)?;
        }
        remove_if_present(&self.reserve())?;
        // The evidence of any other end is redacted by them first, and removes them.
        if settled.verdict.result == RunResult::Succeeded {
            remove_if_present(&self.secrets())?;
        }
        self.leave_queue()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_format_is_refused_and_left_alone() {
        let state = tempfile::tempdir().unwrap();
        let folder = RunFolder::new(state.path(), &"rs_abcdefgh".parse().unwrap());
        folder.make().unwrap();
        let path = folder.path().join("settled.json");
        std::fs::write(&path, br#"{"format":2,"new":true}"#).unwrap();
        assert!(matches!(
            folder.settled(),
            Err(RecordError::Newer { format: 2, .. })
        ));
        assert_eq!(std::fs::read(&path).unwrap(), br#"{"format":2,"new":true}"#);
    }
}
