//! What this runtime can do, as `features` prints it: the truth about the program, not about the host's kernel,
//! but for the fields that are defined so.

use hull_oci::runtime::{
    Arch, CgroupFeatures, Enabled, Features, HookKind, IntelRdtFeatures, LinuxFeatures,
    MemoryPolicyFeatures, MemoryPolicyFlag, MemoryPolicyMode, MountExtensions, NamespaceType,
    SeccompAction, SeccompFeatures, SeccompFlag, SeccompOp, VERSION,
};
use hull_security::caps::Cap;

use crate::mount_options;

/// The report.
#[must_use]
pub fn features() -> Features {
    let on = |enabled| {
        Some(Enabled {
            enabled: Some(enabled),
        })
    };
    let capabilities = Cap::ALL.iter().map(|cap| cap.name().to_owned());
    Features {
        oci_version_min: Some("1.0.0".into()),
        oci_version_max: Some(VERSION.into()),
        hooks: Some(names(HookKind::ALL)),
        mount_options: Some(mount_options::known()),
        linux: Some(LinuxFeatures {
            namespaces: Some(names(NamespaceType::ALL)),
            capabilities: Some(capabilities.collect()),
            cgroup: Some(CgroupFeatures {
                v1: Some(true),
                v2: Some(true),
                systemd: Some(true),
                systemd_user: Some(true),
                rdma: Some(true),
            }),
            seccomp: Some(seccomp()),
            apparmor: on(true),
            selinux: on(true),
            intel_rdt: Some(IntelRdtFeatures {
                enabled: Some(true),
                schemata: Some(true),
                monitoring: Some(true),
            }),
            memory_policy: Some(MemoryPolicyFeatures {
                modes: Some(names(MemoryPolicyMode::ALL)),
                flags: Some(names(MemoryPolicyFlag::ALL)),
            }),
            mount_extensions: Some(MountExtensions { idmap: on(true) }),
            net_devices: on(true),
        }),
        annotations: [("org.hull.runtime.version".to_owned(), version())].into(),
        potentially_unsafe_config_annotations: Vec::new(),
    }
}

fn names<T: std::fmt::Display>(all: &[T]) -> Vec<String> {
    all.iter().map(ToString::to_string).collect()
}

/// This program's version.
pub(crate) fn version() -> String {
    env!("CARGO_PKG_VERSION").to_owned()
}

fn seccomp() -> SeccompFeatures {
    let bit = |flag: &SeccompFlag| match flag {
        SeccompFlag::Tsync => 1,
        SeccompFlag::Log => 2,
        SeccompFlag::SpecAllow => 4,
        SeccompFlag::WaitKillableRecv => 1 << 5,
    };
    let supported = SeccompFlag::ALL.iter().filter(|flag| {
        // WAIT_KILLABLE_RECV is valid only together with a listener.
        let with = if **flag == SeccompFlag::WaitKillableRecv {
            1 << 3
        } else {
            0
        };
        hull_sys::seccomp::flag_available(bit(flag) | with)
    });
    SeccompFeatures {
        enabled: Some(true),
        actions: Some(names(SeccompAction::ALL)),
        operators: Some(names(SeccompOp::ALL)),
        archs: Some(names(&[
            Arch::X86,
            Arch::X86_64,
            Arch::X32,
            Arch::Arm,
            Arch::Aarch64,
        ])),
        known_flags: Some(names(SeccompFlag::ALL)),
        supported_flags: Some(supported.map(ToString::to_string).collect()),
    }
}
