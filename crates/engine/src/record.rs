//! What was asked of a container, with everything resolved that must not change over its life: the first JSON column of its row.

use std::collections::BTreeMap;

use hull_api::container::ContainerConfig;
use hull_api::host::HostConfig;
use hull_api::inspect::MountPoint;
use hull_api::network::EndpointSettings;
use hull_oci::runtime::IdMapping;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// What a mount of a container is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum MountKind {
    /// A directory or file of the host.
    #[default]
    Bind,
    /// A volume.
    Volume,
    /// Memory.
    Tmpfs,
    /// An image, read-only.
    Image,
}

impl MountKind {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            MountKind::Bind => "bind",
            MountKind::Volume => "volume",
            MountKind::Tmpfs => "tmpfs",
            MountKind::Image => "image",
        }
    }
}

/// A mount of a container.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct MountRecord {
    pub(crate) kind: MountKind,
    /// The volume's name, or the image's reference.
    pub(crate) name: String,
    /// On the host; for an image its id.
    pub(crate) source: String,
    pub(crate) destination: String,
    /// The volume's driver.
    pub(crate) driver: String,
    /// The mode as the user wrote it (`ro`, `z`, ...).
    pub(crate) mode: String,
    pub(crate) rw: bool,
    /// `rprivate`, `rslave`, ...; empty for volumes and tmpfs.
    pub(crate) propagation: String,
    /// Mount options of a tmpfs.
    pub(crate) options: Vec<String>,
    /// Path below the volume's or the image's root.
    pub(crate) subpath: String,
    /// Without the mounts below the source.
    pub(crate) non_recursive: bool,
    /// Read-only at the top only.
    pub(crate) read_only_non_recursive: bool,
    /// Fail where the kernel cannot make the whole tree read-only.
    pub(crate) read_only_force_recursive: bool,
    /// The volume was made for this container.
    pub(crate) anonymous: bool,
    /// Comes from `--mount` rather than `-v`: shown in `HostConfig.Mounts`, and a missing source is an error.
    pub(crate) from_api: bool,
}

impl MountRecord {
    /// As inspect and list show it.
    pub(crate) fn to_api(&self) -> MountPoint {
        MountPoint {
            kind: self.kind.as_str().to_owned(),
            name: if self.kind == MountKind::Volume {
                self.name.clone()
            } else {
                String::new()
            },
            source: self.source.clone(),
            destination: self.destination.clone(),
            driver: self.driver.clone(),
            mode: self.mode.clone(),
            rw: self.rw,
            propagation: self.propagation.clone(),
        }
    }
}

/// A link of the default bridge. It holds the other container's id, so that a new name does not break it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct LinkRecord {
    /// Id of the container that is linked to.
    pub(crate) target: String,
    /// What this container calls it.
    pub(crate) alias: String,
}

/// `name:alias` of `--link`; without an alias the name is one.
pub(crate) fn parse_link(text: &str) -> Result<(&str, &str)> {
    let text = text.trim();
    let (name, alias) = text.split_once(':').unwrap_or((text, text));
    // Old clients send `/name:/own/alias`.
    let alias = alias.rsplit('/').next().unwrap_or_default();
    let name = name.trim_start_matches('/');
    if text.is_empty() {
        return Err(Error::invalid("empty string specified for links"));
    }
    if name.is_empty() || alias.is_empty() || alias.contains(':') {
        return Err(Error::invalid(format!("bad format for links: {text}")));
    }
    Ok((name, alias))
}

/// A container as asked for.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ContainerRecord {
    pub(crate) id: String,
    /// Without the leading slash. The row's column is the truth; this copy is set on load.
    pub(crate) name: String,
    /// RFC 3339.
    pub(crate) created: String,
    /// Id of the image; empty for none.
    pub(crate) image_id: String,
    /// The program and its arguments.
    pub(crate) path: String,
    pub(crate) args: Vec<String>,
    /// The image's configuration with the request's on top.
    pub(crate) config: ContainerConfig,
    pub(crate) host: HostConfig,
    pub(crate) mounts: Vec<MountRecord>,
    /// What was asked, by network name; a network that was not there when the container was made is under the name asked for.
    pub(crate) networks: BTreeMap<String, EndpointSettings>,
    /// `--link` on the default bridge.
    pub(crate) links: Vec<LinkRecord>,
    pub(crate) runtime: String,
    /// Storage driver.
    pub(crate) driver: String,
    pub(crate) mount_label: String,
    pub(crate) process_label: String,
    pub(crate) apparmor_profile: String,
    /// The user namespace's mappings of users; empty: none.
    pub(crate) id_mappings: Vec<IdMapping>,
    /// And of groups.
    pub(crate) gid_mappings: Vec<IdMapping>,
    /// It was started at least once: volumes are not filled again.
    pub(crate) started_before: bool,
}

impl ContainerRecord {
    /// Names of the volumes that are mounted in it.
    pub(crate) fn volumes(&self) -> impl Iterator<Item = &str> {
        self.mounts
            .iter()
            .filter(|mount| mount.kind == MountKind::Volume)
            .map(|mount| mount.name.as_str())
    }

    pub(crate) fn encode(&self) -> Result<String> {
        serde_json::to_string(self)
            .map_err(|cause| Error::failed("encode the container's record", cause))
    }

    /// Reads the record of a row. Fields that are missing have their defaults, but a record of another id, or of none, is not
    /// this row's.
    pub(crate) fn decode(text: &str, id: &str, name: &str) -> Result<ContainerRecord> {
        let mut record: ContainerRecord = serde_json::from_str(text)
            .map_err(|cause| Error::failed("decode a container's record", cause))?;
        if record.id != id {
            return Err(Error::internal(format!(
                "decode a container's record: it is of \"{}\"",
                record.id
            )));
        }
        name.clone_into(&mut record.name);
        Ok(record)
    }

    /// Its network mode, without `default`.
    pub(crate) fn network_mode(&self) -> NetworkMode<'_> {
        NetworkMode::parse(&self.host.network_mode)
    }

    /// Whether it wants to be in this network.
    pub(crate) fn lists(&self, network: &hull_network::Network) -> bool {
        // By name, or as it was given: an id, or its beginning.
        self.networks
            .keys()
            .any(|key| *key == network.name || network.id.starts_with(key.as_str()))
    }

    /// The labels that go into events, beside `name` and `image`.
    pub(crate) fn event_attributes(&self) -> BTreeMap<String, String> {
        let mut attributes = self.config.labels.clone();
        attributes.insert("name".to_owned(), self.name.clone());
        attributes.insert("image".to_owned(), self.config.image.clone());
        attributes
    }
}

/// `HostConfig.NetworkMode`, read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NetworkMode<'a> {
    /// The default bridge.
    Bridge,
    /// The host's own network.
    Host,
    /// Loopback only.
    None,
    /// Another container's.
    Container(&'a str),
    /// A network by name or id.
    Named(&'a str),
}

impl NetworkMode<'_> {
    pub(crate) fn parse(mode: &str) -> NetworkMode<'_> {
        match mode {
            "" | "default" | "bridge" => NetworkMode::Bridge,
            "host" => NetworkMode::Host,
            "none" => NetworkMode::None,
            other => match other.strip_prefix("container:") {
                Some(container) => NetworkMode::Container(container),
                None => NetworkMode::Named(other),
            },
        }
    }

    /// It has a network namespace of its own.
    pub(crate) fn is_private(self) -> bool {
        match self {
            NetworkMode::Bridge | NetworkMode::None | NetworkMode::Named(_) => true,
            NetworkMode::Host | NetworkMode::Container(_) => false,
        }
    }
}
