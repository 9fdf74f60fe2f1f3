//! Mounts: `-v`, `--mount`, `--tmpfs`, `--volumes-from` and the image's own volumes, as records. Pure, but that it looks
//! whether a bind's source is there.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use hull_api::container::ContainerConfig;
use hull_api::host::{HostConfig, Mount};

use crate::error::{Error, Result};
use crate::record::{MountKind, MountRecord};

/// A mount that may still need its volume: an empty name is a volume to be made.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Planned {
    pub(crate) record: MountRecord,
    /// Driver, options and labels of a volume that is made for it.
    pub(crate) volume: hull_api::volume::VolumeCreateRequest,
    /// Not filled from the image.
    pub(crate) no_copy: bool,
}

const PROPAGATIONS: &[&str] = &[
    "private", "rprivate", "slave", "rslave", "shared", "rshared",
];

/// Everything in Docker's order of precedence: volumes-from, then binds, then mounts, then the image's volumes where
/// nothing else is mounted.
pub(crate) fn plan(
    config: &ContainerConfig,
    host: &HostConfig,
    from: Vec<MountRecord>,
) -> Result<Vec<Planned>> {
    let mut planned: Vec<Planned> = Vec::new();
    for record in from {
        planned.retain(|known| known.record.destination != record.destination);
        planned.push(Planned {
            record,
            no_copy: true,
            ..Planned::default()
        });
    }
    let inherited = planned.len();
    let mut own = BTreeSet::new();
    let mut add = |one: Planned, planned: &mut Vec<Planned>| {
        let destination = one.record.destination.clone();
        if !own.insert(destination.clone()) {
            return Err(Error::invalid(format!(
                "Duplicate mount point: {destination}"
            )));
        }
        // What the container asks for itself replaces what it inherits.
        planned.retain(|known| known.record.destination != destination);
        planned.push(one);
        Ok(())
    };
    for bind in &host.binds {
        add(parse_bind(bind, &host.volume_driver)?, &mut planned)?;
    }
    for mount in &host.mounts {
        add(from_api(mount)?, &mut planned)?;
    }
    for path in host.tmpfs.keys() {
        let destination = destination(path)?;
        if planned
            .iter()
            .skip(inherited)
            .any(|known| known.record.destination == destination)
        {
            return Err(Error::invalid(format!(
                "Duplicate mount point: {destination}"
            )));
        }
    }
    for path in &config.volumes {
        let destination = destination(path)?;
        let taken = planned
            .iter()
            .any(|known| known.record.destination == destination)
            || host.tmpfs.keys().any(|known| clean(known) == destination);
        if !taken {
            planned.push(anonymous(destination, &host.volume_driver));
        }
    }
    Ok(planned)
}

fn anonymous(destination: String, driver: &str) -> Planned {
    let record = MountRecord {
        kind: MountKind::Volume,
        destination,
        rw: true,
        anonymous: true,
        ..MountRecord::default()
    };
    let volume = hull_api::volume::VolumeCreateRequest {
        driver: driver.to_owned(),
        ..Default::default()
    };
    Planned {
        record,
        volume,
        no_copy: false,
    }
}

/// Lexically clean, as Go's `filepath.Clean`.
pub(crate) fn clean(path: &str) -> String {
    let mut parts: Vec<&std::ffi::OsStr> = Vec::new();
    for component in Path::new(path).components() {
        match component {
            Component::Normal(part) => parts.push(part),
            Component::ParentDir => {
                parts.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    PathBuf::from("/")
        .join(parts.iter().collect::<PathBuf>())
        .display()
        .to_string()
}

fn destination(path: &str) -> Result<String> {
    if !path.starts_with('/') {
        return Err(Error::invalid(format!(
            "invalid mount config for type \"volume\": invalid mount path: '{path}' mount path must be absolute"
        )));
    }
    match clean(path).as_str() {
        "/" => Err(Error::invalid(
            "invalid volume specification: destination can't be '/'",
        )),
        cleaned => Ok(cleaned.to_owned()),
    }
}

/// `source:destination[:mode]`, `destination`.
fn parse_bind(text: &str, driver: &str) -> Result<Planned> {
    let bad = |why: &str| Error::invalid(format!("invalid volume specification: '{text}'{why}"));
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, mode) = match parts[..] {
        [target] => ("", target, ""),
        [source, target] => (source, target, ""),
        [source, target, mode] => (source, target, mode),
        _ => return Err(bad("")),
    };
    if parts.len() > 1 && source.is_empty() {
        return Err(bad(""));
    }
    if !target.starts_with('/') {
        return Err(bad(&format!(
            ": invalid mount config for type \"bind\": invalid mount path: '{target}' mount path must be absolute"
        )));
    }
    let target = clean(target);
    if target == "/" {
        return Err(bad(
            ": invalid mount config for type \"bind\": invalid specification: destination can't be '/'",
        ));
    }
    let is_bind = source.starts_with('/');
    let mut record = MountRecord {
        destination: target,
        mode: mode.to_owned(),
        rw: true,
        ..MountRecord::default()
    };
    let mut no_copy = false;
    let mut seen = BTreeSet::new();
    for word in mode.split(',').filter(|word| !word.is_empty()) {
        let group = match word {
            "rw" => "rw",
            "ro" => {
                record.rw = false;
                "rw"
            }
            "z" | "Z" => "label",
            "nocopy" if !is_bind => {
                no_copy = true;
                "copy"
            }
            "consistent" | "cached" | "delegated" | "default" => "consistency",
            word if PROPAGATIONS.contains(&word) && is_bind => {
                word.clone_into(&mut record.propagation);
                "propagation"
            }
            _ => return Err(Error::invalid(format!("invalid mode: {mode}"))),
        };
        if !seen.insert(group) {
            return Err(Error::invalid(format!("invalid mode: {mode}")));
        }
    }
    if source.is_empty() {
        return Ok(Planned {
            no_copy,
            ..anonymous(record.destination, driver)
        });
    }
    if is_bind {
        record.kind = MountKind::Bind;
        record.source = clean(source);
        if record.propagation.is_empty() {
            "rprivate".clone_into(&mut record.propagation);
        }
        return Ok(Planned {
            record,
            no_copy: true,
            ..Planned::default()
        });
    }
    crate::id::volume_name(source)
        .map_err(|error| Error::invalid(format!("create {source}: {}", error.message)))?;
    record.kind = MountKind::Volume;
    source.clone_into(&mut record.name);
    if record.mode.is_empty() {
        // As Docker shows a named volume.
        "z".clone_into(&mut record.mode);
    }
    let volume = hull_api::volume::VolumeCreateRequest {
        name: source.to_owned(),
        driver: driver.to_owned(),
        ..Default::default()
    };
    Ok(Planned {
        record,
        volume,
        no_copy,
    })
}

/// `--mount`.
fn from_api(mount: &Mount) -> Result<Planned> {
    let invalid = |why: &str| {
        Error::invalid(format!(
            "invalid mount config for type {:?}: {why}",
            mount.kind
        ))
    };
    if mount.target.is_empty() {
        return Err(invalid("field Target must not be empty"));
    }
    let target = match (mount.target.starts_with('/'), clean(&mount.target)) {
        (false, _) => {
            return Err(invalid(&format!(
                "invalid mount path: '{}' mount path must be absolute",
                mount.target
            )));
        }
        (true, root) if root == "/" => {
            return Err(invalid("invalid specification: destination can't be '/'"));
        }
        (true, target) => target,
    };
    let mut record = MountRecord {
        destination: target,
        rw: !mount.read_only,
        from_api: true,
        ..MountRecord::default()
    };
    let mut planned = Planned {
        no_copy: true,
        ..Planned::default()
    };
    match mount.kind.as_str() {
        "bind" => bind(mount, &mut record, &invalid)?,
        "volume" => {
            record.kind = MountKind::Volume;
            record.mode = "z".to_owned();
            let options = mount.volume_options.clone().unwrap_or_default();
            if mount.bind_options.is_some() || mount.tmpfs_options.is_some() {
                return Err(invalid(
                    "options of another mount type must not be specified",
                ));
            }
            if mount.source.is_empty() {
                if !options.subpath.is_empty() {
                    return Err(invalid("must not set Subpath when using anonymous volumes"));
                }
                record.anonymous = true;
            } else {
                crate::id::volume_name(&mount.source)?;
            }
            if Path::new(&options.subpath).is_absolute()
                || options.subpath.split('/').any(|part| part == "..")
            {
                return Err(invalid("subpath must be a relative path within the volume"));
            }
            record.name.clone_from(&mount.source);
            record.subpath = options.subpath;
            planned.no_copy = options.no_copy;
            let driver = options.driver_config.unwrap_or_default();
            planned.volume = hull_api::volume::VolumeCreateRequest {
                name: mount.source.clone(),
                driver: driver.name,
                driver_opts: driver.options,
                labels: options.labels,
                ..Default::default()
            };
        }
        "tmpfs" => {
            record.kind = MountKind::Tmpfs;
            if !mount.source.is_empty() {
                return Err(invalid("field Source must not be specified"));
            }
            record.options = tmpfs_options(mount);
        }
        "image" => {
            record.kind = MountKind::Image;
            if mount.source.is_empty() {
                return Err(invalid("field Source must not be empty"));
            }
            record.name.clone_from(&mount.source);
            record.rw = false;
            record.subpath = mount.image_options.clone().unwrap_or_default().subpath;
        }
        "" => {
            return Err(Error::invalid(
                "invalid mount config: mount type must be specified",
            ));
        }
        other => {
            return Err(Error::invalid(format!(
                "invalid mount config for type {other:?}: mount type unknown"
            )));
        }
    }
    planned.record = record;
    Ok(planned)
}

fn bind(mount: &Mount, record: &mut MountRecord, invalid: &impl Fn(&str) -> Error) -> Result<()> {
    if mount.source.is_empty() {
        return Err(invalid("field Source must not be empty"));
    }
    if !mount.source.starts_with('/') {
        return Err(invalid(&format!(
            "invalid mount path: '{}' mount path must be absolute",
            mount.source
        )));
    }
    if mount.volume_options.is_some() || mount.tmpfs_options.is_some() {
        return Err(invalid(
            "options of another mount type must not be specified",
        ));
    }
    let options = mount.bind_options.clone().unwrap_or_default();
    if !options.propagation.is_empty() && !PROPAGATIONS.contains(&options.propagation.as_str()) {
        return Err(invalid(&format!(
            "invalid propagation mode: {}",
            options.propagation
        )));
    }
    record.kind = MountKind::Bind;
    record.source = clean(&mount.source);
    record.propagation = if options.propagation.is_empty() {
        "rprivate".to_owned()
    } else {
        options.propagation
    };
    record.non_recursive = options.non_recursive;
    record.read_only_non_recursive = options.read_only_non_recursive;
    record.read_only_force_recursive = options.read_only_force_recursive;
    record.from_api = !options.create_mountpoint;
    if record.from_api && !Path::new(&record.source).exists() {
        return Err(invalid(&format!(
            "bind source path does not exist: {}",
            record.source
        )));
    }
    Ok(())
}

fn tmpfs_options(mount: &Mount) -> Vec<String> {
    let mut options = ["rprivate", "noexec", "nosuid", "nodev"]
        .map(str::to_owned)
        .to_vec();
    let asked = mount.tmpfs_options.clone().unwrap_or_default();
    if asked.size_bytes > 0 {
        options.push(format!("size={}", asked.size_bytes));
    }
    if asked.mode != 0 {
        options.push(format!("mode={:o}", asked.mode));
    }
    for option in &asked.options {
        match option.as_slice() {
            [flag] if flag == "exec" => options.retain(|known| known != "noexec"),
            [flag] => options.push(flag.clone()),
            [key, value] => options.push(format!("{key}={value}")),
            _ => {}
        }
    }
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(binds: &[&str]) -> Result<Vec<Planned>> {
        let mut host = HostConfig::default();
        host.options.binds = binds.iter().map(|bind| (*bind).to_owned()).collect();
        plan(&ContainerConfig::default(), &host, Vec::new())
    }

    #[test]
    fn binds_volumes_and_modes() {
        let planned = of(&["/etc:/data:ro,rslave", "site:/srv/:nocopy", "/anon"]).unwrap();
        assert_eq!(
            (planned[0].record.kind, planned[0].record.rw),
            (MountKind::Bind, false)
        );
        assert_eq!(planned[0].record.propagation, "rslave");
        assert_eq!(
            (
                planned[1].record.name.as_str(),
                planned[1].record.destination.as_str()
            ),
            ("site", "/srv")
        );
        assert!(planned[1].no_copy);
        assert!(planned[2].record.anonymous);
        for bad in [
            "",
            ":/x",
            "a:b:c:d",
            "/a:/",
            "/a:/b:bogus",
            "/a:/b:ro,rw",
            "a b:/c",
            "site:/x:rslave",
            "/a:b",
        ] {
            assert!(of(&[bad]).is_err(), "{bad}");
        }
        assert_eq!(
            of(&["/a:/x", "/b:/x/"]).unwrap_err().message,
            "Duplicate mount point: /x"
        );
    }

    #[test]
    fn an_images_volume_gives_way() {
        let config = ContainerConfig {
            volumes: ["/data".to_owned(), "/other".to_owned()].into(),
            ..ContainerConfig::default()
        };
        let mut host = HostConfig::default();
        host.options.binds = vec!["site:/data".to_owned()];
        let planned = plan(&config, &host, Vec::new()).unwrap();
        assert_eq!(planned.len(), 2);
        assert!(!planned[0].record.anonymous && planned[1].record.anonymous);
        host.tmpfs.insert("/other".into(), String::new());
        assert_eq!(plan(&config, &host, Vec::new()).unwrap().len(), 1);
    }

    #[test]
    fn mounts_of_the_api() {
        let mount = |kind: &str, source: &str, target: &str| Mount {
            kind: kind.into(),
            source: source.into(),
            target: target.into(),
            ..Mount::default()
        };
        assert!(
            from_api(&mount("bind", "/no/such/thing", "/x"))
                .unwrap_err()
                .message
                .contains("bind source path does not exist")
        );
        assert!(from_api(&mount("tmpfs", "x", "/x")).is_err());
        assert!(from_api(&mount("volume", "", "x")).is_err());
        assert!(
            from_api(&mount("volume", "", "/x"))
                .unwrap()
                .record
                .anonymous
        );
        assert_eq!(
            from_api(&mount("bogus", "", "/x")).unwrap_err().message,
            "invalid mount config for type \"bogus\": mount type unknown"
        );
    }
}
