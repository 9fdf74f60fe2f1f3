//! What can be changed while the engine runs: the keys of `daemon.json` that dockerd reads again at a SIGHUP
//! (docs.docker.com/reference/cli/dockerd, "Configuration reload behavior").

use std::collections::BTreeMap;

use hull_shim::protocol::Runtime;
use serde_json::json;

use crate::error::Result;
use crate::{Engine, system};

/// Options that hold until the next reload.
#[derive(Debug, Clone)]
pub struct Reloadable {
    /// `--insecure-registry`.
    pub insecure_registries: Vec<String>,
    /// `--registry-mirror`.
    pub registry_mirrors: Vec<String>,
    /// `--max-download-attempts`.
    pub max_download_attempts: usize,
    /// `--max-concurrent-downloads`.
    pub max_concurrent_downloads: usize,
    /// `--max-concurrent-uploads`.
    pub max_concurrent_uploads: usize,
    /// `--default-cgroupns-mode`; empty: Docker's choice.
    pub default_cgroupns_mode: String,
    /// `--default-ipc-mode`; empty: private.
    pub default_ipc_mode: String,
    /// `--default-runtime`.
    pub default_runtime: String,
    /// `--add-runtime`, by name; `runc` is the built-in one.
    pub runtimes: BTreeMap<String, Runtime>,
    /// `--default-shm-size`, bytes.
    pub default_shm_size: i64,
    /// `--live-restore`, reported by `info`.
    pub live_restore: bool,
    /// `--label`.
    pub labels: Vec<String>,
    /// `-D`.
    pub debug: bool,
    /// `--shutdown-timeout`, seconds.
    pub shutdown_timeout: i64,
    /// `--feature`; only told to others.
    pub features: BTreeMap<String, bool>,
}

/// Docker's defaults.
impl Default for Reloadable {
    fn default() -> Self {
        Reloadable {
            insecure_registries: Vec::new(),
            registry_mirrors: Vec::new(),
            max_download_attempts: 5,
            max_concurrent_downloads: 3,
            max_concurrent_uploads: 5,
            default_cgroupns_mode: String::new(),
            default_ipc_mode: String::new(),
            default_runtime: "runc".to_owned(),
            runtimes: BTreeMap::new(),
            default_shm_size: 64 << 20,
            live_restore: false,
            labels: Vec::new(),
            debug: false,
            shutdown_timeout: 15,
            features: BTreeMap::new(),
        }
    }
}

impl Reloadable {
    pub(crate) fn transfers(&self) -> hull_image::Transfers {
        hull_image::Transfers {
            mirrors: self.registry_mirrors.clone(),
            insecure: self.insecure_registries.clone(),
            max_concurrent_downloads: self.max_concurrent_downloads,
            max_concurrent_uploads: self.max_concurrent_uploads,
            max_download_attempts: self.max_download_attempts,
        }
    }

    /// The mode of a new container's IPC namespace.
    pub(crate) fn ipc_mode(&self) -> &str {
        match self.default_ipc_mode.as_str() {
            "" => "private",
            mode => mode,
        }
    }

    /// The mode of a new container's cgroup namespace; `private`: where none is set.
    pub(crate) fn cgroupns_mode(&self, private: bool) -> &str {
        match (self.default_cgroupns_mode.as_str(), private) {
            ("", true) => "private",
            ("", false) => "host",
            (mode, _) => mode,
        }
    }

    /// What Docker's event tells of a reload.
    fn attributes(&self, cgroup2: bool) -> BTreeMap<String, String> {
        let runtimes = self.runtimes.iter().map(|(name, runtime)| match runtime {
            Runtime::Internal => format!("{name}:hull-runtime"),
            Runtime::External { path, .. } => format!("{name}:{}", path.display()),
        });
        // As Go prints a map.
        let features = self
            .features
            .iter()
            .map(|(name, on)| format!("{name}:{on}"));
        let features = format!("map[{}]", features.collect::<Vec<_>>().join(" "));
        [
            ("debug", self.debug.to_string()),
            (
                "default-cgroupns-mode",
                self.cgroupns_mode(cgroup2).to_owned(),
            ),
            ("default-ipc-mode", self.ipc_mode().to_owned()),
            ("default-runtime", self.default_runtime.clone()),
            ("default-shm-size", self.default_shm_size.to_string()),
            ("features", features),
            (
                "insecure-registries",
                json!(self.insecure_registries).to_string(),
            ),
            ("labels", json!(self.labels).to_string()),
            ("live-restore", self.live_restore.to_string()),
            (
                "max-concurrent-downloads",
                self.max_concurrent_downloads.to_string(),
            ),
            (
                "max-concurrent-uploads",
                self.max_concurrent_uploads.to_string(),
            ),
            (
                "max-download-attempts",
                self.max_download_attempts.to_string(),
            ),
            ("registry-mirrors", json!(self.registry_mirrors).to_string()),
            ("runtimes", runtimes.collect::<Vec<_>>().join(" ")),
            ("shutdown-timeout", self.shutdown_timeout.to_string()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into()
    }
}

impl Engine {
    /// Changes what can be changed, tells of it with Docker's event `daemon reload`, and gives the event's attributes.
    ///
    /// # Errors
    /// A registry mirror that is no address: then nothing has changed.
    pub async fn reload(&self, new: Reloadable) -> Result<BTreeMap<String, String>> {
        crate::world::blocking(&self.world, move |world| {
            let id = system::daemon_id(world)?;
            world.images.set_transfers(new.transfers())?;
            let mut attributes = new.attributes(world.host.cgroup2);
            attributes.insert("name".to_owned(), world.host.hostname.clone());
            world.set_reloadable(new);
            world
                .events
                .publish("daemon", "reload", &id, attributes.clone());
            Ok(attributes)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_in_dockers_words() {
        let reloadable = Reloadable {
            features: [("b".to_owned(), true), ("a".to_owned(), false)].into(),
            labels: vec!["x=1".to_owned()],
            runtimes: [("crun", "/usr/bin/crun"), ("youki", "/y")]
                .map(|(name, path)| {
                    let (path, args) = (path.into(), Vec::new());
                    (name.to_owned(), Runtime::External { path, args })
                })
                .into(),
            ..Reloadable::default()
        };
        let told = reloadable.attributes(true);
        let of = |key: &str| told[key].as_str();
        assert_eq!(of("features"), "map[a:false b:true]");
        assert_eq!(of("labels"), "[\"x=1\"]");
        assert_eq!(of("registry-mirrors"), "[]");
        assert_eq!(of("runtimes"), "crun:/usr/bin/crun youki:/y");
        assert_eq!(of("default-shm-size"), "67108864");
        assert_eq!(of("default-cgroupns-mode"), "private");
        assert_eq!(of("default-ipc-mode"), "private");
        assert_eq!(of("max-concurrent-uploads"), "5");
    }
}
