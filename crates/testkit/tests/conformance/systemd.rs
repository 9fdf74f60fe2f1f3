//! The systemd driver, in a virtual machine that systemd manages: cgroup v2, and the v1 hierarchies of older hosts.

use std::time::Duration;

use hull_testkit::TempRoot;
use hull_testkit::bundle::Bundle;
use hull_testkit::vm::{self, Vm};
use serde_json::{Value, json};

use crate::subject::{Flavor, is, subject};

/// Every case begins with this. `show` prints properties of the unit, `gone` waits until nothing is left of it.
const HEAD: &str = r#"
set -ex
R="/usr/bin/subject SUBCOMMAND --systemd-cgroup --root /run/rt"
unit=hull-c1.scope
inside=machine.slice/machine-hull.slice/$unit
show() { systemctl show -p "$1" --value $unit; }
same() { [ "$1" = "$2" ] || { echo "got '$1', not '$2'"; exit 1; }; }
up() { $R create --bundle /bundle c1 > /dev/null < /dev/null 2> /tmp/error || { cat /tmp/error; dmesg | tail -n 20; exit 1; }; $R start c1; }
down() { $R delete --force c1; gone; }
gone() {
    for turn in 1 2 3 4 5 6 7 8 9 10; do
        [ -n "$(systemctl list-units --all --no-legend 'hull-c1*')$(find /sys/fs/cgroup -name 'hull-c1*')" ] || return 0
        sleep 1
    done
    systemctl list-units --all 'hull-c1*'; find /sys/fs/cgroup -name 'hull-c1*'; exit 1
}
"#;

const CASES: &[(&str, &str)] = &[
    (
        "unit",
        r#"up
        same "$(show ControlGroup)" /$inside
        same "$(show Slice)" machine-hull.slice
        same "$(show Delegate)" yes
        same "$(show DefaultDependencies)" no
        same "$(show TasksMax)" 33
        same "$(show CPUQuotaPerSecUSec)" 500ms
        same "$(show DevicePolicy)" strict
        same "$(show TimeoutStopUSec)" 7s
        show DeviceAllow | grep -q /dev/char/1:3
        down"#,
    ),
    (
        "exec",
        r#"up
        same "$(echo | $R exec c1 id -u)" 0
        $R exec -d c1 sleep 500 < /dev/null > /dev/null 2>&1
        same "$($R ps -f json c1 | tr ',' '\n' | wc -l)" 2
        same "$(systemctl show -p TasksCurrent --value $unit)" 2
        down"#,
    ),
    (
        "pause",
        r#"up
        $R pause c1
        $R state c1 | grep -q '"status": "paused"'
        $R resume c1
        $R state c1 | grep -q '"status": "running"'
        down"#,
    ),
    (
        "reload",
        r#"up
        systemctl daemon-reload
        same "$(show TasksMax)" 33
        $R exec c1 sh -c 'echo x > /dev/null; mknod /tmp/disk b 254 0; ! cat /tmp/disk'
        down"#,
    ),
    (
        "end",
        r#"up
        $R kill c1 KILL
        sleep 1
        $R state c1 | grep -q '"status": "stopped"'
        $R delete c1
        gone"#,
    ),
    (
        "refusal",
        r#"cp -a /bundle /bad
        sed -i 's|"type": "proc"|"type": "nosuchfs"|' /bad/config.json
        ! $R create --bundle /bad c1 > /dev/null 2>&1 < /dev/null
        gone"#,
    ),
    (
        "names",
        r#"cp -a /bundle /names
        sed -i 's|machine-hull.slice:hull:c1|/a/b|' /names/config.json
        ! $R create --bundle /names c1 2> /tmp/error < /dev/null
        grep 'expected cgroupsPath to be of format .*slice:prefix:name' /tmp/error
        gone"#,
    ),
    (
        "without-bus",
        r#"systemctl stop dbus.socket dbus.service
        for turn in 1 2 3 4 5; do
            up
            same "$(systemctl is-active $unit)" active
            down
        done"#,
    ),
];

/// What only the unified hierarchy has as files and properties.
const V2: &[(&str, &str)] = &[
    (
        "limits",
        r#"up
        same "$(show MemoryMax)" 67108864
        same "$(show MemorySwapMax)" 0
        same "$(show CPUWeight)" 39
        same "$(show AllowedCPUs)" 0
        same "$(cat /sys/fs/cgroup/$inside/memory.max)" 67108864
        same "$(cat /sys/fs/cgroup/$inside/cpu.max)" "50000 100000"
        same "$(cat /sys/fs/cgroup/$inside/cgroup.procs)" "$($R state c1 | sed -n 's/.*"pid": \([0-9]*\).*/\1/p')"
        down"#,
    ),
    (
        "update",
        r#"up
        $R update --memory 134217728 --memory-swap 134217728 --pids-limit 44 c1
        same "$(show MemoryMax)" 134217728
        same "$(show TasksMax)" 44
        same "$(cat /sys/fs/cgroup/$inside/memory.max)" 134217728
        same "$(cat /sys/fs/cgroup/$inside/pids.max)" 44
        down"#,
    ),
    (
        "delegated",
        // A user's own cgroup, as systemd's user manager delegates it: limits hold without any privilege.
        r#"echo user:x:1000:1000::/:/busybox/sh >> /etc/passwd
        mkdir -p /sys/fs/cgroup/user/caller /run/rt1000 /tmp/user
        for file in . cgroup.procs cgroup.subtree_control; do chown 1000:1000 /sys/fs/cgroup/user/$file; done
        chown 1000:1000 /sys/fs/cgroup/user/caller /sys/fs/cgroup/user/caller/cgroup.procs /run/rt1000
        echo '+pids +memory' > /sys/fs/cgroup/cgroup.subtree_control
        cp -a /bundle /rootless && chown -R 1000:1000 /rootless
        cp /bundle/rootless.json /rootless/config.json
        echo $$ > /sys/fs/cgroup/user/caller/cgroup.procs
        as() { su user -c "/usr/bin/subject SUBCOMMAND --root /run/rt1000 $*"; }
        as create --bundle /rootless c1 < /dev/null > /dev/null 2> /tmp/error || { cat /tmp/error; exit 1; }
        as start c1
        same "$(cat /sys/fs/cgroup/user/c1/pids.max)" 33
        same "$(cat /sys/fs/cgroup/user/c1/memory.max)" 67108864
        as delete --force c1
        [ ! -e /sys/fs/cgroup/user/c1 ]
        echo $$ > /sys/fs/cgroup/cgroup.procs
        rmdir /sys/fs/cgroup/user/caller /sys/fs/cgroup/user"#,
    ),
    (
        "user",
        // A user's own systemd, as logind starts it, over its private socket: its units are the container's cgroups.
        r#"grep -q ^user: /etc/passwd || echo user:x:1000:1000::/:/busybox/sh >> /etc/passwd
        grep -q ^user: /etc/group || echo user:x:1000: >> /etc/group
        runtime=/run/user/1000 R="/usr/bin/subject SUBCOMMAND --systemd-cgroup --root /run/rt1001"
        mkdir -p $runtime /run/rt1001
        chown 1000:1000 $runtime /run/rt1001 && chmod 700 $runtime
        cp -a /bundle /own && cp /bundle/rootless.json /own/config.json && chown -R 1000:1000 /own
        sed -i 's|"/user/c1"|"app.slice:hull:c1"|' /own/config.json
        systemd-run --quiet --unit=own --uid=1000 --gid=1000 -p Delegate=yes -p Type=notify -E XDG_RUNTIME_DIR=$runtime /usr/lib/systemd/systemd --user
        tree=/sys/fs/cgroup/system.slice/own.service scope=$tree/app.slice/hull-c1.scope
        # The caller is one of the user's processes: the kernel lets nobody else move them.
        mkdir $tree/caller && chown 1000:1000 $tree/caller $tree/caller/cgroup.procs
        echo $$ > $tree/caller/cgroup.procs
        as() { su user -c "XDG_RUNTIME_DIR=$runtime $*"; }
        as $R create --bundle /own c1 < /dev/null > /dev/null 2> /tmp/error || { cat /tmp/error; exit 1; }
        as $R start c1
        same "$(cat $scope/cgroup.procs)" "$(as $R state c1 | sed -n 's/.*"pid": \([0-9]*\).*/\1/p')"
        same "$(cat $scope/pids.max) $(cat $scope/memory.max)" "33 67108864"
        same "$(as systemctl --user show -p TasksMax --value $unit)" 33
        as $R update --pids-limit 44 c1
        same "$(as systemctl --user show -p TasksMax --value $unit) $(cat $scope/pids.max)" "44 44"
        same "$(echo | as $R exec c1 id -u)" 0
        as $R pause c1
        as $R resume c1
        as $R delete --force c1
        [ ! -e $scope ]
        echo $$ > /sys/fs/cgroup/cgroup.procs
        systemctl stop own"#,
    ),
    (
        "undo",
        // The unit runs when the file refuses.
        r#"cp -a /bundle /high
        sed -i 's|"pids": {|"unified": {"memory.high": "nonsense"}, "pids": {|' /high/config.json
        ! $R create --bundle /high c1 > /tmp/error 2>&1 < /dev/null
        grep memory.high /tmp/error
        gone"#,
    ),
];

const V1: &[(&str, &str)] = &[
    (
        "limits",
        r#"up
        same "$(show CPUShares)" 1024
        same "$(cat /sys/fs/cgroup/pids/$inside/pids.max)" 33
        pid=$($R state c1 | sed -n 's/.*"pid": \([0-9]*\).*/\1/p')
        for hierarchy in systemd cpu,cpuacct pids devices freezer; do
            same "$(cat /sys/fs/cgroup/$hierarchy/$inside/cgroup.procs)" $pid
        done
        down"#,
    ),
    (
        "update",
        r#"up
        $R update --pids-limit 44 c1
        same "$(show TasksMax)" 44
        same "$(cat /sys/fs/cgroup/pids/$inside/pids.max)" 44
        down"#,
    ),
];

/// With the host's criu in the machine: systemd makes the scope anew around what comes back.
const CRIU: (&str, &str) = (
    "criu",
    // criu locks a network of the container's own with iptables, which the machine has not.
    r#"cp -a /bundle/config.json /config.json
    sed -i ':a;N;$!ba;s/{[^{}]*"network"[^{}]*},//' /bundle/config.json
    # With which tar runs gzip, with which criu packs what lies in a tmpfs.
    [ -e /bin/sh ] || ln -s /busybox/sh /bin/sh
    $R run -d --bundle /bundle c1 > /dev/null < /dev/null 2>&1
    same "$(show TasksMax)" 33
    $R checkpoint --image-path /tmp/images c1 || { cat /tmp/images/dump.log | tail -n 20; exit 1; }
    gone
    $R restore -d --image-path /tmp/images --bundle /bundle c1 > /dev/null < /dev/null || { tail -n 20 /tmp/images/restore.log; exit 1; }
    same "$(show ControlGroup)" /$inside
    same "$(show TasksMax) $(show MemoryMax)" "33 67108864"
    same "$(cat /sys/fs/cgroup/$inside/cgroup.procs)" "$($R state c1 | sed -n 's/.*"pid": \([0-9]*\).*/\1/p')"
    same "$(cat /sys/fs/cgroup/$inside/pids.max)" 33
    same "$(echo | $R exec c1 cat /proc/1/comm)" sleep
    down
    mv /config.json /bundle/config.json"#,
);

/// Hull's own daemon with `native.cgroupdriver=systemd`: the API's limits are the unit's properties.
const DAEMON: (&str, &str) = (
    "daemon",
    r#"mkdir -p /data
    H="/usr/bin/subject -H unix:///run/hull.sock"
    /usr/bin/subject daemon --exec-opt native.cgroupdriver=systemd --data-root /data --exec-root /run/hull --pidfile /run/hull.pid --bridge none -H unix:///run/hull.sock > /tmp/daemon 2>&1 &
    for turn in $(seq 60); do $H version > /dev/null 2>&1 && break; sleep 1; done
    $H version > /dev/null || { cat /tmp/daemon; exit 1; }
    tar -c -C /bundle/rootfs . | $H import - busybox > /dev/null
    same "$($H info -f '{{.CgroupDriver}} {{.CgroupVersion}}')" "systemd 2"
    unit=hull-$($H run -d --name web --network none -m 64m --pids-limit 40 --cpus 0.5 busybox sleep 1000).scope
    same "$(show Slice)" system.slice
    same "$(show MemoryMax) $(show TasksMax) $(show CPUQuotaPerSecUSec)" "67108864 40 500ms"
    same "$($H exec web cat /proc/1/comm)" sleep
    same "$(show TasksCurrent)" 1
    $H pause web > /dev/null; $H unpause web > /dev/null
    $H update -m 128m --memory-swap 128m web > /dev/null
    same "$(show MemoryMax)" 134217728
    $H stats --no-stream --format '{{.MemUsage}}' web | grep 128MiB
    $H rm -f web > /dev/null
    other=hull-$($H run -d --name other --network none --cgroup-parent some-where.slice busybox sleep 1000).scope
    same "$(systemctl show -p ControlGroup --value $other)" /some.slice/some-where.slice/$other
    $H rm -f other > /dev/null
    for turn in 1 2 3 4 5; do
        $H run --name short -m 16m --network none busybox tail /dev/zero > /dev/null 2>&1 || same $? 137
        same "$($H inspect -f '{{.State.OOMKilled}}' short)" true
        $H rm short > /dev/null
    done
    for turn in 1 2 3 4 5; do [ -n "$(systemctl list-units --all --no-legend 'hull-*.scope')" ] || break; sleep 1; done
    same "$(systemctl list-units --all --no-legend 'hull-*.scope')" ""
    kill %1; wait"#,
);

/// The same for a user without privileges and with one id: no foreign group, and limits that its cgroup delegates.
fn rootless(spec: &Value) -> Value {
    let mut spec = spec.clone();
    spec["annotations"] = json!({});
    let linux = &mut spec["linux"];
    linux["cgroupsPath"] = "/user/c1".into();
    linux["namespaces"]
        .as_array_mut()
        .expect("namespaces")
        .push(json!({"type": "user"}));
    for field in ["uidMappings", "gidMappings"] {
        linux[field] = json!([{"containerID": 0, "hostID": 1000, "size": 1}]);
    }
    linux["resources"]["cpu"] = json!({});
    for mount in spec["mounts"].as_array_mut().expect("mounts") {
        if let Some(options) = mount["options"].as_array_mut() {
            options.retain(|option| option != "gid=5");
        }
    }
    spec
}

fn run(arguments: &str, cases: &[&[(&str, &str)]], change: impl FnOnce(&mut Value)) {
    if let Some(reason) = vm::missing_systemd() {
        hull_testkit::skip!("no virtual machine with systemd: {reason}");
        return;
    }
    if is(&[Flavor::Runc, Flavor::Crun]) {
        hull_testkit::skip!(
            "Debian 12's runc joins fewer v1 hierarchies, and crun names units in its own way"
        );
        return;
    }
    let root = TempRoot::new("hconf-systemd");
    let mut bundle = Bundle::new(&root, "bundle", &["sleep", "1000"]);
    bundle.edit(|spec| {
        spec["linux"]["cgroupsPath"] = "machine-hull.slice:hull:c1".into();
        spec["annotations"] = json!({"org.systemd.property.TimeoutStopUSec": "uint64 7000000"});
        spec["linux"]["resources"] = json!({
            "devices": [{"allow": false, "access": "rwm"}],
            "memory": {"limit": 67_108_864, "swap": 67_108_864},
            "cpu": {"shares": 1024, "quota": 50_000, "period": 100_000, "cpus": "0"},
            "pids": {"limit": 33},
        });
        change(spec);
    });
    let rootless = rootless(&bundle.spec).to_string();
    std::fs::write(bundle.path().join("rootless.json"), rootless).expect("write a spec");
    let head = HEAD.replace("SUBCOMMAND", &subject().subcommand());
    let mut machine = Vm::new();
    if cases.iter().copied().flatten().any(|case| *case == CRIU) {
        let criu = hull_testkit::skips::program("criu").expect("criu");
        machine = machine.and_then(|vm| vm.program("usr/sbin/criu", criu));
    }
    let mut machine = machine
        .and_then(Vm::systemd)
        .and_then(|vm| vm.program("usr/bin/subject", subject().program()))
        .and_then(|vm| vm.copy("bundle", bundle.path()))
        .expect("put a machine together")
        .memory_mib(1536)
        .limits(Duration::from_secs(540), 150)
        .kernel_arguments(arguments);
    for (name, commands) in cases.iter().copied().flatten() {
        let commands = commands.replace("SUBCOMMAND", &subject().subcommand());
        machine = machine.case(name, &format!("{head}\n{commands}"));
    }
    let report = machine.run().expect("run the virtual machine");
    for (name, _) in cases.iter().copied().flatten() {
        report.case(name).ok();
    }
}

#[test]
fn systemd_makes_units_in_cgroup_v2() {
    let hull = subject().subcommand() == "runtime";
    let daemon = if hull { &[DAEMON][..] } else { &[] };
    // There is no parser for AppArmor's profiles in the guest.
    let criu = if hull_testkit::skips::working_criu() {
        &[CRIU][..]
    } else {
        hull_testkit::skip!("a restore under systemd needs criu 4.1 or newer");
        &[]
    };
    run("apparmor=0", &[daemon, V2, CASES, criu], |_| {});
}

#[test]
fn systemd_makes_units_in_cgroup_v1() {
    let arguments = "systemd.unified_cgroup_hierarchy=0 systemd.legacy_systemd_cgroup_controller=1";
    run(arguments, &[V1, &CASES[..4]], |spec| {
        // Debian's kernel has no memory controller and no cpusets of version 1 any more.
        let resources = &mut spec["linux"]["resources"];
        resources["memory"] = json!({});
        resources["cpu"]["cpus"] = "".into();
    });
}
