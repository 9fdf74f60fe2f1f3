//! SELinux, in a virtual machine, under a policy of our own: types for the host, for containers and for their files, and
//! multi-category security that keeps containers apart. Distributions' policies are too large to compile in a test.

use std::fmt::Write as _;
use std::process::Command;
use std::time::Duration;

use hull_testkit::TempRoot;
use hull_testkit::bundle::Bundle;
use hull_testkit::process;
use hull_testkit::vm::{self, Vm};
use serde_json::json;

use crate::subject::{Flavor, is, subject};

const PROCESS: &str = "system_u:system_r:container_t:s0:c1,c2";
const FILES: &str = "system_u:object_r:container_file_t:s0:c1,c2";

/// The policy in CIL. Classes and permissions that it does not name are allowed (`handleunknown`): what is under test are labels, and
/// the one rule that a process reads and writes files whose categories it has.
fn policy() -> String {
    let mut text = String::from(
        "(handleunknown allow)
(mls true)
(policycap nnp_nosuid_transition)
(sensitivity s0)
(sensitivityorder (s0))
",
    );
    let categories: Vec<String> = (0..1024).map(|n| format!("c{n}")).collect();
    for category in &categories {
        let _ = writeln!(text, "(category {category})");
    }
    let _ = writeln!(text, "(categoryorder ({}))", categories.join(" "));
    text += "(sensitivitycategory s0 (range c0 c1023))
(levelrange low ((s0) (s0)))
(class process (transition dyntransition))
(class file (read write open getattr execute entrypoint execute_no_trans map))
(classorder (process file))
(type host_t) (type container_t) (type container_file_t) (type object_t)
(typeattribute every)
(typeattributeset every (host_t container_t container_file_t object_t))
(role system_r) (role object_r)
(roletype system_r every) (roletype object_r every)
(user system_u)
(userrole system_u system_r) (userrole system_u object_r)
(userlevel system_u (s0))
(userrange system_u ((s0) (s0 (range c0 c1023))))
(allow every every (process (transition dyntransition)))
(allow every every (file (read write open getattr execute entrypoint execute_no_trans map)))
(mlsconstrain (file (read write)) (or (dom h1 h2) (eq t1 host_t)))
";
    // In the kernel's order; those without a context are unlabeled.
    let sids = "kernel security unlabeled fs file file_labels init any_socket port netif netmsg node igmp_packet icmp_socket \
        tcp_socket sysctl_modprobe sysctl sysctl_fs sysctl_kernel sysctl_net sysctl_net_unix sysctl_vm sysctl_dev kmod policy \
        scmp_packet devnull";
    for sid in sids.split_whitespace() {
        let (role, kind) = match sid {
            "kernel" | "init" => ("system_r", "host_t"),
            _ => ("object_r", "object_t"),
        };
        let _ = writeln!(
            text,
            "(sid {sid})\n(sidcontext {sid} (system_u {role} {kind} low))"
        );
    }
    let _ = writeln!(
        text,
        "(sidorder ({}))",
        sids.split_whitespace().collect::<Vec<_>>().join(" ")
    );
    for kind in ["tmpfs", "devtmpfs", "devpts", "mqueue", "hugetlbfs", "shm"] {
        let _ = writeln!(
            text,
            "(fsuse trans {kind} (system_u object_r object_t low))"
        );
    }
    text += "(fsuse xattr overlay (system_u object_r object_t low))
(fsuse xattr ext4 (system_u object_r object_t low))
(genfscon proc / (system_u object_r object_t low))
(genfscon sysfs / (system_u object_r object_t low))
(genfscon cgroup2 / (system_u object_r object_t low))
(genfscon selinuxfs / (system_u object_r object_t low))
(genfscon rootfs / (system_u object_r object_t low))
";
    text
}

const HEAD: &str = r#"
set -e
R="/usr/bin/subject SUBCOMMAND --root /run/rt"
same() { [ "$1" = "$2" ] || { echo "got '$1', not '$2'"; exit 1; }; }
"#;

const CASES: &[(&str, &str)] = &[
    (
        "load",
        "dd if=/policy of=/sys/fs/selinux/load bs=16M 2> /tmp/error || { cat /tmp/error; dmesg | tail; exit 1; }
        same \"$(cat /proc/self/attr/current | tr -d '\\0')\" system_u:system_r:host_t:s0",
    ),
    (
        "labels",
        r#"$R run --bundle /bundle c1 < /dev/null > /tmp/seen
        same "$(sed -n 1p /tmp/seen | tr -d '\0')" PROCESS
        grep -q '^tmpfs /dev tmpfs .*context=.\?FILES' /tmp/seen
        grep -q ' /dev/shm tmpfs .*context=.\?FILES' /tmp/seen"#,
    ),
    (
        "exec",
        r#"sed 's|"cat /proc/self/attr/current; cat /proc/mounts"|"sleep 1000"|' /bundle/config.json > /tmp/idle
        cp -a /bundle /idle && cp /tmp/idle /idle/config.json
        $R create --bundle /idle c2 < /dev/null > /dev/null 2>&1; $R start c2
        same "$($R exec c2 cat /proc/self/attr/current | tr -d '\0')" PROCESS
        $R delete --force c2"#,
    ),
    (
        "unknown-label",
        r#"cp -a /idle /bad
        sed -i 's|container_t:s0|nosuch_t:s0|' /bad/config.json
        if $R create --bundle /bad c3 < /dev/null > /tmp/error 2>&1; then echo created; exit 1; fi
        if $R state c3 2> /dev/null; then echo known; exit 1; fi
        grep -q nosuch_t /tmp/error || { cat /tmp/error; exit 1; }"#,
    ),
    (
        "enforcing",
        r#"mount -t tmpfs -o 'context="FILES"' own /own
        mount -t tmpfs -o 'context="system_u:object_r:container_file_t:s0:c3,c4"' others /others
        echo mine > /own/file; echo theirs > /others/file
        echo 1 > /sys/fs/selinux/enforce
        $R create --bundle /idle c4 < /dev/null > /dev/null 2>&1; $R start c4
        pid=$($R state c4 | sed -n 's/.*"pid": \([0-9]*\).*/\1/p')
        same "$($R exec c4 cat /own/file)" mine
        ! $R exec c4 cat /others/file
        echo 0 > /sys/fs/selinux/enforce
        same "$($R exec c4 cat /others/file)" theirs
        $R delete --force c4
        umount /own /others"#,
    ),
];

/// With Hull's own daemon: every container has categories of its own, on its process and its files.
const DAEMON: &str = r#"
H="/usr/bin/subject -H unix:///run/hull.sock"
modprobe overlay; mkdir -p /data
/usr/bin/subject daemon --selinux-enabled --data-root /data --exec-root /run/hull --pidfile /run/hull.pid --bridge none -H unix:///run/hull.sock > /tmp/daemon 2>&1 &
for turn in $(seq 60); do $H version > /dev/null 2>&1 && break; sleep 1; done
    $H version > /dev/null || { cat /tmp/daemon; exit 1; }
tar -c -C /bundle/rootfs . | $H import - busybox > /dev/null
run() { $H run --network none "$@"; }
a=$(run --name first busybox cat /proc/self/attr/current | tr -d '\0')
b=$(run --name second busybox cat /proc/self/attr/current | tr -d '\0')
echo "$a $b"
case "$a" in system_u:system_r:container_t:s0:c*,c*) ;; *) exit 1 ;; esac
[ "$a" != "$b" ]
same "$($H inspect -f '{{.ProcessLabel}}' first)" "$a"
same "$(run --rm --security-opt label=level:s0:c5,c6 busybox cat /proc/self/attr/current | tr -d '\0')" system_u:system_r:container_t:s0:c5,c6
same "$(run --rm --security-opt label=disable busybox cat /proc/self/attr/current | tr -d '\0')" system_u:system_r:host_t:s0
same "$(run --rm --privileged busybox cat /proc/self/attr/current | tr -d '\0')" system_u:system_r:host_t:s0
run --rm --security-opt label=level:s0:c5,c6 busybox grep ' / ' /proc/mounts | grep 'context=.\?system_u:object_r:container_file_t:s0:c5,c6'
$H rm first second > /dev/null
kill %1; wait
"#;

#[test]
fn selinux_labels_processes_and_files() {
    if let Some(reason) = vm::missing() {
        hull_testkit::skip!("no virtual machine: {reason}");
        return;
    }
    let Some(compiler) = hull_testkit::skips::program("secilc") else {
        hull_testkit::skip!("secilc is not installed");
        return;
    };
    let root = TempRoot::new("hconf-selinux");
    let source = root.file("policy.cil", policy());
    let binary = root.join("policy");
    let mut command = Command::new(compiler);
    command
        .args(["-c", "31", "-M", "true", "-f", "/dev/null", "-o"])
        .arg(&binary)
        .arg(source);
    process::run(&mut command, Duration::from_secs(60))
        .expect("run secilc")
        .ok();
    let mut bundle = Bundle::new(
        &root,
        "bundle",
        &["sh", "-c", "cat /proc/self/attr/current; cat /proc/mounts"],
    );
    bundle.edit(|spec| {
        spec["process"]["selinuxLabel"] = PROCESS.into();
        spec["linux"]["mountLabel"] = FILES.into();
        let mounts = spec["mounts"].as_array_mut().expect("mounts");
        for name in ["/own", "/others"] {
            mounts.push(
                json!({"destination": name, "source": name, "type": "none", "options": ["rbind"]}),
            );
        }
    });
    bundle.write();
    let head = HEAD.replace("SUBCOMMAND", &subject().subcommand());
    let mut machine = Vm::new()
        .and_then(|vm| vm.program("usr/bin/subject", subject().program()))
        .and_then(|vm| vm.copy("bundle", bundle.path()))
        .and_then(|vm| vm.copy("policy", &binary))
        .expect("put a machine together")
        .memory_mib(1536)
        .limits(Duration::from_secs(420), 120)
        .kernel_arguments("lsm=landlock,lockdown,yama,selinux,bpf selinux=1 enforcing=0");
    let mut cases = CASES.to_vec();
    if subject().subcommand() == "runtime" {
        cases.push(("daemon", DAEMON));
    }
    for (name, commands) in &cases {
        let commands = commands.replace("PROCESS", PROCESS).replace("FILES", FILES);
        machine = machine.case(name, &format!("{head}\nmkdir -p /own /others\n{commands}"));
    }
    let report = machine.run().expect("run the virtual machine");
    for (name, _) in &cases {
        if *name == "unknown-label" && is(&[Flavor::Crun]) {
            continue;
        }
        report.case(name).ok();
    }
}
