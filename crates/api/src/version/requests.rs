//! Requests of older clients, brought to the current meaning: what a version did not have is dropped, or refused where dropping it
//! would do something else than was asked.

use super::Version;
use crate::container::{ContainerCreateRequest, UpdateConfig};
use crate::exec::{ExecConfig, ExecStartConfig};
use crate::host::Mount;
use crate::network::{EndpointSettings, NetworkCreateRequest};

/// Brings a create request to the current meaning; the answer is what the client is to be warned of. `cgroup2` says whether the host
/// has cgroup v2.
///
/// # Errors
/// Docker's sentence (status 400) for what the version does not have.
pub fn adapt_create(
    version: Version,
    cgroup2: bool,
    request: &mut ContainerCreateRequest,
) -> Result<Vec<String>, String> {
    let mut warnings = Vec::new();
    if version < Version::new(41) && request.host_config.cgroupns_mode.is_empty() && !cgroup2 {
        // These clients know no private cgroup namespace.
        "host".clone_into(&mut request.host_config.cgroupns_mode);
    }
    if version < Version::new(42) {
        request.host_config.console_size = [0, 0];
    } else {
        request.host_config.resources.kernel_memory = 0;
    }
    if version < Version::new(43) {
        request.host_config.annotations.clear();
    }
    for mount in &mut request.host_config.mounts {
        adapt_mount(version, mount)?;
    }
    adapt_endpoints(version, request, &mut warnings)?;
    if version < Version::new(44)
        && let Some(health) = &mut request.config.healthcheck
    {
        health.start_interval = 0;
    }
    let host = &mut request.host_config;
    if host.resources.pids_limit.is_some_and(|limit| limit <= 0) {
        // Any of them has always meant "no limit".
        host.resources.pids_limit = None;
    }
    let own_driver = |mount: &Mount| {
        let options = mount.volume_options.as_ref();
        let driver = options.and_then(|options| options.driver_config.as_ref());
        driver.is_some_and(|driver| !driver.name.is_empty())
    };
    let ignored = |mount: &Mount| mount.kind == "volume" && !own_driver(mount);
    if version >= Version::new(48)
        && !host.volume_driver.is_empty()
        && host.mounts.iter().any(ignored)
    {
        warnings.push(
            "WARNING: the container-wide volume-driver configuration is ignored for volumes specified via 'mount'. Use '--mount type=volume,volume-driver=...' instead".to_owned(),
        );
    }
    Ok(warnings)
}

fn adapt_mount(version: Version, mount: &mut Mount) -> Result<(), String> {
    if version < Version::new(42) {
        if let Some(bind) = &mut mount.bind_options {
            bind.create_mountpoint = false;
        }
        // Of another type they had no effect.
        if mount.kind != "volume" {
            mount.volume_options = None;
        }
        if mount.kind != "tmpfs" {
            mount.tmpfs_options = None;
        }
    } else {
        for (name, kind, given) in [
            ("VolumeOptions", "volume", mount.volume_options.is_some()),
            ("BindOptions", "bind", mount.bind_options.is_some()),
            ("TmpfsOptions", "tmpfs", mount.tmpfs_options.is_some()),
        ] {
            if given && mount.kind != kind {
                return Err(format!(
                    "{name} must not be specified on mount type {:?}",
                    mount.kind
                ));
            }
        }
    }
    if version < Version::new(44) && mount.kind == "bind" {
        let bind = mount.bind_options.get_or_insert_default();
        if bind.read_only_force_recursive {
            return Err("BindOptions.ReadOnlyForceRecursive needs API v1.44 or newer".to_owned());
        }
        // Read-only bind mounts were not recursive before 1.44.
        bind.read_only_non_recursive = mount.read_only;
    }
    let subpath = |mount: &Mount| {
        let options = mount.volume_options.as_ref();
        options.is_some_and(|options| !options.subpath.is_empty())
    };
    if version < Version::new(45) && subpath(mount) {
        return Err("VolumeOptions.Subpath needs API v1.45 or newer".to_owned());
    }
    if version < Version::new(48) && mount.kind == "image" {
        return Err("Mount type \"Image\" needs API v1.48 or newer".to_owned());
    }
    Ok(())
}

fn adapt_endpoints(
    version: Version,
    request: &mut ContainerCreateRequest,
    warnings: &mut Vec<String>,
) -> Result<(), String> {
    let endpoints = &mut request.networking_config.endpoints_config;
    if version < Version::new(44) && endpoints.len() > 1 {
        let names: Vec<&str> = endpoints.keys().map(String::as_str).collect();
        return Err(format!(
            "Container cannot be created with multiple network endpoints: {}",
            names.join(", ")
        ));
    }
    let each = endpoints.values_mut().flatten();
    if version < Version::new(48) {
        each.for_each(|endpoint| endpoint.gw_priority = 0);
    }
    let wide = &mut request.config.mac_address;
    if version >= Version::V1_52 {
        wide.clear();
    } else if version >= Version::new(44) && !wide.is_empty() {
        let mode = request.host_config.network_mode.as_str();
        let main = endpoints.get(mode).and_then(Option::as_ref);
        let other = |main: &EndpointSettings| {
            !main.mac_address.is_empty() && !main.mac_address.eq_ignore_ascii_case(wide)
        };
        if main.is_some_and(other) {
            return Err("the container-wide MAC address must match the endpoint-specific MAC address for the main network, or be left empty".to_owned());
        }
        warnings.push(
            "The container-wide MacAddress field is now deprecated. It should be specified in EndpointsConfig instead.".to_owned(),
        );
    } else if version < Version::new(44) {
        // These versions read the address of the whole container only.
        for endpoint in endpoints.values_mut().flatten() {
            endpoint.mac_address.clear();
        }
        let mode = request.host_config.network_mode.as_str();
        if !wide.is_empty() && (mode == "host" || mode == "none" || mode.starts_with("container:"))
        {
            return Err("conflicting options: mac-address and the network mode".to_owned());
        }
    }
    Ok(())
}

/// Before 1.55 limits of single block devices could not be updated, and were not read.
pub fn adapt_update(version: Version, update: &mut UpdateConfig) {
    let resources = &mut update.resources;
    if version < Version::new(55) {
        resources.blkio_weight_device.clear();
        resources.blkio_device_read_bps.clear();
        resources.blkio_device_write_bps.clear();
        resources.blkio_device_read_iops.clear();
        resources.blkio_device_write_iops.clear();
    }
}

/// Before 1.42 an exec had no size of terminal.
pub fn adapt_exec(version: Version, config: &mut ExecConfig) {
    if version < Version::new(42) {
        config.console_size = None;
    }
}

/// As [`adapt_exec`], at the start.
pub fn adapt_exec_start(version: Version, config: &mut ExecStartConfig) {
    if version < Version::new(42) || !config.tty {
        config.console_size = None;
    }
}

/// Before 1.48 every network had IPv4.
pub fn adapt_network_create(version: Version, request: &mut NetworkCreateRequest) {
    if version < Version::new(48) {
        request.enable_ipv4 = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adapted(minor: u16, body: &str) -> (ContainerCreateRequest, Result<Vec<String>, String>) {
        let mut request = ContainerCreateRequest::from_slice(body.as_bytes()).unwrap();
        let said = adapt_create(Version::new(minor), false, &mut request);
        (request, said)
    }

    #[test]
    fn what_a_version_did_not_have_is_dropped() {
        let body = r#"{"Healthcheck":{"StartInterval":5},"MacAddress":"02:00:00:00:00:01","HostConfig":{"Annotations":{"a":"b"},
            "ConsoleSize":[3,4],"PidsLimit":-1,"Mounts":[{"Type":"bind","Source":"/a","Target":"/b","ReadOnly":true,
            "BindOptions":{"CreateMountpoint":true}}]},
            "NetworkingConfig":{"EndpointsConfig":{"bridge":{"MacAddress":"02:00:00:00:00:01","GwPriority":7}}}}"#;
        let (old, said) = adapted(40, body);
        assert_eq!(said, Ok(Vec::new()));
        let host = &old.host_config;
        assert_eq!(host.cgroupns_mode, "host");
        assert_eq!(host.console_size, [0, 0]);
        assert!(host.annotations.is_empty() && host.resources.pids_limit.is_none());
        let bind = host.mounts[0].bind_options.as_ref().unwrap();
        assert!(!bind.create_mountpoint && bind.read_only_non_recursive);
        assert_eq!(old.config.healthcheck.unwrap().start_interval, 0);
        let endpoint = old.networking_config.endpoints_config["bridge"]
            .clone()
            .unwrap();
        assert_eq!(
            (endpoint.mac_address.as_str(), endpoint.gw_priority),
            ("", 0)
        );

        let (new, said) = adapted(55, body);
        assert_eq!(said, Ok(Vec::new()));
        assert_eq!(new.config.mac_address, "");
        let bind = new.host_config.mounts[0].bind_options.as_ref().unwrap();
        assert!(bind.create_mountpoint && !bind.read_only_non_recursive);
        assert_eq!(adapted(44, body).1.unwrap().len(), 1);
    }

    #[test]
    fn what_would_do_something_else_is_refused() {
        let refused = |minor, body| adapted(minor, body).1.unwrap_err();
        let image = r#"{"HostConfig":{"Mounts":[{"Type":"image","Source":"a","Target":"/b"}]}}"#;
        assert_eq!(
            refused(47, image),
            "Mount type \"Image\" needs API v1.48 or newer"
        );
        assert!(adapted(48, image).1.is_ok());
        let subpath = r#"{"HostConfig":{"Mounts":[{"Type":"volume","Source":"a","Target":"/b","VolumeOptions":{"Subpath":"c"}}]}}"#;
        assert_eq!(
            refused(44, subpath),
            "VolumeOptions.Subpath needs API v1.45 or newer"
        );
        assert!(adapted(45, subpath).1.is_ok());
        let mixed = r#"{"HostConfig":{"Mounts":[{"Type":"bind","Source":"/a","Target":"/b","TmpfsOptions":{}}]}}"#;
        assert!(adapted(41, mixed).1.is_ok());
        assert_eq!(
            refused(42, mixed),
            "TmpfsOptions must not be specified on mount type \"bind\""
        );
        let two = r#"{"NetworkingConfig":{"EndpointsConfig":{"a":{},"b":null}}}"#;
        assert_eq!(
            refused(43, two),
            "Container cannot be created with multiple network endpoints: a, b"
        );
        assert!(adapted(44, two).1.is_ok());
        let macs = r#"{"MacAddress":"02:00:00:00:00:01","HostConfig":{"NetworkMode":"n"},
            "NetworkingConfig":{"EndpointsConfig":{"n":{"MacAddress":"02:00:00:00:00:02"}}}}"#;
        assert!(refused(51, macs).starts_with("the container-wide MAC address must match"));
    }
}
