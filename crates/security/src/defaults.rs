//! What Docker puts into every container's spec unless told otherwise: mounts, masks, devices, device rules, sysctls.
//!
//! Values only; the lists are those of Docker 29. What depends on the request (the size of /dev/shm, `--privileged`, namespaces) is
//! for the caller to change.

use std::path::Path;

use hull_oci::runtime::{Device, DeviceCgroup, DeviceType, Mount};

/// The size of /dev/shm when nothing is said, in bytes (64 MiB).
pub const SHM_SIZE_BYTES: u64 = 64 * 1024 * 1024;

/// The mounts of every container, in the order in which they are made.
///
/// /dev/shm is last of those in /dev and has a `size=` of [`SHM_SIZE_BYTES`]; /sys and /sys/fs/cgroup are read-only, which
/// `--privileged` changes.
pub fn mounts() -> Vec<Mount> {
    let mount = |destination: &str, kind: &str, source: &str, options: &[&str]| Mount {
        destination: destination.to_owned(),
        kind: Some(kind.to_owned()),
        source: Some(source.to_owned()),
        options: options.iter().map(|&option| option.to_owned()).collect(),
        ..Mount::default()
    };
    let shm_size = format!("size={SHM_SIZE_BYTES}");
    vec![
        mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount(
            "/dev",
            "tmpfs",
            "tmpfs",
            &["nosuid", "strictatime", "mode=755", "size=65536k"],
        ),
        // gid 5 is `tty` wherever it matters, so that grantpt(3) needs no helper program.
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &[
                "nosuid",
                "noexec",
                "newinstance",
                "ptmxmode=0666",
                "mode=0620",
                "gid=5",
            ],
        ),
        mount(
            "/sys",
            "sysfs",
            "sysfs",
            &["nosuid", "noexec", "nodev", "ro"],
        ),
        mount(
            "/sys/fs/cgroup",
            "cgroup",
            "cgroup",
            &["ro", "nosuid", "noexec", "nodev"],
        ),
        mount(
            "/dev/mqueue",
            "mqueue",
            "mqueue",
            &["nosuid", "noexec", "nodev"],
        ),
        mount(
            "/dev/shm",
            "tmpfs",
            "shm",
            &["nosuid", "noexec", "nodev", "mode=1777", &shm_size],
        ),
    ]
}

/// Paths hidden from a container: what they show is not namespaced and tells of, or reaches, the host.
const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    // Interrupt counts let one container time another's keystrokes and packets (GHSA-6fw5-f8r9-fgfm).
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    // Power meters: PLATYPUS (CVE-2020-8694, CVE-2020-8695) reads keys off them.
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// The masked paths as `docker inspect` shows them.
pub fn masked_paths() -> Vec<String> {
    MASKED.iter().map(|&path| path.to_owned()).collect()
}

/// Masked paths that exist once per processor: the counts of thermal events are one more clock on the neighbours. Only those that this
/// machine has, as Docker does it, because there can be hundreds and each costs a mount.
pub fn masked_cpu_paths() -> Vec<String> {
    let possible = std::fs::read_to_string("/sys/devices/system/cpu/possible").unwrap_or_default();
    let all = cpu_list(possible.trim())
        .map(|cpu| format!("/sys/devices/system/cpu/cpu{cpu}/thermal_throttle"));
    all.filter(|path| Path::new(path).exists()).collect()
}

/// The numbers of a kernel list such as `0-3,8`, at most 8192 of them (the kernel's own limit is `NR_CPUS`, 8192 on x86-64).
fn cpu_list(text: &str) -> impl Iterator<Item = u32> + '_ {
    text.split(',')
        .filter_map(|range| {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            Some(first.parse::<u32>().ok()?..=last.parse().ok()?)
        })
        .flatten()
        .take(8192)
}

/// Paths that a container may read and not write.
pub fn readonly_paths() -> Vec<String> {
    [
        "/proc/bus",
        "/proc/fs",
        "/proc/irq",
        "/proc/sys",
        "/proc/sysrq-trigger",
    ]
    .map(str::to_owned)
    .to_vec()
}

/// The device nodes that every container has (runtime spec, "Default Devices"); the runtime makes them unasked, besides
/// /dev/console, /dev/ptmx and the links to /proc/self/fd.
pub fn devices() -> Vec<Device> {
    [
        ("null", 1, 3),
        ("zero", 1, 5),
        ("full", 1, 7),
        ("random", 1, 8),
        ("urandom", 1, 9),
        ("tty", 5, 0),
    ]
    .map(|(name, major, minor)| Device {
        path: format!("/dev/{name}"),
        kind: DeviceType::Char,
        major,
        minor,
        file_mode: Some(0o666),
        uid: Some(0),
        gid: Some(0),
    })
    .to_vec()
}

fn rule(
    allow: bool,
    kind: Option<DeviceType>,
    major: Option<i64>,
    minor: Option<i64>,
    access: &str,
) -> DeviceCgroup {
    DeviceCgroup {
        allow,
        kind,
        major,
        minor,
        access: Some(access.to_owned()),
    }
}

/// The device rules of every container: nothing, but what the default nodes need, and making nodes (which may then not be opened).
///
/// The first denies everything; later ones make exceptions.
pub fn device_rules() -> Vec<DeviceCgroup> {
    let (char, block) = (Some(DeviceType::Char), Some(DeviceType::Block));
    let mut rules = vec![
        rule(false, None, None, None, "rwm"),
        rule(true, char, None, None, "m"),
        rule(true, block, None, None, "m"),
    ];
    // null, zero, full, random, urandom; tty, console, ptmx; every pseudo-terminal (major 136, Unix98 slaves).
    for (major, minor) in [
        (1, Some(3)),
        (1, Some(5)),
        (1, Some(7)),
        (1, Some(8)),
        (1, Some(9)),
        (5, Some(0)),
        (5, Some(1)),
        (5, Some(2)),
        (136, None),
    ] {
        rules.push(rule(true, char, Some(major), minor, "rwm"));
    }
    rules
}

/// The one device rule of a privileged container.
pub fn privileged_device_rules() -> Vec<DeviceCgroup> {
    vec![rule(true, None, None, None, "rwm")]
}

/// Sysctls that Docker sets in a network namespace of the container's own: low ports need no capability there, since nobody else
/// uses them, and `ping` needs none at all. The group range needs every group mapped, which a user namespace does not give.
pub fn sysctls(own_network: bool, own_users: bool) -> Vec<(&'static str, &'static str)> {
    let mut sysctls = Vec::new();
    if own_network {
        sysctls.push(("net.ipv4.ip_unprivileged_port_start", "0"));
        if !own_users {
            sysctls.push(("net.ipv4.ping_group_range", "0 2147483647"));
        }
    }
    sysctls
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn the_lists() {
        let mounts: Vec<String> = mounts()
            .iter()
            .map(|mount| format!("{} {}", mount.destination, mount.options.join(",")))
            .collect();
        expect![[r#"
            /proc nosuid,noexec,nodev
            /dev nosuid,strictatime,mode=755,size=65536k
            /dev/pts nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5
            /sys nosuid,noexec,nodev,ro
            /sys/fs/cgroup ro,nosuid,noexec,nodev
            /dev/mqueue nosuid,noexec,nodev
            /dev/shm nosuid,noexec,nodev,mode=1777,size=67108864"#]]
        .assert_eq(&mounts.join("\n"));
        let rules: Vec<String> = device_rules()
            .iter()
            .map(|rule| serde_json::to_string(rule).expect("JSON"))
            .collect();
        expect![[r#"
            {"allow":false,"access":"rwm"}
            {"allow":true,"type":"c","access":"m"}
            {"allow":true,"type":"b","access":"m"}
            {"allow":true,"type":"c","major":1,"minor":3,"access":"rwm"}
            {"allow":true,"type":"c","major":1,"minor":5,"access":"rwm"}
            {"allow":true,"type":"c","major":1,"minor":7,"access":"rwm"}
            {"allow":true,"type":"c","major":1,"minor":8,"access":"rwm"}
            {"allow":true,"type":"c","major":1,"minor":9,"access":"rwm"}
            {"allow":true,"type":"c","major":5,"minor":0,"access":"rwm"}
            {"allow":true,"type":"c","major":5,"minor":1,"access":"rwm"}
            {"allow":true,"type":"c","major":5,"minor":2,"access":"rwm"}
            {"allow":true,"type":"c","major":136,"access":"rwm"}"#]]
        .assert_eq(&rules.join("\n"));
        assert!(masked_paths().is_sorted());
        assert!(sysctls(false, false).is_empty());
        assert_eq!(sysctls(true, true).len(), 1);
        assert_eq!(devices().len(), 6);
    }

    #[test]
    fn cpu_lists() {
        let list = |text| cpu_list(text).collect::<Vec<_>>();
        assert_eq!(list("0-3,8"), [0, 1, 2, 3, 8]);
        assert_eq!(list("0"), [0]);
        assert_eq!(list("").len(), 0);
        assert_eq!(list("0-4294967295").len(), 8192);
    }
}
