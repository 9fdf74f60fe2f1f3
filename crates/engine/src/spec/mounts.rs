//! The mounts section: Docker's defaults, what the container asked for, and the propagation of the root that follows.

use hull_oci::runtime::Mount;

use super::process::INIT_PATH;
use super::{Inputs, NamespaceSource};
use crate::error::{Error, Result};
use crate::record::MountKind;

/// A mount with its source resolved on the host.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct ExtraMount {
    pub(crate) kind: MountKind,
    /// A path on the host; nothing for a tmpfs.
    pub(crate) source: String,
    pub(crate) destination: String,
    pub(crate) rw: bool,
    pub(crate) propagation: String,
    pub(crate) non_recursive: bool,
    pub(crate) read_only_non_recursive: bool,
    pub(crate) read_only_force_recursive: bool,
    /// Of a tmpfs, or the file system's own for an image.
    pub(crate) options: Vec<String>,
    /// Of an image: `overlay`, `bind`.
    pub(crate) fstype: Option<String>,
}

/// The list in the order of mounting, and the propagation of the root.
pub(super) fn build(inputs: &Inputs<'_>) -> Result<(Vec<Mount>, Option<String>)> {
    let record = inputs.record;
    let mut mounts = hull_security::defaults::mounts();
    let overridden = |destination: &str| {
        inputs
            .mounts
            .iter()
            .any(|mount| mount.destination == destination)
            || record
                .host
                .tmpfs
                .keys()
                .any(|path| trimmed(path) == destination)
    };
    mounts.retain(|mount| !overridden(&mount.destination));
    shared_memory(inputs, &mut mounts, overridden("/dev/shm"));
    let writable_cgroups = inputs
        .security
        .writable_cgroups
        .unwrap_or(record.host.privileged);
    for mount in &mut mounts {
        let writable = match mount.destination.as_str() {
            "/sys" => record.host.privileged,
            "/sys/fs/cgroup" => writable_cgroups,
            _ => false,
        };
        if writable {
            mount
                .options
                .iter_mut()
                .filter(|option| *option == "ro")
                .for_each(|option| *option = "rw".to_owned());
        }
    }
    let mut extra: Vec<Mount> = Vec::new();
    let mut propagation = None;
    for mount in &inputs.mounts {
        extra.push(one(mount, inputs.host.recursive_read_only)?);
        propagation = wider(propagation, &mount.propagation);
    }
    for (path, options) in &record.host.tmpfs {
        extra.push(Mount {
            destination: trimmed(path).to_owned(),
            kind: Some("tmpfs".to_owned()),
            source: Some("tmpfs".to_owned()),
            options: merge_tmpfs_options(options)?,
            ..Mount::default()
        });
    }
    if let Some(init) = &inputs.init {
        extra.push(Mount {
            destination: INIT_PATH.to_owned(),
            kind: Some("bind".to_owned()),
            source: Some(init.display().to_string()),
            options: ["bind", "ro"].map(str::to_owned).to_vec(),
            ..Mount::default()
        });
    }
    // Outer before inner, as Docker sorts them; the sort is stable.
    extra.sort_by_key(|mount| {
        mount
            .destination
            .split('/')
            .filter(|part| !part.is_empty())
            .count()
    });
    mounts.extend(extra);
    Ok((mounts, propagation.map(str::to_owned)))
}

fn trimmed(path: &str) -> &str {
    let cut = path.trim_end_matches('/');
    if cut.is_empty() { "/" } else { cut }
}

/// /dev/shm: its own with the size asked for, the host's, another container's, or none.
fn shared_memory(inputs: &Inputs<'_>, mounts: &mut Vec<Mount>, overridden: bool) {
    if overridden {
        return;
    }
    let mode = inputs.record.host.ipc_mode.as_str();
    let shm = mounts
        .iter()
        .position(|mount| mount.destination == "/dev/shm");
    let bind = |source: &str| Mount {
        destination: "/dev/shm".to_owned(),
        kind: Some("bind".to_owned()),
        source: Some(source.to_owned()),
        options: ["rbind", "rprivate"].map(str::to_owned).to_vec(),
        ..Mount::default()
    };
    let wanted = match (&inputs.namespaces.ipc, mode) {
        (_, "none") => None,
        (NamespaceSource::Host, _) => Some(bind("/dev/shm")),
        (NamespaceSource::Path(_), _) => inputs.namespaces.joined_shm.as_deref().map(bind),
        (NamespaceSource::Private, _) => {
            let size = match inputs.record.host.shm_size {
                0 => inputs.default_shm_size,
                size => size,
            };
            Some(Mount {
                destination: "/dev/shm".to_owned(),
                kind: Some("tmpfs".to_owned()),
                source: Some("shm".to_owned()),
                options: ["nosuid", "noexec", "nodev", "mode=1777"]
                    .into_iter()
                    .map(str::to_owned)
                    .chain([format!("size={size}")])
                    .collect(),
                ..Mount::default()
            })
        }
    };
    match (shm, wanted) {
        (Some(at), Some(wanted)) => mounts[at] = wanted,
        (Some(at), None) => {
            mounts.remove(at);
        }
        (None, Some(wanted)) => mounts.push(wanted),
        (None, None) => {}
    }
}

/// The root must propagate at least as much as any mount in it.
fn wider(so_far: Option<&'static str>, propagation: &str) -> Option<&'static str> {
    match propagation {
        "shared" | "rshared" => Some("shared"),
        "slave" | "rslave" => so_far.or(Some("slave")),
        _ => so_far,
    }
}

fn one(mount: &ExtraMount, recursive_read_only: bool) -> Result<Mount> {
    let mut options = Vec::new();
    let (kind, source) = match mount.kind {
        MountKind::Tmpfs => {
            options.extend(mount.options.iter().cloned());
            ("tmpfs".to_owned(), "tmpfs".to_owned())
        }
        MountKind::Image if mount.fstype.as_deref() != Some("bind") => {
            options.extend(mount.options.iter().cloned());
            (
                mount.fstype.clone().unwrap_or_default(),
                mount.source.clone(),
            )
        }
        MountKind::Bind | MountKind::Volume | MountKind::Image => {
            options.push(if mount.non_recursive { "bind" } else { "rbind" }.to_owned());
            let propagation = if mount.propagation.is_empty() {
                "rprivate"
            } else {
                &mount.propagation
            };
            options.push(propagation.to_owned());
            ("bind".to_owned(), mount.source.clone())
        }
    };
    if !mount.rw {
        options.push("ro".to_owned());
        let wants_recursive = !mount.non_recursive && !mount.read_only_non_recursive;
        if wants_recursive
            && recursive_read_only
            && matches!(mount.kind, MountKind::Bind | MountKind::Volume)
        {
            options.push("rro".to_owned());
        } else if mount.read_only_force_recursive {
            return Err(Error::invalid(
                "failed to make mount recursively read-only: the kernel needs to be 5.12 or newer",
            ));
        }
    }
    Ok(Mount {
        destination: mount.destination.clone(),
        kind: Some(kind),
        source: Some(source),
        options,
        ..Mount::default()
    })
}

/// Options that Docker lets a tmpfs have.
const TMPFS_FLAGS: &[&str] = &[
    "ro",
    "rw",
    "exec",
    "noexec",
    "suid",
    "nosuid",
    "dev",
    "nodev",
    "sync",
    "async",
    "dirsync",
    "remount",
    "mand",
    "nomand",
    "atime",
    "noatime",
    "diratime",
    "nodiratime",
    "bind",
    "rbind",
    "unbindable",
    "runbindable",
    "private",
    "rprivate",
    "shared",
    "rshared",
    "slave",
    "rslave",
    "relatime",
    "norelatime",
    "strictatime",
    "nostrictatime",
    "tmpcopyup",
];
const TMPFS_KEYS: &[&str] = &[
    "size",
    "mode",
    "uid",
    "gid",
    "nr_inodes",
    "nr_blocks",
    "mpol",
];

/// What was asked for over Docker's defaults `noexec,nosuid,nodev`: of a pair such as `exec`/`noexec` the last wins.
pub(crate) fn merge_tmpfs_options(asked: &str) -> Result<Vec<String>> {
    let mut merged: Vec<String> = Vec::new();
    let defaults = ["rprivate", "noexec", "nosuid", "nodev"];
    for option in defaults
        .into_iter()
        .chain(asked.split(',').filter(|option| !option.is_empty()))
    {
        let key = option.split('=').next().unwrap_or_default();
        let known = if option.contains('=') {
            TMPFS_KEYS.contains(&key)
        } else {
            TMPFS_FLAGS.contains(&key)
        };
        if !known {
            return Err(Error::invalid(format!(
                "invalid tmpfs option [\"{option}\"]"
            )));
        }
        let stem = |text: &str| {
            text.split('=')
                .next()
                .unwrap_or_default()
                .trim_start_matches("no")
                .to_owned()
        };
        merged.retain(|other| stem(other) != stem(option));
        merged.push(option.to_owned());
    }
    Ok(merged)
}
