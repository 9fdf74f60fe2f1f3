//! Published ports in every form: from loopback, from the host's other addresses, from other hosts, TCP and UDP, IPv4 and IPv6, ranges,
//! one address of the host; and the further addresses that an interface may be given.

use std::process::{Child, Command};
use std::time::Duration;

use hull_testkit::process::eventually;

use crate::engine::{BUSYBOX, Engine, Kind, Neighbour, kind};

/// The engine's and the neighbour's addresses on the link between them, of IPv6.
const ENGINE6: &str = "fd00:212::1";
const SELF6: &str = "fd00:212::2";

/// A server of the host's socat in the network namespace of a container, which answers every client with its address.
struct Peers(Child);

impl Peers {
    fn start(engine: &Engine, container: &str, listen: &str) -> Peers {
        let pid = engine.inspect(container, "{{.State.Pid}}");
        let server = Command::new("nsenter")
            .arg(format!("--net=/proc/{pid}/ns/net"))
            .args(["--", "socat", listen, "SYSTEM:echo $SOCAT_PEERADDR"])
            .spawn()
            .expect("start socat");
        Peers(server)
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a server says to the engine's host, or to its neighbour; nothing where it cannot be reached.
fn said(engine: &Engine, from: Option<&Neighbour<'_>>, to: &str) -> String {
    // Datagrams have no end: a second is waited for more.
    let script = format!("echo hello | timeout 3 socat -t 1 -T 1 - {to} 2>/dev/null || true");
    match from {
        Some(neighbour) => neighbour.run(&["sh", "-c", &script]).stdout,
        None => engine.in_netns(&["sh", "-c", &script]),
    }
    .trim()
    .to_owned()
}

/// As [`said`], once the server is there.
#[track_caller]
fn hears(engine: &Engine, from: Option<&Neighbour<'_>>, to: &str, peer: &str) {
    let mut last = String::new();
    let came = eventually(Duration::from_secs(10), || {
        last = said(engine, from, to);
        !last.is_empty()
    });
    assert!(came && last == peer, "{to}: {last:?} and not {peer:?}");
}

fn with_ipv6(neighbour: &Neighbour<'_>, engine: &Engine) {
    let own = format!("{ENGINE6}/64");
    engine.in_netns(&["ip", "-6", "address", "add", &own, "dev", "out0", "nodad"]);
    let own = format!("{SELF6}/64");
    let added = neighbour.run(&["ip", "-6", "address", "add", &own, "dev", "in0", "nodad"]);
    assert!(added.status.success(), "{}", added.stderr);
}

/// The gateway of the tests' default bridge: who a container sees where the client's own address means nothing to it.
const GATEWAY: &str = "10.211.0.1";

#[test]
fn tcp_is_published_on_every_address_of_both_families() {
    let Some(mut engine) = Engine::start() else {
        return;
    };
    engine.ok(&[
        "run",
        "-d",
        "--name",
        "web",
        "-p",
        "8080:80",
        "-p",
        "[::1]:8081:80",
        "-p",
        "[::]:8082:80",
        "-p",
        "127.0.0.1:8083:80",
        "-p",
        "9000-9002:90-92",
        BUSYBOX,
        "sleep",
        "1000",
    ]);
    let ports = engine.ok(&["port", "web", "80/tcp"]);
    let mut ports: Vec<&str> = ports.lines().collect();
    ports.sort_unstable();
    assert_eq!(
        ports,
        [
            "0.0.0.0:8080",
            "127.0.0.1:8083",
            "[::1]:8081",
            "[::]:8080",
            "[::]:8082"
        ]
    );
    let _server = Peers::start(&engine, "web", "TCP-LISTEN:80,fork");
    let _ranged = Peers::start(&engine, "web", "TCP-LISTEN:91,fork");
    let neighbour = engine.neighbour();
    with_ipv6(&neighbour, &engine);
    let outside = Some(&neighbour);
    let engine6 = |port: u16| format!("TCP6:[{ENGINE6}]:{port}");
    // Loopback means nothing to a container; neither does IPv6 to one that has none.
    hears(&engine, None, "TCP4:127.0.0.1:8080", GATEWAY);
    hears(&engine, None, "TCP6:[::1]:8080", GATEWAY);
    hears(&engine, None, "TCP6:[::1]:8081", GATEWAY);
    hears(&engine, None, "TCP6:[::1]:8082", GATEWAY);
    hears(&engine, None, "TCP4:127.0.0.1:8083", GATEWAY);
    hears(&engine, None, "TCP4:127.0.0.1:9001", GATEWAY);
    hears(&engine, None, &engine6(8080), GATEWAY);
    hears(&engine, outside, &engine6(8082), GATEWAY);
    // Everybody else is seen as himself.
    hears(&engine, None, "TCP4:10.212.0.1:8080", "10.212.0.1");
    hears(&engine, outside, "TCP4:10.212.0.1:8080", Neighbour::SELF);
    hears(&engine, outside, "TCP4:10.212.0.1:9001", Neighbour::SELF);
    // One address of the host is only that.
    for closed in [
        engine6(8081),
        "TCP4:10.212.0.1:8081".into(),
        "TCP4:10.212.0.1:8082".into(),
        "TCP4:10.212.0.1:8083".into(),
    ] {
        assert_eq!(said(&engine, outside, &closed), "", "{closed}");
    }
    if kind() == Kind::Hull {
        // No process for a port: the daemon's only child is the container's shim.
        let daemon = engine.daemon_pid().expect("the daemon runs");
        let children = format!("/proc/{daemon}/task/{daemon}/children");
        let children = std::fs::read_to_string(children).unwrap_or_default();
        assert!(children.split_whitespace().count() <= 1, "{children}");
        // The next daemon forwards again.
        drop(neighbour);
        engine.kill_daemon();
        hears(&engine, None, "TCP4:127.0.0.1:8080", GATEWAY);
        engine.start_daemon();
        hears(&engine, None, "TCP6:[::1]:8080", GATEWAY);
        engine.ok(&["rm", "-f", "web"]);
        assert_eq!(said(&engine, None, "TCP6:[::1]:8080"), "");
    }
}

#[test]
fn udp_is_published_on_every_address_of_both_families() {
    let Some(engine) = Engine::start() else {
        return;
    };
    engine.ok(&[
        "run",
        "-d",
        "--name",
        "dns",
        "-p",
        "5300-5302:53-55/udp",
        "-p",
        "127.0.0.1:5310:54/udp",
        "-p",
        "[::1]:5311:54/udp",
        BUSYBOX,
        "sleep",
        "1000",
    ]);
    let _server = Peers::start(&engine, "dns", "UDP-RECVFROM:54,fork");
    let neighbour = engine.neighbour();
    with_ipv6(&neighbour, &engine);
    let outside = Some(&neighbour);
    hears(&engine, None, "UDP4:127.0.0.1:5301", GATEWAY);
    hears(&engine, None, "UDP4:127.0.0.1:5310", GATEWAY);
    hears(&engine, None, "UDP6:[::1]:5301", GATEWAY);
    hears(&engine, None, "UDP6:[::1]:5311", GATEWAY);
    hears(&engine, outside, &format!("UDP6:[{ENGINE6}]:5301"), GATEWAY);
    hears(&engine, outside, "UDP4:10.212.0.1:5301", Neighbour::SELF);
    hears(&engine, None, "UDP4:10.212.0.1:5301", "10.212.0.1");
    assert_eq!(said(&engine, outside, "UDP4:10.212.0.1:5310"), "");
    assert_eq!(
        said(&engine, outside, &format!("UDP6:[{ENGINE6}]:5311")),
        ""
    );
}

#[test]
fn a_container_with_ipv6_keeps_its_clients_addresses() {
    if kind() == Kind::Docker {
        hull_testkit::skip!("dockerd 20.10 has ip6tables only as an experiment");
        return;
    }
    let Some(engine) = Engine::start() else {
        return;
    };
    engine.ok(&[
        "network",
        "create",
        "--subnet",
        "10.204.71.0/24",
        "--ipv6",
        "--subnet",
        "fd00:204:71::/64",
        "both",
    ]);
    engine.ok(&[
        "run",
        "-d",
        "--name",
        "web",
        "--network",
        "both",
        "-p",
        "8080:80",
        BUSYBOX,
        "sleep",
        "1000",
    ]);
    let _server = Peers::start(&engine, "web", "TCP6-LISTEN:80,fork");
    let neighbour = engine.neighbour();
    with_ipv6(&neighbour, &engine);
    let peer = |address: &str| format!("[{}]", expanded(address));
    hears(
        &engine,
        Some(&neighbour),
        &format!("TCP6:[{ENGINE6}]:8080"),
        &peer(SELF6),
    );
    // [::1] cannot leave the host: the daemon carries it.
    hears(&engine, None, "TCP6:[::1]:8080", &peer("fd00:204:71::1"));
}

/// As socat writes it.
fn expanded(address: &str) -> String {
    let address: std::net::Ipv6Addr = address.parse().expect("an address");
    let parts = address.segments().map(|part| format!("{part:04x}"));
    parts.join(":")
}

#[test]
fn what_the_daemon_does_not_forward() {
    let Some(engine) = Engine::start_empty(&["--userland-proxy=false"]) else {
        return;
    };
    engine.load(&hull_testkit::image::Image::busybox(BUSYBOX));
    engine.ok(&[
        "run", "-d", "--name", "web", "-p", "8080:80", BUSYBOX, "sleep", "1000",
    ]);
    let _server = Peers::start(&engine, "web", "TCP-LISTEN:80,fork");
    hears(&engine, None, "TCP4:10.211.0.1:8080", GATEWAY);
    assert_eq!(said(&engine, None, "TCP6:[::1]:8080"), "");
    if kind() == Kind::Hull {
        assert_eq!(engine.ok(&["port", "web", "80/tcp"]), "0.0.0.0:8080");
        engine.fails(
            &["run", "--rm", "-p", "[::1]:8081:80", BUSYBOX, "true"],
            125,
            "the container has no IPv6 address on network bridge",
        );
        assert_eq!(engine.ok(&["ps", "-aq"]).lines().count(), 1);
    }
}

#[test]
fn link_local_addresses_are_added() {
    let Some(engine) = Engine::start() else {
        return;
    };
    engine.ok(&["network", "create", "--subnet", "10.204.72.0/24", "net1"]);
    let addresses =
        "ip -o address show dev eth0 | tr -s ' ' | cut -d' ' -f4 | grep -v '^fe80::[^7]' | sort";
    for (network, own) in [("bridge", "10.211.0."), ("net1", "10.204.72.")] {
        let shown = engine.ok(&[
            "run",
            "--rm",
            "--network",
            network,
            "--link-local-ip",
            "169.254.7.7",
            BUSYBOX,
            "sh",
            "-c",
            addresses,
        ]);
        assert!(
            shown.starts_with(own) && shown.ends_with("\n169.254.7.7/16"),
            "{shown}"
        );
    }
    engine.ok(&["run", "-d", "--name", "up", BUSYBOX, "sleep", "1000"]);
    engine.ok(&[
        "network",
        "connect",
        "--link-local-ip",
        "169.254.8.8",
        "net1",
        "up",
    ]);
    let shown = engine.ok(&["exec", "up", "ip", "-o", "address", "show", "dev", "eth1"]);
    assert!(shown.contains("169.254.8.8/16"), "{shown}");
    engine.ok(&["network", "disconnect", "net1", "up"]);
    engine.fails(
        &[
            "run",
            "--rm",
            "--network",
            "net1",
            "--link-local-ip",
            "rubbish",
            BUSYBOX,
            "true",
        ],
        125,
        "nvalid link-local IP address: ",
    );
    engine.fails(
        &[
            "run",
            "--rm",
            "--network",
            "net1",
            "--link-local-ip",
            "10.1.2.3",
            BUSYBOX,
            "true",
        ],
        125,
        "invalid link local IP address: 10.1.2.3",
    );
    if kind() == Kind::Hull {
        // dockerd 20.10 fails on an interface whose IPv6 it has switched off.
        let shown = engine.ok(&[
            "run",
            "--rm",
            "--link-local-ip",
            "fe80::77",
            BUSYBOX,
            "sh",
            "-c",
            addresses,
        ]);
        assert!(shown.ends_with("fe80::77/64"), "{shown}");
    }
    assert_eq!(engine.ok(&["ps", "-aq"]).lines().count(), 1);
}
