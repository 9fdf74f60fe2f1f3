//! What the daemon's configuration tells the engine.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use hull_api::host::Ulimit;
use hull_network::Firewall;
use hull_network::ipam::Pool;
use hull_shim::protocol::CgroupManager;
use ipnet::IpNet;

use crate::failpoint::Failpoints;
use crate::reload::Reloadable;

/// Options of the default bridge network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BridgeOptions {
    /// `--bridge`: the link to use or make; `none` disables the default network; none given: `docker0`-like name of this daemon.
    pub name: Option<String>,
    /// `--bip`: address and prefix of the bridge.
    pub bip: Option<IpNet>,
    /// `--bip6`.
    pub bip6: Option<IpNet>,
    /// `--fixed-cidr`.
    pub fixed_cidr: Option<IpNet>,
    /// `--fixed-cidr-v6`.
    pub fixed_cidr_v6: Option<IpNet>,
    /// `--default-gateway`.
    pub default_gateway: Option<IpAddr>,
    /// `--ipv6`.
    pub ipv6: bool,
    /// `--icc`.
    pub icc: bool,
    /// `--ip-masq`.
    pub masquerade: bool,
    /// `--mtu`, bytes; 0: the kernel's default.
    pub mtu: u32,
    /// `--ip`: where ports without an address are bound.
    pub host_binding: Option<IpAddr>,
}

/// The cgroup above those of the containers.
pub const DEFAULT_CGROUP: &str = "hull";

/// Everything that `Engine::open` is told.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// `--data-root`.
    pub data_root: PathBuf,
    /// `--exec-root`.
    pub exec_root: PathBuf,
    /// Short name of this daemon on this host: prefix of its firewall tables and links (`[a-z0-9-]`, at most 20 bytes).
    pub instance: String,
    /// The program that is called as `<program> shim`; none: this program, through a read-only descriptor.
    pub shim_program: Option<PathBuf>,
    /// The program that is mounted as a container's init (`--init`) and called as `<program> init -- ..`; none: this program.
    pub init_program: Option<PathBuf>,
    /// `--storage-driver`.
    pub storage_driver: Option<String>,
    /// `--storage-opt`, each `KEY=VALUE`.
    pub storage_options: Vec<String>,
    /// Where certificates of registries are looked for; none: `/etc/docker/certs.d`.
    pub certs_dir: Option<PathBuf>,
    /// `--http-proxy`, `--https-proxy`, `--no-proxy`; what is empty is taken from the environment.
    pub proxies: hull_image::Proxies,
    /// `--signature-policy`: a file like containers-policy.json(5); none: every image may be pulled.
    pub signature_policy: Option<PathBuf>,
    /// The default bridge.
    pub bridge: BridgeOptions,
    /// `--default-address-pool`; empty: Docker's.
    pub address_pools: Vec<Pool>,
    /// `--default-network-opt` for bridges.
    pub default_network_options: BTreeMap<String, BTreeMap<String, String>>,
    /// `--iptables`, `--firewall-backend`.
    pub firewall: Firewall,
    /// `--ip6tables`.
    pub ip6tables: bool,
    /// `--ip-forward`.
    pub ip_forward: bool,
    /// `--userland-proxy`: the daemon forwards published ports that the firewall cannot translate.
    pub userland_proxy: bool,
    /// `--dns`.
    pub dns: Vec<IpAddr>,
    /// `--dns-opt`.
    pub dns_options: Vec<String>,
    /// `--dns-search`.
    pub dns_search: Vec<String>,
    /// `--host-gateway-ip`.
    pub host_gateway_ips: Vec<IpAddr>,
    /// `--cgroup-parent`; none: [`DEFAULT_CGROUP`].
    pub cgroup_parent: Option<String>,
    /// `--exec-opt native.cgroupdriver=..`.
    pub cgroup_manager: CgroupManager,
    /// `--init`.
    pub init: bool,
    /// `--log-driver`.
    pub log_driver: String,
    /// `--cdi-spec-dir`: a later one counts more.
    pub cdi_spec_dirs: Vec<PathBuf>,
    /// Where plugins are looked for.
    pub plugins: hull_plugin::Options,
    /// The journal's socket, for the log driver `journald`.
    pub journal: PathBuf,
    /// `--log-opt`.
    pub log_options: BTreeMap<String, String>,
    /// `--default-ulimit`.
    pub default_ulimits: Vec<Ulimit>,
    /// `--seccomp-profile`: none for the built-in one, `unconfined`, or a file.
    pub seccomp_profile: Option<String>,
    /// `--no-new-privileges`.
    pub no_new_privileges: bool,
    /// `--selinux-enabled`.
    pub selinux: bool,
    /// `--userns-remap`, resolved to ranges; identity: none.
    pub userns_remap: hull_store::layer::IdMaps,
    /// `--experimental`.
    pub experimental: bool,
    /// What a reload may change: how it is at the start.
    pub reloadable: Reloadable,
    /// Points at which tests make the engine fail.
    pub failpoints: Failpoints,
}

impl EngineOptions {
    /// Docker's defaults on these roots.
    pub fn new(data_root: impl Into<PathBuf>, exec_root: impl Into<PathBuf>) -> EngineOptions {
        EngineOptions {
            data_root: data_root.into(),
            exec_root: exec_root.into(),
            instance: "main".to_owned(),
            shim_program: None,
            init_program: None,
            storage_driver: None,
            storage_options: Vec::new(),
            certs_dir: None,
            proxies: hull_image::Proxies::default(),
            signature_policy: None,
            bridge: BridgeOptions {
                name: None,
                bip: None,
                bip6: None,
                fixed_cidr: None,
                fixed_cidr_v6: None,
                default_gateway: None,
                ipv6: false,
                icc: true,
                masquerade: true,
                mtu: 0,
                host_binding: None,
            },
            address_pools: Vec::new(),
            default_network_options: BTreeMap::new(),
            firewall: Firewall::Nftables,
            ip6tables: true,
            ip_forward: true,
            userland_proxy: true,
            dns: Vec::new(),
            dns_options: Vec::new(),
            dns_search: Vec::new(),
            host_gateway_ips: Vec::new(),
            cgroup_parent: None,
            cgroup_manager: CgroupManager::Cgroupfs,
            init: false,
            log_driver: "json-file".to_owned(),
            cdi_spec_dirs: ["/etc/cdi", "/var/run/cdi"].map(PathBuf::from).to_vec(),
            plugins: hull_plugin::Options::default(),
            journal: hull_shim::protocol::journal(),
            log_options: BTreeMap::new(),
            default_ulimits: Vec::new(),
            seccomp_profile: None,
            no_new_privileges: false,
            selinux: false,
            userns_remap: hull_store::layer::IdMaps::default(),
            experimental: false,
            reloadable: Reloadable::default(),
            failpoints: Failpoints::default(),
        }
    }
}
