//! Where the harness finds programs and keeps what it makes.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// The build folder of the running test (`target/debug`, `target/release`).
///
/// # Panics
/// When the test does not run from a build folder.
pub fn target_folder() -> PathBuf {
    let program = std::env::current_exe().expect("path of the running test");
    let folder = program.parent().expect("folder of the running test");
    let folder = if folder.ends_with("deps") {
        folder.parent().expect("build folder")
    } else {
        folder
    };
    folder.to_path_buf()
}

/// A program of this workspace, or the file that `FARRUN_TEST_<NAME>` names.
///
/// # Panics
/// When it was not built; cargo builds the programs of other packages only when told to.
pub fn binary(name: &str) -> PathBuf {
    let variable = format!("FARRUN_TEST_{}", name.to_uppercase().replace('-', "_"));
    let path = std::env::var_os(&variable).map_or_else(|| target_folder().join(name), PathBuf::from);
    assert!(
        path.is_file(),
        "{} is missing: run `scripts/test`, or `cargo build -p {name}` first",
        path.display()
    );
    path
}

/// Folder of agents that the controller is pointed to: made by `scripts/build-agent`.
pub(crate) fn agents_folder() -> PathBuf {
    if let Some(folder) = std::env::var_os("FARRUN_AGENTS") {
        return PathBuf::from(folder);
    }
    let beside = target_folder().parent().map(|target| target.join("agents"));
    beside.unwrap_or_else(|| PathBuf::from("target/agents"))
}

/// The static agent of this machine's kind, made by `scripts/build-agent`.
///
/// # Panics
/// When it was not built.
pub fn static_agent() -> PathBuf {
    let platform = format!("Linux-{}", std::env::consts::ARCH);
    let path = agents_folder().join(platform).join("farrun-agent");
    assert!(
        path.is_file(),
        "{} is missing: run `scripts/build-agent` first",
        path.display()
    );
    path
}

/// What all tests of one run share: `FARRUN_TEST_SHARED`, or a folder per account below the temporary one.
pub(crate) fn shared_folder() -> PathBuf {
    let folder = std::env::var_os("FARRUN_TEST_SHARED").map_or_else(
        || std::env::temp_dir().join(format!("farrun-tests-{}", rustix::process::getuid().as_raw())),
        PathBuf::from,
    );
    std::fs::create_dir_all(&folder).expect("shared folder");
    open_to_others(&folder);
    folder
}

/// A new folder that goes with its guard. Others may walk through it, so that a container's user or another
/// account reaches what lies below; short, because socket paths end at 108 bytes.
///
/// # Panics
/// When it cannot be made.
pub fn temporary_folder() -> tempfile::TempDir {
    let folder = tempfile::Builder::new()
        .prefix("farrun-t-")
        .tempdir()
        .expect("temporary folder");
    open_to_others(folder.path());
    folder
}

fn open_to_others(folder: &Path) {
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).expect("mode of a folder");
}

/// A loopback port that was free a moment ago and that no other test of this process was given.
pub(crate) fn free_port() -> u16 {
    // Tests run side by side: an ephemeral port could be handed to a client's connection before it is bound
    // again. Below the ephemeral range nobody takes it but us.
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let start = std::process::id().wrapping_mul(37);
    for _ in 0..2000 {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = 20_000 + (start.wrapping_add(step) % 12_000) as u16;
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free loopback port between 20000 and 32000");
}
