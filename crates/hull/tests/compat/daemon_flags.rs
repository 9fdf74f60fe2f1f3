//! The daemon's flags, each by its effect.

use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use hull_testkit::image::Image;
use hull_testkit::process::{self, eventually};
use hull_testkit::{binary, skips};

use crate::engine::{BUSYBOX, Engine, Kind, kind};

/// How long a daemon may take to come up or to stop.
const TIMEOUT: Duration = Duration::from_secs(30);

#[test]
fn each_flag_has_its_effect() {
    let Some(mut engine) = Engine::prepare(&[
        "-H",
        "tcp://127.0.0.1:2399",
        "-D",
        "--fixed-cidr",
        "10.211.0.128/25",
        "--default-address-pool",
        "base=10.204.128.0/17,size=24",
        "--mtu",
        "1400",
        "--dns",
        "10.1.2.3",
        "--dns-search",
        "example",
        "--dns-opt",
        "ndots:3",
        "--storage-driver",
        "vfs",
        "--insecure-registry",
        "10.9.9.0/24",
        "--registry-mirror",
        "http://127.0.0.1:5999",
        "--live-restore",
        "--exec-opt",
        "native.cgroupdriver=cgroupfs",
        "--log-driver",
        "local",
        "--log-opt",
        "max-size=1m",
        "--label",
        "a=b",
        "--default-ulimit",
        "nofile=123:456",
        "--no-new-privileges",
        "--group",
        "100",
        "--max-concurrent-downloads",
        "1",
        "--ip",
        "127.0.0.1",
    ]) else {
        return;
    };
    let parent = format!("/{}", engine.root().name());
    engine.push_args(&["--cgroup-parent", &parent]);
    let profile = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO"}]}"#;
    let profile = engine
        .root()
        .file("profile.json", profile)
        .display()
        .to_string();
    engine.push_args(&["--seccomp-profile", &profile]);
    if kind() == Kind::Hull {
        // dockerd needs a program for the first, and connects to the second.
        engine.push_args(&[
            "--init",
            "--containerd",
            "/nothing",
            "--containerd-namespace",
            "x",
        ]);
        engine.push_args(&["--userland-proxy-path", "/nothing"]);
    }
    let runc = skips::program("runc").map(|path| format!("other={}", path.display()));
    if let Some(other) = &runc {
        engine.push_args(&["--add-runtime", other, "--default-runtime", "other"]);
    }
    engine.start_daemon();
    engine.load(&Image::busybox(BUSYBOX));

    let info = |format: &str| engine.ok(&["info", "--format", format]);
    assert_eq!(
        info(
            "{{.Driver}} {{.LoggingDriver}} {{.CgroupDriver}} {{.LiveRestoreEnabled}} {{.Debug}} {{.Labels}}"
        ),
        "vfs local cgroupfs true true [a=b]"
    );
    let registries = info("{{json .RegistryConfig}}");
    assert!(
        registries.contains("10.9.9.0/24") && registries.contains("http://127.0.0.1:5999/"),
        "{registries}"
    );
    let ping = engine.in_netns(&[
        "busybox",
        "wget",
        "-q",
        "-O",
        "-",
        "http://127.0.0.1:2399/_ping",
    ]);
    assert_eq!(ping, "OK");
    let socket = std::fs::metadata(engine.root().join("e.sock")).expect("the socket");
    assert_eq!((socket.gid(), socket.mode() & 0o777), (100, 0o660));
    let pid = std::fs::read_to_string(engine.root().join("pid")).expect("the pidfile");
    assert_eq!(pid.trim().parse().ok(), engine.daemon_pid());

    engine.ok(&[
        "run", "-d", "--name", "up", "-p", "8080:80", BUSYBOX, "sleep", "1000",
    ]);
    assert_eq!(
        engine.inspect(
            "up",
            "{{.HostConfig.LogConfig.Type}} {{.HostConfig.LogConfig.Config}}"
        ),
        "local map[max-size:1m]"
    );
    assert_eq!(engine.ok(&["port", "up"]), "80/tcp -> 127.0.0.1:8080");
    let address = engine.inspect(
        "up",
        "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}",
    );
    let last: u8 = address
        .rsplit('.')
        .next()
        .and_then(|n| n.parse().ok())
        .expect("an address");
    assert!(last >= 128, "{address}");
    let process = engine.inspect("up", "{{.State.Pid}}");
    let cgroup = std::fs::read_to_string(format!("/proc/{process}/cgroup")).expect("its cgroup");
    assert!(cgroup.contains(&format!(":{parent}/")), "{cgroup}");
    if runc.is_some() {
        assert_eq!(info("{{.DefaultRuntime}}"), "other");
        assert_eq!(engine.inspect("up", "{{.HostConfig.Runtime}}"), "other");
    }
    let script = "cat /sys/class/net/eth0/mtu; grep -v '^#' /etc/resolv.conf | grep -v '^$' | sort; \
                  grep NoNewPrivs /proc/self/status | tr -d '\\t'; mkdir /x 2>/dev/null || echo refused";
    assert_eq!(
        engine.ok(&["exec", "up", "sh", "-c", script]),
        "1400\nnameserver 10.1.2.3\noptions ndots:3\nsearch example\nNoNewPrivs:1\nrefused"
    );
    assert_eq!(
        engine.ok(&[
            "run",
            "--rm",
            "--runtime",
            "runc",
            BUSYBOX,
            "sh",
            "-c",
            "ulimit -Sn; ulimit -Hn",
        ]),
        "123\n456"
    );
    if kind() == Kind::Hull {
        let first = engine.ok(&["exec", "up", "sh", "-c", "tr '\\0' ' ' < /proc/1/cmdline"]);
        assert!(first.starts_with("/sbin/docker-init -- sleep"), "{first}");
    }
    engine.ok(&["network", "create", "pooled"]);
    assert_eq!(
        engine.inspect("pooled", "{{(index .IPAM.Config 0).Subnet}}"),
        "10.204.128.0/24"
    );
    engine.ok(&["network", "rm", "pooled"]);
    engine.ok(&["rm", "-f", "up"]);
    for hierarchy in std::fs::read_dir("/sys/fs/cgroup").expect("list").flatten() {
        // The parent is the administrator's, to leave or to remove.
        let _ = std::fs::remove_dir(hierarchy.path().join(parent.trim_start_matches('/')));
    }
}

#[test]
fn a_file_that_does_not_fit_is_refused() {
    for (file, args, message) in [
        (
            r#"{"nonsense": true}"#,
            &[][..],
            "the following directives don't match any configuration option: nonsense",
        ),
        (
            r#"{"labels": ["c=d"]}"#,
            &["--label", "a=b"],
            "the following directives are specified both as a flag and in the configuration file: labels",
        ),
        (
            r#"{"labels": "#,
            &[],
            "unable to configure the Docker daemon with file",
        ),
        (
            "{}",
            &["--log-driver", "json-file", "--default-ulimit", "nonsense"],
            "nonsense",
        ),
        ("{}", &["--storage-driver", "nonsense"], "nonsense"),
        ("{}", &["--nonsense"], "unknown flag: --nonsense"),
    ] {
        let Some(mut engine) = Engine::prepare(args) else {
            return;
        };
        let path = engine
            .root()
            .file("daemon.json", file)
            .display()
            .to_string();
        engine.push_args(&["--config-file", &path]);
        let said = engine.refused_daemon();
        engine.abandon();
        assert!(said.contains(message), "{file} {args:?}: {said}");
    }
}

#[test]
fn ports_are_published_under_every_firewall() {
    let flags: &[&[&str]] = match kind() {
        Kind::Hull => &[&["--iptables=false"], &["--firewall-backend", "iptables"]],
        Kind::Docker => &[&["--iptables=false"]],
    };
    for flags in flags {
        let Some(engine) = Engine::start_empty(flags) else {
            return;
        };
        engine.load(&Image::busybox(BUSYBOX));
        let server = "mkdir /www; printf hello > /www/index.html; exec httpd -f -p 80 -h /www";
        engine.ok(&["run", "-d", "-p", "8080:80", BUSYBOX, "sh", "-c", server]);
        for address in ["127.0.0.1:8080", "10.211.0.1:8080", "[::1]:8080"] {
            assert_eq!(engine.fetch(address), "hello", "{flags:?} {address}");
        }
        let rules = engine.in_netns(&["nft", "list", "ruleset"]);
        assert_eq!(
            rules.trim().is_empty(),
            flags == &["--iptables=false"],
            "{rules}"
        );
    }
}

#[test]
fn the_program_is_dockerd_by_that_name() {
    if kind() == Kind::Docker {
        return;
    }
    let Some(engine) = Engine::start_empty(&[]) else {
        return;
    };
    let program = engine.root().join("dockerd");
    std::os::unix::fs::symlink(binary::hull(), &program).expect("link");
    let version = process::run(engine.enter(&program).arg("--version"), TIMEOUT).expect("run");
    assert!(version.ok().contains("version"), "{}", version.stdout);
    // On roots and a bridge of its own, beside the other; the bridge is made, and goes.
    let root = engine.root().folder("second");
    let at = |name: &str| root.join(name).display().to_string();
    let host = format!("unix://{}", at("d.sock"));
    let bridge = format!("hbd{}", std::process::id() % 100_000);
    let log = std::fs::File::create(root.join("log")).expect("make the log");
    let mut daemon = engine
        .enter(&program)
        .args([
            "-H",
            &host,
            "--data-root",
            &at("data"),
            "--exec-root",
            &at("run"),
        ])
        .args([
            "--pidfile",
            &at("pid"),
            "--bridge",
            &bridge,
            "--bip",
            "10.204.74.1/24",
        ])
        .args([
            "--config-file",
            &engine
                .root()
                .file("daemon.json", "{}")
                .display()
                .to_string(),
        ])
        .stderr(log)
        .spawn()
        .expect("start dockerd");
    let cli = hull_testkit::docker::DockerCli::with_program(binary::hull(), &host);
    let up = eventually(TIMEOUT, || cli.run(["version"]).status.success());
    let live = cli
        .run(["info", "--format", "{{.LiveRestoreEnabled}}"])
        .stdout;
    let made = engine.in_netns(&["ip", "-o", "address"]);
    let archive = root.join("load.tar");
    Image::busybox(BUSYBOX)
        .write_docker_archive(&archive)
        .expect("write");
    let loaded = cli.run(["load", "-q", "-i", &archive.display().to_string()]);
    let ran = cli.run([
        "run", "--rm", BUSYBOX, "ip", "-4", "-o", "address", "show", "dev", "eth0",
    ]);
    let pid = rustix::process::Pid::from_child(&daemon);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("end it");
    let ended = process::wait(&mut daemon, TIMEOUT).expect("wait");
    let _ = daemon.kill();
    let text = std::fs::read_to_string(root.join("log")).unwrap_or_default();
    assert!(up && ended.is_some(), "{text}");
    assert_eq!(live, "false\n", "dockerd's default");
    assert!(
        made.contains(&bridge) && made.contains("10.204.74.1/24"),
        "{made}"
    );
    assert!(loaded.status.success(), "{}", loaded.stderr);
    assert!(
        ran.stdout.contains("10.204.74.2/24"),
        "{}{}",
        ran.stdout,
        ran.stderr
    );
    assert!(
        !std::path::Path::new(&at("pid")).exists(),
        "the pidfile goes"
    );
}
