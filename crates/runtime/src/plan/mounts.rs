//! The plan's file system part: mounts, devices, propagation.

use std::path::{Path, PathBuf};

use hull_oci::runtime::{DeviceType, Mount, NamespaceType};
use hull_sys::mount::attr;

use super::{
    Attrs, Builder, DeviceStep, Hierarchy, IdMaps, Idmap, MountStep, Propagation, Source, Step,
    What, below,
};
use crate::cgroup::Mode;
use crate::mount_options::{Parsed, parse};

/// Devices that every container has (runtime-spec, "Default Devices"): path, major, minor.
const DEFAULT_DEVICES: &[(&str, u32, u32)] = &[
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

impl Builder<'_> {
    /// Every mount in order; the cgroup namespace is made before the first mount that shows it.
    pub(super) fn all_mounts(&mut self) {
        let spec = self.spec;
        let mut cgroup_done = false;
        for (index, mount) in spec.mounts.iter().enumerate() {
            let is_cgroup = matches!(mount.kind.as_deref(), Some("cgroup" | "cgroup2"));
            if is_cgroup && !cgroup_done {
                self.steps.push(Step::AwaitCgroup);
                self.cgroup_namespace();
                cgroup_done = true;
            }
            self.mount(index, mount);
        }
        if !cgroup_done {
            self.steps.push(Step::AwaitCgroup);
            self.cgroup_namespace();
        }
    }

    fn mount(&mut self, index: usize, mount: &Mount) {
        let parsed = parse(&mount.options);
        let destination = PathBuf::from("/").join(&mount.destination);
        let mut attrs = attrs_of(&parsed);
        let what = if parsed.remount {
            What::Remount { attrs }
        } else if is_bind(mount, &parsed) {
            match self.bind(index, mount, &parsed) {
                Some(source) => What::Bind { source },
                None => return,
            }
        } else {
            if destination == Path::new("/dev") {
                attrs.set &= !attr::RDONLY;
            }
            self.new_filesystem(index, mount, parsed, attrs)
        };
        self.steps
            .push(Step::Mount(MountStep { destination, what }));
    }

    fn bind(&mut self, index: usize, mount: &Mount, parsed: &Parsed) -> Option<usize> {
        let field = format!("mounts[{index}]");
        let Some(source) = mount.source.as_deref() else {
            self.problem(format!("{field}.source"), "a bind mount needs one");
            return None;
        };
        let idmap = self.idmap(&field, mount, parsed);
        let mut attrs = attrs_of(parsed);
        attrs.propagation.insert(0, self.host_propagation());
        // Options for a file system (`mode=755`) mean nothing here: mount(2) ignores data with MS_BIND, and so do runc and crun.
        Some(self.source(Source {
            field: format!("{field}.source"),
            path: self.options.bundle.join(source),
            recursive: parsed.bind.unwrap_or(false),
            idmap,
            attrs,
            optional: false,
        }))
    }

    fn idmap(&mut self, field: &str, mount: &Mount, parsed: &Parsed) -> Option<Idmap> {
        let mapped = !mount.uid_mappings.is_empty() || !mount.gid_mappings.is_empty();
        if parsed.idmap.is_none() && !mapped {
            return None;
        }
        let recursive = parsed.idmap == Some(true);
        if mapped {
            if mount.uid_mappings.is_empty() || mount.gid_mappings.is_empty() {
                self.problem(
                    format!("{field}.uidMappings"),
                    "must be given together with gidMappings",
                );
            }
            let maps = IdMaps {
                uids: mount.uid_mappings.clone(),
                gids: mount.gid_mappings.clone(),
            };
            return Some(Idmap {
                maps: Some(maps),
                recursive,
            });
        }
        if !self.makes(NamespaceType::User) {
            self.problem(
                format!("{field}.options"),
                "idmap without mappings needs a new user namespace",
            );
        }
        Some(Idmap {
            maps: None,
            recursive,
        })
    }

    fn source(&mut self, source: Source) -> usize {
        self.sources.push(source);
        self.sources.len() - 1
    }

    fn new_filesystem(
        &mut self,
        index: usize,
        mount: &Mount,
        parsed: Parsed,
        attrs: Attrs,
    ) -> What {
        let kind = mount.kind.clone().unwrap_or_default();
        if kind.is_empty() {
            self.problem(format!("mounts[{index}].type"), "required");
        }
        let mut data = parsed.data;
        self.label(&kind, &mut data);
        if kind == "cgroup" && self.facts.cgroup.mode() != Mode::V2 {
            return self.cgroup_v1(attrs);
        }
        let fallback = match kind.as_str() {
            // A new sysfs needs rights over the network namespace, a new cgroup2 over the cgroup namespace.
            "sysfs" if self.may_lack_rights(NamespaceType::Network) => {
                Some(self.bound("/sys", &attrs, true))
            }
            "cgroup" | "cgroup2" if !self.makes(NamespaceType::Cgroup) => {
                let path = self
                    .own_cgroup("")
                    .unwrap_or_else(|| "/sys/fs/cgroup".into());
                Some(self.bound(&path.to_string_lossy(), &attrs, false))
            }
            _ => None,
        };
        if kind == "proc" && parsed.idmap.is_some() {
            self.problem(
                format!("mounts[{index}].options"),
                "proc cannot be idmapped",
            );
        }
        let fstype = if kind == "cgroup" {
            "cgroup2".to_owned()
        } else {
            kind
        };
        What::New {
            source: mount.source.clone(),
            data,
            attrs,
            copy_up: parsed.copy_up && fstype == "tmpfs",
            fallback,
            fstype,
        }
    }

    fn may_lack_rights(&self, kind: NamespaceType) -> bool {
        (self.has_user_namespace() || self.facts.rootless) && !self.makes(kind)
    }

    fn bound(&mut self, path: &str, attrs: &Attrs, recursive: bool) -> usize {
        let mut attrs = attrs.clone();
        attrs.propagation.insert(0, self.host_propagation());
        self.source(Source {
            field: "mounts".into(),
            path: path.into(),
            recursive,
            idmap: None,
            attrs,
            optional: false,
        })
    }

    fn own_cgroup(&self, hierarchy: &str) -> Option<PathBuf> {
        let found = self
            .options
            .cgroups
            .iter()
            .find(|(name, _)| name == hierarchy);
        found.map(|(_, path)| path.clone())
    }

    fn cgroup_v1(&mut self, attrs: Attrs) -> What {
        let namespaced = self.makes(NamespaceType::Cgroup) && !self.has_user_namespace();
        let host = self.facts.cgroup.clone();
        let mut hierarchies = Vec::new();
        for h in host.hierarchies() {
            let source = if namespaced {
                None
            } else {
                let own = self.own_cgroup(&h.name);
                own.map(|path| self.bound(&path.to_string_lossy(), &attrs, false))
            };
            if source.is_none() && !namespaced {
                continue;
            }
            hierarchies.push(Hierarchy {
                name: h.name.clone(),
                data: h.mount_data(),
                links: h.links(),
                source,
            });
        }
        What::CgroupV1 { hierarchies, attrs }
    }

    /// SELinux: one context for all files of the mount. procfs, sysfs and mqueue take none.
    pub(super) fn label(&self, kind: &str, data: &mut Vec<String>) {
        let labelled = !matches!(kind, "proc" | "sysfs" | "mqueue" | "cgroup" | "cgroup2");
        if let (Some(label), true, true) = (&self.linux.mount_label, self.facts.selinux, labelled) {
            data.push(format!("context={label}"));
        }
    }

    /// `/dev` was left writable until its nodes were there.
    pub(super) fn late_remounts(&mut self) {
        for mount in &self.spec.mounts {
            let parsed = parse(&mount.options);
            let on_dev = Path::new("/").join(&mount.destination) == Path::new("/dev");
            if on_dev && !is_bind(mount, &parsed) && parsed.set & attr::RDONLY != 0 {
                self.steps.push(Step::Remount {
                    path: "/dev".into(),
                    attrs: Attrs {
                        set: attr::RDONLY,
                        ..Attrs::default()
                    },
                });
            }
        }
    }

    /// runc and crun: `rslave` unless the specification says otherwise, so that unmounts on the host arrive.
    pub(super) fn host_propagation(&self) -> Propagation {
        self.root_propagation().unwrap_or(Propagation {
            flag: libc::MS_SLAVE,
            recursive: true,
        })
    }

    pub(super) fn root_propagation(&self) -> Option<Propagation> {
        let name = self.linux.rootfs_propagation.as_deref()?;
        parse(&[name]).propagation.first().map(|p| Propagation {
            // Every mount inherited from the host gets it.
            recursive: true,
            ..*p
        })
    }

    /// Device nodes, unless `/dev` is somebody else's directory.
    pub(super) fn devices(&mut self) {
        let foreign_dev = self.spec.mounts.iter().any(|mount| {
            Path::new("/").join(&mount.destination) == Path::new("/dev")
                && is_bind(mount, &parse(&mount.options))
        });
        if foreign_dev {
            return;
        }
        let mut nodes: Vec<DeviceStep> = DEFAULT_DEVICES
            .iter()
            .map(|(path, major, minor)| node(path, DeviceType::Char, *major, *minor))
            .collect();
        for device in &self.linux.devices {
            nodes.retain(|n| n.path != Path::new(&device.path));
            nodes.push(DeviceStep {
                mode: device.file_mode.unwrap_or(0o666),
                uid: device.uid.unwrap_or(0),
                gid: device.gid.unwrap_or(0),
                ..node(
                    &device.path,
                    device.kind,
                    u32::try_from(device.major).unwrap_or(0),
                    u32::try_from(device.minor).unwrap_or(0),
                )
            });
        }
        if self.has_user_namespace() || self.facts.rootless {
            self.bind_nodes(&mut nodes);
        }
        let links = self
            .spec
            .mounts
            .iter()
            .all(|m| !below(&m.destination, "/dev/fd"));
        self.steps.push(Step::Devices { nodes, links });
    }

    /// mknod(2) is refused in a user namespace: the host's nodes are bound.
    fn bind_nodes(&mut self, nodes: &mut [DeviceStep]) {
        let propagation = self.host_propagation();
        for node in nodes {
            let source = Source {
                field: "linux.devices".into(),
                path: node.path.clone(),
                recursive: false,
                idmap: None,
                attrs: Attrs {
                    propagation: vec![propagation],
                    ..Attrs::default()
                },
                optional: false,
            };
            self.sources.push(source);
            node.bind = Some(self.sources.len() - 1);
        }
    }
}

fn node(path: &str, kind: DeviceType, major: u32, minor: u32) -> DeviceStep {
    DeviceStep {
        path: path.into(),
        kind,
        major,
        minor,
        mode: 0o666,
        uid: 0,
        gid: 0,
        bind: None,
    }
}

fn is_bind(mount: &Mount, parsed: &Parsed) -> bool {
    parsed.bind.is_some() || mount.kind.as_deref() == Some("bind")
}

fn attrs_of(parsed: &Parsed) -> Attrs {
    Attrs {
        set: parsed.set,
        clear: parsed.clear,
        rec_set: parsed.rec_set,
        rec_clear: parsed.rec_clear,
        propagation: parsed.propagation.clone(),
    }
}
