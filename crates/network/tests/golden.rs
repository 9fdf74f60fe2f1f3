//! Rulesets and plans as golden files: what is written to the kernel, readable. `UPDATE_EXPECT=1 cargo test -p hull-network` rewrites them.
//!
//! That the kernel makes the same of it is held by `bridge.rs`, which compares `nft list ruleset` with this text.

mod support;

use expect_test::expect_file;
use hull_network::firewall::{FirewallOptions, ruleset};
use hull_network::{Endpoint, HostFacts, Network, Protocol, driver};
use support::*;

fn check(file: &str, networks: &[Network], endpoints: &[Endpoint], ipv6: bool) {
    let options = FirewallOptions {
        table: "hull-test".to_owned(),
        ipv6,
    };
    let rules = ruleset(networks, endpoints, &options);
    expect_file![format!("golden/{file}.nft")].assert_eq(&rules.to_string());
}

fn published(network: &Network, name: &str, n: u8) -> Endpoint {
    Endpoint {
        ports: vec![
            port(Protocol::Tcp, Some("0.0.0.0"), 8080, 80),
            port(Protocol::Tcp, Some("::"), 8080, 80),
            port(Protocol::Udp, Some("192.0.2.1"), 53, 5353),
            port(Protocol::Sctp, Some("0.0.0.0"), 9000, 9000),
        ],
        ..endpoint(network, name, n)
    }
}

#[test]
fn no_networks() {
    check("empty", &[], &[], false);
}

#[test]
fn one_bridge() {
    let net = network(1);
    let web = published(&net, "web", 2);
    check("bridge", &[net], &[web], false);
}

#[test]
fn both_families() {
    let net = dual(1);
    let web = published(&net, "web", 2);
    check("dual", &[net], &[web], true);
}

#[test]
fn internal_icc_off_and_no_masquerade() {
    let inside = Network {
        internal: true,
        ..network(1)
    };
    let apart = Network {
        icc: false,
        ..network(2)
    };
    let routed = Network {
        masquerade: false,
        ..network(3)
    };
    let linked = Endpoint {
        links: vec!["10.204.2.2".parse().expect("ip")],
        ..endpoint(&apart, "linked", 3)
    };
    // Ports of internal networks are not published.
    let hidden = published(&inside, "hidden", 2);
    check("mixed", &[routed, apart, inside], &[linked, hidden], false);
}

#[test]
fn plans() {
    let mut text = String::new();
    for (driver, options) in [
        ("bridge", ""),
        ("host", ""),
        ("none", ""),
        ("macvlan", "macvlan_mode=vepa"),
        ("ipvlan", "ipvlan_mode=l3"),
    ] {
        for internal in [false, true] {
            let mut network = Network {
                driver: driver.to_owned(),
                internal,
                icc: !internal,
                mtu: 1400,
                ..dual(1)
            };
            network
                .options
                .insert("parent".to_owned(), "eth9".to_owned());
            if let Some((key, value)) = options.split_once('=') {
                network.options.insert(key.to_owned(), value.to_owned());
            }
            let facts = HostFacts {
                ipv6: true,
                ..HostFacts::default()
            };
            let plan = driver::by_name(driver).expect(driver).plan(
                &network,
                &endpoint(&network, "web", 2),
                &facts,
            );
            text += &format!(
                "{driver}, internal {internal}: {:#?}\n\n",
                plan.expect("plan")
            );
        }
    }
    expect_file!["golden/plans.txt"].assert_eq(&text);
}
