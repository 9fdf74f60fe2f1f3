//! The runtime specification: every member is read and written under its name, and closed sets name field and value.

use hull_oci::runtime::{
    Arch, ContainerProcessState, DeviceType, Features, HookKind, Hooks, NamespaceType, Seccomp,
    Spec, State, Status,
};
use proptest::prelude::*;
use serde_json::{Value, json};

/// A configuration with every member of the specification 1.3 for Linux, none with its zero value.
fn full() -> Value {
    json!({
        "ociVersion": "1.3.0",
        "process": {
            "terminal": true, "consoleSize": {"height": 25, "width": 80},
            "user": {"uid": 4294967295u32, "gid": 2, "umask": 63, "additionalGids": [5, 6]},
            "args": ["sh"], "env": ["A=b"], "cwd": "/",
            "capabilities": {"bounding": ["CAP_KILL"], "effective": ["CAP_KILL"], "inheritable": ["CAP_KILL"],
                             "permitted": ["CAP_KILL"], "ambient": ["CAP_KILL"]},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": u64::MAX, "soft": 1024}],
            "noNewPrivileges": true, "apparmorProfile": "p", "oomScoreAdj": -1000,
            "scheduler": {"policy": "SCHED_DEADLINE", "nice": -20, "priority": 1, "flags": ["SCHED_FLAG_RESET_ON_FORK"],
                          "runtime": 1, "deadline": 2, "period": 3},
            "selinuxLabel": "l", "ioPriority": {"class": "IOPRIO_CLASS_IDLE", "priority": 4},
            "execCPUAffinity": {"initial": "0", "final": "1-2"}
        },
        "root": {"path": "rootfs", "readonly": true},
        "hostname": "h", "domainname": "d",
        "mounts": [{"destination": "/m", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid"],
                    "uidMappings": [{"containerID": 0, "hostID": 1000, "size": 1}],
                    "gidMappings": [{"containerID": 0, "hostID": 1000, "size": 1}]}],
        "hooks": {
            "prestart": [{"path": "/a", "args": ["a"], "env": ["X=y"], "timeout": 1}],
            "createRuntime": [{"path": "/b"}], "createContainer": [{"path": "/c"}], "startContainer": [{"path": "/d"}],
            "poststart": [{"path": "/e"}], "poststop": [{"path": "/f"}]
        },
        "annotations": {"k": "v"},
        "linux": linux()
    })
}

fn linux() -> Value {
    json!({
        "uidMappings": [{"containerID": 0, "hostID": 1, "size": 2}],
        "gidMappings": [{"containerID": 0, "hostID": 1, "size": 2}],
        "sysctl": {"net.ipv4.ip_forward": "1"},
        "resources": resources(),
        "cgroupsPath": "/a", "namespaces": [{"type": "time"}, {"type": "network", "path": "/run/netns/x"}],
        "devices": [{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 438, "uid": 0, "gid": 0}],
        "netDevices": {"eth0": {"name": "c0"}, "eth1": {}},
        "seccomp": {
            "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38, "architectures": ["SCMP_ARCH_X86_64"],
            "flags": ["SECCOMP_FILTER_FLAG_LOG"], "listenerPath": "/s", "listenerMetadata": "m",
            "syscalls": [{"names": ["personality"], "action": "SCMP_ACT_NOTIFY", "errnoRet": 1,
                          "args": [{"index": 0, "value": u64::MAX, "valueTwo": 2, "op": "SCMP_CMP_MASKED_EQ"}]}]
        },
        "rootfsPropagation": "rslave", "maskedPaths": ["/proc/kcore"], "readonlyPaths": ["/proc/sys"], "mountLabel": "l",
        "intelRdt": {"closID": "c", "schemata": ["L3:0=f"], "l3CacheSchema": "L3:0=f", "memBwSchema": "MB:0=20",
                     "enableMonitoring": true, "enableCMT": true, "enableMBM": true},
        "memoryPolicy": {"mode": "MPOL_WEIGHTED_INTERLEAVE", "nodes": "0-1", "flags": ["MPOL_F_STATIC_NODES"]},
        "personality": {"domain": "LINUX32", "flags": ["F"]},
        "timeOffsets": {"boottime": {"secs": -2, "nanosecs": 3}}
    })
}

fn resources() -> Value {
    let throttle = json!([{"major": 8, "minor": 0, "rate": u64::MAX}]);
    json!({
        "devices": [{"allow": false, "access": "rwm"}, {"allow": true, "type": "b", "major": -1, "minor": 3, "access": "r"}],
        "memory": {"limit": -1, "reservation": 1, "swap": 2, "kernel": 3, "kernelTCP": 4, "swappiness": 0,
                   "disableOOMKiller": false, "useHierarchy": true, "checkBeforeUpdate": true},
        "cpu": {"shares": 1, "quota": -1, "burst": 2, "period": 3, "realtimeRuntime": 4, "realtimePeriod": 5,
                "cpus": "0-1", "mems": "0", "idle": 1},
        "pids": {"limit": -1},
        "blockIO": {"weight": 10, "leafWeight": 11,
                    "weightDevice": [{"major": 8, "minor": 0, "weight": 500, "leafWeight": 300}],
                    "throttleReadBpsDevice": throttle, "throttleWriteBpsDevice": throttle,
                    "throttleReadIOPSDevice": throttle, "throttleWriteIOPSDevice": throttle},
        "hugepageLimits": [{"pageSize": "2MB", "limit": 1}],
        "network": {"classID": 1, "priorities": [{"name": "eth0", "priority": 2}]},
        "rdma": {"mlx5_0": {"hcaHandles": 1, "hcaObjects": 2}},
        "unified": {"memory.high": "1"}
    })
}

#[test]
fn every_member_survives() {
    let spec: Spec = serde_json::from_value(full()).unwrap();
    assert_eq!(serde_json::to_value(&spec).unwrap(), full());
}

#[test]
fn dropping_any_optional_member_is_read_or_named() {
    /// Calls `visit` for every member at any depth with two copies of the whole, in which it is removed and null.
    fn without(
        value: &Value,
        replace: &dyn Fn(Value) -> Value,
        visit: &mut dyn FnMut(String, Value, Value),
    ) {
        let pairs: Vec<(String, Value)> = match value {
            Value::Object(map) => map
                .iter()
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect(),
            Value::Array(list) => list
                .iter()
                .enumerate()
                .map(|(at, value)| (at.to_string(), value.clone()))
                .collect(),
            _ => return,
        };
        for (key, child) in pairs {
            if let Value::Object(map) = value {
                let mut absent = map.clone();
                absent.remove(&key);
                let mut null = map.clone();
                null[&key] = Value::Null;
                visit(
                    key.clone(),
                    replace(Value::Object(absent)),
                    replace(Value::Object(null)),
                );
            }
            let outer = |inner: Value| {
                let mut copy = value.clone();
                match &mut copy {
                    Value::Object(map) => map[&key] = inner,
                    Value::Array(list) => list[key.parse::<usize>().unwrap()] = inner,
                    _ => unreachable!("only containers have members"),
                }
                replace(copy)
            };
            without(&child, &outer, visit);
        }
    }
    // Members of maps with free names: the name may be missing, but where it stands it has a value.
    let key_of_map = |key: &str| {
        [
            "k",
            "net.ipv4.ip_forward",
            "memory.high",
            "eth0",
            "eth1",
            "mlx5_0",
            "boottime",
        ]
        .contains(&key)
    };
    let mut refused = std::collections::BTreeSet::new();
    without(&full(), &|value| value, &mut |key, absent, null| {
        let null = serde_json::from_value::<Spec>(null);
        match serde_json::from_value::<Spec>(absent) {
            Ok(_) => assert!(null.is_ok() || key_of_map(&key), "{key}: {null:?}"),
            Err(error) => {
                assert_eq!(error.to_string(), format!("missing field `{key}`"));
                assert!(null.is_err(), "{key}");
                refused.insert(key);
            }
        }
    });
    let mandatory = [
        "action",
        "class",
        "cwd",
        "defaultAction",
        "destination",
        "domain",
        "hard",
        "height",
        "index",
        "limit",
        "major",
        "minor",
        "mode",
        "name",
        "names",
        "ociVersion",
        "op",
        "pageSize",
        "path",
        "policy",
        "priority",
        "rate",
        "soft",
        "type",
        "value",
        "width",
    ];
    assert_eq!(
        refused.iter().map(String::as_str).collect::<Vec<_>>(),
        mandatory
    );
}

#[test]
fn go_zero_values_are_absent() {
    let spec: Spec = serde_json::from_value(json!({
        "ociVersion": "1.0.2", "hostname": "", "mounts": null, "hooks": null, "annotations": null,
        "process": {"user": {"uid": 0, "gid": 0, "additionalGids": null}, "args": null, "cwd": "/", "rlimits": null,
                    "terminal": null, "oomScoreAdj": null, "apparmorProfile": "", "capabilities": null},
        "linux": {"namespaces": null, "resources": {"devices": null, "unified": null}, "seccomp": null, "maskedPaths": null},
        "solaris": {"anything": 1}, "unknown": true
    }))
    .unwrap();
    assert_eq!(
        serde_json::to_value(&spec).unwrap(),
        json!({"ociVersion": "1.0.2", "process": {"user": {"uid": 0, "gid": 0}, "cwd": "/"}, "linux": {"resources": {}}})
    );
}

fn refused(pointer: &str, value: Value) -> String {
    let mut spec = full();
    *spec.pointer_mut(pointer).unwrap() = value;
    serde_json::from_value::<Spec>(spec)
        .unwrap_err()
        .to_string()
}

#[test]
fn closed_sets_name_field_and_value() {
    assert_eq!(
        refused("/linux/namespaces/0/type", json!("net")),
        "linux.namespaces[].type: unknown value \"net\" (expected one of pid, network, mount, ipc, uts, user, cgroup, time)"
    );
    for (pointer, field) in [
        ("/linux/seccomp/defaultAction", "linux.seccomp action"),
        (
            "/linux/seccomp/architectures/0",
            "linux.seccomp.architectures[]",
        ),
        ("/linux/seccomp/flags/0", "linux.seccomp.flags[]"),
        (
            "/linux/seccomp/syscalls/0/args/0/op",
            "linux.seccomp.syscalls[].args[].op",
        ),
        ("/linux/devices/0/type", "device type"),
        ("/linux/resources/devices/1/type", "device type"),
        ("/linux/memoryPolicy/mode", "linux.memoryPolicy.mode"),
        ("/linux/memoryPolicy/flags/0", "linux.memoryPolicy.flags[]"),
        ("/linux/personality/domain", "linux.personality.domain"),
        ("/process/scheduler/policy", "process.scheduler.policy"),
        ("/process/scheduler/flags/0", "process.scheduler.flags[]"),
        ("/process/ioPriority/class", "process.ioPriority.class"),
    ] {
        let error = refused(pointer, json!("BOGUS"));
        assert!(
            error.starts_with(&format!(
                "{field}: unknown value \"BOGUS\" (expected one of "
            )),
            "{pointer}: {error}"
        );
        let error = refused(pointer, json!(5));
        assert!(
            error.contains("invalid type: integer `5`"),
            "{pointer}: {error}"
        );
    }
    assert_eq!(
        refused("/linux/resources/devices/1/type", json!("z")),
        "device type: unknown value \"z\" (expected one of a, c, b, u, p)"
    );
}

#[test]
fn numbers_have_go_ranges() {
    assert!(refused("/process/user/uid", json!(4294967296u64)).contains("u32"));
    assert!(refused("/process/user/uid", json!(-1)).contains("u32"));
    assert!(refused("/linux/resources/blockIO/weight", json!(65536)).contains("u16"));
    assert!(refused("/linux/resources/cpu/shares", json!(-1)).contains("u64"));
    assert!(refused("/linux/resources/memory/limit", json!(u64::MAX)).contains("i64"));
    assert!(refused("/linux/resources/pids/limit", json!(1.5)).contains("i64"));
}

#[test]
fn states() {
    let json = json!({"ociVersion": "1.3.0", "id": "c1", "status": "running", "pid": 42, "bundle": "/b", "annotations": {"a": "b"}});
    let state: State = serde_json::from_value(json.clone()).unwrap();
    assert_eq!(state.status, Status::Running);
    assert_eq!(serde_json::to_value(&state).unwrap(), json);
    let stopped: State = serde_json::from_value(
        json!({"ociVersion": "1", "id": "c", "status": "stopped", "bundle": "/b"}),
    )
    .unwrap();
    assert_eq!(
        (
            stopped.pid,
            serde_json::to_value(&stopped).unwrap().get("pid")
        ),
        (0, None)
    );
    let process = ContainerProcessState {
        oci_version: "1.3.0".into(),
        fds: vec![ContainerProcessState::SECCOMP_FD.into()],
        pid: 43,
        metadata: None,
        state,
    };
    assert_eq!(
        serde_json::to_value(&process).unwrap(),
        json!({"ociVersion": "1.3.0", "fds": ["seccompFd"], "pid": 43, "state": json})
    );
}

#[test]
fn foreign_features_are_read() {
    let json = json!({
        "ociVersionMin": "1.0.0", "ociVersionMax": "1.9.0", "hooks": ["prestart", "fromTheFuture"], "mountOptions": [],
        "linux": {"namespaces": ["pid"], "capabilities": ["CAP_KILL"],
                  "cgroup": {"v1": true, "v2": true, "systemd": false, "systemdUser": false, "rdma": true},
                  "seccomp": {"enabled": true, "actions": ["SCMP_ACT_X"], "operators": [], "archs": ["A"],
                              "knownFlags": ["F"], "supportedFlags": []},
                  "apparmor": {"enabled": true}, "selinux": {"enabled": false},
                  "intelRdt": {"enabled": true, "schemata": true, "monitoring": false},
                  "memoryPolicy": {"modes": ["MPOL_BIND"], "flags": []},
                  "mountExtensions": {"idmap": {"enabled": true}}, "netDevices": {"enabled": true}},
        "annotations": {"v": "1"}, "potentiallyUnsafeConfigAnnotations": ["org.x."]
    });
    let features: Features = serde_json::from_value(json.clone()).unwrap();
    assert_eq!(serde_json::to_value(&features).unwrap(), json);
}

#[test]
fn enums_print_what_they_parse() {
    for kind in NamespaceType::ALL {
        assert_eq!(kind.to_string().parse(), Ok(*kind));
    }
    for arch in Arch::ALL {
        assert_eq!(
            serde_json::from_value::<Arch>(json!(arch.as_str())).unwrap(),
            *arch
        );
    }
    assert_eq!("c".parse(), Ok(DeviceType::Char));
    let hooks: Hooks = serde_json::from_value(full()["hooks"].clone()).unwrap();
    let paths: Vec<&str> = HookKind::ALL
        .iter()
        .map(|kind| hooks.of(*kind)[0].path.as_str())
        .collect();
    assert_eq!(paths, ["/a", "/b", "/c", "/d", "/e", "/f"]);
}

proptest! {
    #[test]
    fn any_bytes_are_answered(text in "\\PC{0,200}", path in 0usize..60) {
        let _ = serde_json::from_str::<Spec>(&text);
        let _ = serde_json::from_str::<Seccomp>(&text);
        // A valid document cut anywhere is refused, not read in part.
        let whole = full().to_string();
        prop_assert!(serde_json::from_str::<Spec>(&whole[..whole.len() * path / 60]).is_err());
    }
}
