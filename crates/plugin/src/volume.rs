//! The calls of a volume plugin (docs.docker.com/engine/extend/plugins_volume).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Error, Plugin, Result, call};

/// How long making and mounting may take.
const LONG: Duration = Duration::from_secs(120);
/// And everything else.
const SHORT: Duration = Duration::from_secs(60);

/// Where a plugin's volumes can be seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// On this host.
    Local,
    /// On all of a cluster's.
    Global,
}

impl Scope {
    /// As `volume inspect` shows it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Scope::Local => "local",
            Scope::Global => "global",
        }
    }
}

/// A volume, as its plugin describes it.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct PluginVolume {
    /// Unique among the plugin's.
    pub name: String,
    /// Where it is mounted; empty while it is not.
    pub mountpoint: String,
    /// RFC 3339; may be empty.
    pub created_at: String,
    /// Whatever the plugin has to say.
    #[serde(deserialize_with = "hull_api::json::nullable")]
    pub status: Map<String, Value>,
}

/// A plugin as a volume driver.
#[derive(Debug, Clone)]
pub struct VolumeDriver(Arc<Plugin>);

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
struct Done {
    err: String,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
struct Mounted {
    mountpoint: String,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
struct Found {
    volume: Option<PluginVolume>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
struct Listed {
    #[serde(deserialize_with = "hull_api::json::nullable")]
    volumes: Vec<PluginVolume>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
struct Capable {
    capabilities: Capabilities,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
struct Capabilities {
    scope: String,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Create<'a> {
    name: &'a str,
    /// `null` for none, as dockerd sends it.
    opts: Option<&'a BTreeMap<String, String>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Named<'a> {
    name: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Reference<'a> {
    name: &'a str,
    #[serde(rename = "ID")]
    id: &'a str,
}

#[derive(Serialize)]
struct Nothing {}

impl VolumeDriver {
    /// What such a plugin says it implements.
    pub const INTERFACE: &'static str = "VolumeDriver";

    /// A plugin that implements [`VolumeDriver::INTERFACE`].
    #[must_use]
    pub fn new(plugin: Arc<Plugin>) -> VolumeDriver {
        VolumeDriver(plugin)
    }

    /// The plugin's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.name()
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        call: &str,
        body: &impl Serialize,
        limit: Duration,
    ) -> Result<T> {
        let method = format!("VolumeDriver.{call}");
        let mut body = serde_json::to_vec(body).map_err(|error| Error::rubbish(&method, error))?;
        body.push(b'\n');
        let answer = self.0.call(&method, body, limit).await?;
        let done: Done = call::decoded(&method, &answer)?;
        match done.err.is_empty() {
            true => call::decoded(&method, &answer),
            false => Err(Error::Said(done.err)),
        }
    }

    /// Makes a volume.
    ///
    /// # Errors
    /// The plugin's own, or that of the call.
    pub async fn create(&self, name: &str, options: &BTreeMap<String, String>) -> Result<()> {
        let opts = Some(options).filter(|options| !options.is_empty());
        let _: Done = self.ask("Create", &Create { name, opts }, LONG).await?;
        Ok(())
    }

    /// Removes a volume.
    ///
    /// # Errors
    /// As [`VolumeDriver::create`].
    pub async fn remove(&self, name: &str) -> Result<()> {
        let _: Done = self.ask("Remove", &Named { name }, SHORT).await?;
        Ok(())
    }

    /// Mounts a volume for the reference `id`; where.
    ///
    /// # Errors
    /// As [`VolumeDriver::create`]; also a path that is not absolute.
    pub async fn mount(&self, name: &str, id: &str) -> Result<String> {
        let mounted: Mounted = self.ask("Mount", &Reference { name, id }, LONG).await?;
        match mounted.mountpoint.starts_with('/') {
            true => Ok(mounted.mountpoint),
            false => Err(Error::rubbish(
                "VolumeDriver.Mount",
                format!(
                    "the mount point {:?} is no absolute path",
                    mounted.mountpoint
                ),
            )),
        }
    }

    /// Ends the reference `id`.
    ///
    /// # Errors
    /// As [`VolumeDriver::create`].
    pub async fn unmount(&self, name: &str, id: &str) -> Result<()> {
        let _: Done = self.ask("Unmount", &Reference { name, id }, SHORT).await?;
        Ok(())
    }

    /// Where a volume is mounted, or would be; may be empty.
    ///
    /// # Errors
    /// As [`VolumeDriver::create`].
    pub async fn path(&self, name: &str) -> Result<String> {
        let mounted: Mounted = self.ask("Path", &Named { name }, SHORT).await?;
        Ok(mounted.mountpoint)
    }

    /// A volume, if the plugin has it: whatever it answers instead means that it has not, as in dockerd.
    ///
    /// # Errors
    /// That of the call.
    pub async fn get(&self, name: &str) -> Result<Option<PluginVolume>> {
        match self.ask::<Found>("Get", &Named { name }, SHORT).await {
            Ok(found) => Ok(found.volume),
            Err(error) if error.is_refusal() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All its volumes.
    ///
    /// # Errors
    /// As [`VolumeDriver::create`].
    pub async fn list(&self) -> Result<Vec<PluginVolume>> {
        let mut listed: Listed = self.ask("List", &Nothing {}, SHORT).await?;
        listed.volumes.retain(|volume| !volume.name.is_empty());
        Ok(listed.volumes)
    }

    /// Where its volumes can be seen. A plugin need not know the question.
    pub async fn scope(&self) -> Scope {
        let asked = || async {
            let answer = self.ask::<Capable>("Capabilities", &Nothing {}, SHORT);
            match answer.await {
                Ok(capable) if capable.capabilities.scope.eq_ignore_ascii_case("global") => {
                    Ok(Scope::Global)
                }
                Ok(_) => Ok(Scope::Local),
                Err(error) if error.is_refusal() => Ok(Scope::Local),
                Err(error) => Err(error),
            }
        };
        // What could not be asked now is asked again.
        let known = self.0.scope.get_or_try_init(asked).await;
        known.map_or(Scope::Local, |scope| *scope)
    }
}
