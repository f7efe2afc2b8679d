//! Images made of one static program, imported without any registry.

use crate::process::run;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Busybox with a shell; its command prints `default command`.
pub const BUSYBOX: &str = "farrun-test-busybox:1";
/// The same, but it runs as user 1234.
pub const USER: &str = "farrun-test-user:1";
/// One static program and nothing else: no shell, no folders; it prints `from scratch`.
pub const SCRATCH: &str = "farrun-test-scratch:1";

const APPLETS: &[&str] = &[
    "awk",
    "base64",
    "cat",
    "chmod",
    "cp",
    "cut",
    "date",
    "dd",
    "echo",
    "env",
    "false",
    "find",
    "grep",
    "head",
    "id",
    "kill",
    "ls",
    "md5sum",
    "mkdir",
    "mkfifo",
    "mv",
    "od",
    "printf",
    "ps",
    "pwd",
    "rm",
    "sed",
    "seq",
    "sh",
    "sha256sum",
    "sleep",
    "sort",
    "stat",
    "tail",
    "tee",
    "test",
    "touch",
    "tr",
    "trap",
    "true",
    "uname",
    "wc",
    "yes",
];

/// Imports every test image into the engine behind `docker`.
pub(crate) fn import_all(docker: impl Fn() -> Command) {
    let folder = crate::temporary_folder();
    let full = folder.path().join("full");
    let bin = full.join("bin");
    std::fs::create_dir_all(&bin).expect("folder of programs");
    place_busybox(&bin.join("busybox"));
    for applet in APPLETS {
        symlink("busybox", bin.join(applet)).expect("link of a program");
    }
    std::fs::create_dir_all(full.join("etc")).expect("etc");
    let accounts = "root:x:0:0:root:/root:/bin/sh\nworker:x:1234:1234:worker:/:/bin/sh\n";
    std::fs::write(full.join("etc/passwd"), accounts).expect("accounts");
    for (name, mode) in [
        ("tmp", 0o1777),
        ("root", 0o700),
        ("work", 0o777),
        ("output", 0o777),
    ] {
        std::fs::create_dir(full.join(name)).expect("folder of the image");
        std::fs::set_permissions(full.join(name), std::fs::Permissions::from_mode(mode)).expect("mode");
    }
    let path = "ENV PATH=/bin";
    let command = r#"CMD ["/bin/echo","default command"]"#;
    import(&docker, &full, BUSYBOX, &[path, command]);
    import(&docker, &full, USER, &[path, command, "USER 1234"]);
    let bare = folder.path().join("bare");
    std::fs::create_dir(&bare).expect("folder of the bare image");
    place_busybox(&bare.join("busybox"));
    import(
        &docker,
        &bare,
        SCRATCH,
        &[r#"ENTRYPOINT ["/busybox","echo"]"#, r#"CMD ["from scratch"]"#],
    );
}

fn import(docker: &impl Fn() -> Command, root: &Path, name: &str, changes: &[&str]) {
    let archive = root.with_extension("tar");
    let mut tar = Command::new("tar");
    tar.args(["--owner=0", "--group=0", "--numeric-owner", "-cf"])
        .arg(&archive);
    tar.arg("-C").arg(root).arg(".");
    let _ = run(tar, Duration::from_secs(60)).ok();
    let mut command = docker();
    command.arg("import");
    for change in changes {
        command.arg("--change").arg(change);
    }
    command.arg(&archive).arg(name);
    let _ = run(command, Duration::from_secs(120)).ok();
}

pub(crate) fn place_busybox(to: &Path) {
    std::fs::copy(busybox(), to).expect("a copy of busybox");
    std::fs::set_permissions(to, std::fs::Permissions::from_mode(0o755)).expect("mode of busybox");
}

/// The static busybox of this machine.
pub(crate) fn busybox() -> PathBuf {
    let places = ["/bin/busybox", "/usr/bin/busybox"];
    let found = places.iter().map(PathBuf::from).find(|path| path.is_file());
    found.expect("busybox is missing: install the package busybox-static")
}
