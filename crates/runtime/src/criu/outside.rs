//! What a container has of the host, noted when it is made: criu must be told, for it cannot save it.

use std::path::{Path, PathBuf};

use hull_oci::runtime::{Linux, NamespaceType};

use crate::options::Stdio;
use crate::plan::{InitPlan, Step, What};

/// The part of a container's record that a checkpoint needs.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Outside {
    /// File systems of the host that are mounted inside: destination and source.
    pub mounts: Vec<(PathBuf, PathBuf)>,
    /// Paths that may be covered by the host's `/dev/null`.
    pub masked: Vec<PathBuf>,
    /// Namespaces that were entered: kind (`net`, `pid`, ..) and file.
    pub namespaces: Vec<(String, PathBuf)>,
    /// What descriptors 0, 1 and 2 were, as procfs shows them: `pipe:[1234]`.
    pub streams: Vec<String>,
}

impl Outside {
    /// Reads it off the plan and the configuration.
    pub(crate) fn of(plan: &InitPlan, linux: Option<&Linux>, stdio: &Stdio) -> Self {
        let mut outside = Self::default();
        let source = |index: usize| plan.sources.get(index).map(|s| s.path.clone());
        for step in &plan.steps {
            match step {
                Step::Mount(mount) => match &mount.what {
                    What::Bind { source: index } => {
                        let found = source(*index).map(|s| (mount.destination.clone(), s));
                        outside.mounts.extend(found);
                    }
                    What::CgroupV1 { hierarchies, .. } => {
                        let bound = hierarchies.iter().filter_map(|h| {
                            Some((mount.destination.join(&h.name), source(h.source?)?))
                        });
                        outside.mounts.extend(bound);
                    }
                    What::New { .. } | What::Remount { .. } => {}
                },
                Step::Devices { nodes, .. } => {
                    let bound = nodes.iter().filter(|node| node.bind.is_some());
                    let bound = bound.map(|node| (node.path.clone(), node.path.clone()));
                    outside.mounts.extend(bound);
                }
                Step::MaskPaths(paths) => outside.masked.clone_from(paths),
                _ => {}
            }
        }
        let entered = linux.iter().flat_map(|l| &l.namespaces);
        let entered = entered.filter_map(|n| Some((kind(n.kind), PathBuf::from(n.path.as_ref()?))));
        outside.namespaces = entered.map(|(k, path)| (k.to_owned(), path)).collect();
        outside.streams = streams(stdio);
        outside
    }

    /// The file of the entered namespace of this kind.
    pub(super) fn namespace(&self, kind: &str) -> Option<&Path> {
        let found = self.namespaces.iter().find(|(k, _)| k == kind);
        found.map(|(_, path)| path.as_path())
    }
}

/// criu's and procfs' names of namespaces.
fn kind(kind: NamespaceType) -> &'static str {
    match kind {
        NamespaceType::Pid => "pid",
        NamespaceType::Network => "net",
        NamespaceType::Mount => "mnt",
        NamespaceType::Ipc => "ipc",
        NamespaceType::Uts => "uts",
        NamespaceType::User => "user",
        NamespaceType::Cgroup => "cgroup",
        NamespaceType::Time => "time",
    }
}

/// The program's first three descriptors, as `/proc/self/fd` names them; empty for a terminal, which lies inside.
pub(super) fn streams(stdio: &Stdio) -> Vec<String> {
    use std::os::fd::{AsRawFd, RawFd};
    let numbers: [RawFd; 3] = match stdio {
        Stdio::Inherit => [0, 1, 2],
        Stdio::Fds {
            stdin,
            stdout,
            stderr,
        } => [stdin, stdout, stderr].map(AsRawFd::as_raw_fd),
        Stdio::Terminal { .. } => return Vec::new(),
    };
    let name = |fd: RawFd| std::fs::read_link(format!("/proc/self/fd/{fd}"));
    let name = |fd| name(fd).map_or_else(|_| String::new(), |p| p.to_string_lossy().into_owned());
    numbers.map(name).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Attrs, MountStep, Program, Source};
    use hull_oci::runtime::Namespace;

    #[test]
    fn binds_masks_and_joined_namespaces_are_noted() {
        let bind = Step::Mount(MountStep {
            destination: "/data".into(),
            what: What::Bind { source: 0 },
        });
        let plan = InitPlan {
            clone_flags: 0,
            joins: Vec::new(),
            join_user: None,
            id_maps: None,
            root: None,
            sources: vec![Source {
                field: "mounts[0].source".into(),
                path: "/srv/data".into(),
                recursive: true,
                idmap: None,
                attrs: Attrs::default(),
                optional: false,
            }],
            open_in_init: false,
            steps: vec![bind, Step::MaskPaths(vec!["/proc/kcore".into()])],
            program: Program {
                args: Vec::new(),
                env: Vec::new(),
                home_for: None,
            },
        };
        let namespace = |kind, path: Option<&str>| Namespace {
            kind,
            path: path.map(Into::into),
        };
        let linux = Linux {
            namespaces: vec![
                namespace(NamespaceType::Pid, None),
                namespace(NamespaceType::Network, Some("/run/netns/a")),
            ],
            ..Linux::default()
        };
        let terminal = Stdio::Terminal { size: None };
        let outside = Outside::of(&plan, Some(&linux), &terminal);
        assert_eq!(
            outside,
            Outside {
                mounts: vec![("/data".into(), "/srv/data".into())],
                masked: vec!["/proc/kcore".into()],
                namespaces: vec![("net".into(), "/run/netns/a".into())],
                streams: Vec::new(),
            }
        );
        assert_eq!(outside.namespace("net"), Some(Path::new("/run/netns/a")));
        assert_eq!(streams(&Stdio::Inherit).len(), 3);
    }
}
