//! The flags of `run`, one by one: what each does inside the container, read from the kernel's own files.

use crate::engine::{BUSYBOX, Engine, Kind, folder, kind};

/// One flag (or a few that belong together), a command for the container's shell, and what it prints.
type Case<'a> = (&'a [&'a str], &'a str, &'a str);

/// Runs every case and reports all that differ, not the first alone.
#[track_caller]
fn table(engine: &Engine, cases: &[Case<'_>]) {
    let mut wrong = Vec::new();
    for (flags, script, wanted) in cases {
        let mut args = vec!["run", "--rm"];
        args.extend(*flags);
        args.extend([BUSYBOX, "sh", "-c", script]);
        let output = engine.run(&args);
        let got = output.stdout.trim_end().replace('\r', "");
        if !output.status.success() || got != *wanted {
            wrong.push(format!(
                "{flags:?} {script}\n  wanted {wanted:?}\n  got    {got:?} ({}) {}",
                output.status, output.stderr
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_process() {
    let Some(engine) = Engine::start() else {
        return;
    };
    let env = engine.root().file("env", "# none\nFROM_FILE=f\n");
    let env = env.display().to_string();
    let labels = engine.root().file("labels", "one=1\n");
    let labels = labels.display().to_string();
    table(
        &engine,
        &[
            (
                &["-e", "A=1", "--env", "B=two words"],
                "echo $A $B",
                "1 two words",
            ),
            (
                &["--env-file", &env, "-e", "A=2"],
                "echo $FROM_FILE$A",
                "f2",
            ),
            (&["-w", "/a/b"], "pwd", "/a/b"),
            (&["--workdir", "/"], "pwd", "/"),
            (&["-u", "1000:1001"], "id -u; id -g", "1000\n1001"),
            (&["--user", "daemon"], "id -u; id -g", "1\n1"),
            (
                &["--group-add", "users", "--group-add", "44"],
                "id -G",
                "0 44 100",
            ),
            (
                &["-h", "box", "--domainname", "example"],
                "hostname; cat /proc/sys/kernel/domainname",
                "box\nexample",
            ),
            (&["-t"], "test -t 1 && echo terminal", "terminal"),
            (&["-i"], "wc -c", "0"),
            (&["--init"], "test $$ != 1 && echo second", "second"),
            (
                &["--oom-score-adj", "321"],
                "cat /proc/self/oom_score_adj",
                "321",
            ),
            (
                &["--ulimit", "nofile=100:200", "--ulimit", "core=0"],
                "ulimit -Sn; ulimit -Hn; ulimit -c",
                "100\n200\n0",
            ),
            (
                &["--cap-drop", "ALL"],
                "grep CapEff /proc/self/status | cut -f2",
                "0000000000000000",
            ),
            (
                &[
                    "--cap-drop",
                    "ALL",
                    "--cap-add",
                    "CAP_CHOWN",
                    "--cap-add",
                    "kill",
                ],
                "grep CapEff /proc/self/status | cut -f2",
                "0000000000000021",
            ),
            (
                &["--security-opt", "no-new-privileges:true"],
                "grep NoNewPrivs /proc/self/status | cut -f2",
                "1",
            ),
            (
                &["--security-opt", "seccomp=unconfined"],
                "grep Seccomp: /proc/self/status | cut -f2",
                "0",
            ),
            (
                &[
                    "--security-opt",
                    "label=disable",
                    "--security-opt",
                    "apparmor=unconfined",
                ],
                "echo on",
                "on",
            ),
            (
                &["--security-opt", "systempaths=unconfined"],
                "grep -c ' /proc/' /proc/self/mountinfo || true",
                "0",
            ),
            (
                &[
                    "--sysctl",
                    "kernel.msgmax=1234",
                    "--sysctl",
                    "net.ipv4.ip_forward=0",
                ],
                "cat /proc/sys/kernel/msgmax /proc/sys/net/ipv4/ip_forward",
                "1234\n0",
            ),
            (
                &["--stop-signal", "USR1", "--stop-timeout", "7"],
                "true",
                "",
            ),
            (&["--label", "a=b", "--label-file", &labels], "true", ""),
            (&["--no-healthcheck"], "true", ""),
            (&["--log-driver", "none"], "echo still shown", "still shown"),
            (
                &["--log-opt", "max-size=1m", "--log-opt", "max-file=2"],
                "echo x",
                "x",
            ),
            (&["--attach", "stdout"], "echo out; echo err >&2", "out"),
            (&["--runtime", "runc"], "echo ran", "ran"),
            (&["--kernel-memory", "50m"], "echo ignored", "ignored"),
        ],
    );
    // An entrypoint of the flag's drops the image's command.
    assert_eq!(
        engine.ok(&["run", "--rm", "--entrypoint", "echo", BUSYBOX, "a"]),
        "a"
    );
    engine.ok(&[
        "create",
        "--name",
        "kept",
        "--stop-signal",
        "USR1",
        "--stop-timeout",
        "7",
        "--label",
        "a=b",
        "--label-file",
        &labels,
        "--restart",
        "on-failure:3",
        "--health-cmd",
        "true",
        "--health-interval",
        "3s",
        "--health-timeout",
        "4s",
        "--health-retries",
        "5",
        "--health-start-period",
        "6s",
        "--log-opt",
        "max-size=1m",
        BUSYBOX,
    ]);
    assert_eq!(
        engine.inspect("kept", "{{.Config.StopSignal}} {{.Config.StopTimeout}} {{.Config.Labels}} {{.HostConfig.RestartPolicy}} {{json .Config.Healthcheck}} {{.HostConfig.LogConfig}}"),
        "USR1 7 map[a:b one:1] {on-failure 3} {\"Test\":[\"CMD-SHELL\",\"true\"],\"Interval\":3000000000,\"Timeout\":4000000000,\"StartPeriod\":6000000000,\"Retries\":5} {json-file map[max-size:1m]}"
    );
}

#[test]
fn the_namespaces() {
    let Some(engine) = Engine::start() else {
        return;
    };
    let base = engine.ok(&[
        "run",
        "-d",
        "--name",
        "base",
        "--ipc",
        "shareable",
        BUSYBOX,
        "sleep",
        "1000",
    ]);
    let host = |name: &str| {
        std::fs::read_link(format!("/proc/self/ns/{name}"))
            .expect("a namespace")
            .display()
            .to_string()
    };
    let of_base =
        |name: &str| engine.ok(&["exec", &base, "readlink", &format!("/proc/1/ns/{name}")]);
    let link = |name: &str| format!("readlink /proc/self/ns/{name}");
    for (flag, value, name, wanted) in [
        ("--pid", "host", "pid", host("pid")),
        ("--pid", "container:base", "pid", of_base("pid")),
        ("--ipc", "host", "ipc", host("ipc")),
        ("--ipc", "container:base", "ipc", of_base("ipc")),
        ("--uts", "host", "uts", host("uts")),
        ("--userns", "host", "user", host("user")),
        ("--cgroupns", "host", "cgroup", host("cgroup")),
        ("--network", "container:base", "net", of_base("net")),
    ] {
        table(&engine, &[(&[flag, value], &link(name), &wanted)]);
    }
    for (flag, value, name) in [
        ("--ipc", "private", "ipc"),
        ("--cgroupns", "private", "cgroup"),
        ("--network", "none", "net"),
    ] {
        let own = engine.ok(&[
            "run",
            "--rm",
            flag,
            value,
            BUSYBOX,
            "readlink",
            &format!("/proc/self/ns/{name}"),
        ]);
        assert!(own != host(name) && own != of_base(name), "{flag} {value}");
    }
    table(
        &engine,
        &[
            (
                &["--cgroupns", "private"],
                "cut -d: -f3 /proc/self/cgroup | sort -u",
                "/",
            ),
            (
                &["--ipc", "none"],
                "grep -c ' /dev/shm ' /proc/self/mountinfo || true",
                "0",
            ),
            // What containerd's default gives a network namespace of its own (moby 20.10 and later).
            (
                &[],
                "cat /proc/sys/net/ipv4/ip_unprivileged_port_start",
                "0",
            ),
            (
                &[],
                "echo $(cat /proc/sys/net/ipv4/ping_group_range)",
                "0 2147483647",
            ),
            (
                &["--network", "none"],
                "cat /proc/sys/net/ipv4/ip_unprivileged_port_start",
                "0",
            ),
            (
                &["--sysctl", "net.ipv4.ip_unprivileged_port_start=77"],
                "cat /proc/sys/net/ipv4/ip_unprivileged_port_start",
                "77",
            ),
        ],
    );
    engine.fails(
        &[
            "run",
            "--rm",
            "--network",
            "host",
            "--sysctl",
            "net.ipv4.ip_forward=0",
            BUSYBOX,
            "true",
        ],
        125,
        "not allowed in host network namespace",
    );
    engine.fails(
        &["run", "--rm", "--ipc", "container:kept", BUSYBOX],
        125,
        "No such container: kept",
    );
}

#[test]
fn limits_are_in_the_cgroup() {
    let Some(engine) = Engine::start() else {
        return;
    };
    if !std::path::Path::new("/sys/fs/cgroup/memory").is_dir() {
        hull_testkit::skip!("the machine has no cgroup v1; the runtime's own tests judge v2");
        return;
    }
    let disk = disk();
    let rate = |value: &str| format!("{}:{value}", disk.path);
    let (bps_in, bps_out, io_in, io_out) = (rate("30mb"), rate("40mb"), rate("3000"), rate("4000"));
    let shown = |value: &str| format!("{} {value}", disk.numbers);
    let (shown_in, shown_out, shown_io_in, shown_io_out) = (
        shown("31457280"),
        shown("41943040"),
        shown("3000"),
        shown("4000"),
    );
    table(
        &engine,
        &[
            (
                &["-m", "64m"],
                "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory/memory.memsw.limit_in_bytes",
                "67108864\n134217728",
            ),
            (
                &["-m", "64m", "--memory-swap", "96m"],
                "cat /sys/fs/cgroup/memory/memory.memsw.limit_in_bytes",
                "100663296",
            ),
            (
                &["-m", "64m", "--memory-swap", "-1"],
                "cat /sys/fs/cgroup/memory/memory.memsw.limit_in_bytes",
                "9223372036854771712",
            ),
            (
                &["--memory-reservation", "32m"],
                "cat /sys/fs/cgroup/memory/memory.soft_limit_in_bytes",
                "33554432",
            ),
            (
                &["--memory-swappiness", "10"],
                "cat /sys/fs/cgroup/memory/memory.swappiness",
                "10",
            ),
            (
                &["--oom-kill-disable", "-m", "64m"],
                "head -1 /sys/fs/cgroup/memory/memory.oom_control",
                "oom_kill_disable 1",
            ),
            (
                &["--cpus", "0.5"],
                "cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us",
                "50000",
            ),
            (
                &["--cpu-period", "50000", "--cpu-quota", "20000"],
                "cat /sys/fs/cgroup/cpu/cpu.cfs_period_us /sys/fs/cgroup/cpu/cpu.cfs_quota_us",
                "50000\n20000",
            ),
            (&["-c", "512"], "cat /sys/fs/cgroup/cpu/cpu.shares", "512"),
            (
                &["--cpuset-cpus", "0", "--cpuset-mems", "0"],
                "cat /sys/fs/cgroup/cpuset/cpuset.cpus /sys/fs/cgroup/cpuset/cpuset.mems",
                "0\n0",
            ),
            (
                &["--pids-limit", "50"],
                "cat /sys/fs/cgroup/pids/pids.max",
                "50",
            ),
            (
                &["--pids-limit", "-1"],
                "cat /sys/fs/cgroup/pids/pids.max",
                "max",
            ),
            (
                &["--device-read-bps", &bps_in],
                "cat /sys/fs/cgroup/blkio/blkio.throttle.read_bps_device",
                &shown_in,
            ),
            (
                &["--device-write-bps", &bps_out],
                "cat /sys/fs/cgroup/blkio/blkio.throttle.write_bps_device",
                &shown_out,
            ),
            (
                &["--device-read-iops", &io_in],
                "cat /sys/fs/cgroup/blkio/blkio.throttle.read_iops_device",
                &shown_io_in,
            ),
            (
                &["--device-write-iops", &io_out],
                "cat /sys/fs/cgroup/blkio/blkio.throttle.write_iops_device",
                &shown_io_out,
            ),
            (
                &["--device-cgroup-rule", "c 10:200 rwm"],
                "grep 10:200 /sys/fs/cgroup/devices/devices.list",
                "c 10:200 rwm",
            ),
            (
                &["--device", "/dev/null:/dev/mine:r"],
                "ls -l /dev/mine | cut -c1; grep -c '^c 1:3 ' /sys/fs/cgroup/devices/devices.list",
                "c\n1",
            ),
            (
                &["--shm-size", "16m"],
                "df -k /dev/shm | tail -1 | tr -s ' ' | cut -d' ' -f2",
                "16384",
            ),
        ],
    );
    let parent = format!("/{}", engine.root().name());
    let placed = engine.ok(&[
        "run",
        "--rm",
        "--cgroup-parent",
        &parent,
        "--cgroupns",
        "host",
        BUSYBOX,
        "sh",
        "-c",
        "grep :memory: /proc/self/cgroup",
    ]);
    assert!(placed.contains(&format!(":{parent}/")), "{placed}");
    // What is above the container's own cgroup is the user's to remove, in Docker too.
    remove_cgroups(&engine.root().name());
    if disk.scheduler_is_bfq {
        hull_testkit::skip!("the disk takes weights: the warning cannot be seen");
        return;
    }
    let weighed = engine.run(&[
        "run",
        "--rm",
        "--blkio-weight-device",
        &rate("300"),
        BUSYBOX,
        "true",
    ]);
    assert!(
        weighed.status.success() && weighed.stderr.contains("Weight-device discarded."),
        "{}",
        weighed.stderr
    );
    let never_killed = engine.run(&["run", "--rm", "--oom-kill-disable", BUSYBOX, "true"]);
    assert!(
        never_killed
            .stderr
            .contains("OOM killer is disabled for the container, but no memory limit is set"),
        "{}",
        never_killed.stderr
    );
}

/// A block device of the host, as `/dev/NAME` and `MAJOR:MINOR`.
struct Disk {
    path: String,
    numbers: String,
    scheduler_is_bfq: bool,
}

fn disk() -> Disk {
    let mut names: Vec<_> = std::fs::read_dir("/sys/block")
        .expect("list the disks")
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| {
            ["vd", "sd", "nvme", "xvd", "loop"]
                .iter()
                .any(|kind| name.starts_with(kind))
        })
        .collect();
    // Real disks before loop devices.
    names.sort_by_key(|name| name.starts_with("loop"));
    let name = names.first().expect("a disk");
    let read = |file: &str| {
        std::fs::read_to_string(format!("/sys/block/{name}/{file}")).unwrap_or_default()
    };
    Disk {
        path: format!("/dev/{name}"),
        numbers: read("dev").trim().to_owned(),
        scheduler_is_bfq: read("queue/scheduler").contains("[bfq]"),
    }
}

fn remove_cgroups(name: &str) {
    for hierarchy in std::fs::read_dir("/sys/fs/cgroup").expect("list the hierarchies") {
        let path = hierarchy.expect("an entry").path().join(name);
        match std::fs::remove_dir(&path) {
            Err(error)
                if error.kind() != std::io::ErrorKind::NotFound
                    && error.kind() != std::io::ErrorKind::NotADirectory =>
            {
                panic!("remove {}: {error}", path.display())
            }
            _ => {}
        }
    }
}

#[test]
fn the_mounts() {
    let Some(engine) = Engine::start() else {
        return;
    };
    let host = folder(&engine, "bound");
    std::fs::write(host.join("file"), "from host").expect("write");
    let host = host.display().to_string();
    let volume = format!("{host}:/in");
    let read_only = format!("{host}:/in:ro");
    let bind = format!("type=bind,source={host},target=/in,readonly");
    let slave = format!("type=bind,source={host},target=/in,bind-propagation=private");
    let options = "grep ' /in ' /proc/self/mountinfo | cut -d' ' -f6 | cut -d, -f1";
    engine.ok(&[
        "run",
        "--name",
        "source",
        "-v",
        "shared:/shared",
        BUSYBOX,
        "sh",
        "-c",
        "echo x > /shared/x",
    ]);
    table(
        &engine,
        &[
            (&["-v", &volume], "cat /in/file", "from host"),
            (&["-v", &volume], options, "rw"),
            (&["-v", &read_only], options, "ro"),
            (&["--mount", &bind], options, "ro"),
            (
                &["--mount", &slave],
                "grep ' /in ' /proc/self/mountinfo | grep -c 'shared:\\|master:' || true",
                "0",
            ),
            (
                &["--mount", "type=volume,source=named,target=/in"],
                options,
                "rw",
            ),
            (
                &["--volume-driver", "local", "-v", "named:/in"],
                options,
                "rw",
            ),
            (
                &["-v", "/anonymous"],
                "grep -c ' /anonymous ' /proc/self/mountinfo",
                "1",
            ),
            (&["--volumes-from", "source"], "cat /shared/x", "x"),
            (
                &["--volumes-from", "source:ro"],
                "touch /shared/y 2>&1 | grep -c Read-only",
                "1",
            ),
            (
                &["--tmpfs", "/t:size=1m,mode=1770,uid=5"],
                "stat -c %a:%u /t; df -k /t | tail -1 | tr -s ' ' | cut -d' ' -f2",
                "1770:5\n1024",
            ),
            (
                &[
                    "--mount",
                    "type=tmpfs,target=/t,tmpfs-size=2m,tmpfs-mode=0700",
                ],
                "stat -c %a /t",
                "700",
            ),
            (
                &["--read-only"],
                "grep ' / / ' /proc/self/mountinfo | cut -d' ' -f6 | cut -d, -f1",
                "ro",
            ),
            (
                &["--read-only", "--tmpfs", "/run"],
                "touch /run/x && touch /x 2>&1 | grep -c Read-only",
                "1",
            ),
        ],
    );
    // A propagation other than private needs a shared mount on the host.
    let shared = folder(&engine, "propagated").display().to_string();
    let mount = |args: &[&str]| {
        let output = hull_testkit::process::run(
            std::process::Command::new(args[0]).args(&args[1..]),
            std::time::Duration::from_secs(10),
        );
        assert!(output.expect("run").status.success(), "{args:?}");
    };
    mount(&["mount", "--bind", &shared, &shared]);
    mount(&["mount", "--make-shared", &shared]);
    let seen = |mode: &str| {
        engine.run(&[
            "run",
            "--rm",
            "-v",
            &format!("{shared}:/in:{mode}"),
            BUSYBOX,
            "sh",
            "-c",
            "grep ' /in ' /proc/self/mountinfo | grep -o 'shared:\\|master:'",
        ])
    };
    let (as_shared, as_slave) = (seen("rshared"), seen("rslave"));
    mount(&["umount", &shared]);
    assert_eq!(
        (as_shared.stdout.trim(), as_slave.stdout.trim()),
        ("shared:", "master:"),
        "{} {}",
        as_shared.stderr,
        as_slave.stderr
    );
    engine.fails(
        &["run", "--rm", "--storage-opt", "size=1G", BUSYBOX, "true"],
        125,
        "--storage-opt is supported only for overlay over xfs with 'pquota' mount option",
    );
    engine.fails(
        &["run", "--rm", "--volumes-from", "nobody:ro", BUSYBOX],
        125,
        "No such container: nobody",
    );
}

#[test]
fn the_network() {
    let Some(engine) = Engine::start() else {
        return;
    };
    engine.ok(&[
        "network",
        "create",
        "--subnet",
        "10.218.9.0/24",
        "--ipv6",
        "--subnet",
        "fd00:218::/64",
        "net1",
    ]);
    engine.ok(&[
        "run",
        "-d",
        "--name",
        "base",
        "--network",
        "net1",
        "--network-alias",
        "other",
        BUSYBOX,
        "sleep",
        "1000",
    ]);
    engine.ok(&[
        "run", "-d", "--name", "old", "-e", "SECRET=1", "--expose", "81", BUSYBOX, "sleep", "1000",
    ]);
    let address = engine.inspect(
        "old",
        "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}",
    );
    let linked = format!("{address}\n{address}");
    table(
        &engine,
        &[
            (
                &["--network", "net1", "--ip", "10.218.9.77"],
                "ip -4 -o address show dev eth0 | tr -s ' ' | cut -d' ' -f4",
                "10.218.9.77/24",
            ),
            (
                &["--network", "net1", "--ip6", "fd00:218::77"],
                "ip -6 -o address show dev eth0 scope global | tr -s ' ' | cut -d' ' -f4",
                "fd00:218::77/64",
            ),
            (
                &["--network", "net1"],
                "nslookup other | grep -c 10.218.9",
                "1",
            ),
            (
                &[
                    "--dns",
                    "10.1.2.3",
                    "--dns-search",
                    "example",
                    "--dns-option",
                    "ndots:3",
                ],
                "grep -v '^#' /etc/resolv.conf | grep -v '^$' | sort",
                "nameserver 10.1.2.3\noptions ndots:3\nsearch example",
            ),
            (
                &["--add-host", "extra:10.9.8.7"],
                "grep extra /etc/hosts | cut -f1",
                "10.9.8.7",
            ),
            (
                &["--add-host", "up:host-gateway"],
                "grep up$ /etc/hosts | cut -f1",
                "10.211.0.1",
            ),
            (
                &["--link", "old:alias"],
                "grep alias /etc/hosts | cut -f1; echo $ALIAS_PORT_81_TCP_ADDR",
                &linked,
            ),
            (
                &["--network", "none"],
                "ls /sys/class/net | grep -c eth || true",
                "0",
            ),
        ],
    );
    if kind() == Kind::Docker {
        hull_testkit::skip!(
            "a client of today gives no --mac-address to a dockerd before API 1.44, and no --annotation before 1.43"
        );
        return;
    }
    table(
        &engine,
        &[(
            &["--mac-address", "02:42:ac:11:00:99"],
            "cat /sys/class/net/eth0/address",
            "02:42:ac:11:00:99",
        )],
    );
    engine.ok(&[
        "create",
        "--name",
        "noted",
        "--annotation",
        "org.example.a=b",
        BUSYBOX,
    ]);
    engine.ok(&["start", "noted"]);
    assert_eq!(
        engine.inspect("noted", "{{json .HostConfig.Annotations}}"),
        "{\"org.example.a\":\"b\"}"
    );
}

#[test]
fn ports_and_ranges() {
    let Some(engine) = Engine::start() else {
        return;
    };
    let ports = |name: &str| {
        let mut lines: Vec<String> = engine
            .ok(&["port", name])
            .lines()
            .filter(|line| !line.contains("[::]"))
            .map(str::to_owned)
            .collect();
        lines.sort();
        lines.join("\n")
    };
    let run = |name: &str, flags: &[&str]| {
        let mut args = vec!["run", "-d", "--name", name];
        args.extend(flags);
        args.extend([BUSYBOX, "sleep", "1000"]);
        engine.ok(&args);
    };
    run("one", &["-p", "7001:80", "-p", "127.0.0.1:7002:81/udp"]);
    assert_eq!(
        ports("one"),
        "80/tcp -> 0.0.0.0:7001\n81/udp -> 127.0.0.1:7002"
    );
    run("range", &["-p", "7010-7012:90-92"]);
    assert_eq!(
        ports("range"),
        "90/tcp -> 0.0.0.0:7010\n91/tcp -> 0.0.0.0:7011\n92/tcp -> 0.0.0.0:7012"
    );
    // A range for one port: the first that is free.
    run("first", &["-p", "7010-7015:80"]);
    assert_eq!(ports("first"), "80/tcp -> 0.0.0.0:7013");
    run("all", &["-P", "--expose", "81", "--expose", "90-91/udp"]);
    let all = ports("all");
    assert_eq!(
        all.lines()
            .map(|line| line.split(" -> ").next().unwrap_or_default())
            .collect::<Vec<_>>(),
        ["81/tcp", "90/udp", "91/udp"],
        "{all}"
    );
    run("chosen", &["-p", "80", "-p", "127.0.0.1::81"]);
    let chosen = ports("chosen");
    assert!(
        chosen.lines().count() == 2 && chosen.contains("81/tcp -> 127.0.0.1:"),
        "{chosen}"
    );
    for (flag, message) in [
        (
            "7200-7202:80-81",
            "invalid ranges specified for container and host Ports: 80-81 and 7200-7202",
        ),
        ("7200:80/foo", "invalid proto: foo"),
        ("1.2.3:80:80", "invalid IP address: 1.2.3"),
        ("80:http", "invalid containerPort: http"),
    ] {
        engine.fails(&["run", "-p", flag, BUSYBOX], 125, message);
    }
    engine.fails(
        &["run", "--rm", "-p", "1.2.3.4:7300:80", BUSYBOX, "true"],
        125,
        "cannot assign requested address",
    );
    engine.fails(
        &["run", "--rm", "-p", "7010-7012:80", BUSYBOX, "true"],
        125,
        "all ports are allocated",
    );
}
