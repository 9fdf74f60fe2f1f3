//! Golden specifications: what a default container gets, and what each option changes.

use expect_test::{Expect, expect};
use hull_oci::runtime::Spec;

use super::*;

fn record() -> ContainerRecord {
    let mut record = ContainerRecord {
        id: "0123456789abcdef".repeat(4),
        name: "web".into(),
        path: "nginx".into(),
        args: vec!["-g".into(), "daemon off;".into()],
        ..ContainerRecord::default()
    };
    record.config.env = vec!["A=1".into()];
    record.host.network_mode = "bridge".into();
    record
}

fn built(record: &ContainerRecord, change: impl FnOnce(&mut Inputs<'_>)) -> Spec {
    let host = HostFacts {
        cgroup2: true,
        recursive_read_only: true,
        hostname: "host".into(),
        kernel: hull_security::seccomp::Kernel { major: 6, minor: 1 },
        apparmor: false,
        selinux: false,
        masked_cpu_paths: Vec::new(),
    };
    let mut inputs = Inputs {
        record,
        host: &host,
        namespaces: Namespaces {
            network: NamespaceSource::Path("/run/hull/netns/x".into()),
            ..Namespaces::default()
        },
        user: ResolvedUser {
            uid: 0,
            gid: 0,
            groups: vec![0],
            home: "/root".into(),
        },
        mounts: vec![ExtraMount {
            source: "/c/hosts".into(),
            destination: "/etc/hosts".into(),
            rw: true,
            ..ExtraMount::default()
        }],
        devices: ResolvedDevices::default(),
        security: SecurityOptions::parse(&record.host.security_opt).unwrap(),
        capabilities: vec!["CAP_CHOWN".into()],
        seccomp: None,
        cgroups_path: "/hull/x".into(),
        init: None,
        link_env: Vec::new(),
        default_shm_size: 64 << 20,
        default_ulimits: &[],
    };
    change(&mut inputs);
    build(&inputs).unwrap()
}

/// The parts that this module decides; the lists of `hull_security` have their own tests.
fn shown(spec: &Spec) -> String {
    let process = spec.process.as_ref().unwrap();
    let linux = spec.linux.as_ref().unwrap();
    let mut text = format!(
        "args {:?}\nenv {:?}\ncwd {}\nuser {}:{} {:?}\ncaps {:?}\nhostname {:?}\n",
        process.args,
        process.env,
        process.cwd,
        process.user.uid,
        process.user.gid,
        process.user.additional_gids,
        process
            .capabilities
            .as_ref()
            .map(|caps| (&caps.bounding, &caps.effective)),
        spec.hostname,
    );
    for namespace in &linux.namespaces {
        text.push_str(&format!(
            "namespace {} {:?}\n",
            namespace.kind, namespace.path
        ));
    }
    for mount in &spec.mounts {
        let ours = ["/dev/shm", "/sys", "/sys/fs/cgroup"].contains(&mount.destination.as_str())
            || mount.kind.as_deref() == Some("bind")
            || mount.destination.starts_with("/t");
        if ours {
            text.push_str(&format!(
                "mount {} {} {}\n",
                mount.destination,
                mount.kind.as_deref().unwrap_or_default(),
                mount.options.join(",")
            ));
        }
    }
    text.push_str(&format!(
        "propagation {:?} masked {}\n",
        linux.rootfs_propagation,
        linux.masked_paths.len()
    ));
    text.push_str(&format!(
        "resources {}\n",
        serde_json::to_string(&linux.resources).unwrap()
    ));
    text
}

fn check(record: &ContainerRecord, change: impl FnOnce(&mut Inputs<'_>), expected: Expect) {
    expected.assert_eq(&shown(&built(record, change)));
}

#[test]
fn a_default_container() {
    check(
        &record(),
        |_| (),
        expect![[r#"
        args ["nginx", "-g", "daemon off;"]
        env ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOSTNAME=0123456789ab", "A=1", "HOME=/root"]
        cwd /
        user 0:0 [0]
        caps Some((["CAP_CHOWN"], ["CAP_CHOWN"]))
        hostname Some("0123456789ab")
        namespace mount None
        namespace network Some("/run/hull/netns/x")
        namespace uts None
        namespace pid None
        namespace ipc None
        namespace cgroup None
        mount /sys sysfs nosuid,noexec,nodev,ro
        mount /sys/fs/cgroup cgroup ro,nosuid,noexec,nodev
        mount /dev/shm tmpfs nosuid,noexec,nodev,mode=1777,size=67108864
        mount /etc/hosts bind rbind,rprivate
        propagation None masked 12
        resources {}
    "#]],
    );
}

#[test]
fn a_privileged_container_of_the_host() {
    let mut record = record();
    record.host.privileged = true;
    record.host.network_mode = "host".into();
    record.host.pid_mode = "host".into();
    record.host.ipc_mode = "host".into();
    check(
        &record,
        |inputs| {
            inputs.namespaces = Namespaces {
                network: NamespaceSource::Host,
                pid: NamespaceSource::Host,
                ipc: NamespaceSource::Host,
                ..Namespaces::default()
            };
        },
        expect![[r#"
            args ["nginx", "-g", "daemon off;"]
            env ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOSTNAME=host", "A=1", "HOME=/root"]
            cwd /
            user 0:0 [0]
            caps Some((["CAP_CHOWN"], ["CAP_CHOWN"]))
            hostname Some("host")
            namespace mount None
            namespace uts None
            namespace cgroup None
            mount /sys sysfs nosuid,noexec,nodev,rw
            mount /sys/fs/cgroup cgroup rw,nosuid,noexec,nodev
            mount /dev/shm bind rbind,rprivate
            mount /etc/hosts bind rbind,rprivate
            propagation None masked 0
            resources {}
        "#]],
    );
}

#[test]
fn mounts_limits_and_a_user() {
    let mut record = record();
    record
        .host
        .tmpfs
        .insert("/tmp/x/".into(), "size=1m,exec".into());
    record.host.shm_size = 1 << 20;
    record.host.resources.memory = 64 << 20;
    record.host.resources.nano_cpus = 1_500_000_000;
    record.host.resources.pids_limit = Some(-1);
    record.config.tty = true;
    record.config.hostname = "box".into();
    record.config.domainname = "example".into();
    check(
        &record,
        |inputs| {
            inputs.user = ResolvedUser {
                uid: 33,
                gid: 34,
                groups: vec![34, 50],
                home: "/srv".into(),
            };
            inputs.init = Some("/usr/bin/hull".into());
            inputs.mounts.push(ExtraMount {
                source: "/data".into(),
                destination: "/t/data".into(),
                propagation: "rshared".into(),
                ..ExtraMount::default()
            });
        },
        expect![[r#"
            args ["/sbin/docker-init", "--", "nginx", "-g", "daemon off;"]
            env ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOSTNAME=box", "TERM=xterm", "A=1", "HOME=/srv"]
            cwd /
            user 33:34 [34, 50]
            caps Some((["CAP_CHOWN"], []))
            hostname Some("box")
            namespace mount None
            namespace network Some("/run/hull/netns/x")
            namespace uts None
            namespace pid None
            namespace ipc None
            namespace cgroup None
            mount /sys sysfs nosuid,noexec,nodev,ro
            mount /sys/fs/cgroup cgroup ro,nosuid,noexec,nodev
            mount /dev/shm tmpfs nosuid,noexec,nodev,mode=1777,size=1048576
            mount /etc/hosts bind rbind,rprivate
            mount /t/data bind rbind,rshared,ro,rro
            mount /tmp/x tmpfs rprivate,nosuid,nodev,size=1m,exec
            mount /sbin/docker-init bind bind,ro
            propagation Some("shared") masked 12
            resources {"memory":{"limit":67108864},"cpu":{"quota":150000,"period":100000},"pids":{"limit":-1}}
        "#]],
    );
}

#[test]
fn another_containers_memory_and_limits_that_make_no_sense() {
    let mut record = record();
    record.host.ipc_mode = "container:x".into();
    let spec = built(&record, |inputs| {
        inputs.namespaces.ipc = NamespaceSource::Path("/proc/7/ns/ipc".into());
        inputs.namespaces.joined_shm = Some("/proc/7/root/dev/shm".into());
    });
    let shm = spec
        .mounts
        .iter()
        .find(|mount| mount.destination == "/dev/shm")
        .unwrap();
    assert_eq!(shm.source.as_deref(), Some("/proc/7/root/dev/shm"));
    let limit = |name: &str, soft, hard| hull_api::host::Ulimit {
        name: name.into(),
        soft,
        hard,
    };
    assert!(check_ulimits(&[limit("nofile", 1, 2)]).is_ok());
    assert!(check_ulimits(&[limit("nofile", 2, 1)]).is_err());
    assert!(check_ulimits(&[limit("nonsense", 1, 2)]).is_err());
    assert!(check_ulimits(&[limit("core", -1, -1)]).is_ok());
}
