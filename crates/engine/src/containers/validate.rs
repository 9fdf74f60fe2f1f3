//! What Docker refuses at create and update, with its sentences. Pure, but for the number of processors and the memory.

use std::net::IpAddr;

use hull_api::container::ContainerConfig;
use hull_api::host::{HostConfig, Resources, RestartPolicy};
use hull_api::network::EndpointSettings;
use ipnet::IpNet;

use crate::error::{Error, Result};
use crate::networks::plane::NetworkRecord;
use crate::networks::ports;
use crate::record::NetworkMode;
use crate::spec;

const MEMORY_MIN: i64 = 6 << 20;

fn refuse<T>(message: impl Into<String>) -> Result<T> {
    Err(Error::invalid(message))
}

/// Limits, against one another and against the host.
pub(crate) fn resources(resources: &Resources) -> Result<()> {
    memory(resources)?;
    cpu(resources)?;
    blkio(resources)?;
    if resources.oom_kill_disable == Some(true) && resources.memory == 0 {
        tracing::debug!("oom-kill-disable without a memory limit");
    }
    spec::check_ulimits(&resources.ulimits)?;
    spec::check_device_rules(&resources.device_cgroup_rules)
}

fn memory(resources: &Resources) -> Result<()> {
    let Resources {
        memory,
        memory_swap,
        memory_reservation,
        ..
    } = *resources;
    if memory != 0 && memory < MEMORY_MIN {
        return refuse("Minimum memory limit allowed is 6MB");
    }
    if memory > 0 && memory_swap > 0 && memory_swap < memory {
        return refuse("Minimum memoryswap limit should be larger than memory limit, see usage");
    }
    if memory == 0 && memory_swap > 0 {
        return refuse(
            "You should always set the Memory limit when using Memoryswap limit, see usage",
        );
    }
    if let Some(swappiness) = resources.memory_swappiness
        && !(-1..=100).contains(&swappiness)
    {
        return refuse(format!(
            "Invalid value: {swappiness}, valid memory swappiness range is 0-100"
        ));
    }
    if memory_reservation > 0 && memory_reservation < MEMORY_MIN {
        return refuse("Minimum memory reservation allowed is 6MB");
    }
    if memory > 0 && memory_reservation > 0 && memory < memory_reservation {
        return refuse(
            "Minimum memory limit can not be less than memory reservation limit, see usage",
        );
    }
    if resources.kernel_memory > 0 {
        return refuse("kernel memory limits are not supported by this kernel");
    }
    if resources.pids_limit.is_some_and(|limit| limit < -1) {
        return refuse("Invalid PIDs limit");
    }
    Ok(())
}

fn cpu(resources: &Resources) -> Result<()> {
    let Resources {
        nano_cpus,
        cpu_period,
        cpu_quota,
        cpu_shares,
        ..
    } = *resources;
    if nano_cpus > 0 && cpu_period > 0 {
        return refuse("Conflicting options: Nano CPUs and CPU Period cannot both be set");
    }
    if nano_cpus > 0 && cpu_quota > 0 {
        return refuse("Conflicting options: Nano CPUs and CPU Quota cannot both be set");
    }
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as i64;
    let most = cpus.saturating_mul(1_000_000_000);
    if nano_cpus < 0 || nano_cpus > most {
        return refuse(format!(
            "range of CPUs is from 0.01 to {cpus}.00, as there are only {cpus} CPUs available"
        ));
    }
    if cpu_shares < 0 {
        return refuse(format!(
            "invalid CPU shares ({cpu_shares}): value must be a positive integer"
        ));
    }
    if cpu_period != 0 && !(1000..=1_000_000).contains(&cpu_period) {
        return refuse(
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)",
        );
    }
    if cpu_quota > 0 && cpu_quota < 1000 {
        return refuse("CPU cfs quota can not be less than 1ms (i.e. 1000)");
    }
    cpuset(
        &resources.cpuset_cpus,
        "/sys/devices/system/cpu/online",
        "CPUs",
        "cpus",
    )?;
    cpuset(
        &resources.cpuset_mems,
        "/sys/devices/system/node/online",
        "Memory Nodes",
        "memory nodes",
    )
}

fn cpuset(asked: &str, online: &str, what: &str, plural: &str) -> Result<()> {
    if asked.is_empty() {
        return Ok(());
    }
    let Some(wanted) = number_list(asked) else {
        return refuse(format!(
            "Invalid value {asked} for cpuset {}",
            if what == "CPUs" { "cpus" } else { "mems" }
        ));
    };
    let text = std::fs::read_to_string(online).unwrap_or_default();
    let available = number_list(text.trim()).unwrap_or_default();
    if !available.is_empty() && !wanted.is_subset(&available) {
        return refuse(format!(
            "Requested {what} are not available - requested {asked}, available: {} ({plural})",
            text.trim()
        ));
    }
    Ok(())
}

/// `0-3,7`; the bound keeps a range such as `0-4000000000` from being unrolled.
fn number_list(text: &str) -> Option<std::collections::BTreeSet<u32>> {
    const MOST: u32 = 8192;
    let mut set = std::collections::BTreeSet::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (
            first.trim().parse::<u32>().ok()?,
            last.trim().parse::<u32>().ok()?,
        );
        if first > last || last > MOST {
            return None;
        }
        set.extend(first..=last);
    }
    Some(set)
}

fn blkio(resources: &Resources) -> Result<()> {
    if resources.blkio_weight > 0 && !(10..=1000).contains(&resources.blkio_weight) {
        return refuse("Range of blkio weight is from 10 to 1000");
    }
    let devices = [
        &resources.blkio_device_read_bps,
        &resources.blkio_device_write_bps,
        &resources.blkio_device_read_iops,
        &resources.blkio_device_write_iops,
    ];
    for device in devices.into_iter().flatten() {
        spec::block_device_numbers(&device.path)?;
    }
    Ok(())
}

/// Names of policies, and counts that go with them.
pub(crate) fn restart_policy(policy: &RestartPolicy) -> Result<()> {
    let count = policy.maximum_retry_count;
    match policy.name.as_str() {
        "always" | "unless-stopped" | "no" | "" if count != 0 => {
            let name = if policy.name.is_empty() {
                "no"
            } else {
                &policy.name
            };
            refuse(format!(
                "invalid restart policy: maximum retry count can only be used with 'on-failure', not '{name}'"
            ))
        }
        "always" | "unless-stopped" | "no" | "" => Ok(()),
        "on-failure" if count < 0 => {
            refuse("invalid restart policy: maximum retry count cannot be negative")
        }
        "on-failure" => Ok(()),
        other => refuse(format!(
            "invalid restart policy: unknown policy '{other}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
        )),
    }
}

/// What a container may ask of the host.
pub(crate) fn host_config(host: &HostConfig) -> Result<()> {
    restart_policy(&host.restart_policy)?;
    let restarts = !matches!(host.restart_policy.name.as_str(), "" | "no");
    if host.auto_remove && restarts {
        return refuse("can't create 'AutoRemove' container with restart policy");
    }
    if host.oom_score_adj < -1000 || host.oom_score_adj > 1000 {
        return refuse(format!(
            "Invalid value {}, range for oom score adj is [-1000, 1000]",
            host.oom_score_adj
        ));
    }
    if host.shm_size < 0 {
        return refuse("SHM size can not be less than 0");
    }
    for (name, modes) in [("ipc", &host.ipc_mode), ("pid", &host.pid_mode)] {
        let known = match modes.as_str() {
            "" | "host" => true,
            "private" | "shareable" | "none" => name == "ipc",
            other => other
                .strip_prefix("container:")
                .is_some_and(|target| !target.is_empty()),
        };
        if !known {
            return refuse(format!(
                "invalid {} mode: {modes}",
                name.to_ascii_uppercase()
            ));
        }
    }
    for (name, mode, known) in [
        ("UTS", &host.uts_mode, ["", "host"]),
        ("user namespace", &host.userns_mode, ["", "host"]),
    ] {
        if !known.contains(&mode.as_str()) {
            return refuse(format!("invalid {name} mode: {mode}"));
        }
    }
    if !matches!(host.cgroupns_mode.as_str(), "" | "private" | "host") {
        return refuse(format!(
            "invalid cgroup namespace mode: {}",
            host.cgroupns_mode
        ));
    }
    if !matches!(host.isolation.as_str(), "" | "default") {
        return refuse(format!("invalid isolation '{}' on linux", host.isolation));
    }
    if !host.storage_opt.is_empty() {
        // Sizes need project quotas, which no snapshotter here sets.
        return refuse(
            "--storage-opt is supported only for overlay over xfs with 'pquota' mount option",
        );
    }
    ports::check(&host.port_bindings)?;
    if matches!(host.network_mode.strip_prefix("container:"), Some("")) {
        return refuse("invalid network mode: container network mode without a container");
    }
    spec::SecurityOptions::parse(&host.security_opt)?;
    for list in host.tmpfs.values() {
        spec::merge_tmpfs_options(list)?;
    }
    for entry in &host.extra_hosts {
        let valid = entry.split_once(':').is_some_and(|(name, address)| {
            let bare = address.trim_start_matches('[').trim_end_matches(']');
            !name.is_empty() && (bare == "host-gateway" || bare.parse::<std::net::IpAddr>().is_ok())
        });
        if !valid {
            return refuse(format!("bad format for add-host: {entry:?}"));
        }
    }
    for address in &host.dns {
        if address.parse::<std::net::IpAddr>().is_err() {
            return refuse(format!("invalid IP address in add-dns: {address}"));
        }
    }
    sysctls(host)?;
    resources(&host.resources)
}

/// What does not go with a user namespace of one's own.
pub(crate) fn remapped(host: &HostConfig) -> Result<()> {
    if host.privileged {
        return refuse(
            "privileged mode is incompatible with user namespaces.  You must run the container in the host namespace when running privileged mode",
        );
    }
    if NetworkMode::parse(&host.network_mode) == NetworkMode::Host {
        return refuse(
            "cannot share the host's network namespace when user namespaces are enabled",
        );
    }
    if host.pid_mode == "host" {
        return refuse("cannot share the host PID namespace when user namespaces are enabled");
    }
    Ok(())
}

fn sysctls(host: &HostConfig) -> Result<()> {
    let network = NetworkMode::parse(&host.network_mode);
    for name in host.sysctls.keys() {
        if name.starts_with("net.") && network == NetworkMode::Host {
            return refuse(format!(
                "sysctl '{name}' not allowed in host network namespace"
            ));
        }
        if (name.starts_with("kernel.shm")
            || name.starts_with("kernel.msg")
            || name == "kernel.sem"
            || name.starts_with("fs.mqueue."))
            && host.ipc_mode == "host"
        {
            return refuse(format!("sysctl '{name}' not allowed in host IPC namespace"));
        }
    }
    Ok(())
}

/// The portable part.
pub(crate) fn config(config: &ContainerConfig, host: &HostConfig) -> Result<()> {
    if !config.working_dir.is_empty() && !config.working_dir.starts_with('/') {
        return refuse(format!(
            "the working directory '{}' is invalid, it needs to be an absolute path",
            config.working_dir
        ));
    }
    for entry in &config.env {
        if entry.is_empty() || entry.starts_with('=') {
            return refuse(format!("invalid environment variable: {entry}"));
        }
    }
    if !config.stop_signal.is_empty() {
        crate::signal::parse(&config.stop_signal)?;
    }
    for port in &config.exposed_ports {
        ports::parse_port(port)?;
    }
    if config.hostname.len() > 63 && !config.hostname.contains('.') {
        return refuse(format!("invalid hostname: {}", config.hostname));
    }
    if let Some(check) = &config.healthcheck {
        health(check)?;
    }
    if config.hostname.is_empty() {
        return Ok(());
    }
    match NetworkMode::parse(&host.network_mode) {
        NetworkMode::Container(_) => refuse("conflicting options: hostname and the network mode"),
        NetworkMode::Bridge | NetworkMode::Host | NetworkMode::None | NetworkMode::Named(_) => {
            match host.uts_mode.as_str() {
                "host" => refuse("conflicting options: hostname and the UTS mode"),
                _ => Ok(()),
            }
        }
    }
}

fn health(check: &hull_api::container::HealthConfig) -> Result<()> {
    const MIN_NS: i64 = 1_000_000;
    for (name, value) in [
        ("Interval", check.interval),
        ("Timeout", check.timeout),
        ("StartPeriod", check.start_period),
        ("StartInterval", check.start_interval),
    ] {
        if value != 0 && value < MIN_NS {
            return refuse(format!("{name} in Healthcheck cannot be less than 1ms"));
        }
    }
    if check.retries < 0 {
        return refuse("Retries in Healthcheck cannot be negative");
    }
    Ok(())
}

/// What may be asked of a network.
pub(crate) fn endpoint(
    name: &str,
    settings: &EndpointSettings,
    network: &NetworkRecord,
) -> Result<()> {
    let asked = settings.ipam_config.clone().unwrap_or_default();
    for (text, ipv6) in [(&asked.ipv4_address, false), (&asked.ipv6_address, true)] {
        if text.is_empty() {
            continue;
        }
        let Ok(address) = text.parse::<IpAddr>() else {
            return refuse(format!(
                "invalid endpoint settings:\ninvalid {} address: {text}",
                if ipv6 { "IPv6" } else { "IPv4" }
            ));
        };
        if network.is_predefined() {
            return refuse(
                "invalid endpoint settings:\nuser specified IP address is supported on user defined networks only",
            );
        }
        let inside = network
            .network
            .subnets
            .iter()
            .any(|subnet| subnet.cidr.contains(&address));
        if !inside {
            return refuse(format!(
                "invalid endpoint settings:\nno configured subnet or ip-range contain the IP address {address}"
            ));
        }
    }
    link_local(&asked.link_local_ips)?;
    if !settings.aliases.is_empty() && network.is_predefined() && name != "bridge" {
        return refuse(
            "network-scoped alias is supported only for containers in user defined networks",
        );
    }
    if !settings.mac_address.is_empty() {
        settings.mac_address.parse::<hull_network::MacAddr>()?;
    }
    Ok(())
}

/// `--link-local-ip`: addresses with the prefixes of their kind (RFC 3927, RFC 4291 2.5.6).
pub(crate) fn link_local(given: &[String]) -> Result<Vec<IpNet>> {
    let address = |text: &String| match text.parse::<IpAddr>() {
        Ok(ip @ IpAddr::V4(v4)) if v4.is_link_local() => Ok(IpNet::new_assert(ip, 16)),
        Ok(ip @ IpAddr::V6(v6)) if v6.is_unicast_link_local() => Ok(IpNet::new_assert(ip, 64)),
        Ok(ip) => Err(Error::invalid(format!(
            "invalid link local IP address: {ip}"
        ))),
        Err(_) => Err(Error::invalid(format!(
            "invalid endpoint settings:\ninvalid link-local IP address: {text}"
        ))),
    };
    given.iter().map(address).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_local_addresses() {
        let said = |text: &str| match link_local(&[text.to_owned()]) {
            Ok(list) => list[0].to_string(),
            Err(error) => error.message,
        };
        assert_eq!(said("169.254.7.7"), "169.254.7.7/16");
        assert_eq!(said("fe80::77"), "fe80::77/64");
        assert_eq!(said("10.1.2.3"), "invalid link local IP address: 10.1.2.3");
        assert!(said("x").ends_with("invalid link-local IP address: x"));
    }

    fn said(change: impl FnOnce(&mut Resources)) -> String {
        let mut asked = Resources::default();
        change(&mut asked);
        resources(&asked).map_or_else(|error| error.message, |()| String::new())
    }

    #[test]
    fn limits() {
        assert_eq!(said(|_| ()), "");
        assert_eq!(
            said(|r| r.memory = 1024),
            "Minimum memory limit allowed is 6MB"
        );
        assert!(
            said(|r| r.memory_swap = 1 << 30).starts_with("You should always set the Memory limit")
        );
        assert!(
            said(|r| (r.memory, r.memory_swap) = (1 << 30, 1 << 20))
                .starts_with("Minimum memoryswap limit")
        );
        assert!(said(|r| r.nano_cpus = 1 << 60).starts_with("range of CPUs is from 0.01 to"));
        assert!(said(|r| r.cpuset_cpus = "0-4000000000".into()).starts_with("Invalid value"));
        assert!(
            said(|r| r.cpuset_cpus = "8000".into()).starts_with("Requested CPUs are not available")
        );
        assert_eq!(said(|r| r.cpuset_cpus = "0".into()), "");
        assert_eq!(
            said(|r| r.blkio_weight = 5),
            "Range of blkio weight is from 10 to 1000"
        );
    }

    #[test]
    fn policies() {
        let policy = |name: &str, count| RestartPolicy {
            name: name.into(),
            maximum_retry_count: count,
        };
        assert!(restart_policy(&policy("on-failure", 3)).is_ok());
        assert!(restart_policy(&policy("always", 3)).is_err());
        assert!(
            restart_policy(&policy("sometimes", 0))
                .unwrap_err()
                .message
                .contains("unknown policy 'sometimes'")
        );
    }
}
