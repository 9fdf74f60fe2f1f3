//! `linux.namespaces`, mappings, host and domain names, sysctls, time offsets (config-linux.md).

use std::fs;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::subject::{Case, Flavor, cannot, is};

const KINDS: [(&str, &str); 5] = [
    ("pid", "pid"),
    ("network", "net"),
    ("ipc", "ipc"),
    ("uts", "uts"),
    ("mount", "mnt"),
];

fn own(kind: &str) -> String {
    fs::read_link(format!("/proc/self/ns/{kind}"))
        .expect("own namespace")
        .to_string_lossy()
        .into_owned()
}

fn links() -> Case {
    Case::script(
        "for kind in pid net ipc uts mnt cgroup user time; do echo $kind $(readlink /proc/self/ns/$kind); done",
    )
}

fn link_of<'a>(output: &'a str, kind: &str) -> &'a str {
    output
        .lines()
        .find_map(|line| line.strip_prefix(kind)?.strip_prefix(' '))
        .unwrap_or_else(|| panic!("{kind} in {output}"))
}

#[test]
fn listed_namespaces_are_new_and_others_are_not() {
    let case = links();
    let output = case.output();
    for (_, kind) in KINDS {
        assert_ne!(link_of(&output, kind), own(kind), "{kind}");
    }
    for kind in ["cgroup", "user", "time"] {
        assert_eq!(link_of(&output, kind), own(kind), "{kind}");
    }
}

#[test]
fn a_cgroup_namespace_hides_the_path() {
    let case = Case::script("readlink /proc/self/ns/cgroup; cat /proc/self/cgroup").edit(|spec| {
        spec["linux"]["namespaces"]
            .as_array_mut()
            .expect("namespaces")
            .push(json!({"type": "cgroup"}));
    });
    let output = case.output();
    assert_ne!(output.lines().next(), Some(own("cgroup").as_str()));
    assert!(!output.contains(&case.id), "{output}");
}

#[test]
fn a_left_out_namespace_is_the_hosts() {
    let case = links().edit(|spec| {
        spec["linux"]["namespaces"]
            .as_array_mut()
            .expect("namespaces")
            .retain(|entry| entry["type"] != "ipc" && entry["type"] != "network");
    });
    let output = case.output();
    assert_eq!(link_of(&output, "ipc"), own("ipc"));
    assert_eq!(link_of(&output, "net"), own("net"));
}

/// A process in namespaces of its own, whose descriptors in /proc can be joined.
struct Holder(Child);

impl Holder {
    fn new(flag: &str) -> Holder {
        let mut child = Command::new("unshare")
            .args([flag, "sh", "-c", "echo ready; exec sleep 1000"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("start unshare");
        let mut ready = [0; 6];
        std::io::Read::read_exact(child.stdout.as_mut().expect("a pipe"), &mut ready)
            .expect("the holder is ready");
        Holder(child)
    }

    fn path(&self, kind: &str) -> String {
        format!("/proc/{}/ns/{kind}", self.0.id())
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn join(spec: &mut Value, kind: &str, path: &str) {
    for entry in spec["linux"]["namespaces"]
        .as_array_mut()
        .expect("namespaces")
    {
        if entry["type"] == kind {
            entry["path"] = json!(path);
        }
    }
}

#[test]
fn namespaces_are_joined_by_path() {
    for (flag, name, kind) in [
        ("-n", "network", "net"),
        ("-i", "ipc", "ipc"),
        ("-u", "uts", "uts"),
    ] {
        let holder = Holder::new(flag);
        let case = links().edit(|spec| {
            join(spec, name, &holder.path(kind));
            spec.as_object_mut().expect("a spec").remove("hostname");
        });
        let expected = fs::read_link(holder.path(kind))
            .expect("the holder's namespace")
            .to_string_lossy()
            .into_owned();
        assert_eq!(link_of(&case.output(), kind), expected, "{name}");
    }
}

#[test]
fn a_path_to_another_kind_of_namespace_is_refused() {
    let holder = Holder::new("-u");
    let case = Case::new(&["true"]).edit(|spec| join(spec, "network", &holder.path("uts")));
    assert_ne!(case.run().code(), 0);
}

#[test]
fn host_name() {
    let host = fs::read_to_string("/proc/sys/kernel/hostname").expect("the host's name");
    let case = Case::new(&["hostname"]).edit(|spec| spec["hostname"] = json!("other-name"));
    assert_eq!(case.output(), "other-name");
    assert_eq!(
        fs::read_to_string("/proc/sys/kernel/hostname").expect("the host's name"),
        host
    );
}

#[test]
fn domain_name() {
    cannot!(is(&[Flavor::Runc]), "runc 1.1 has no domainname");
    let case = Case::new(&["cat", "/proc/sys/kernel/domainname"])
        .edit(|spec| spec["domainname"] = json!("example.test"));
    assert_eq!(case.output(), "example.test");
}

#[test]
fn sysctls() {
    let case = Case::script("cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shm_rmid_forced")
        .edit(|spec| {
            spec["linux"]["sysctl"] =
                json!({"net.ipv4.ip_forward": "1", "kernel.shm_rmid_forced": "1"});
        });
    assert_eq!(case.output(), "1\n1");
}

#[test]
fn sysctls_of_the_host_are_refused() {
    for (key, without) in [
        ("net.ipv4.ip_forward", "network"),
        ("kernel.shm_rmid_forced", "ipc"),
        ("vm.swappiness", "nothing"),
    ] {
        let case = Case::new(&["true"]).edit(|spec| {
            spec["linux"]["sysctl"] = json!({key: "1"});
            spec["linux"]["namespaces"]
                .as_array_mut()
                .expect("namespaces")
                .retain(|entry| entry["type"] != without);
        });
        assert_ne!(case.run().code(), 0, "{key} without {without}");
    }
}

#[test]
fn the_loopback_link_is_there() {
    assert!(
        Case::new(&["ip", "link", "show", "lo"])
            .output()
            .contains("lo")
    );
}

/// A root file system that the mapped user owns.
fn give_to(case: &Case, owner: u32) {
    let status = Command::new("chown")
        .arg("-hR")
        .arg(format!("{owner}:{owner}"))
        .arg(case.bundle.rootfs(""))
        .status();
    assert!(status.expect("run chown").success());
    // The way to it.
    for folder in [case.root.path(), case.bundle.path()] {
        fs::set_permissions(folder, std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .expect("chmod");
    }
}

#[test]
fn user_namespaces_are_mapped() {
    let case = Case::script("cat /proc/self/uid_map /proc/self/gid_map; id -u; touch /file").edit(
        |spec| {
            spec["linux"]["namespaces"]
                .as_array_mut()
                .expect("namespaces")
                .push(json!({"type": "user"}));
            spec["linux"]["uidMappings"] =
                json!([{"containerID": 0, "hostID": 200_000, "size": 1000}]);
            spec["linux"]["gidMappings"] =
                json!([{"containerID": 0, "hostID": 200_000, "size": 1000}]);
        },
    );
    give_to(&case, 200_000);
    let output = case.output();
    let words: Vec<Vec<&str>> = output
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(
        words,
        [
            vec!["0", "200000", "1000"],
            vec!["0", "200000", "1000"],
            vec!["0"]
        ]
    );
    let owner = std::os::unix::fs::MetadataExt::uid(
        &fs::metadata(case.bundle.rootfs("file")).expect("the file"),
    );
    assert_eq!(owner, 200_000);
}

#[test]
fn exec_enters_the_user_namespace() {
    let case = Case::idle().edit(|spec| {
        spec["linux"]["namespaces"]
            .as_array_mut()
            .expect("namespaces")
            .push(json!({"type": "user"}));
        spec["linux"]["uidMappings"] = json!([{"containerID": 0, "hostID": 200_000, "size": 1000}]);
        spec["linux"]["gidMappings"] = json!([{"containerID": 0, "hostID": 200_000, "size": 1000}]);
    });
    give_to(&case, 200_000);
    case.up();
    assert!(
        case.exec(&[], &["cat", "/proc/self/uid_map"])
            .ok()
            .contains("200000")
    );
}

#[test]
fn mappings_without_a_user_namespace_are_refused() {
    cannot!(
        is(&[Flavor::Runc, Flavor::Crun]),
        "Debian 12's runc and crun ignore them"
    );
    let case = Case::new(&["true"]).edit(|spec| {
        spec["linux"]["uidMappings"] = json!([{"containerID": 0, "hostID": 1000, "size": 1}])
    });
    assert_ne!(case.run().code(), 0);
}

#[test]
fn time_offsets() {
    cannot!(
        is(&[Flavor::Runc, Flavor::Crun]),
        "Debian 12's runc and crun are older than timeOffsets"
    );
    let case = Case::new(&["cut", "-d.", "-f1", "/proc/uptime"]).edit(|spec| {
        spec["linux"]["namespaces"]
            .as_array_mut()
            .expect("namespaces")
            .push(json!({"type": "time"}));
        spec["linux"]["timeOffsets"] = json!({"boottime": {"secs": 10_000_000, "nanosecs": 0}});
    });
    let uptime: u64 = case.output().parse().expect("seconds");
    assert!(uptime >= 10_000_000, "{uptime}");
}
