//! The configuration in the engine's terms, and the directories that must be there first.

use std::net::IpAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

use anyhow::{Context, Result, anyhow, bail};
use hull_engine::failpoint::Failpoints;
use hull_engine::{EngineOptions, Reloadable};
use hull_network::Firewall;
use hull_network::ipam::Pool;
use hull_shim::protocol::{CgroupManager, Runtime};
use ipnet::IpNet;
use serde_json::Value;

use crate::config::Config;

/// Set by tests only: named points at which the engine fails or dies.
const FAILPOINTS_VARIABLE: &str = "HULL_FAILPOINTS";

/// Makes the roots, closed to others.
pub(crate) fn directories(config: &Config) -> Result<()> {
    for (path, mode) in [(&config.data_root, 0o710), (&config.exec_root, 0o711)] {
        let made = std::fs::DirBuilder::new()
            .recursive(true)
            .mode(mode)
            .create(path);
        made.with_context(|| format!("make {path}"))?;
    }
    Ok(())
}

/// `--userns-remap`: each range of ids has a data root of its own, for the files there are owned by it.
pub(crate) fn user_namespace(config: &mut Config, options: &mut EngineOptions) -> Result<()> {
    if config.userns_remap.is_empty() {
        return Ok(());
    }
    let maps = crate::remap::maps(&config.userns_remap)?;
    let (uid, gid) = maps.root();
    config.data_root = format!("{}/{uid}.{gid}", config.data_root.trim_end_matches('/'));
    options.data_root = (&config.data_root).into();
    options.userns_remap = maps;
    Ok(())
}

/// Reads the textual options.
///
/// # Errors
/// A value that is no address, size or mapping, naming the option.
pub(crate) fn engine_options(config: &Config) -> Result<EngineOptions> {
    let mut options = EngineOptions::new(
        absolute("data-root", &config.data_root)?,
        absolute("exec-root", &config.exec_root)?,
    );
    options.instance = instance(&config.exec_root);
    network(config, &mut options)?;
    containers(config, &mut options);
    options.reloadable = reloadable(config)?;
    options.storage_driver = set(&config.storage_driver);
    options.storage_options.clone_from(&config.storage_opts);
    options.signature_policy = set(&config.signature_policy).map(Into::into);
    options.proxies = hull_engine::Proxies {
        http: config.proxies.http_proxy.clone(),
        https: config.proxies.https_proxy.clone(),
        no_proxy: config.proxies.no_proxy.clone(),
    };
    if !config.plugin_dir.is_empty() {
        let directory = absolute("plugin-dir", &config.plugin_dir)?;
        options.plugins.directories = hull_plugin::Directories::at(directory.as_ref());
    }
    if !config.cdi_spec_dirs.is_empty() {
        options.cdi_spec_dirs = config.cdi_spec_dirs.iter().map(PathBuf::from).collect();
    }
    if let Ok(points) = std::env::var(FAILPOINTS_VARIABLE) {
        options.failpoints =
            Failpoints::parse(&points).map_err(|e| anyhow!("{FAILPOINTS_VARIABLE}: {e}"))?;
    }
    Ok(options)
}

fn network(config: &Config, options: &mut EngineOptions) -> Result<()> {
    let bridge = &mut options.bridge;
    bridge.name = (!config.bridge.is_empty()).then(|| config.bridge.clone());
    bridge.bip = read("bip", &config.bip)?;
    bridge.bip6 = read("bip6", &config.bip6)?;
    bridge.fixed_cidr = read("fixed-cidr", &config.fixed_cidr)?;
    bridge.fixed_cidr_v6 = read("fixed-cidr-v6", &config.fixed_cidr_v6)?;
    bridge.default_gateway = read("default-gateway", &config.default_gateway)?;
    bridge.ipv6 = config.ipv6;
    bridge.icc = config.icc.unwrap_or(true);
    bridge.masquerade = config.ip_masq.unwrap_or(true);
    bridge.mtu = u32::try_from(config.mtu.unwrap_or(0))
        .map_err(|_| anyhow!("invalid default MTU: {:?}", config.mtu))?;
    bridge.host_binding = read("ip", &config.ip)?;
    if bridge.bip.is_some() && matches!(config.bridge.as_str(), "none") {
        bail!("You specified -b & --bip, mutually exclusive options. Please specify only one");
    }
    for pool in &config.default_address_pools {
        let base: IpNet = pool
            .base
            .parse()
            .map_err(|_| anyhow!("invalid CIDR address: {}", pool.base))?;
        let size_max = if base.addr().is_ipv4() { 32 } else { 128 };
        if pool.size < base.prefix_len() || pool.size > size_max {
            bail!(
                "invalid default-address-pool {}: invalid size {}",
                pool.base,
                pool.size
            );
        }
        options.address_pools.push(Pool {
            base,
            size: pool.size,
        });
    }
    options
        .default_network_options
        .clone_from(&config.default_network_opts);
    options.firewall = match (
        config.iptables.unwrap_or(true),
        config.firewall_backend.as_str(),
    ) {
        (false, _) => Firewall::None,
        (true, "" | "nftables") => Firewall::Nftables,
        (true, "iptables") => Firewall::Iptables,
        (true, other) => bail!("invalid firewall-backend {other:?}, must be iptables or nftables"),
    };
    options.ip6tables = config.ip6tables.unwrap_or(true);
    options.ip_forward = config.ip_forward.unwrap_or(true);
    options.userland_proxy = config.userland_proxy.unwrap_or(true);
    options.dns = addresses("dns", &config.dns)?;
    options.dns_options.clone_from(&config.dns_opts);
    options.dns_search.clone_from(&config.dns_search);
    options.host_gateway_ips = addresses("host-gateway-ip", &config.host_gateway_ips)?;
    Ok(())
}

fn containers(config: &Config, options: &mut EngineOptions) {
    options.cgroup_parent = set(&config.cgroup_parent);
    options.cgroup_manager = match config.cgroup_driver() {
        Some("systemd") => CgroupManager::Systemd,
        _ => CgroupManager::Cgroupfs,
    };
    options.init = config.init;
    options.log_driver.clone_from(&config.log_driver);
    options.log_options.clone_from(&config.log_opts);
    options.default_ulimits = config.default_ulimits.values().cloned().collect();
    options.experimental = config.experimental;
    options.seccomp_profile = set(&config.seccomp_profile).filter(|p| p != "builtin");
    options.no_new_privileges = config.no_new_privileges;
    options.selinux = config.selinux_enabled;
}

/// What a SIGHUP reads again.
///
/// # Errors
/// As [`engine_options`].
pub(crate) fn reloadable(config: &Config) -> Result<Reloadable> {
    let default = Reloadable::default();
    let runtimes = config.runtimes.iter().map(|(name, runtime)| {
        let external = Runtime::External {
            path: (&runtime.path).into(),
            args: runtime.runtime_args.clone(),
        };
        (name.clone(), external)
    });
    Ok(Reloadable {
        insecure_registries: config.insecure_registries.clone(),
        registry_mirrors: config.registry_mirrors.clone(),
        max_download_attempts: count(config.max_download_attempts, default.max_download_attempts),
        max_concurrent_downloads: count(
            config.max_concurrent_downloads,
            default.max_concurrent_downloads,
        ),
        max_concurrent_uploads: count(
            config.max_concurrent_uploads,
            default.max_concurrent_uploads,
        ),
        default_cgroupns_mode: config.default_cgroupns_mode.clone(),
        default_ipc_mode: config.default_ipc_mode.clone(),
        default_runtime: config.default_runtime.clone(),
        runtimes: runtimes.collect(),
        default_shm_size: match &config.default_shm_size {
            None => default.default_shm_size,
            Some(value) => {
                shm_size(value).with_context(|| format!("invalid default-shm-size {value}"))?
            }
        },
        live_restore: config.live_restore == Some(true),
        labels: config.labels.clone(),
        debug: config.debug,
        shutdown_timeout: config.shutdown_timeout.unwrap_or(default.shutdown_timeout),
        features: config.features.clone(),
    })
}

/// An option's text, where it was set.
fn set(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

fn absolute<'a>(option: &str, path: &'a str) -> Result<&'a str> {
    match path.starts_with('/') {
        true => Ok(path),
        false => bail!("{option} must be an absolute path: {path}"),
    }
}

fn count(wanted: Option<i64>, default: usize) -> usize {
    wanted
        .and_then(|n| usize::try_from(n).ok())
        .filter(|n| *n > 0)
        .unwrap_or(default)
}

fn read<T: std::str::FromStr>(option: &str, text: &str) -> Result<Option<T>> {
    match text {
        "" => Ok(None),
        text => text
            .parse()
            .map(Some)
            .map_err(|_| anyhow!("invalid {option}: {text}")),
    }
}

fn addresses(option: &str, texts: &[String]) -> Result<Vec<IpAddr>> {
    texts
        .iter()
        .map(|t| {
            t.parse()
                .map_err(|_| anyhow!("invalid {option}: {t} is not an ip address"))
        })
        .collect()
}

/// A short name of this daemon, from its exec-root: `hull` for the default one.
fn instance(exec_root: &str) -> String {
    if exec_root == "/run/hull" {
        return "main".to_owned();
    }
    // FNV-1a: stable between releases, as the names of links and tables must be.
    let hash = exec_root.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    format!("{hash:08x}")
}

/// A number of bytes, or docker/go-units' `64m`.
fn shm_size(value: &Value) -> Option<i64> {
    if let Some(bytes) = value.as_i64() {
        return Some(bytes);
    }
    let text = value.as_str()?.trim().to_ascii_lowercase();
    let text = text
        .strip_suffix("ib")
        .or(text.strip_suffix('b'))
        .unwrap_or(&text);
    let (number, shift) = match text.chars().last()? {
        'k' => (&text[..text.len() - 1], 10),
        'm' => (&text[..text.len() - 1], 20),
        'g' => (&text[..text.len() - 1], 30),
        't' => (&text[..text.len() - 1], 40),
        _ => (text, 0),
    };
    let number: f64 = number
        .trim()
        .parse()
        .ok()
        .filter(|n: &f64| n.is_finite() && *n >= 0.0)?;
    Some(
        (number * f64::from(1u32 << (shift % 32)) * if shift == 40 { 4_294_967_296.0 } else { 1.0 })
            as i64,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn sizes() {
        assert_eq!(shm_size(&json!("64M")), Some(64 << 20));
        assert_eq!(shm_size(&json!("1.5g")), Some(3 << 29));
        assert_eq!(shm_size(&json!("2tb")), Some(2 << 40));
        assert_eq!(shm_size(&json!(4096)), Some(4096));
        assert_eq!(shm_size(&json!("lots")), None);
    }

    #[test]
    fn instances_differ_by_root() {
        assert_eq!(instance("/run/hull"), "main");
        assert_ne!(instance("/run/a"), instance("/run/b"));
        assert!(instance("/run/a").len() <= 20);
    }
}
