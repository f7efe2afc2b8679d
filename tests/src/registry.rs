//! Debian's registry on the loopback of an engine's namespace.

use crate::engine::Engine;
use crate::image::place_busybox;
use crate::place::{free_port, temporary_folder};
use crate::process::{descendants, kill_group, privileged, run, signal};
use crate::wait::wait_until;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Bytes that the layer has at least of [`Registry::publish_fresh`].
pub const FRESH_LAYER: u64 = 1_000_000;

/// A registry that one engine can push to and pull from. Docker trusts loopback registries without TLS.
#[derive(Debug)]
pub struct Registry {
    port: u16,
    child: Child,
    folder: tempfile::TempDir,
}

impl Registry {
    /// Starts one without accounts.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn start(engine: &Engine) -> Self {
        Self::launch(engine, None)
    }

    /// Starts one that wants a user name and a password.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn with_account(engine: &Engine, user: &str, password: &str) -> Self {
        let mut command = Command::new("htpasswd");
        command.args(["-Bbn", user, password]);
        let line = run(command, Duration::from_secs(20)).ok();
        Self::launch(engine, Some(line.text()))
    }

    /// The name of an image in this registry.
    pub fn image(&self, name: &str) -> String {
        format!("127.0.0.1:{}/{name}", self.port)
    }

    /// Its port, on the loopback of the engine's namespace.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its address, as `docker login` writes it down.
    pub fn server(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// As [`Registry::publish`], with the login that a folder's `config.json` holds.
    ///
    /// # Panics
    /// When the engine or the registry refuses.
    pub fn publish_as(&self, engine: &Engine, image: &str, name: &str, login: &Path) -> String {
        let target = self.image(name);
        engine.ask(&["tag", image, &target]);
        let mut push = engine.docker();
        push.env("DOCKER_CONFIG", login).args(["push", &target]);
        let _ = run(push, Duration::from_secs(60)).ok();
        engine.ask(&["rmi", &target]);
        target
    }

    /// Copies a local image into the registry and removes the local name, so that only a pull brings it back.
    ///
    /// # Panics
    /// When the engine refuses.
    pub fn publish(&self, engine: &Engine, image: &str, name: &str) -> String {
        let target = self.image(name);
        engine.ask(&["tag", image, &target]);
        engine.ask(&["push", &target]);
        engine.ask(&["rmi", &target]);
        target
    }

    /// Publishes an image with a shell whose one layer nobody else has; [`FRESH_LAYER`] bytes of it no compression
    /// makes smaller.
    ///
    /// # Panics
    /// When the engine refuses.
    pub fn publish_fresh(&self, engine: &Engine, name: &str) -> String {
        let folder = temporary_folder();
        let content: Vec<u8> = (0..FRESH_LAYER).map(|_| rand::random::<u8>()).collect();
        std::fs::write(folder.path().join("content"), content).expect("content of a layer");
        let bin = folder.path().join("bin");
        std::fs::create_dir(&bin).expect("folder of programs");
        place_busybox(&bin.join("sh"));
        let archive = folder.path().join("layer.tar");
        let mut tar = Command::new("tar");
        tar.arg("-cf")
            .arg(&archive)
            .arg("-C")
            .arg(folder.path())
            .args(["content", "bin"]);
        let _ = run(tar, Duration::from_secs(60)).ok();
        let target = self.image(name);
        engine.ask(&["import", &archive.display().to_string(), &target]);
        engine.ask(&["push", &target]);
        engine.ask(&["rmi", &target]);
        target
    }

    /// Removes every stored byte that is larger than a manifest.
    pub fn lose_layers(&self) {
        let mut folders = vec![self.folder.path().join("data")];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                match entry.metadata() {
                    Ok(facts) if facts.is_dir() => folders.push(entry.path()),
                    Ok(facts) if facts.len() > 100_000 => drop(std::fs::remove_file(entry.path())),
                    _ => {}
                }
            }
        }
    }

    fn launch(engine: &Engine, accounts: Option<&str>) -> Self {
        let folder = temporary_folder();
        let port = free_port();
        let root = folder.path().display();
        let mut settings = format!(
            "version: 0.1\nlog: {{level: warn}}\nstorage: {{filesystem: {{rootdirectory: {root}/data}}, delete: {{enabled: true}}}}\n\
             http: {{addr: '127.0.0.1:{port}'}}\n"
        );
        if let Some(accounts) = accounts {
            std::fs::write(folder.path().join("accounts"), accounts).expect("accounts of the registry");
            settings.push_str(&format!(
                "auth: {{htpasswd: {{realm: test, path: {root}/accounts}}}}\n"
            ));
        }
        std::fs::write(folder.path().join("config.yml"), settings).expect("settings of the registry");
        let log = std::fs::File::create(folder.path().join("log")).expect("log of the registry");
        let mut command = engine.inside("docker-registry");
        command.arg("serve").arg(folder.path().join("config.yml"));
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("log"))
            .stderr(log);
        let child = command
            .process_group(0)
            .spawn()
            .expect("docker-registry does not start");
        let mut registry = Self { port, child, folder };
        wait_until("the registry's port", Duration::from_secs(20), || {
            let ended = registry.child.try_wait().expect("state of the registry");
            let log = || std::fs::read_to_string(registry.folder.path().join("log")).unwrap_or_default();
            assert!(ended.is_none(), "the registry ended: {}", log());
            registry.listens(engine)
        });
        registry
    }

    /// Its port is in another namespace, so the kernel's table there is asked rather than the port.
    fn listens(&self, engine: &Engine) -> bool {
        let pid = engine.pid().expect("the engine's process id");
        let table = std::fs::read_to_string(format!("/proc/{pid}/net/tcp")).unwrap_or_default();
        let wanted = format!(":{:04X} 00000000:0000 0A", self.port);
        table.contains(&wanted)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        if rustix::process::geteuid().is_root() {
            for below in descendants(self.child.id()) {
                signal(below, rustix::process::Signal::KILL);
            }
            kill_group(self.child.id());
        } else {
            let mut command = privileged("kill");
            command.args(["-9", "--"]).arg(format!("-{}", self.child.id()));
            let _ = run(command, Duration::from_secs(10));
        }
        let _ = self.child.wait();
    }
}
