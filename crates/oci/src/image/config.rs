//! The image configuration (image-spec `config.md`) with Docker's extra members.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::digest::Digest;
use crate::go;
use crate::platform::Platform;

/// An image configuration. The image ID is the digest of its exact bytes: keep those, do not re-serialize this.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ImageConfig {
    /// When the image was made, RFC 3339.
    #[serde(
        default,
        deserialize_with = "go::non_empty",
        skip_serializing_if = "Option::is_none"
    )]
    pub created: Option<String>,
    /// Who made it.
    #[serde(
        default,
        deserialize_with = "go::non_empty",
        skip_serializing_if = "Option::is_none"
    )]
    pub author: Option<String>,
    /// The processor.
    #[serde(default, deserialize_with = "go::null")]
    pub architecture: String,
    /// The processor's variant.
    #[serde(
        default,
        deserialize_with = "go::non_empty",
        skip_serializing_if = "Option::is_none"
    )]
    pub variant: Option<String>,
    /// The operating system.
    #[serde(default, deserialize_with = "go::null")]
    pub os: String,
    /// The operating system's version.
    #[serde(
        rename = "os.version",
        default,
        deserialize_with = "go::non_empty",
        skip_serializing_if = "Option::is_none"
    )]
    pub os_version: Option<String>,
    /// Mandatory features of the operating system.
    #[serde(
        rename = "os.features",
        default,
        deserialize_with = "go::null",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub os_features: Vec<String>,
    /// What to run, and how.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<ContainerConfig>,
    /// The layers' uncompressed digests.
    #[serde(default, deserialize_with = "go::null")]
    pub rootfs: RootFs,
    /// How each layer came about.
    #[serde(
        default,
        deserialize_with = "go::null",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub history: Vec<History>,
    /// Docker: a commit message.
    #[serde(
        default,
        deserialize_with = "go::non_empty",
        skip_serializing_if = "Option::is_none"
    )]
    pub comment: Option<String>,
    /// Docker: the image ID of the parent in a classic build.
    #[serde(
        default,
        deserialize_with = "go::non_empty",
        skip_serializing_if = "Option::is_none"
    )]
    pub parent: Option<String>,
    /// Docker: the container that the image was committed from.
    #[serde(
        default,
        deserialize_with = "go::non_empty",
        skip_serializing_if = "Option::is_none"
    )]
    pub container: Option<String>,
    /// Docker: that container's configuration, not interpreted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_config: Option<Value>,
    /// Docker: the version of the engine that made it.
    #[serde(
        default,
        deserialize_with = "go::non_empty",
        skip_serializing_if = "Option::is_none"
    )]
    pub docker_version: Option<String>,
}

impl ImageConfig {
    /// The platform that the image is for.
    pub fn platform(&self) -> Platform {
        Platform {
            architecture: self.architecture.clone(),
            os: self.os.clone(),
            os_version: self.os_version.clone(),
            os_features: self.os_features.clone(),
            variant: self.variant.clone(),
        }
    }

    /// [`ImageConfig::created`] as a time; `None` when absent or malformed.
    pub fn created_at(&self) -> Option<jiff::Timestamp> {
        self.created.as_deref()?.parse().ok()
    }
}

/// The layers of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFs {
    /// Always `layers`.
    #[serde(rename = "type", default = "RootFs::layers_kind")]
    pub kind: String,
    /// Digests of the uncompressed layers, lowest first.
    #[serde(default, deserialize_with = "go::null")]
    pub diff_ids: Vec<Digest>,
}

impl RootFs {
    fn layers_kind() -> String {
        "layers".to_owned()
    }

    /// A root file system of these layers.
    pub fn new(diff_ids: Vec<Digest>) -> Self {
        RootFs {
            kind: Self::layers_kind(),
            diff_ids,
        }
    }
}

impl Default for RootFs {
    fn default() -> Self {
        RootFs::new(Vec::new())
    }
}

/// One step of an image's making.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct History {
    /// When, RFC 3339.
    #[serde(
        default,
        deserialize_with = "go::non_empty",
        skip_serializing_if = "Option::is_none"
    )]
    pub created: Option<String>,
    /// By which command.
    #[serde(
        default,
        deserialize_with = "go::non_empty",
        skip_serializing_if = "Option::is_none"
    )]
    pub created_by: Option<String>,
    /// By whom.
    #[serde(
        default,
        deserialize_with = "go::non_empty",
        skip_serializing_if = "Option::is_none"
    )]
    pub author: Option<String>,
    /// A message.
    #[serde(
        default,
        deserialize_with = "go::non_empty",
        skip_serializing_if = "Option::is_none"
    )]
    pub comment: Option<String>,
    /// True when the step made no layer.
    #[serde(
        default,
        deserialize_with = "go::null",
        skip_serializing_if = "go::is_false"
    )]
    pub empty_layer: bool,
}

/// The execution parameters in an image configuration. A list that is present and empty differs from an absent one
/// only for `Entrypoint` and `Cmd`, where Docker keeps the difference.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ContainerConfig {
    /// Docker: host name of the build container.
    #[serde(
        default,
        deserialize_with = "go::null",
        skip_serializing_if = "String::is_empty"
    )]
    pub hostname: String,
    /// Docker: domain name of the build container.
    #[serde(
        default,
        deserialize_with = "go::null",
        skip_serializing_if = "String::is_empty"
    )]
    pub domainname: String,
    /// `user[:group]`, names or numbers.
    #[serde(
        default,
        deserialize_with = "go::null",
        skip_serializing_if = "String::is_empty"
    )]
    pub user: String,
    /// Docker: allocate a terminal.
    #[serde(
        default,
        deserialize_with = "go::null",
        skip_serializing_if = "go::is_false"
    )]
    pub tty: bool,
    /// Docker: keep stdin open.
    #[serde(
        default,
        deserialize_with = "go::null",
        skip_serializing_if = "go::is_false"
    )]
    pub open_stdin: bool,
    /// Docker: close stdin after the first client.
    #[serde(
        default,
        deserialize_with = "go::null",
        skip_serializing_if = "go::is_false"
    )]
    pub stdin_once: bool,
    /// Ports that the image listens on: `80/tcp`.
    #[serde(default, with = "go::set", skip_serializing_if = "BTreeSet::is_empty")]
    pub exposed_ports: BTreeSet<String>,
    /// `NAME=value` entries.
    #[serde(
        default,
        deserialize_with = "go::null",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub env: Vec<String>,
    /// The program and its fixed arguments.
    #[serde(
        default,
        deserialize_with = "go::str_slice",
        skip_serializing_if = "Option::is_none"
    )]
    pub entrypoint: Option<Vec<String>>,
    /// Default arguments.
    #[serde(
        default,
        deserialize_with = "go::str_slice",
        skip_serializing_if = "Option::is_none"
    )]
    pub cmd: Option<Vec<String>>,
    /// Docker: how to probe the container's health.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    /// Docker for Windows: the command line is escaped already.
    #[serde(
        default,
        deserialize_with = "go::null",
        skip_serializing_if = "go::is_false"
    )]
    pub args_escaped: bool,
    /// Docker: the image named by the build step.
    #[serde(
        default,
        deserialize_with = "go::null",
        skip_serializing_if = "String::is_empty"
    )]
    pub image: String,
    /// Paths that get a volume each.
    #[serde(default, with = "go::set", skip_serializing_if = "BTreeSet::is_empty")]
    pub volumes: BTreeSet<String>,
    /// The working directory.
    #[serde(
        default,
        deserialize_with = "go::null",
        skip_serializing_if = "String::is_empty"
    )]
    pub working_dir: String,
    /// Docker: no network at all.
    #[serde(
        default,
        deserialize_with = "go::null",
        skip_serializing_if = "go::is_false"
    )]
    pub network_disabled: bool,
    /// Docker: instructions for builds on top of this image.
    #[serde(
        default,
        deserialize_with = "go::null",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub on_build: Vec<String>,
    /// Free metadata.
    #[serde(
        default,
        deserialize_with = "go::null",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub labels: BTreeMap<String, String>,
    /// The signal that asks the program to stop: `SIGTERM`, or a number.
    #[serde(
        default,
        deserialize_with = "go::null",
        skip_serializing_if = "String::is_empty"
    )]
    pub stop_signal: String,
    /// Docker: seconds between that signal and SIGKILL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_timeout: Option<i64>,
    /// Docker: the shell of shell-form instructions.
    #[serde(
        default,
        deserialize_with = "go::null",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub shell: Vec<String>,
    /// Reserved by the specification: memory limit, bytes.
    #[serde(
        default,
        deserialize_with = "go::null",
        skip_serializing_if = "go::is_zero"
    )]
    pub memory: i64,
    /// Reserved by the specification: memory and swap, bytes, -1 for no limit.
    #[serde(
        default,
        deserialize_with = "go::null",
        skip_serializing_if = "go::is_zero"
    )]
    pub memory_swap: i64,
    /// Reserved by the specification: relative CPU weight.
    #[serde(
        default,
        deserialize_with = "go::null",
        skip_serializing_if = "go::is_zero"
    )]
    pub cpu_shares: i64,
}

/// A health probe. Times are nanoseconds; 0 stands for the engine's default.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Healthcheck {
    /// `[]` inherit, `["NONE"]` none, `["CMD", args…]`, `["CMD-SHELL", command]`.
    #[serde(
        default,
        deserialize_with = "go::null",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub test: Vec<String>,
    /// Between two probes, ns.
    #[serde(
        default,
        deserialize_with = "go::null",
        skip_serializing_if = "go::is_zero"
    )]
    pub interval: i64,
    /// For one probe, ns.
    #[serde(
        default,
        deserialize_with = "go::null",
        skip_serializing_if = "go::is_zero"
    )]
    pub timeout: i64,
    /// In which failures do not count, ns.
    #[serde(
        default,
        deserialize_with = "go::null",
        skip_serializing_if = "go::is_zero"
    )]
    pub start_period: i64,
    /// Between two probes inside the start period, ns.
    #[serde(
        default,
        deserialize_with = "go::null",
        skip_serializing_if = "go::is_zero"
    )]
    pub start_interval: i64,
    /// Consecutive failures that make it unhealthy.
    #[serde(
        default,
        deserialize_with = "go::null",
        skip_serializing_if = "go::is_zero"
    )]
    pub retries: i64,
}
