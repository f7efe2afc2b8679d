//! Programs that no machine of this kind executes.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// A folder with them; it stays for the life of the test process.
pub(crate) fn folder() -> PathBuf {
    static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let folder = farrun_tests::temporary_folder();
        // The head of an ELF file for SPARC, big-endian: no machine that we know is one.
        let mut foreign = b"\x7fELF\x02\x02\x01".to_vec();
        foreign.resize(16, 0);
        foreign.extend_from_slice(&[0, 2, 0, 43, 0, 0, 0, 1]);
        foreign.resize(4096, 0);
        write(folder.path(), "foreign", &foreign);
        write(folder.path(), "damaged", b"\x7fELF");
        write(folder.path(), "script", b"#!/no/such/interpreter\n");
        folder
    });
    folder.path().to_owned()
}

fn write(folder: &Path, name: &str, content: &[u8]) {
    let path = folder.join(name);
    std::fs::write(&path, content).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}
