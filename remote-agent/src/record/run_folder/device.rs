//! What a run's `DEVICE` says.

use super::RunFolder;
use crate::record::{RecordError, read_bounded, write_in_place};
use farrun_protocol::gpu::Device;

impl RunFolder {
    /// What the run was told to compute with.
    ///
    /// # Errors
    /// The kernel's.
    pub fn device(&self) -> Result<Option<Device>, RecordError> {
        let bytes = read_bounded(&self.path().join("device"), 100)?.unwrap_or_default();
        let known = [Device::Cuda, Device::Mps, Device::Cpu];
        Ok(known
            .into_iter()
            .find(|device| device.as_str().as_bytes() == bytes.trim_ascii()))
    }

    /// Remembers it, once.
    ///
    /// # Errors
    /// The kernel's.
    pub fn write_device(&self, device: Device) -> Result<(), RecordError> {
        write_in_place(&self.path().join("device"), device.as_str().as_bytes(), 0o600)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use farrun_protocol::RunId;

    #[test]
    fn the_first_word_stays() {
        let state = tempfile::tempdir().unwrap();
        let folder = RunFolder::new(state.path(), &RunId::random());
        folder.make().unwrap();
        assert_eq!(folder.device().unwrap(), None);
        folder.write_device(Device::Cuda).unwrap();
        folder.write_device(Device::Cpu).unwrap();
        assert_eq!(folder.device().unwrap(), Some(Device::Cuda));
        std::fs::write(folder.path().join("device"), "abacus").unwrap();
        assert_eq!(folder.device().unwrap(), None);
    }
}
