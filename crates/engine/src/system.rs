//! The system service: what the engine tells of itself and of the host.

use std::collections::BTreeMap;
use std::sync::Arc;

use hull_api::build::Build;
use hull_api::system::{
    AddressPool, Commit, ComponentVersion, DeviceInfo, DiskUsage, FirewallInfo, IndexInfo,
    PlatformName, PluginsInfo, RegistryServiceConfig, Runtime, SwarmInfo, SystemInfo,
    SystemVersion,
};
use hull_network::Firewall;
use hull_shim::protocol::{CgroupManager, Runtime as ShimRuntime};
use hull_state::settings;

use crate::containers::{Containers, ListOptions};
use crate::error::{Result, failed};
use crate::phase::Phase;
use crate::world::{World, blocking};

/// Which kinds `system df` counts; none set: all.
#[derive(Debug, Clone, Copy, Default)]
pub struct DiskUsageOptions {
    /// Images.
    pub images: bool,
    /// Containers.
    pub containers: bool,
    /// Volumes.
    pub volumes: bool,
    /// Build cache.
    pub build_cache: bool,
}

/// The version of the Engine API's behaviour that is followed, which clients compare with.
const ENGINE_VERSION: &str = "29.0.0";

/// The system service. A cheap clone.
#[derive(Clone)]
pub struct System {
    pub(crate) world: Arc<World>,
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path)
        .unwrap_or_default()
        .trim()
        .to_owned()
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn operating_system() -> (String, String) {
    let text = read("/etc/os-release");
    let field = |name: &str| {
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        value
            .map(|value| value.trim_matches('"').to_owned())
            .unwrap_or_default()
    };
    (field("PRETTY_NAME"), field("VERSION_ID"))
}

fn memory_total() -> i64 {
    let text = read("/proc/meminfo");
    let kib = text.lines().find_map(|line| {
        line.strip_prefix("MemTotal:")?
            .split_whitespace()
            .next()?
            .parse::<i64>()
            .ok()
    });
    kib.unwrap_or(0).saturating_mul(1024)
}

/// The daemon's own id, made once for a data root.
pub(crate) fn daemon_id(world: &World) -> Result<String> {
    const KEY: &str = "daemon-id";
    if let Some(id) = world.db.read(|tx| settings::get(tx, KEY))? {
        return Ok(id);
    }
    let hex = crate::id::new_id();
    let id = format!(
        "{}-{}-{}-{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..32]
    );
    world.db.write(|tx| settings::set(tx, KEY, &id))?;
    Ok(id)
}

impl System {
    /// Whether the host has cgroup v2.
    pub fn cgroup2(&self) -> bool {
        self.world.host.cgroup2
    }

    /// `GET /info`.
    pub async fn info(&self) -> Result<SystemInfo> {
        let world = &self.world;
        let options = &world.options;
        let reloadable = world.reloadable();
        let views = world.registry.views();
        let count = |test: &dyn Fn(&Phase) -> bool| {
            views.iter().filter(|view| test(&view.state.phase)).count() as i64
        };
        let running = count(&|phase| {
            matches!(
                phase,
                Phase::Running(_) | Phase::Stopping(_) | Phase::Restarting(_)
            )
        });
        let paused = count(&|phase| matches!(phase, Phase::Paused(_)));
        let (operating_system, os_version) = operating_system();
        let (id, images, status) = blocking(world, |world| {
            Ok((
                daemon_id(world)?,
                world.images.list()?.len() as i64,
                world.snapshots.status(),
            ))
        })
        .await?;
        let controllers = controllers(world.host.cgroup2);
        let has = |name: &str| controllers.contains(name);
        Ok(SystemInfo {
            id,
            containers: views.len() as i64,
            containers_running: running,
            containers_paused: paused,
            containers_stopped: views.len() as i64 - running - paused,
            images,
            driver: world.snapshots.name().to_owned(),
            driver_status: status
                .into_iter()
                .map(|(key, value)| [key, value])
                .collect(),
            plugins: PluginsInfo {
                volume: volume_drivers(world),
                network: ["bridge", "host", "ipvlan", "macvlan", "null"]
                    .map(str::to_owned)
                    .to_vec(),
                authorization: Vec::new(),
                log: [
                    "fluentd",
                    "gelf",
                    "journald",
                    "json-file",
                    "local",
                    "none",
                    "syslog",
                ]
                .map(str::to_owned)
                .to_vec(),
            },
            memory_limit: has("memory"),
            swap_limit: has("memory") && swap_limit(world.host.cgroup2),
            cpu_cfs_period: has("cpu"),
            cpu_cfs_quota: has("cpu"),
            cpu_shares: has("cpu"),
            cpu_set: has("cpuset"),
            pids_limit: has("pids"),
            ipv4_forwarding: read("/proc/sys/net/ipv4/ip_forward") == "1",
            debug: reloadable.debug,
            n_fd: std::fs::read_dir("/proc/self/fd").map_or(-1, |entries| entries.count() as i64),
            oom_kill_disable: !world.host.cgroup2 && has("memory"),
            n_goroutines: tokio::runtime::Handle::current()
                .metrics()
                .num_alive_tasks() as i64,
            system_time: crate::clock::now(),
            logging_driver: options.log_driver.clone(),
            cgroup_driver: match options.cgroup_manager {
                CgroupManager::Cgroupfs => "cgroupfs",
                CgroupManager::Systemd => "systemd",
            }
            .to_owned(),
            cgroup_version: if world.host.cgroup2 { "2" } else { "1" }.to_owned(),
            n_events_listener: world.events.listeners() as i64,
            kernel_version: read("/proc/sys/kernel/osrelease"),
            operating_system,
            os_version,
            os_type: "linux".to_owned(),
            architecture: std::env::consts::ARCH.to_owned(),
            index_server_address: "https://index.docker.io/v1/".to_owned(),
            registry_config: registry_config(&reloadable),
            ncpu: std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as i64,
            mem_total: memory_total(),
            docker_root_dir: options.data_root.display().to_string(),
            http_proxy: std::env::var("HTTP_PROXY").unwrap_or_default(),
            https_proxy: std::env::var("HTTPS_PROXY").unwrap_or_default(),
            no_proxy: std::env::var("NO_PROXY").unwrap_or_default(),
            name: world.host.hostname.clone(),
            labels: reloadable.labels.clone(),
            experimental_build: options.experimental,
            server_version: ENGINE_VERSION.to_owned(),
            runtimes: runtimes(&reloadable),
            default_runtime: reloadable.default_runtime.clone(),
            swarm: SwarmInfo {
                local_node_state: "inactive".to_owned(),
                ..SwarmInfo::default()
            },
            live_restore_enabled: reloadable.live_restore,
            init_binary: "docker-init".to_owned(),
            runc_commit: Commit {
                id: env!("CARGO_PKG_VERSION").to_owned(),
            },
            security_options: security_options(world),
            default_address_pools: world
                .plane
                .pools
                .iter()
                .map(|pool| AddressPool {
                    base: pool.base.to_string(),
                    size: pool.size,
                })
                .collect(),
            firewall_backend: Some(FirewallInfo {
                driver: match options.firewall {
                    Firewall::Nftables => "nftables",
                    Firewall::Iptables => "iptables",
                    Firewall::None => "none",
                }
                .to_owned(),
                info: Vec::new(),
            }),
            cdi_spec_dirs: options
                .cdi_spec_dirs
                .iter()
                .map(|dir| dir.display().to_string())
                .collect(),
            discovered_devices: crate::cdi::Registry::read(&options.cdi_spec_dirs)
                .names()
                .map(|name| DeviceInfo {
                    source: "cdi".to_owned(),
                    id: name.clone(),
                })
                .collect(),
            ..SystemInfo::default()
        })
    }

    /// `GET /version`.
    pub async fn version(&self) -> Result<SystemVersion> {
        let kernel = read("/proc/sys/kernel/osrelease");
        let build = Build::get();
        let api = hull_api::version::Version::CURRENT;
        let min = hull_api::version::Version::MIN;
        let (api, min) = (
            format!("{}.{}", api.major, api.minor),
            format!("{}.{}", min.major, min.minor),
        );
        let details: BTreeMap<String, String> = [
            ("ApiVersion", api.clone()),
            ("MinAPIVersion", min.clone()),
            ("GitCommit", build.commit.clone()),
            ("BuildTime", build.time.clone()),
            ("Os", "linux".to_owned()),
            ("Arch", architecture().to_owned()),
            ("KernelVersion", kernel.clone()),
            ("Experimental", self.world.options.experimental.to_string()),
            ("HullVersion", env!("CARGO_PKG_VERSION").to_owned()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into();
        Ok(SystemVersion {
            platform: PlatformName {
                name: format!("Hull {}", env!("CARGO_PKG_VERSION")),
            },
            components: vec![ComponentVersion {
                name: "Engine".to_owned(),
                version: ENGINE_VERSION.to_owned(),
                details,
            }],
            version: ENGINE_VERSION.to_owned(),
            api_version: api,
            min_api_version: min,
            git_commit: build.commit,
            build_time: build.time,
            os: "linux".to_owned(),
            arch: architecture().to_owned(),
            kernel_version: kernel,
            experimental: self.world.options.experimental,
            ..SystemVersion::default()
        })
    }

    /// `GET /system/df`.
    pub async fn disk_usage(&self, options: DiskUsageOptions) -> Result<DiskUsage> {
        let all = !(options.images || options.containers || options.volumes || options.build_cache);
        let mut usage = DiskUsage::default();
        if all || options.images {
            let service = crate::Images {
                world: self.world.clone(),
            };
            let listed = service
                .list(crate::images::ImageListOptions {
                    all: true,
                    shared_size: true,
                    ..Default::default()
                })
                .await?;
            let list = self.world.images.list()?;
            let mut layers: BTreeMap<String, u64> = BTreeMap::new();
            for layer in list.iter().flat_map(|image| &image.layers) {
                layers.insert(layer.chain_id.to_string(), layer.size);
            }
            // What an interrupted download has left takes room, and goes with a prune.
            let partial = self.world.images.partial_bytes()?;
            let sum = layers.values().sum::<u64>().saturating_add(partial);
            usage.layers_size = i64::try_from(sum).unwrap_or(i64::MAX);
            usage.images_reclaimable = listed
                .iter()
                .filter(|image| image.containers == 0)
                .map(|image| (image.size - image.shared_size.max(0)).max(0))
                .sum::<i64>()
                .saturating_add(i64::try_from(partial).unwrap_or(i64::MAX));
            usage.images = Some(listed);
        }
        if all || options.containers {
            let service = Containers {
                world: self.world.clone(),
            };
            usage.containers = Some(
                service
                    .list(ListOptions {
                        all: true,
                        size: true,
                        ..ListOptions::default()
                    })
                    .await?,
            );
        }
        if all || options.volumes {
            usage.volumes = Some(
                crate::Volumes {
                    world: self.world.clone(),
                }
                .usage()
                .await?,
            );
        }
        if all || options.build_cache {
            usage.build_cache = Some(Vec::new());
        }
        Ok(usage)
    }
}

/// Names of the cgroup controllers of this host.
fn controllers(cgroup2: bool) -> String {
    if cgroup2 {
        return read("/sys/fs/cgroup/cgroup.controllers");
    }
    let text = read("/proc/cgroups");
    text.lines()
        .filter(|line| !line.starts_with('#') && line.ends_with('1'))
        .filter_map(|line| line.split_whitespace().next())
        .collect::<Vec<_>>()
        .join(" ")
}

/// The plugins that are in use, and the one that is none.
fn volume_drivers(world: &World) -> Vec<String> {
    let mut names = world.plugins.active(hull_plugin::VolumeDriver::INTERFACE);
    names.push("local".to_owned());
    names.sort();
    names
}

fn swap_limit(cgroup2: bool) -> bool {
    cgroup2 || std::path::Path::new("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes").exists()
}

fn security_options(world: &World) -> Vec<String> {
    let mut options = Vec::new();
    if world.host.apparmor {
        options.push("name=apparmor".to_owned());
    }
    options.push(match world.options.seccomp_profile.as_deref() {
        Some("unconfined") => "name=seccomp,profile=unconfined".to_owned(),
        Some(path) => format!("name=seccomp,profile={path}"),
        None => "name=seccomp,profile=builtin".to_owned(),
    });
    if world.host.selinux {
        options.push("name=selinux".to_owned());
    }
    if !world.options.userns_remap.is_identity() {
        options.push("name=userns".to_owned());
    }
    if world.host.cgroup2 {
        options.push("name=cgroupns".to_owned());
    }
    options
}

fn runtimes(reloadable: &crate::Reloadable) -> BTreeMap<String, Runtime> {
    let mut all: BTreeMap<String, Runtime> = reloadable
        .runtimes
        .iter()
        .map(|(name, runtime)| {
            let runtime = match runtime {
                ShimRuntime::Internal => Runtime {
                    path: "hull-runtime".to_owned(),
                    ..Runtime::default()
                },
                ShimRuntime::External { path, args } => Runtime {
                    path: path.display().to_string(),
                    runtime_args: args.clone(),
                    ..Runtime::default()
                },
            };
            (name.clone(), runtime)
        })
        .collect();
    for name in ["io.containerd.runc.v2", "runc"] {
        all.entry(name.to_owned()).or_insert_with(|| Runtime {
            path: "hull-runtime".to_owned(),
            ..Runtime::default()
        });
    }
    all
}

fn registry_config(reloadable: &crate::Reloadable) -> RegistryServiceConfig {
    let is_network = |entry: &&String| entry.parse::<ipnet::IpNet>().is_ok();
    let mut networks: Vec<String> = reloadable
        .insecure_registries
        .iter()
        .filter(is_network)
        .cloned()
        .collect();
    networks.extend(["::1/128", "127.0.0.0/8"].map(str::to_owned));
    // As dockerd writes them, however they were given.
    let mirrors: Vec<String> = reloadable
        .registry_mirrors
        .iter()
        .map(|mirror| format!("{}/", mirror.trim_end_matches('/')))
        .collect();
    let hub = IndexInfo {
        name: "docker.io".to_owned(),
        mirrors: mirrors.clone(),
        secure: true,
        official: true,
    };
    let insecure = reloadable
        .insecure_registries
        .iter()
        .filter(|entry| !is_network(entry))
        .map(|name| {
            (
                name.clone(),
                IndexInfo {
                    name: name.clone(),
                    mirrors: Vec::new(),
                    secure: false,
                    official: false,
                },
            )
        });
    RegistryServiceConfig {
        insecure_registry_cidrs: networks,
        index_configs: std::iter::once(("docker.io".to_owned(), hub))
            .chain(insecure)
            .collect(),
        mirrors,
    }
}

/// The daemon's own seccomp profile, read once.
pub(crate) fn seccomp_profile(choice: Option<&str>) -> Result<Option<String>> {
    match choice {
        None | Some("" | "builtin" | "unconfined") => Ok(None),
        Some(path) => std::fs::read_to_string(path)
            .map(Some)
            .map_err(failed(format!("opening seccomp profile ({path}) failed"))),
    }
}
