//! The contract of all drivers, and the drivers without a bridge on the real kernel.

mod support;

use std::collections::BTreeMap;

use hull_network::{Endpoint, Error, ErrorKind, HostFacts, NetPlan, Network, driver};
use ipnet::IpNet;
use support::*;

fn of_driver(driver: &str, parent: &str) -> Network {
    Network {
        driver: driver.to_owned(),
        options: BTreeMap::from([("parent".to_owned(), parent.to_owned())]),
        ..dual(5)
    }
}

/// The laws written at `Driver`.
#[test]
fn every_driver_keeps_the_contract() {
    for (v6, internal, default_route) in [
        (true, false, true),
        (false, false, true),
        (true, true, true),
        (true, false, false),
    ] {
        for name in ["bridge", "host", "none", "null", "macvlan", "ipvlan"] {
            let driver = driver::by_name(name).expect(name);
            let network = Network {
                internal,
                ..of_driver(name, "hntp")
            };
            let endpoint = Endpoint {
                default_route,
                ..endpoint(&network, "web", 2)
            };
            let facts = HostFacts {
                ipv6: v6,
                ..HostFacts::default()
            };
            driver.validate(&network).expect("valid");
            let plan = driver.plan(&network, &endpoint, &facts).expect("plan");
            assert_eq!(
                plan,
                driver.plan(&network, &endpoint, &facts).expect("plan"),
                "{name}: pure"
            );
            let NetPlan::Interface(plan) = plan else {
                continue;
            };
            let wanted: Vec<IpNet> = endpoint
                .ipv4
                .map(IpNet::V4)
                .into_iter()
                .chain(endpoint.ipv6.filter(|_| v6).map(IpNet::V6))
                .collect();
            assert_eq!(plan.addresses, wanted, "{name}");
            let more = Endpoint {
                link_local: vec!["169.254.7.7/16".parse().expect("address")],
                ..endpoint.clone()
            };
            let Ok(NetPlan::Interface(more)) = driver.plan(&network, &more, &facts) else {
                panic!("{name}: no interface");
            };
            let added: Vec<_> = more.addresses.iter().skip(wanted.len()).collect();
            assert_eq!(format!("{added:?}"), "[169.254.7.7/16]", "{name}");
            assert_eq!(plan.ipv6, v6, "{name}");
            let gateways = if default_route && !internal {
                wanted.len()
            } else {
                0
            };
            assert_eq!(plan.gateways.len(), gateways, "{name}");
        }
    }
}

#[test]
fn what_is_not_there_is_named() {
    assert_eq!(
        driver::by_name("weave").err().expect("unknown").kind(),
        ErrorKind::NotFound
    );
    let overlay = driver::by_name("overlay").err().expect("later").to_string();
    assert_eq!(
        overlay,
        "network driver \"overlay\" (VXLAN between hosts) is not implemented"
    );
    let mut network = of_driver("macvlan", "x");
    network
        .options
        .insert("macvlan_mode".to_owned(), "loud".to_owned());
    let error = driver::by_name("macvlan")
        .expect("driver")
        .validate(&network)
        .expect_err("mode")
        .to_string();
    assert_eq!(
        error,
        "invalid value for option macvlan_mode: \"loud\": unknown mode"
    );
}

#[test]
fn macvlan_children_meet_on_their_parent() {
    machine(|dir| {
        let host = open(dir);
        ip("link add hntp type veth peer name hntq");
        ip("link set hntp up");
        ip("link set hntq up");
        let net = of_driver("macvlan", "hntp");
        host.ensure_network(&net).expect("network");
        let mut ends =
            ["one", "two"].map(|name| endpoint(&net, name, if name == "one" { 2 } else { 3 }));
        // Nobody has the gateway's address here.
        let paths: Vec<_> = ends.iter_mut().map(|end| start(&host, &net, end)).collect();
        let server = echo_peer(&paths[0], 80, 1);
        assert_eq!(
            ask_from(&paths[1], "10.204.5.2:80").as_deref(),
            Some("10.204.5.3")
        );
        server.join().expect("server");
        for end in &ends {
            stop(&host, &net, end);
        }
    });
}

#[test]
fn ipvlan_works_or_says_what_is_missing() {
    machine(|dir| {
        let host = open(dir);
        ip("link add hntp type veth peer name hntq");
        ip("link set hntp up");
        let net = of_driver("ipvlan", "hntp");
        host.ensure_network(&net).expect("network");
        let end = endpoint(&net, "one", 2);
        host.create_sandbox("one").expect("sandbox");
        match host.connect("one", &net, &end) {
            Ok(connected) => assert_eq!(connected.interface, "eth0"),
            Err(error @ Error::Unsupported { .. }) => {
                assert!(
                    error.to_string().starts_with(
                        "network driver ipvlan is not supported by this host's kernel"
                    )
                );
                hull_testkit::skip!("this kernel has no ipvlan");
            }
            Err(error) => panic!("{error}"),
        }
        host.remove_sandbox("one").expect("remove");
    });
}
