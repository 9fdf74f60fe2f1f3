//! The bridge driver on the real kernel: who reaches whom, with which source address, and what is left afterwards.

mod support;

use hull_network::{Error, Protocol};
use support::*;

#[test]
fn a_published_port_is_reached_from_everywhere() {
    machine(|| {
        let dir = tempfile::tempdir().expect("dir");
        let host = open(dir.path());
        let net = network(1);
        host.ensure_network(&net).expect("network");
        host.sync_firewall(std::slice::from_ref(&net), &[])
            .expect("firewall");
        let outside = neighbour(&host, "outside");
        let mut web = endpoint(&net, "web", 2);
        web.ports = vec![port(Protocol::Tcp, None, 8080, 80)];
        let path = start(&host, &net, &mut web);
        let mut other = endpoint(&net, "other", 3);
        let other_path = start(&host, &net, &mut other);
        let server = echo_peer(&path, 80, 6);

        // Loopback means nothing to a container: the bridge's address. Everyone else keeps theirs.
        assert_eq!(ask("127.0.0.1:8080").as_deref(), Some("10.204.1.1"));
        assert_eq!(ask("192.0.2.1:8080").as_deref(), Some("192.0.2.1"));
        assert_eq!(
            ask_from(&outside, "192.0.2.1:8080").as_deref(),
            Some("192.0.2.2")
        );
        assert_eq!(
            ask_from(&path, "10.204.1.1:8080").as_deref(),
            Some("10.204.1.1"),
            "hairpin"
        );
        assert_eq!(
            ask_from(&other_path, "192.0.2.1:8080").as_deref(),
            Some("10.204.1.1"),
            "neighbour by host port"
        );
        assert_eq!(
            ask_from(&other_path, "10.204.1.2:80").as_deref(),
            Some("10.204.1.3"),
            "neighbour"
        );
        server.join().expect("server");

        stop(&host, &net, &web);
        stop(&host, &net, &other);
        host.remove_sandbox("outside").expect("outside");
        assert_eq!(ask("127.0.0.1:8080"), None);
        host.remove_network(&net).expect("remove");
        host.remove_firewall().expect("firewall");
        assert_eq!(run("nft", &["list", "tables"]), "");
        assert!(!links().contains("hnt1"));
        assert_eq!(
            std::fs::read_dir(dir.path().join("netns"))
                .expect("dir")
                .count(),
            0
        );
    });
}

#[test]
fn a_port_in_use_is_refused_in_dockers_words() {
    machine(|| {
        let dir = tempfile::tempdir().expect("dir");
        let host = open(dir.path());
        let net = network(2);
        let mut one = endpoint(&net, "one", 2);
        one.ports = vec![port(Protocol::Tcp, None, 8080, 80)];
        one.ports = host.reserve_ports(&net, &one).expect("free");
        let mut two = endpoint(&net, "two", 3);
        two.ports = vec![
            port(Protocol::Udp, None, 53, 53),
            port(Protocol::Tcp, Some("127.0.0.1"), 8080, 80),
        ];
        let error = host
            .reserve_ports(&net, &two)
            .expect_err("held")
            .to_string();
        let start = "driver failed programming external connectivity on endpoint two (";
        assert!(error.starts_with(start), "{error}");
        assert!(error.ends_with(
            "): Bind for 127.0.0.1:8080 failed: port is already allocated (held by container one)"
        ));
        // All or nothing: 53/udp is free again.
        let free = std::net::UdpSocket::bind("0.0.0.0:53").expect("given back");
        let error = host
            .reserve_ports(&net, &two)
            .expect_err("held")
            .to_string();
        let words = "failed to bind host port for 0.0.0.0:53:10.204.2.3:53/udp: address already in use (held by process ";
        assert!(error.contains(words), "{error}");
        assert!(error.contains(&std::process::id().to_string()));
        drop(free);

        two.ports = vec![
            port(Protocol::Tcp, None, 0, 80),
            port(Protocol::Tcp, None, 0, 81),
        ];
        let chosen = host.reserve_ports(&net, &two).expect("ephemeral");
        assert!(chosen[0].host_port >= 32768 && chosen[0].host_port != chosen[1].host_port);
        let again = hull_network::Endpoint {
            ports: chosen.clone(),
            ..two.clone()
        };
        assert_eq!(
            host.reserve_ports(&net, &again).expect("the same again"),
            chosen
        );
        host.release_ports(&one.id);
        two.ports = vec![port(Protocol::Tcp, Some("203.0.113.9"), 8080, 80)];
        assert!(
            matches!(host.reserve_ports(&net, &two), Err(Error::PortBind { .. })),
            "not our address"
        );
    });
}

#[test]
fn the_kernel_lists_what_the_rules_say() {
    machine(|| {
        let dir = tempfile::tempdir().expect("dir");
        let host = open(dir.path());
        let (mut a, b) = (dual(3), network(4));
        a.icc = false;
        let mut web = endpoint(&a, "web", 2);
        web.ports = vec![
            port(Protocol::Tcp, Some("0.0.0.0"), 8080, 80),
            port(Protocol::Udp, Some("127.0.0.1"), 53, 53),
        ];
        let networks = [a, b];
        let options = hull_network::firewall::FirewallOptions {
            table: "hull-test".to_owned(),
            ipv6: true,
        };
        let rules =
            hull_network::firewall::ruleset(&networks, std::slice::from_ref(&web), &options);
        host.sync_firewall(&networks, std::slice::from_ref(&web))
            .expect("sync");
        let listed = run("nft", &["list", "ruleset"]);
        assert_eq!(normal(&listed), normal(&rules.to_string()), "{listed}");
        // And once more over what is there.
        host.sync_firewall(&networks, &[web.clone()]).expect("sync");
        host.unpublish(&networks[0], &web).expect("unpublish");
        host.unpublish(&networks[0], &web).expect("again");
        host.publish(&networks[0], &web).expect("publish");
        host.publish(&networks[0], &web).expect("again");
        assert_eq!(
            normal(&run("nft", &["list", "ruleset"])),
            normal(&rules.to_string())
        );
    });
}

/// Lines without indentation; elements of sets, whose order the kernel does not keep, sorted.
fn normal(text: &str) -> Vec<String> {
    let mut out = Vec::new();
    let mut elements: Option<Vec<String>> = None;
    for line in text.lines().map(str::trim).filter(|l| !l.is_empty()) {
        let part = line.strip_prefix("elements = {").unwrap_or(line);
        if part != line {
            elements = Some(Vec::new());
        }
        match &mut elements {
            Some(list) => {
                let last = part.ends_with('}');
                list.extend(
                    part.trim_end_matches('}')
                        .split(',')
                        .map(|e| e.trim().to_owned())
                        .filter(|e| !e.is_empty()),
                );
                if last {
                    list.sort();
                    out.push(list.join(", "));
                    elements = None;
                }
            }
            None => out.push(line.to_owned()),
        }
    }
    out
}
