//! Fields that came late to the specification or that few hosts can show: each on its own, each skipped where it is missing.

use std::fs;
use std::io::Read as _;
use std::mem::MaybeUninit;
use std::os::unix::net::UnixListener;
use std::process::Command;
use std::time::Duration;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use serde_json::{Value, json};

use crate::subject::{Case, Flavor, cannot, cgroup_file, cgroup_v2, is};

#[test]
fn features_tell_what_there_is() {
    cannot!(is(&[Flavor::Crun]), "crun 1.8 has no features");
    let case = Case::new(&["true"]);
    let features: Value = serde_json::from_str(case.call(["features"]).ok()).expect("JSON");
    assert!(
        features["ociVersionMin"].is_string() && features["ociVersionMax"].is_string(),
        "{features}"
    );
    let has = |path: &str, name: &str| {
        features
            .pointer(path)
            .and_then(Value::as_array)
            .is_some_and(|list| list.contains(&json!(name)))
    };
    assert!(
        has("/linux/namespaces", "user")
            && has("/linux/capabilities", "CAP_CHOWN")
            && has("/mountOptions", "ro"),
        "{features}"
    );
    assert!(
        has("/linux/seccomp/actions", "SCMP_ACT_ERRNO")
            && has("/linux/seccomp/archs", "SCMP_ARCH_X86_64"),
        "{features}"
    );
    assert!(has("/hooks", "createRuntime"), "{features}");
}

#[test]
fn personality() {
    cannot!(is(&[Flavor::Runc]), "runc 1.1 has no personality");
    let case = Case::new(&["uname", "-m"])
        .edit(|spec| spec["linux"]["personality"] = json!({"domain": "LINUX32"}));
    assert_eq!(case.output(), "i686");
}

#[test]
fn mounts_with_mapped_ids() {
    cannot!(
        is(&[Flavor::Runc, Flavor::Crun]),
        "Debian 12's runc has none, and its crun maps only in user namespaces"
    );
    let case = Case::new(&["stat", "-c", "%u:%g", "/mnt/file"]);
    let folder = case.root.folder("source");
    case.root.file("source/file", "");
    let case = case.mount(json!({
        "destination": "/mnt", "type": "bind", "source": folder, "options": ["bind"],
        "uidMappings": [{"containerID": 0, "hostID": 5000, "size": 10}],
        "gidMappings": [{"containerID": 0, "hostID": 6000, "size": 10}],
    }));
    assert_eq!(case.output(), "5000:6000");
}

/// The listener gets a descriptor and the container's state, and the notified call waits for an answer.
#[test]
fn seccomp_hands_calls_to_a_listener() {
    let case = Case::script("touch /before; mkdir /dir; touch /after");
    let path = case.root.join("listener.sock");
    let listener = UnixListener::bind(&path).expect("bind the listener");
    let case = case.edit(|spec| {
        spec["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": path, "listenerMetadata": "some data",
            "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY"}],
        });
    });
    let mut run = case.spawn();
    listener.set_nonblocking(true).expect("set non-blocking");
    let mut connection = None;
    let came = hull_testkit::process::eventually(Duration::from_secs(30), || {
        connection = listener.accept().ok();
        connection.is_some()
    });
    assert!(came, "the runtime does not connect to the listener");
    let (mut stream, _) = connection.expect("a connection");
    stream
        .set_nonblocking(false)
        .and_then(|()| stream.set_read_timeout(Some(Duration::from_secs(30))))
        .expect("set a deadline");
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut text = vec![0; 65536];
    let message = rustix::net::recvmsg(
        &stream,
        &mut [std::io::IoSliceMut::new(&mut text)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )
    .expect("receive");
    text.truncate(message.bytes);
    // The runtime may keep the connection open: the end of the document is where it is whole.
    let descriptors: Vec<_> = control
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(fds) => Some(fds),
            _ => None,
        })
        .flatten()
        .collect();
    let state: Value = loop {
        if let Ok(state) = serde_json::from_slice(&text) {
            break state;
        }
        let mut more = [0; 4096];
        let count = stream.read(&mut more).expect("read the rest");
        assert!(
            count > 0,
            "the document ends early: {}",
            String::from_utf8_lossy(&text)
        );
        text.extend_from_slice(&more[..count]);
    };
    let names: Vec<&str> = state["fds"]
        .as_array()
        .expect("fds")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    assert_eq!(names.len(), descriptors.len(), "{state}");
    assert!(names.contains(&"seccompFd"), "{state}");
    assert_eq!(state["metadata"], "some data");
    assert_eq!(state["state"]["id"], case.id.as_str());
    assert!(hull_testkit::process::eventually(
        Duration::from_secs(30),
        || case.bundle.rootfs("before").exists()
    ));
    std::thread::sleep(Duration::from_millis(200));
    assert!(
        !case.bundle.rootfs("after").exists(),
        "the call went on without an answer"
    );
    case.call(["kill", &case.id, "KILL"]).ok();
    drop(descriptors);
    hull_testkit::process::wait(&mut run, Duration::from_secs(30))
        .expect("wait")
        .expect("run ends");
}

#[test]
fn throttled_disks() {
    let Some(device) = ["vda", "sda", "nvme0n1"]
        .iter()
        .find_map(|name| fs::read_to_string(format!("/sys/block/{name}/dev")).ok())
    else {
        hull_testkit::skip!("no disk to throttle");
        return;
    };
    let (major, minor) = device.trim().split_once(':').expect("major:minor");
    let numbers = (
        major.parse::<u32>().expect("a number"),
        minor.parse::<u32>().expect("a number"),
    );
    let case = Case::idle().edit(|spec| {
        spec["linux"]["resources"]["blockIO"] = json!({"throttleReadBpsDevice": [{"major": numbers.0, "minor": numbers.1, "rate": 1_048_576}]});
    });
    case.up();
    let text = cgroup_file(&case, "blkio/blkio.throttle.read_bps_device", "io.max");
    let expected = if cgroup_v2() {
        "rbps=1048576"
    } else {
        "1048576"
    };
    assert!(
        text.starts_with(&format!("{}:{} {expected}", numbers.0, numbers.1)),
        "{text}"
    );
}

/// The disk's scheduler decides which file there is: bfq's own, or io.cost's.
#[test]
fn weights_of_disks() {
    let Some((name, numbers)) = ["vda", "sda", "nvme0n1"].iter().find_map(|name| {
        let numbers = fs::read_to_string(format!("/sys/block/{name}/dev")).ok()?;
        Some((name, numbers.trim().to_owned()))
    }) else {
        hull_testkit::skip!("no disk to weigh");
        return;
    };
    let scheduler = fs::read_to_string(format!("/sys/block/{name}/queue/scheduler"));
    let bfq = scheduler.is_ok_and(|text| text.contains("[bfq]"));
    cannot!(
        !cgroup_v2() && !bfq,
        "no weights of version 1 without the scheduler bfq"
    );
    cannot!(
        !bfq && is(&[Flavor::Runc]),
        "Debian 12's runc weighs disks by bfq only"
    );
    // The kernel takes io.cost's weight of one disk only where somebody has turned it on for that disk.
    let cost = fs::read_to_string("/sys/fs/cgroup/io.cost.qos").unwrap_or_default();
    let weighs_one = is(&[Flavor::Hull]) && (bfq || cost.contains("enable=1"));
    let case = Case::idle().edit(|spec| {
        spec["linux"]["resources"]["blockIO"] = json!({"weight": 500});
        if weighs_one {
            let (major, minor) = numbers.split_once(':').expect("major:minor");
            let number = |text: &str| text.parse::<u32>().expect("a number");
            spec["linux"]["resources"]["blockIO"]["weightDevice"] =
                json!([{"major": number(major), "minor": number(minor), "weight": 200}]);
        }
    });
    case.up();
    let (file, all, one) = match bfq {
        true => ("io.bfq.weight", "default 500", "200"),
        false => ("io.weight", "default 4950", "1920"),
    };
    let text = cgroup_file(&case, "blkio/blkio.bfq.weight", file);
    // Version 1 has a file for the number alone.
    assert!(
        text.lines().any(|line| line == all || line == &all[8..]),
        "{text}"
    );
    if weighs_one {
        let text = cgroup_file(&case, "blkio/blkio.bfq.weight_device", file);
        let wanted = format!("{numbers} {one}");
        assert!(text.lines().any(|line| line == wanted), "{text}");
    }
}

#[test]
fn network_devices_are_moved_in() {
    cannot!(
        is(&[Flavor::Runc, Flavor::Crun]),
        "Debian 12's runc and crun are older than netDevices"
    );
    let name = format!("hcf{}", std::process::id() % 100_000);
    let ip = |words: &[&str]| {
        Command::new("ip")
            .args(words)
            .status()
            .is_ok_and(|status| status.success())
    };
    // Of a pair, the second goes with the first when the container's network namespace ends.
    let made = ip(&[
        "link",
        "add",
        &name,
        "type",
        "veth",
        "peer",
        "name",
        &format!("{name}p"),
    ]) || ip(&["link", "add", &name, "type", "dummy"]);
    cannot!(!made, "no link can be made");
    let case = Case::script("ip link show inner")
        .edit(|spec| spec["linux"]["netDevices"] = json!({name.clone(): {"name": "inner"}}));
    let output = case.run();
    let _ = ip(&["link", "delete", &name]);
    assert!(output.ok().contains("inner"), "{output:?}");
}

#[test]
fn memory_policy() {
    cannot!(
        is(&[Flavor::Runc, Flavor::Crun]),
        "Debian 12's runc and crun are older than memoryPolicy"
    );
    cannot!(
        !fs::exists("/proc/self/numa_maps").unwrap_or(false),
        "this kernel has no NUMA"
    );
    let case = Case::script("grep -c bind:0 /proc/self/numa_maps")
        .edit(|spec| spec["linux"]["memoryPolicy"] = json!({"mode": "MPOL_BIND", "nodes": "0"}));
    let lines: u32 = case.output().parse().expect("a number");
    assert!(lines > 0);
}

/// The profile is loaded by whoever runs the suite: see `vm`.
#[test]
fn apparmor_profiles_are_entered() {
    let profiles = fs::read_to_string("/sys/kernel/security/apparmor/profiles").unwrap_or_default();
    cannot!(
        !profiles.contains("hull-conformance"),
        "no profile hull-conformance is loaded"
    );
    cannot!(
        is(&[Flavor::Runc]) && !fs::exists("/etc/apparmor.d").unwrap_or(false),
        "runc looks for a distribution's profiles"
    );
    let case = Case::script("cat /proc/self/attr/current; cat /secret")
        .edit(|spec| spec["process"]["apparmorProfile"] = json!("hull-conformance"));
    case.file("secret", "hidden");
    let output = case.run();
    assert!(
        output.stdout.starts_with("hull-conformance (enforce)")
            && !output.stdout.contains("hidden"),
        "{output:?}"
    );
    assert!(output.stderr.contains("Permission denied"), "{output:?}");

    let case =
        Case::idle().edit(|spec| spec["process"]["apparmorProfile"] = json!("hull-conformance"));
    case.up();
    assert!(
        case.exec(&[], &["cat", "/proc/self/attr/current"])
            .ok()
            .starts_with("hull-conformance (enforce)")
    );

    let case = Case::new(&["true"])
        .edit(|spec| spec["process"]["apparmorProfile"] = json!("no-such-profile"));
    assert_ne!(case.run().code(), 0, "a profile that is not loaded");
}

#[test]
fn many_at_once_leave_nothing() {
    // Each case's drop asserts that its mounts, cgroups and state are gone.
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let case = Case::script("sleep 1000 & exec sleep 1000");
                for round in 0..5 {
                    case.up();
                    if round % 2 == 0 {
                        case.stop();
                        case.call(["delete", &case.id]).ok();
                    } else {
                        case.call(["delete", "--force", &case.id]).ok();
                    }
                }
            });
        }
    });
}
