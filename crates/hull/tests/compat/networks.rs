//! Networks: the default bridge, published ports, user-defined networks with names, host, none, container.

use crate::engine::{BUSYBOX, Engine, Neighbour};

/// A web server: a page, and a program that answers with its peer's address.
const SERVER: &str = "mkdir -p /www/cgi-bin; printf hello > /www/index.html; \
    echo '#!/bin/sh' > /www/cgi-bin/peer; \
    echo 'echo Content-Type: text/plain; echo; echo $REMOTE_ADDR' >> /www/cgi-bin/peer; \
    chmod 755 /www/cgi-bin/peer; exec httpd -f -p 80 -h /www";

#[test]
fn the_default_bridge_has_addresses_and_a_gateway() {
    let Some(engine) = Engine::start() else {
        return;
    };
    let id = engine.ok(&["run", "-d", BUSYBOX, "sleep", "1000"]);
    let address = engine.inspect(
        &id,
        "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{.Gateway}} {{.IPPrefixLen}}{{end}}",
    );
    assert_eq!(address, "10.211.0.2 10.211.0.1 24");
    let inside = engine.ok(&[
        "exec", &id, "ip", "-4", "-o", "address", "show", "dev", "eth0",
    ]);
    assert!(inside.contains("10.211.0.2/24"), "{inside}");
    let route = engine.ok(&["exec", &id, "ip", "route"]);
    assert!(route.contains("default via 10.211.0.1 dev eth0"), "{route}");
    let second = engine.ok(&[
        "run",
        "--rm",
        BUSYBOX,
        "ping",
        "-c",
        "1",
        "-W",
        "2",
        "10.211.0.2",
    ]);
    assert!(second.contains("1 packets received"), "{second}");
    let hosts = engine.ok(&["exec", &id, "cat", "/etc/hosts"]);
    assert!(
        hosts.contains(&format!("10.211.0.2\t{}", &id[..12])),
        "{hosts}"
    );
    assert_eq!(
        engine.ok(&["network", "ls", "--format", "{{.Name}} {{.Driver}}"]),
        "bridge bridge\nhost host\nnone null"
    );
}

#[test]
fn published_ports_are_reached_from_everywhere() {
    let Some(engine) = Engine::start() else {
        return;
    };
    let id = engine.ok(&[
        "run",
        "-d",
        "-p",
        "8080:80",
        "-p",
        "127.0.0.1:8081:80/tcp",
        "-p",
        "80",
        BUSYBOX,
        "sh",
        "-c",
        SERVER,
    ]);
    assert_eq!(engine.fetch("127.0.0.1:8080"), "hello");
    assert_eq!(engine.fetch("127.0.0.1:8081"), "hello");
    assert_eq!(engine.fetch("10.211.0.1:8080"), "hello");
    assert_eq!(engine.fetch("10.211.0.2:80"), "hello");
    let neighbour = engine.neighbour();
    let url = format!("http://{}:8080/", Neighbour::ENGINE);
    let fetched = neighbour.run(&["busybox", "wget", "-q", "-O", "-", &url]);
    assert_eq!(fetched.stdout, "hello", "{}", fetched.stderr);
    let local_only = format!("http://{}:8081/", Neighbour::ENGINE);
    assert!(
        !neighbour
            .run(&["busybox", "wget", "-q", "-O", "-", &local_only])
            .status
            .success()
    );
    let ports = engine.ok(&["port", &id, "80/tcp"]);
    assert!(ports.lines().any(|line| line == "0.0.0.0:8080"), "{ports}");
    assert!(
        ports.lines().any(|line| line == "127.0.0.1:8081"),
        "{ports}"
    );
    engine.fails(
        &[
            "run", "-d", "--name", "second", "-p", "8080:80", BUSYBOX, "sleep", "1",
        ],
        125,
        "port is already allocated",
    );
    assert_eq!(engine.inspect("second", "{{.State.Status}}"), "created");
    engine.ok(&["rm", "-f", &id]);
    engine.ok(&["start", "second"]);
}

#[test]
fn the_clients_address_is_kept() {
    let Some(engine) = Engine::start() else {
        return;
    };
    engine.ok(&["run", "-d", "-p", "8080:80", BUSYBOX, "sh", "-c", SERVER]);
    assert_eq!(engine.fetch("127.0.0.1:8080"), "hello");
    let neighbour = engine.neighbour();
    let url = format!("http://{}:8080/cgi-bin/peer", Neighbour::ENGINE);
    let output = neighbour.run(&["busybox", "wget", "-q", "-O", "-", &url]);
    assert!(output.stdout.contains(Neighbour::SELF), "{output:?}");
}

#[test]
fn udp_and_ranges_are_published() {
    let Some(engine) = Engine::start() else {
        return;
    };
    let id = engine.ok(&[
        "run",
        "-d",
        "-p",
        "9000-9002:9000-9002/udp",
        BUSYBOX,
        "sleep",
        "1000",
    ]);
    assert_eq!(
        engine
            .ok(&["port", &id])
            .lines()
            .filter(|l| l.contains("0.0.0.0"))
            .count(),
        3
    );
    // Debian's busybox knows no UDP: the host's socat answers in the container's network namespace.
    let pid = engine.inspect(&id, "{{.State.Pid}}");
    let mut server = std::process::Command::new("nsenter")
        .arg(format!("--net=/proc/{pid}/ns/net"))
        .args(["--", "socat", "UDP-RECVFROM:9001,fork", "EXEC:cat"])
        .spawn()
        .expect("start socat");
    let mut got = String::new();
    let came = hull_testkit::process::eventually(std::time::Duration::from_secs(10), || {
        got = engine.in_netns(&[
            "sh",
            "-c",
            "echo datagram | socat -t 1 - UDP:10.211.0.1:9001 2>&1 || true",
        ]);
        got.contains("datagram")
    });
    let _ = server.kill();
    let _ = server.wait();
    assert!(came, "got {got:?}");
}

#[test]
fn names_are_resolved_in_networks_of_ones_own() {
    let Some(engine) = Engine::start() else {
        return;
    };
    engine.ok(&["network", "create", "--subnet", "10.211.9.0/24", "net1"]);
    engine.ok(&[
        "run",
        "-d",
        "--name",
        "server",
        "--network",
        "net1",
        "--network-alias",
        "web",
        "--ip",
        "10.211.9.77",
        BUSYBOX,
        "sh",
        "-c",
        SERVER,
    ]);
    for name in ["server", "web"] {
        let url = format!("http://{name}/");
        let page = engine.ok(&[
            "run",
            "--rm",
            "--network",
            "net1",
            BUSYBOX,
            "sh",
            "-c",
            &format!("for i in 1 2 3 4 5; do wget -q -O - {url} && break; sleep 0.3; done"),
        ]);
        assert_eq!(page, "hello");
    }
    let resolv = engine.ok(&[
        "run",
        "--rm",
        "--network",
        "net1",
        BUSYBOX,
        "cat",
        "/etc/resolv.conf",
    ]);
    assert!(resolv.contains("nameserver 127.0.0.11"), "{resolv}");
    let reverse = engine.ok(&[
        "run",
        "--rm",
        "--network",
        "net1",
        BUSYBOX,
        "nslookup",
        "10.211.9.77",
    ]);
    assert!(reverse.contains("server.net1"), "{reverse}");
    let isolated = engine.run(&[
        "run",
        "--rm",
        BUSYBOX,
        "ping",
        "-c",
        "1",
        "-W",
        "1",
        "10.211.9.77",
    ]);
    assert_ne!(isolated.code(), 0, "networks are isolated from one another");
    let other = engine.ok(&["run", "-d", "--name", "other", BUSYBOX, "sleep", "1000"]);
    engine.ok(&["network", "connect", "--alias", "added", "net1", &other]);
    assert!(
        engine
            .ok(&["exec", "other", "ping", "-c", "1", "-W", "2", "server"])
            .contains("1 packets received")
    );
    assert!(
        engine
            .ok(&["exec", "server", "ping", "-c", "1", "-W", "2", "added"])
            .contains("1 packets received")
    );
    engine.fails(&["network", "rm", "net1"], 1, "has active endpoints");
    engine.ok(&["network", "disconnect", "net1", &other]);
    assert_ne!(
        engine
            .run(&["exec", "other", "ping", "-c", "1", "-W", "1", "10.211.9.77"])
            .code(),
        0
    );
    engine.ok(&["rm", "-f", "server", "other"]);
    assert_eq!(engine.ok(&["network", "rm", "net1"]), "net1");
}

#[test]
fn host_none_and_container() {
    let Some(engine) = Engine::start() else {
        return;
    };
    let host = engine.ok(&[
        "run",
        "--rm",
        "--network",
        "host",
        BUSYBOX,
        "ls",
        "/sys/class/net",
    ]);
    assert!(host.contains("br-test"), "{host}");
    let none = engine.ok(&[
        "run",
        "--rm",
        "--network",
        "none",
        BUSYBOX,
        "ip",
        "-o",
        "link",
    ]);
    assert!(
        none.lines()
            .all(|line| line.contains("lo:") || line.contains("NOARP"))
            && none.contains("lo:"),
        "{none}"
    );
    engine.ok(&["run", "-d", "--name", "base", BUSYBOX, "sh", "-c", SERVER]);
    let shared = engine.ok(&[
        "run",
        "--rm",
        "--network",
        "container:base",
        BUSYBOX,
        "sh",
        "-c",
        "for i in 1 2 3 4 5; do wget -q -O - http://127.0.0.1/ && break; sleep 0.3; done",
    ]);
    assert_eq!(shared, "hello");
    let linked = engine.ok(&[
        "run",
        "--rm",
        "--link",
        "base:alias",
        "--add-host",
        "extra:10.9.8.7",
        BUSYBOX,
        "cat",
        "/etc/hosts",
    ]);
    assert!(
        linked.contains("\talias ") && linked.contains("10.9.8.7\textra"),
        "{linked}"
    );
    let dns = engine.ok(&[
        "run",
        "--rm",
        "--dns",
        "10.1.2.3",
        "--dns-search",
        "example",
        "--dns-option",
        "ndots:3",
        BUSYBOX,
        "cat",
        "/etc/resolv.conf",
    ]);
    assert!(
        dns.contains("nameserver 10.1.2.3")
            && dns.contains("search example")
            && dns.contains("options ndots:3"),
        "{dns}"
    );
    engine.fails(
        &["run", "--network", "no-such", BUSYBOX],
        125,
        "network no-such not found",
    );
}
