//! Plans as text: what changes here changes what containers are made of.

use expect_test::{Expect, expect};
use hull_oci::runtime::{Mount, Process, Spec};

use super::{InitPlan, PlanOptions, plan, plan_exec};
use crate::cgroup::Host;
use crate::{Error, HostFacts};

fn facts(cgroup: Host) -> HostFacts {
    HostFacts {
        cgroup,
        last_cap: 40,
        rootless: false,
        euid: 0,
        egid: 0,
        apparmor: false,
        selinux: false,
    }
}

fn options() -> PlanOptions {
    PlanOptions {
        id: "c1".into(),
        bundle: "/bundle".into(),
        ..PlanOptions::default()
    }
}

fn spec(json: &str) -> Spec {
    serde_json::from_str(json).unwrap()
}

/// One line per step.
fn shown(plan: &InitPlan) -> String {
    let mut text = format!("clone {:#x}", plan.clone_flags);
    for join in &plan.joins {
        text += &format!(" join {:#x} {}", join.flag, join.path.display());
    }
    text += &format!("\nroot {:?}\n", plan.root);
    for source in &plan.sources {
        text += &format!("source {} {}\n", source.field, source.path.display());
    }
    for step in &plan.steps {
        text += &format!("{step:?}\n");
    }
    text
}

fn check(spec: &Spec, facts: &HostFacts, options: &PlanOptions, expected: Expect) {
    expected.assert_eq(&shown(&plan(spec, facts, options).unwrap()));
}

const SMALL: &str = r#"{"ociVersion":"1.2.0","root":{"path":"rootfs","readonly":true},
    "process":{"args":["sh"],"cwd":"/","noNewPrivileges":true},
    "mounts":[{"destination":"/proc","type":"proc","source":"proc"}],
    "linux":{"namespaces":[{"type":"pid"},{"type":"mount"},{"type":"network"},{"type":"cgroup"}],
      "maskedPaths":["/proc/kcore"],"readonlyPaths":["/proc/sys"]}}"#;

#[test]
fn a_small_container() {
    check(
        &spec(SMALL),
        &facts(Host::v2()),
        &options(),
        expect![[r#"
            clone 0x60020000
            root Some(Directory("/bundle/rootfs"))
            Session
            OpenProc
            Keyring { name: "_ses.c1", label: None }
            LoopbackUp
            HostPropagation(Propagation { flag: 524288, recursive: true })
            AttachRoot { point: "/bundle/rootfs", shared: false }
            Mount(MountStep { destination: "/proc", what: New { fstype: "proc", source: Some("proc"), data: [], attrs: Attrs { set: 0, clear: 0, rec_set: 0, rec_clear: 0, propagation: [] }, copy_up: false, fallback: None } })
            AwaitCgroup
            CgroupNamespace
            Devices { nodes: [DeviceStep { path: "/dev/null", kind: Char, major: 1, minor: 3, mode: 438, uid: 0, gid: 0, bind: None }, DeviceStep { path: "/dev/zero", kind: Char, major: 1, minor: 5, mode: 438, uid: 0, gid: 0, bind: None }, DeviceStep { path: "/dev/full", kind: Char, major: 1, minor: 7, mode: 438, uid: 0, gid: 0, bind: None }, DeviceStep { path: "/dev/random", kind: Char, major: 1, minor: 8, mode: 438, uid: 0, gid: 0, bind: None }, DeviceStep { path: "/dev/urandom", kind: Char, major: 1, minor: 9, mode: 438, uid: 0, gid: 0, bind: None }, DeviceStep { path: "/dev/tty", kind: Char, major: 5, minor: 0, mode: 438, uid: 0, gid: 0, bind: None }], links: true }
            ReadonlyRoot
            ReadonlyPath("/proc/sys")
            MaskPaths(["/proc/kcore"])
            PivotRoot { by_move: false, shared: false }
            Stdio { uid: 0, terminal: false }
            Bounding { keep: 0, last: 40 }
            User { uid: 0, gid: 0, groups: [], umask: None }
            Cwd("/")
            FindProgram
            CloseOnExec(3)
            AwaitStart
            NoNewPrivileges
            Capabilities { effective: 0, permitted: 0, inheritable: 0, ambient: 0 }
            Exec
        "#]],
    );
}

#[test]
fn binds_hooks_user_namespace_and_terminal() {
    let mut value: serde_json::Value = serde_json::from_str(SMALL).unwrap();
    value["mounts"] = serde_json::json!([
        {"destination": "/data", "source": "data", "options": ["rbind", "rro", "rprivate"]},
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["ro"]}
    ]);
    value["linux"]["namespaces"] = serde_json::json!([
        {"type": "mount"}, {"type": "user"}, {"type": "network", "path": "/run/netns/x"}
    ]);
    value["linux"]["uidMappings"] =
        serde_json::json!([{"containerID": 0, "hostID": 1000, "size": 10}]);
    value["linux"]["gidMappings"] = value["linux"]["uidMappings"].clone();
    value["hooks"] =
        serde_json::json!({"prestart": [{"path": "/a"}], "startContainer": [{"path": "/b"}]});
    let options = PlanOptions {
        terminal: true,
        console_size: Some((80, 25)),
        seccomp_flags: Some(0),
        ..options()
    };
    check(
        &serde_json::from_value(value).unwrap(),
        &facts(Host::v2()),
        &options,
        expect![[r#"
            clone 0x10020000 join 0x40000000 /run/netns/x
            root Some(Directory("/bundle/rootfs"))
            source mounts[0].source /bundle/data
            source mounts /sys
            source linux.devices /dev/null
            source linux.devices /dev/zero
            source linux.devices /dev/full
            source linux.devices /dev/random
            source linux.devices /dev/urandom
            source linux.devices /dev/tty
            Session
            AwaitIdMap
            OpenProc
            Undumpable
            Keyring { name: "_ses.c1", label: None }
            HostPropagation(Propagation { flag: 524288, recursive: true })
            AttachRoot { point: "/bundle/rootfs", shared: false }
            Mount(MountStep { destination: "/data", what: Bind { source: 0 } })
            Mount(MountStep { destination: "/sys", what: New { fstype: "sysfs", source: Some("sysfs"), data: [], attrs: Attrs { set: 1, clear: 0, rec_set: 0, rec_clear: 0, propagation: [] }, copy_up: false, fallback: Some(1) } })
            AwaitCgroup
            Devices { nodes: [DeviceStep { path: "/dev/null", kind: Char, major: 1, minor: 3, mode: 438, uid: 0, gid: 0, bind: Some(2) }, DeviceStep { path: "/dev/zero", kind: Char, major: 1, minor: 5, mode: 438, uid: 0, gid: 0, bind: Some(3) }, DeviceStep { path: "/dev/full", kind: Char, major: 1, minor: 7, mode: 438, uid: 0, gid: 0, bind: Some(4) }, DeviceStep { path: "/dev/random", kind: Char, major: 1, minor: 8, mode: 438, uid: 0, gid: 0, bind: Some(5) }, DeviceStep { path: "/dev/urandom", kind: Char, major: 1, minor: 9, mode: 438, uid: 0, gid: 0, bind: Some(6) }, DeviceStep { path: "/dev/tty", kind: Char, major: 5, minor: 0, mode: 438, uid: 0, gid: 0, bind: Some(7) }], links: true }
            Console { size: Some((80, 25)), bind: true }
            HostHooks([Prestart])
            ReadonlyRoot
            ReadonlyPath("/proc/sys")
            MaskPaths(["/proc/kcore"])
            PivotRoot { by_move: false, shared: false }
            Stdio { uid: 0, terminal: true }
            Bounding { keep: 0, last: 40 }
            User { uid: 0, gid: 0, groups: [], umask: None }
            Cwd("/")
            FindProgram
            CloseOnExec(3)
            AwaitStart
            ContainerHooks { kind: StartContainer, hooks: [Hook { path: "/b", args: [], env: [], timeout: None }] }
            NoNewPrivileges
            Capabilities { effective: 0, permitted: 0, inheritable: 0, ambient: 0 }
            Seccomp { flags: 0 }
            Exec
        "#]],
    );
}

#[test]
fn the_root_as_an_overlay_and_cgroup_v1() {
    let mut value: serde_json::Value = serde_json::from_str(SMALL).unwrap();
    value["mounts"] = serde_json::json!([
        {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro"]}
    ]);
    value["linux"]["namespaces"] = serde_json::json!([{"type": "mount"}, {"type": "cgroup"}]);
    let options = PlanOptions {
        rootfs: vec![Mount {
            kind: Some("overlay".into()),
            source: Some("overlay".into()),
            options: vec![
                "lowerdir+=/l".into(),
                "upperdir=/u".into(),
                "workdir=/w".into(),
            ],
            ..Mount::default()
        }],
        ..options()
    };
    check(
        &serde_json::from_value(value).unwrap(),
        &facts(Host::hybrid()),
        &options,
        expect![[r#"
            clone 0x20000
            root Some(Filesystem { fstype: "overlay", source: Some("overlay"), options: ["lowerdir+=/l", "upperdir=/u", "workdir=/w"] })
            JoinCgroups
            Undumpable
            Session
            OpenProc
            Keyring { name: "_ses.c1", label: None }
            HostPropagation(Propagation { flag: 524288, recursive: true })
            AttachRoot { point: "/bundle", shared: false }
            AwaitCgroup
            CgroupNamespace
            Mount(MountStep { destination: "/sys/fs/cgroup", what: CgroupV1 { hierarchies: [Hierarchy { name: "cpu,cpuacct", data: Some("cpu,cpuacct"), links: ["cpu", "cpuacct"], source: None }, Hierarchy { name: "systemd", data: Some("none,name=systemd"), links: [], source: None }, Hierarchy { name: "memory", data: Some("memory"), links: [], source: None }, Hierarchy { name: "unified", data: None, links: [], source: None }], attrs: Attrs { set: 1, clear: 0, rec_set: 0, rec_clear: 0, propagation: [] } } })
            Devices { nodes: [DeviceStep { path: "/dev/null", kind: Char, major: 1, minor: 3, mode: 438, uid: 0, gid: 0, bind: None }, DeviceStep { path: "/dev/zero", kind: Char, major: 1, minor: 5, mode: 438, uid: 0, gid: 0, bind: None }, DeviceStep { path: "/dev/full", kind: Char, major: 1, minor: 7, mode: 438, uid: 0, gid: 0, bind: None }, DeviceStep { path: "/dev/random", kind: Char, major: 1, minor: 8, mode: 438, uid: 0, gid: 0, bind: None }, DeviceStep { path: "/dev/urandom", kind: Char, major: 1, minor: 9, mode: 438, uid: 0, gid: 0, bind: None }, DeviceStep { path: "/dev/tty", kind: Char, major: 5, minor: 0, mode: 438, uid: 0, gid: 0, bind: None }], links: true }
            ReadonlyRoot
            ReadonlyPath("/proc/sys")
            MaskPaths(["/proc/kcore"])
            PivotRoot { by_move: false, shared: false }
            Stdio { uid: 0, terminal: false }
            Bounding { keep: 0, last: 40 }
            User { uid: 0, gid: 0, groups: [], umask: None }
            Cwd("/")
            FindProgram
            CloseOnExec(3)
            AwaitStart
            NoNewPrivileges
            Capabilities { effective: 0, permitted: 0, inheritable: 0, ambient: 0 }
            Exec
        "#]],
    );
}

#[test]
fn exec_in_a_container() {
    let process: Process = serde_json::from_str(
        r#"{"args":["id"],"cwd":"/tmp","user":{"uid":5,"gid":6,"additionalGids":[7]},
            "capabilities":{"bounding":["CAP_CHOWN"],"effective":["CAP_CHOWN"],"permitted":["CAP_CHOWN"]},
            "rlimits":[{"type":"RLIMIT_NOFILE","soft":1,"hard":2}],"oomScoreAdj":100}"#,
    )
    .unwrap();
    let namespaces = hull_sys::clone::CLONE_NEWNS | hull_sys::clone::CLONE_NEWPID;
    let plan = plan_exec(&process, &facts(Host::v2()), &options(), namespaces).unwrap();
    expect![[r#"
        clone 0x0
        root None
        Undumpable
        Session
        AwaitCgroup
        OpenProc
        OomScoreAdj(100)
        Enter(131072)
        Keyring { name: "_ses.c1", label: None }
        Rlimit { name: "RLIMIT_NOFILE", resource: 7, soft: 1, hard: 2 }
        Stdio { uid: 5, terminal: false }
        Bounding { keep: 1, last: 40 }
        User { uid: 5, gid: 6, groups: [7], umask: None }
        Cwd("/tmp")
        FindProgram
        CloseOnExec(3)
        Capabilities { effective: 1, permitted: 1, inheritable: 0, ambient: 0 }
        Exec
    "#]]
    .assert_eq(&shown(&plan));
}

#[test]
fn what_cannot_be_honoured_names_its_field() {
    let mut value: serde_json::Value = serde_json::from_str(SMALL).unwrap();
    value["process"]["capabilities"] = serde_json::json!({"bounding": ["CAP_NOPE"]});
    value["process"]["apparmorProfile"] = "x".into();
    value["mounts"] =
        serde_json::json!([{"destination": "/x", "options": ["bind"]}, {"destination": "/y"}]);
    let spec = serde_json::from_value(value).unwrap();
    let Err(Error::Invalid(problems)) = plan(&spec, &facts(Host::v2()), &options()) else {
        panic!("accepted");
    };
    let fields: Vec<_> = problems.iter().map(|p| p.field.as_str()).collect();
    assert_eq!(
        fields,
        [
            "mounts[0].source",
            "mounts[1].type",
            "process.apparmorProfile",
            "process.capabilities.bounding"
        ]
    );
}
