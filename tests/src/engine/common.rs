//! The one engine that the tests of a run share, and who ends it.

use super::remains::remove;
use super::{Engine, EngineOptions};
use crate::place::shared_folder;
use crate::process::privileged;
use rustix::fs::{FlockOperation, flock};
use std::fs::File;
use std::path::Path;
use std::process::Stdio;

/// Ends the common engine once nobody has held `users.lock` for half a minute.
const CARETAKER: &str = r#"
exec 9<"$2/users.lock" || exit 0
idle=0
while [ "$idle" -lt 6 ] && kill -0 "$1" 2>/dev/null; do
    sleep 5
    if flock -n -x 9; then flock -u 9; idle=$((idle + 1)); else idle=0; fi
done
flock -x 9
# Whoever removed the folder has ended the engine as well.
[ -e "$2/users.lock" ] || exit 0
for pid in $(grep -las "$2/engine/" /proc/[0-9]*/cmdline | cut -d/ -f3); do
    [ "$pid" = $$ ] || kill "$pid" 2>/dev/null
done
tries=0
while kill -0 "$1" 2>/dev/null && [ "$tries" -lt 20 ]; do sleep 1; tries=$((tries + 1)); done
kill -9 "$1" 2>/dev/null
grep -F " $2/engine/" /proc/self/mounts | cut -d' ' -f2 | sort -r | while read -r mount; do umount -l "$mount"; done
rm -rf "$2/engine"
"#;

impl Engine {
    /// The engine that the tests of one run share. The first to need it starts it; `scripts/test` ends it, and
    /// so does a caretaker process after half a minute without users.
    ///
    /// # Panics
    /// When no engine can be started here.
    pub fn shared() -> Self {
        let base = shared_folder();
        let user = lock_file(&base.join("users.lock"));
        flock(&user, FlockOperation::LockShared).expect("lock of the users");
        let starting = lock_file(&base.join("start.lock"));
        flock(&starting, FlockOperation::LockExclusive).expect("lock of the start");
        let engine = Self {
            folder: base.join("engine"),
            options: EngineOptions::default(),
            own: None,
            _user: Some(user),
        };
        if !engine.answers() {
            engine.sweep();
            let _ = remove(&engine.folder);
            engine.launch();
            crate::image::import_all(|| engine.docker());
            engine.hire_caretaker(&base);
        }
        engine
    }

    fn hire_caretaker(&self, base: &Path) {
        let mut command = privileged("setsid");
        command.args(["--fork", "sh", "-c", CARETAKER, "caretaker"]);
        command
            .arg(self.pid().expect("the engine's process id").to_string())
            .arg(base);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let status = command.status().expect("setsid does not start");
        assert!(status.success(), "the caretaker does not start");
    }
}

fn lock_file(path: &Path) -> File {
    let file = File::options().create(true).append(true).open(path);
    file.unwrap_or_else(|error| panic!("lock {}: {error}", path.display()))
}
