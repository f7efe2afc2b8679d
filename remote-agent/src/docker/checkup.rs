//! What an engine says about itself, for a check of the host, and which image a trial can be made of.

use super::{Engine, EngineError, LOOK, process};
use bollard::query_parameters::ListImagesOptionsBuilder;
use farrun_protocol::doctor::{EngineCheckup, MOST, SpaceFacts};
use std::time::Instant;

impl Engine {
    /// What it is, in detail; `space` looks at the folder of its images and containers.
    ///
    /// # Errors
    /// The engine's.
    pub async fn checkup(
        &self,
        space: impl FnOnce(&str) -> Option<SpaceFacts>,
    ) -> Result<EngineCheckup, EngineError> {
        let begun = Instant::now();
        let version = self.call("version", LOOK, self.docker.version()).await?;
        let info = self.call("info", LOOK, self.docker.info()).await?;
        let took_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        let options = info.security_options.unwrap_or_default();
        let says = |name: &str| {
            options
                .iter()
                .any(|option| option.split(',').any(|word| word == format!("name={name}")))
        };
        let runc = version.components.unwrap_or_default().into_iter();
        let runc = runc
            .filter(|part| part.name == "runc")
            .map(|part| part.version)
            .next();
        let devices = info.discovered_devices.unwrap_or_default();
        let cdi = devices.iter().filter(|device| {
            let id = device.id.as_deref().unwrap_or_default();
            id.starts_with("nvidia.com/gpu")
        });
        let mut runtimes: Vec<String> = info.runtimes.unwrap_or_default().into_keys().collect();
        runtimes.sort();
        let root = info.docker_root_dir.unwrap_or_default();
        let word = |word: Option<String>| word.unwrap_or_default();
        Ok(EngineCheckup {
            version: word(version.version),
            api: word(version.api_version),
            address: self.address.to_string(),
            took_ms,
            runc,
            cgroup_driver: word(info.cgroup_driver.map(|driver| driver.to_string())),
            cgroup_version: word(info.cgroup_version.map(|version| version.to_string())),
            live_restore: info.live_restore_enabled.unwrap_or_default(),
            storage: word(info.driver),
            space: space(&root),
            rootless: says("rootless"),
            userns: says("userns"),
            selinux: says("selinux"),
            cdi_folders: first(info.cdi_spec_dirs.unwrap_or_default()),
            cdi_devices: u64::try_from(cdi.count()).unwrap_or(u64::MAX),
            gpu_hook: process::has_gpu_hook(),
            warnings: first(info.warnings.unwrap_or_default()),
            runtimes: first(runtimes),
            root,
        })
    }

    /// The smallest image that the host has under a name.
    ///
    /// # Errors
    /// The engine's.
    pub async fn smallest_image(&self) -> Result<Option<String>, EngineError> {
        let options = ListImagesOptionsBuilder::default().all(false).build();
        let images = self
            .call("images", LOOK, self.docker.list_images(Some(options)))
            .await?;
        let named = images.into_iter().filter_map(|image| {
            let name = image
                .repo_tags
                .into_iter()
                .find(|name| !name.contains("<none>"))?;
            Some((image.size, name))
        });
        Ok(named.min().map(|(_, name)| name))
    }
}

fn first(texts: Vec<String>) -> Vec<String> {
    texts.into_iter().take(MOST).collect()
}
