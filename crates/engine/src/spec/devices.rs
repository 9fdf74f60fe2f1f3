//! Devices: `--device` with its directories and permissions, `--device-cgroup-rule`, and everything for `--privileged`.
//! Reads the host's /dev; the result goes into the pure part.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use hull_api::host::{DeviceMapping, HostConfig};
use hull_oci::runtime::{Device, DeviceCgroup, DeviceType};

use crate::error::{Error, Result};

/// Devices of a directory that are looked at: a bound on the walk.
const DEVICES_MAX: usize = 16 << 10;

/// Nodes to make and rules for the cgroup.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ResolvedDevices {
    pub(crate) nodes: Vec<Device>,
    pub(crate) rules: Vec<DeviceCgroup>,
}

/// Looks up what the container may use.
pub(crate) fn resolve_devices(host: &HostConfig) -> Result<ResolvedDevices> {
    let mut resolved = ResolvedDevices {
        nodes: Vec::new(),
        rules: hull_security::defaults::device_rules(),
    };
    if host.privileged {
        resolved.rules = vec![DeviceCgroup {
            allow: true,
            access: Some("rwm".to_owned()),
            ..DeviceCgroup::default()
        }];
        walk(Path::new("/dev"), Path::new("/dev"), true, &mut |node| {
            resolved.nodes.push(node)
        })?;
    }
    for mapping in &host.resources.devices {
        add(mapping, host.privileged, &mut resolved)?;
    }
    for rule in &host.resources.device_cgroup_rules {
        resolved.rules.push(parse_rule(rule)?);
    }
    Ok(resolved)
}

fn add(mapping: &DeviceMapping, privileged: bool, resolved: &mut ResolvedDevices) -> Result<()> {
    let host_path = Path::new(&mapping.path_on_host);
    let inside = if mapping.path_in_container.is_empty() {
        &mapping.path_on_host
    } else {
        &mapping.path_in_container
    };
    let access = if mapping.cgroup_permissions.is_empty() {
        "rwm"
    } else {
        &mapping.cgroup_permissions
    };
    let failed = |cause: std::io::Error| {
        Error::internal(format!(
            "error gathering device information while adding custom device {:?}: {cause}",
            mapping.path_on_host
        ))
    };
    // A link stands for what it points to (/dev/disk/by-id/..).
    let real = std::fs::canonicalize(host_path).map_err(|cause| match cause.kind() {
        std::io::ErrorKind::NotFound => Error::internal(format!(
            "error gathering device information while adding custom device {:?}: no such file or directory",
            mapping.path_on_host
        )),
        _ => failed(cause),
    })?;
    let mut found = Vec::new();
    if real.is_dir() {
        walk(&real, Path::new(inside), false, &mut |node| {
            found.push(node)
        })?;
        if found.is_empty() {
            return Err(Error::internal(format!(
                "error gathering device information while adding custom device {:?}: not a device node",
                mapping.path_on_host
            )));
        }
    } else {
        let metadata = std::fs::metadata(&real).map_err(failed)?;
        found.push(node(&metadata, Path::new(inside)).ok_or_else(|| {
            Error::internal(format!(
                "error gathering device information while adding custom device {:?}: not a device node",
                mapping.path_on_host
            ))
        })?);
    }
    for device in found {
        if !privileged {
            resolved.rules.push(DeviceCgroup {
                allow: true,
                kind: Some(device.kind),
                major: Some(device.major),
                minor: Some(device.minor),
                access: Some(access.to_owned()),
            });
        }
        resolved.nodes.retain(|known| known.path != device.path);
        resolved.nodes.push(device);
    }
    Ok(())
}

fn node(metadata: &std::fs::Metadata, path: &Path) -> Option<Device> {
    let kind = match metadata.file_type() {
        kind if kind.is_char_device() => DeviceType::Char,
        kind if kind.is_block_device() => DeviceType::Block,
        _ => return None,
    };
    let number = metadata.rdev();
    Some(Device {
        path: path.display().to_string(),
        kind,
        major: i64::from(rustix::fs::major(number)),
        minor: i64::from(rustix::fs::minor(number)),
        file_mode: Some(metadata.mode() & 0o7777),
        uid: Some(metadata.uid()),
        gid: Some(metadata.gid()),
    })
}

/// All device nodes below a directory. `skip_own`: without what a container has of its own (pts, shm, mqueue, console), as
/// runc's `GetDevices`.
fn walk(dir: &Path, shown_as: &Path, skip_own: bool, found: &mut impl FnMut(Device)) -> Result<()> {
    let mut queue = vec![(dir.to_owned(), shown_as.to_owned())];
    let mut seen = 0;
    while let Some((dir, shown)) = queue.pop() {
        let entries = std::fs::read_dir(&dir)
            .map_err(crate::error::failed(format!("read {}", dir.display())))?;
        for entry in entries.flatten() {
            seen += 1;
            if seen > DEVICES_MAX {
                return Err(Error::invalid(format!(
                    "more than {DEVICES_MAX} entries below {}",
                    dir.display()
                )));
            }
            let name = entry.file_name();
            // A node that vanishes meanwhile is no error.
            let Ok(metadata) = entry.metadata() else {
                continue;
            };
            if metadata.is_dir() {
                let own = ["pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev"];
                if !(skip_own && own.iter().any(|own| name == *own)) {
                    queue.push((entry.path(), shown.join(&name)));
                }
            } else if !(skip_own && (name == "console" || name == "ptmx"))
                && let Some(device) = node(&metadata, &shown.join(&name))
            {
                found(device);
            }
        }
    }
    Ok(())
}

/// `c 1:3 rwm`, `a *:* rwm`.
fn parse_rule(rule: &str) -> Result<DeviceCgroup> {
    let bad = || Error::invalid(format!("invalid device cgroup rule format: '{rule}'"));
    let mut fields = rule.split(' ');
    let kind = match fields.next() {
        Some("a") => DeviceType::All,
        Some("b") => DeviceType::Block,
        Some("c") => DeviceType::Char,
        _ => return Err(bad()),
    };
    let (major, minor) = fields
        .next()
        .and_then(|numbers| numbers.split_once(':'))
        .ok_or_else(bad)?;
    let number = |text: &str| match text {
        "*" => Ok(None),
        digits => digits
            .parse::<u32>()
            .map(|number| Some(i64::from(number)))
            .map_err(|_| bad()),
    };
    let access = fields.next().filter(|access| {
        !access.is_empty() && access.len() <= 3 && access.chars().all(|c| "rwm".contains(c))
    });
    if fields.next().is_some() {
        return Err(bad());
    }
    Ok(DeviceCgroup {
        allow: true,
        kind: Some(kind),
        major: number(major)?,
        minor: number(minor)?,
        access: Some(access.ok_or_else(bad)?.to_owned()),
    })
}

/// Checks the rules at create.
pub(crate) fn check_rules(rules: &[String]) -> Result<()> {
    rules
        .iter()
        .try_for_each(|rule| parse_rule(rule).map(|_| ()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_read_as_docker_reads_them() {
        let rule = parse_rule("c 1:* rw").unwrap();
        assert_eq!(
            (rule.major, rule.minor, rule.access.as_deref()),
            (Some(1), None, Some("rw"))
        );
        for bad in ["", "x 1:3 r", "c 1 r", "c 1:3", "c 1:3 rx", "c 1:3 r r"] {
            assert!(parse_rule(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_device_keeps_its_numbers_under_another_name() {
        let mut host = HostConfig::default();
        host.resources.devices.push(DeviceMapping {
            path_on_host: "/dev/null".into(),
            path_in_container: "/dev/nothing".into(),
            cgroup_permissions: "r".into(),
        });
        let resolved = resolve_devices(&host).unwrap();
        assert_eq!(resolved.nodes[0].path, "/dev/nothing");
        assert_eq!((resolved.nodes[0].major, resolved.nodes[0].minor), (1, 3));
        let rule = resolved.rules.last().unwrap();
        assert_eq!(
            (rule.major, rule.minor, rule.access.as_deref()),
            (Some(1), Some(3), Some("r"))
        );
        host.resources.devices[0].path_on_host = "/dev/no-such-thing".into();
        assert!(
            resolve_devices(&host)
                .unwrap_err()
                .message
                .contains("no such file or directory")
        );
    }
}
