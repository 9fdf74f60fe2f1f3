//! What the daemon tells of itself: info, version, disk usage.
#![expect(
    missing_docs,
    reason = "fields are the Engine API's own; its description documents them"
)]

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::image::ImageSummary;
use crate::inspect::ContainerSummary;
use crate::json::{self, is_zero};
use crate::version::Version;
use crate::volume::Volume;

/// `GET /version`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct SystemVersion {
    pub platform: PlatformName,
    pub components: Vec<ComponentVersion>,
    pub version: String,
    pub api_version: String,
    #[serde(rename = "MinAPIVersion")]
    pub min_api_version: String,
    pub git_commit: String,
    pub go_version: String,
    pub os: String,
    pub arch: String,
    pub kernel_version: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub experimental: bool,
    pub build_time: String,
}

/// Name of the product.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct PlatformName {
    pub name: String,
}

/// One component of the product.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ComponentVersion {
    pub name: String,
    pub version: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub details: BTreeMap<String, String>,
}

/// `GET /info`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct SystemInfo {
    #[serde(rename = "ID")]
    pub id: String,
    pub containers: i64,
    pub containers_running: i64,
    pub containers_paused: i64,
    pub containers_stopped: i64,
    pub images: i64,
    pub driver: String,
    pub driver_status: Vec<[String; 2]>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub system_status: Vec<[String; 2]>,
    pub plugins: PluginsInfo,
    pub memory_limit: bool,
    pub swap_limit: bool,
    pub cpu_cfs_period: bool,
    pub cpu_cfs_quota: bool,
    #[serde(rename = "CPUShares")]
    pub cpu_shares: bool,
    #[serde(rename = "CPUSet")]
    pub cpu_set: bool,
    pub pids_limit: bool,
    #[serde(rename = "IPv4Forwarding")]
    pub ipv4_forwarding: bool,
    pub debug: bool,
    pub n_fd: i64,
    pub oom_kill_disable: bool,
    /// Tasks of the async runtime here.
    pub n_goroutines: i64,
    pub system_time: String,
    pub logging_driver: String,
    pub cgroup_driver: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub cgroup_version: String,
    pub n_events_listener: i64,
    pub kernel_version: String,
    pub operating_system: String,
    #[serde(rename = "OSVersion")]
    pub os_version: String,
    #[serde(rename = "OSType")]
    pub os_type: String,
    pub architecture: String,
    pub index_server_address: String,
    pub registry_config: RegistryServiceConfig,
    #[serde(rename = "NCPU")]
    pub ncpu: i64,
    /// Bytes.
    pub mem_total: i64,
    pub generic_resources: Option<Value>,
    pub docker_root_dir: String,
    pub http_proxy: String,
    pub https_proxy: String,
    pub no_proxy: String,
    pub name: String,
    pub labels: Vec<String>,
    pub experimental_build: bool,
    pub server_version: String,
    pub runtimes: BTreeMap<String, Runtime>,
    pub default_runtime: String,
    pub swarm: SwarmInfo,
    pub live_restore_enabled: bool,
    pub isolation: String,
    pub init_binary: String,
    pub containerd_commit: Commit,
    pub runc_commit: Commit,
    pub init_commit: Commit,
    pub security_options: Vec<String>,
    #[serde(skip_serializing_if = "is_zero")]
    pub product_license: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub default_address_pools: Vec<AddressPool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub firewall_backend: Option<FirewallInfo>,
    #[serde(rename = "CDISpecDirs")]
    pub cdi_spec_dirs: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub discovered_devices: Vec<DeviceInfo>,
    #[serde(
        deserialize_with = "json::nullable",
        serialize_with = "json::null_if_empty"
    )]
    pub warnings: Vec<String>,
}

/// Names of the drivers by kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct PluginsInfo {
    pub volume: Vec<String>,
    pub network: Vec<String>,
    #[serde(
        deserialize_with = "json::nullable",
        serialize_with = "json::null_if_empty"
    )]
    pub authorization: Vec<String>,
    pub log: Vec<String>,
}

/// Registry settings.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct RegistryServiceConfig {
    #[serde(rename = "InsecureRegistryCIDRs")]
    pub insecure_registry_cidrs: Vec<String>,
    pub index_configs: BTreeMap<String, IndexInfo>,
    pub mirrors: Vec<String>,
}

/// One registry.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct IndexInfo {
    pub name: String,
    pub mirrors: Vec<String>,
    pub secure: bool,
    pub official: bool,
}

/// An OCI runtime that containers can ask for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Runtime {
    #[serde(skip_serializing_if = "is_zero")]
    pub path: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub runtime_args: Vec<String>,
    #[serde(skip_serializing_if = "is_zero")]
    pub runtime_type: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub options: Option<Value>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub status: BTreeMap<String, String>,
}

/// Version of a part.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Commit {
    #[serde(rename = "ID")]
    pub id: String,
}

/// Swarm state of this node: inactive.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct SwarmInfo {
    #[serde(rename = "NodeID")]
    pub node_id: String,
    pub node_addr: String,
    /// `inactive`.
    pub local_node_state: String,
    pub control_available: bool,
    pub error: String,
    pub remote_managers: Option<Value>,
}

/// A pool that networks take subnets from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct AddressPool {
    pub base: String,
    /// Prefix length.
    pub size: u8,
}

/// What carries the packet filter.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct FirewallInfo {
    pub driver: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub info: Vec<[String; 2]>,
}

/// A CDI device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct DeviceInfo {
    pub source: String,
    #[serde(rename = "ID")]
    pub id: String,
}

/// What `GET /system/df` is computed from; [`DiskUsage::render`] gives each version's shape.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DiskUsage {
    /// Bytes of all layers, each once.
    pub layers_size: i64,
    pub images: Option<Vec<ImageSummary>>,
    pub containers: Option<Vec<ContainerSummary>>,
    pub volumes: Option<Vec<Volume>>,
    pub build_cache: Option<Vec<BuildCache>>,
    /// Bytes that an image prune would free.
    pub images_reclaimable: i64,
}

/// One record of the build cache.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct BuildCache {
    #[serde(rename = "ID")]
    pub id: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parents: Vec<String>,
    #[serde(rename = "Type")]
    pub kind: String,
    pub description: String,
    pub in_use: bool,
    pub shared: bool,
    pub size: i64,
    pub created_at: String,
    pub last_used_at: Option<String>,
    pub usage_count: i64,
}

/// The sums of one kind in the answer of API 1.52 and later.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct UsageSummary {
    pub active_count: i64,
    pub total_count: i64,
    pub reclaimable: i64,
    pub total_size: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub items: Option<Vec<Value>>,
}

/// `GET /system/df`, old members and new.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct DiskUsageResponse {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layers_size: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub images: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub containers: Option<Vec<ContainerSummary>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volumes: Option<Vec<Volume>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub build_cache: Option<Vec<BuildCache>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_usage: Option<UsageSummary>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_usage: Option<UsageSummary>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume_usage: Option<UsageSummary>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub build_cache_usage: Option<UsageSummary>,
}

impl DiskUsage {
    /// The answer for a client of `version`. Up to 1.51 the lists; from 1.52 sums, with the items where `verbose`, and with the lists
    /// beside them where not: the description says that those went with 1.53, and the daemon of Docker 29 still sends them, because
    /// clients that follow the newest version (docker-py) read them.
    pub fn render(self, version: Version, verbose: bool) -> DiskUsageResponse {
        let new = version >= Version::V1_52;
        let mut answer = match new {
            true => self.clone().sums(verbose),
            false => DiskUsageResponse::default(),
        };
        if new && verbose {
            return answer;
        }
        answer.layers_size = self.images.as_ref().map(|_| self.layers_size);
        answer.images = self.images.map(|images| match version < Version::new(44) {
            true => crate::version::with_virtual_size(&images),
            false => images.iter().map(|image| json!(image)).collect(),
        });
        answer.containers = self.containers;
        if let Some(containers) = &mut answer.containers {
            crate::version::adapt_container_list(version, containers);
        }
        answer.volumes = self.volumes;
        answer.build_cache = self.build_cache;
        answer
    }

    fn sums(self, verbose: bool) -> DiskUsageResponse {
        DiskUsageResponse {
            image_usage: self.images.map(|images| UsageSummary {
                active_count: images.iter().filter(|i| i.containers > 0).count() as i64,
                total_count: images.len() as i64,
                reclaimable: self.images_reclaimable,
                total_size: self.layers_size,
                items: items(verbose, &images),
            }),
            container_usage: self.containers.map(|list| UsageSummary {
                active_count: list.iter().filter(|c| is_active(&c.state)).count() as i64,
                total_count: list.len() as i64,
                reclaimable: list
                    .iter()
                    .filter(|c| !is_active(&c.state))
                    .map(|c| c.size_rw)
                    .sum(),
                total_size: list.iter().map(|c| c.size_rw).sum(),
                items: items(verbose, &list),
            }),
            volume_usage: self.volumes.map(|list| {
                let used = |v: &&Volume| v.usage_data.as_ref().is_some_and(|u| u.ref_count > 0);
                let size = |v: &Volume| v.usage_data.as_ref().map_or(0, |u| u.size.max(0));
                UsageSummary {
                    active_count: list.iter().filter(used).count() as i64,
                    total_count: list.len() as i64,
                    reclaimable: list.iter().filter(|v| !used(v)).map(size).sum(),
                    total_size: list.iter().map(size).sum(),
                    items: items(verbose, &list),
                }
            }),
            build_cache_usage: self.build_cache.map(|list| UsageSummary {
                active_count: list.iter().filter(|b| b.in_use).count() as i64,
                total_count: list.len() as i64,
                reclaimable: list.iter().filter(|b| !b.in_use).map(|b| b.size).sum(),
                total_size: list.iter().map(|b| b.size).sum(),
                items: items(verbose, &list),
            }),
            ..DiskUsageResponse::default()
        }
    }
}

fn is_active(state: &str) -> bool {
    matches!(state, "running" | "paused" | "restarting")
}

fn items<T: Serialize>(verbose: bool, list: &[T]) -> Option<Vec<Value>> {
    verbose.then(|| {
        list.iter()
            .filter_map(|item| serde_json::to_value(item).ok())
            .collect()
    })
}

/// Answer of `POST /build/prune`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct BuildPruneReport {
    #[serde(
        deserialize_with = "json::nullable",
        serialize_with = "json::null_if_empty"
    )]
    pub caches_deleted: Vec<String>,
    pub space_reclaimed: u64,
}
