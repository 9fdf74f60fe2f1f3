//! What a client asks of a container: its configuration, and the requests and answers of the container routes.
#![expect(
    missing_docs,
    reason = "fields are the Engine API's own; its description documents them"
)]

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::host::{HostConfig, RestartPolicy};
use crate::json::{self, is_zero};
use crate::network::EndpointSettings;

/// `POST /containers/{id}/checkpoints`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CheckpointCreateRequest {
    #[serde(rename = "CheckpointID")]
    pub checkpoint_id: String,
    #[serde(rename = "CheckpointDir")]
    pub checkpoint_dir: String,
    /// The container ends.
    #[serde(rename = "Exit")]
    pub exit: bool,
}

/// `GET /containers/{id}/checkpoints`: one of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct CheckpointSummary {
    pub name: String,
}

/// The portable part of a container's configuration, also kept in images.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ContainerConfig {
    pub hostname: String,
    pub domainname: String,
    pub user: String,
    pub attach_stdin: bool,
    pub attach_stdout: bool,
    pub attach_stderr: bool,
    /// `80/tcp` ...
    #[serde(with = "json::set", skip_serializing_if = "BTreeSet::is_empty")]
    pub exposed_ports: BTreeSet<String>,
    pub tty: bool,
    pub open_stdin: bool,
    pub stdin_once: bool,
    pub env: Vec<String>,
    #[serde(
        deserialize_with = "json::string_or_list",
        serialize_with = "json::null_if_empty"
    )]
    pub cmd: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<HealthConfig>,
    #[serde(skip_serializing_if = "is_zero")]
    pub args_escaped: bool,
    pub image: String,
    #[serde(with = "json::nullable_set")]
    pub volumes: BTreeSet<String>,
    pub working_dir: String,
    #[serde(
        deserialize_with = "json::string_or_list",
        serialize_with = "json::null_if_empty"
    )]
    pub entrypoint: Vec<String>,
    #[serde(skip_serializing_if = "is_zero")]
    pub network_disabled: bool,
    /// Moved to the endpoint in API 1.44; still read.
    #[serde(skip_serializing_if = "is_zero")]
    pub mac_address: String,
    #[serde(
        deserialize_with = "json::nullable",
        serialize_with = "json::null_if_empty"
    )]
    pub on_build: Vec<String>,
    pub labels: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "is_zero")]
    pub stop_signal: String,
    /// Seconds; -1 waits for ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_timeout: Option<i64>,
    #[serde(
        deserialize_with = "json::string_or_list",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub shell: Vec<String>,
}

/// A health check as asked for; durations are nanoseconds, zero inherits.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct HealthConfig {
    /// Empty inherits; `["NONE"]`, `["CMD", ..]` or `["CMD-SHELL", command]`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub test: Vec<String>,
    #[serde(skip_serializing_if = "is_zero")]
    pub interval: i64,
    #[serde(skip_serializing_if = "is_zero")]
    pub timeout: i64,
    #[serde(skip_serializing_if = "is_zero")]
    pub start_period: i64,
    #[serde(skip_serializing_if = "is_zero")]
    pub start_interval: i64,
    #[serde(skip_serializing_if = "is_zero")]
    pub retries: i64,
}

/// Endpoint settings by network name or id.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct NetworkingConfig {
    pub endpoints_config: BTreeMap<String, Option<EndpointSettings>>,
}

/// `POST /containers/create`: the members of [`ContainerConfig`], and beside them `HostConfig` and `NetworkingConfig`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ContainerCreateRequest {
    #[serde(flatten)]
    pub config: ContainerConfig,
    #[serde(rename = "HostConfig")]
    pub host_config: HostConfig,
    #[serde(rename = "NetworkingConfig")]
    pub networking_config: NetworkingConfig,
}

impl ContainerCreateRequest {
    /// Reads the body of a create request.
    ///
    /// # Errors
    /// Go's sentence about the first member of the wrong type.
    pub fn from_slice(body: &[u8]) -> Result<Self, json::Error> {
        let value = json::document(body)?;
        let mut object = match value {
            Value::Object(object) => object,
            Value::Null => Map::new(),
            other => return json::from_value::<ContainerConfig>(other).map(|_| Self::default()),
        };
        Ok(Self {
            host_config: json::from_value(
                json::take_member(&mut object, "HostConfig").unwrap_or(Value::Null),
            )?,
            networking_config: json::from_value(
                json::take_member(&mut object, "NetworkingConfig").unwrap_or(Value::Null),
            )?,
            config: json::from_value(Value::Object(object))?,
        })
    }
}

/// Answer of create.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ContainerCreateResponse {
    pub id: String,
    pub warnings: Vec<String>,
}

/// When `wait` answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum WaitCondition {
    /// At once if the container is not running, else when it stops.
    #[default]
    NotRunning,
    /// When it next exits, even if it is stopped now.
    NextExit,
    /// When it is gone.
    Removed,
}

impl WaitCondition {
    /// Reads the `condition` parameter; empty is the default.
    ///
    /// # Errors
    /// Docker's sentence.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "" | "not-running" => Ok(Self::NotRunning),
            "next-exit" => Ok(Self::NextExit),
            "removed" => Ok(Self::Removed),
            other => Err(format!("invalid condition: {other:?}")),
        }
    }

    /// The parameter's text.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotRunning => "not-running",
            Self::NextExit => "next-exit",
            Self::Removed => "removed",
        }
    }
}

/// Answer of wait.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct WaitResponse {
    pub status_code: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<WaitError>,
}

/// Why waiting failed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct WaitError {
    pub message: String,
}

/// Answer of top: `ps` output cut into columns.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct TopResponse {
    pub titles: Vec<String>,
    pub processes: Vec<Vec<String>>,
}

/// One change of a container's file system against its image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct FilesystemChange {
    pub path: String,
    /// 0 modified, 1 added, 2 deleted.
    pub kind: u8,
}

/// Answer of update.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct UpdateResponse {
    #[serde(
        deserialize_with = "json::nullable",
        serialize_with = "json::null_if_empty"
    )]
    pub warnings: Vec<String>,
}

/// Answer of `POST /containers/prune`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ContainersPruneReport {
    #[serde(
        deserialize_with = "json::nullable",
        serialize_with = "json::null_if_empty"
    )]
    pub containers_deleted: Vec<String>,
    pub space_reclaimed: u64,
}

/// The `X-Docker-Container-Path-Stat` header of the archive routes: base64 of this JSON.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PathStat {
    pub name: String,
    pub size: i64,
    /// Go's `os.FileMode`: permission bits below, kinds above (dir is bit 31, symlink bit 27, ...).
    pub mode: u32,
    /// RFC 3339.
    pub mtime: String,
    #[serde(rename = "linkTarget")]
    pub link_target: String,
}

/// `POST /containers/{id}/update`: resources and a restart policy.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct UpdateConfig {
    #[serde(flatten)]
    pub resources: crate::host::Resources,
    #[serde(rename = "RestartPolicy")]
    pub restart_policy: RestartPolicy,
}

impl UpdateConfig {
    /// Reads the body of an update request.
    ///
    /// # Errors
    /// Go's sentence about the first member of the wrong type.
    pub fn from_slice(body: &[u8]) -> Result<Self, json::Error> {
        let value = json::document(body)?;
        let restart_policy = match &value {
            Value::Object(object) => {
                json::take_member(&mut object.clone(), "RestartPolicy").unwrap_or(Value::Null)
            }
            _ => Value::Null,
        };
        Ok(Self {
            restart_policy: json::from_value(restart_policy)?,
            resources: json::from_value(value)?,
        })
    }
}
