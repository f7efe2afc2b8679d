//! A stand-in for `nvidia-smi`: a script beside files that tell it which GPUs there are and how to misbehave. It needs
//! no variable, because the program that starts it clears them, and each change holds from the next call on.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// The variable by which an agent is given it.
pub(crate) const VARIABLE: &str = "FARRUN_NVIDIA_SMI";

/// A stand-in and the folder it lives in.
#[derive(Debug)]
pub struct NvidiaSmi {
    folder: tempfile::TempDir,
}

impl Default for NvidiaSmi {
    fn default() -> Self {
        Self::new()
    }
}

impl NvidiaSmi {
    /// One that finds no device.
    ///
    /// # Panics
    /// When the disk refuses.
    pub fn new() -> Self {
        let folder = tempfile::Builder::new()
            .prefix("farrun-smi-")
            .tempdir()
            .expect("folder of the stand-in");
        let fake = Self { folder };
        std::fs::create_dir(fake.file("gpus")).expect("folder of the GPUs");
        std::fs::write(fake.path(), include_str!("nvidia_smi.sh")).expect("the stand-in");
        fake.write("calls", "");
        // Another account may be the one that asks.
        for (path, mode) in [
            (fake.folder.path().to_owned(), 0o755),
            (fake.path(), 0o755),
            (fake.file("calls"), 0o666),
        ] {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("a mode");
        }
        fake
    }

    /// One with so many healthy, idle GPUs of 80 GB, called [`Self::uuid`].
    pub fn with_gpus(count: u32) -> Self {
        let fake = Self::new();
        for index in 0..count {
            fake.add(index, &[]);
        }
        fake
    }

    /// UUID of the GPU at this place.
    pub fn uuid(index: u32) -> String {
        format!("GPU-{index:08x}-feed-4000-8000-00000000c0de")
    }

    /// Its program.
    pub fn path(&self) -> PathBuf {
        self.file("nvidia-smi")
    }

    /// What a host's sessions must be given, for `SshdOptions::environment`.
    pub fn variable(&self) -> (String, String) {
        (VARIABLE.to_owned(), self.path().to_string_lossy().into_owned())
    }

    /// Adds or changes a GPU: fields of the query and their cells, on top of an idle one's.
    ///
    /// # Panics
    /// When the disk refuses.
    pub fn add(&self, index: u32, fields: &[(&str, &str)]) {
        let uuid = Self::uuid(index);
        let own = [
            ("index", index.to_string()),
            ("uuid", uuid.clone()),
            ("pci.bus_id", format!("00000000:{:02X}:00.0", index + 7)),
        ];
        const IDLE: &[(&str, &str)] = &[
            ("name", "Test H9 80GB"),
            ("driver_version", "555.10"),
            ("memory.total", "81000"),
            ("memory.reserved", "600"),
            ("memory.used", "0"),
            ("memory.free", "80400"),
            ("utilization.gpu", "0"),
            ("utilization.memory", "0"),
            ("temperature.gpu", "33"),
            ("power.draw", "62.50"),
            ("power.limit", "700.00"),
            ("pstate", "P0"),
            ("persistence_mode", "Enabled"),
            ("compute_mode", "Default"),
            ("mig.mode.current", "Disabled"),
            ("ecc.errors.uncorrected.volatile.total", "0"),
            ("compute_cap", "9.0"),
            ("clocks_event_reasons.active", "0x0000000000000001"),
            ("gpu_recovery_action", "None"),
            ("display_active", "Disabled"),
        ];
        let line = |name: &str, cell: &str| format!("{name}={cell}\n");
        let mut text = String::new();
        text.extend(IDLE.iter().map(|(name, cell)| line(name, cell)));
        text.extend(own.iter().map(|(name, cell)| line(name, cell)));
        // The last word for a field counts.
        text.extend(fields.iter().map(|(name, cell)| line(name, cell)));
        self.write(&format!("gpus/{uuid}"), &text);
    }

    /// Lists processes: place of the GPU, process id, name, MiB.
    pub fn processes(&self, processes: &[(u32, u32, &str, u64)]) {
        let line = |(index, pid, name, memory): &(u32, u32, &str, u64)| {
            format!("{}, {pid}, {name}, {memory}\n", Self::uuid(*index))
        };
        self.write("apps", &processes.iter().map(line).collect::<String>());
    }

    /// Never answers, until told otherwise.
    pub fn hang(&self, on: bool) {
        self.switch("hang", on);
    }

    /// Does not end when asked to.
    pub fn ignore_term(&self, on: bool) {
        self.switch("ignore-term", on);
    }

    /// Takes so many seconds for each call.
    pub fn take_seconds(&self, seconds: f32) {
        self.write("seconds", &seconds.to_string());
    }

    /// Prints a gigabyte.
    pub fn flood(&self, on: bool) {
        self.switch("flood", on);
    }

    /// Is killed in the middle of its first row.
    pub fn die(&self, on: bool) {
        self.switch("die", on);
    }

    /// Prints this and nothing else.
    pub fn print(&self, garbage: &[u8]) {
        self.replace("garbage", garbage);
    }

    /// Prints its GPUs again instead of garbage.
    pub fn print_gpus(&self) {
        remove(&self.file("garbage"));
    }

    /// Ends every call with a code and words; with 0 it works again.
    pub fn fail(&self, code: u8, words: &str) {
        let text = if code == 0 {
            String::new()
        } else {
            format!("{code}\n{words}\n")
        };
        self.write("fail", &text);
    }

    /// Does not list a GPU any more from so many queries on, counted from the first.
    pub fn lose_from(&self, query: usize, index: u32) {
        self.write("lose-from", &format!("{query} {}\n", Self::uuid(index)));
    }

    /// Does not know these fields.
    pub fn drop_fields(&self, fields: &[&str]) {
        self.write(
            "drop-fields",
            &fields
                .iter()
                .map(|field| format!("{field}\n"))
                .collect::<String>(),
        );
    }

    /// What it prints for `-L` and `-q -x`.
    pub fn instances(&self, list: &str, report: &str) {
        self.write("list", list);
        self.write("report", report);
    }

    /// Process ids and arguments of its calls so far.
    ///
    /// # Panics
    /// When they cannot be read.
    pub fn calls(&self) -> Vec<(u32, String)> {
        let text = std::fs::read_to_string(self.file("calls")).expect("the calls");
        let parse = |line: &str| {
            let (pid, arguments) = line.split_once(' ')?;
            Some((pid.parse().ok()?, arguments.to_owned()))
        };
        text.lines().filter_map(parse).collect()
    }

    /// How often it was asked for its GPUs.
    pub fn queries(&self) -> usize {
        let calls = self.calls();
        calls
            .iter()
            .filter(|(_, arguments)| arguments.starts_with("--query-gpu="))
            .count()
    }

    /// Its processes that live now.
    pub fn alive(&self) -> Vec<u32> {
        let program = self.path();
        let runs = |pid: &u32| {
            let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let mut words = command.split(|byte| *byte == 0);
            words.any(|word| word == program.as_os_str().as_encoded_bytes())
        };
        self.calls()
            .into_iter()
            .map(|(pid, _)| pid)
            .filter(runs)
            .collect()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn switch(&self, name: &str, on: bool) {
        if on {
            self.write(name, "on");
        } else {
            remove(&self.file(name));
        }
    }

    fn write(&self, name: &str, text: &str) {
        self.replace(name, text.as_bytes());
    }

    /// A call that runs sees the old content or the new one.
    fn replace(&self, name: &str, bytes: &[u8]) {
        let new = self.file(".new");
        std::fs::write(&new, bytes).expect("a file of the stand-in");
        std::fs::rename(new, self.file(name)).expect("a file of the stand-in");
    }
}

fn remove(path: &Path) {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => panic!("{}: {error}", path.display()),
        _ => {}
    }
}
