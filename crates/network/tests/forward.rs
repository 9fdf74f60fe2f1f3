//! Published ports that the firewall cannot lead to their container, on the real kernel: what the daemon itself forwards.

mod support;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::time::Duration;

use hull_network::{Endpoint, Firewall, Host, HostOptions, Protocol};
use support::*;

/// A container with IPv4 alone, its ports published.
fn published(
    host: &Host,
    ports: &[hull_network::PortMapping],
) -> (hull_network::Network, Endpoint, std::path::PathBuf) {
    let net = network(1);
    host.ensure_network(&net).expect("network");
    host.sync_firewall(std::slice::from_ref(&net), &[])
        .expect("firewall");
    let mut web = endpoint(&net, "web", 2);
    web.ports = ports.to_vec();
    let path = start(host, &net, &mut web);
    (net, web, path)
}

/// A server inside that sends back all it was sent, after the client's end.
fn mirror(path: &Path, port: u16, count: usize) -> std::thread::JoinHandle<()> {
    let listener = inside(path, || {
        TcpListener::bind(("0.0.0.0", port)).expect("listen")
    });
    std::thread::spawn(move || {
        let mut served = Vec::new();
        for _ in 0..count {
            let (mut stream, _) = listener.accept().expect("accept");
            served.push(std::thread::spawn(move || {
                let mut all = Vec::new();
                stream.read_to_end(&mut all).expect("read");
                stream.write_all(&all).expect("write");
            }));
        }
        for one in served {
            one.join().expect("served");
        }
    })
}

#[test]
fn ipv6_reaches_a_container_without_it() {
    machine(|dir| {
        let host = open(dir);
        let outside = neighbour(&host, "outside");
        let asked = [
            port(Protocol::Tcp, None, 8080, 80),
            port(Protocol::Tcp, Some("::1"), 8081, 80),
        ];
        let (net, web, path) = published(&host, &asked);
        let addresses: Vec<String> = web.ports.iter().map(|port| port.host_address()).collect();
        assert_eq!(addresses, ["0.0.0.0:8080", "[::]:8080", "[::1]:8081"]);
        let server = echo_peer(&path, 80, 5);
        assert_eq!(ask("[::1]:8080").as_deref(), Some("10.204.1.1"));
        assert_eq!(ask("[::1]:8081").as_deref(), Some("10.204.1.1"));
        assert_eq!(ask("[2001:db8::1]:8080").as_deref(), Some("10.204.1.1"));
        assert_eq!(
            ask_from(&outside, "[2001:db8::1]:8080").as_deref(),
            Some("10.204.1.1")
        );
        assert_eq!(
            ask_from(&outside, "[2001:db8::1]:8081"),
            None,
            "on [::1] only"
        );
        // The way of IPv4 is the kernel's own, with the client's address.
        assert_eq!(
            ask_from(&outside, "192.0.2.1:8080").as_deref(),
            Some("192.0.2.2")
        );
        server.join().expect("server");
        // Nobody listens inside any more: the connection ends at once.
        assert_eq!(ask("[::1]:8080").as_deref().unwrap_or(""), "");
        stop(&host, &net, &web);
        assert_eq!(ask("[::1]:8080"), None);
        host.remove_sandbox("outside").expect("outside");
    });
}

#[test]
fn everything_arrives_and_ends_are_passed_on() {
    machine(|dir| {
        let host = open(dir);
        let (net, web, path) = published(&host, &[port(Protocol::Tcp, None, 8080, 80)]);
        const CLIENTS: usize = 40;
        let server = mirror(&path, 80, CLIENTS);
        let data: Vec<u8> = (0..1 << 20).map(|n: u32| (n % 251) as u8).collect();
        let mut clients: Vec<TcpStream> = Vec::new();
        for _ in 0..CLIENTS {
            let client = TcpStream::connect("[::1]:8080").expect("connect");
            client
                .set_read_timeout(Some(Duration::from_secs(20)))
                .expect("timeout");
            clients.push(client);
        }
        for client in &mut clients {
            client.write_all(&data).expect("write");
        }
        for client in &clients {
            client.shutdown(Shutdown::Write).expect("shutdown");
        }
        for client in &mut clients {
            let mut back = Vec::new();
            client.read_to_end(&mut back).expect("read");
            assert!(back == data, "{} bytes came back", back.len());
        }
        server.join().expect("server");

        // A container's end closes what is open, and the port is free at once, for the same daemon and for others.
        let idle = mirror(&path, 80, 1);
        let mut open = TcpStream::connect("[::1]:8080").expect("connect");
        open.write_all(b"x").expect("write");
        open.set_read_timeout(Some(TIMEOUT)).expect("timeout");
        host.release_ports(&web.id);
        let ended = open.read(&mut [0]);
        assert!(
            matches!(ended, Ok(0))
                || ended.is_err_and(|e| e.kind() != std::io::ErrorKind::WouldBlock),
            "the client is told"
        );
        idle.join().expect("server");
        for _ in 0..50 {
            let ports = host.reserve_ports(&net, &web).expect("again");
            assert_eq!(ports, web.ports);
            host.release_ports(&web.id);
        }
        drop(TcpListener::bind("[::]:8080").expect("nobody holds it"));
        stop(&host, &net, &web);
    });
}

#[test]
fn datagrams_are_forwarded_both_ways() {
    machine(|dir| {
        let host = open(dir);
        let (net, web, path) = published(&host, &[port(Protocol::Udp, Some("::"), 5300, 53)]);
        let server = inside(&path, || UdpSocket::bind("0.0.0.0:53").expect("udp"));
        server.set_read_timeout(Some(TIMEOUT)).expect("timeout");
        let clients: Vec<UdpSocket> = (0..300)
            .map(|_| UdpSocket::bind("[::1]:0").expect("udp"))
            .collect();
        let mut buffer = [0; 64];
        // More clients than are remembered: the oldest make room.
        for (n, client) in clients.iter().enumerate() {
            client.set_read_timeout(Some(TIMEOUT)).expect("timeout");
            let word = format!("hello {n}");
            client.send_to(word.as_bytes(), "[::1]:5300").expect("send");
            let (length, from) = server.recv_from(&mut buffer).expect("datagram");
            assert_eq!(
                (&buffer[..length], from.ip().to_string().as_str()),
                (word.as_bytes(), "10.204.1.1")
            );
            server.send_to(&buffer[..length], from).expect("answer");
            let (length, from) = client.recv_from(&mut buffer).expect("answer");
            assert_eq!(
                (&buffer[..length], from.to_string().as_str()),
                (word.as_bytes(), "[::1]:5300")
            );
        }
        stop(&host, &net, &web);
    });
}

#[test]
fn without_a_firewall_all_is_forwarded() {
    machine(|dir| {
        let host = open_with(dir, Firewall::None);
        let outside = neighbour(&host, "outside");
        let (net, web, path) = published(&host, &[port(Protocol::Tcp, None, 8080, 80)]);
        let server = echo_peer(&path, 80, 3);
        for address in ["127.0.0.1:8080", "[::1]:8080"] {
            assert_eq!(ask(address).as_deref(), Some("10.204.1.1"), "{address}");
        }
        assert_eq!(
            ask_from(&outside, "192.0.2.1:8080").as_deref(),
            Some("10.204.1.1")
        );
        server.join().expect("server");
        stop(&host, &net, &web);
        host.remove_sandbox("outside").expect("outside");
    });
}

#[test]
fn nothing_is_forwarded_where_it_is_switched_off() {
    machine(|dir| {
        let host = Host::open(HostOptions {
            exec_root: dir.to_owned(),
            instance: "test".to_owned(),
            firewall: Firewall::Nftables,
            ip6tables: true,
            ip_forward: true,
            userland_proxy: false,
        })
        .expect("host");
        let (net, web, path) = published(&host, &[port(Protocol::Tcp, None, 8080, 80)]);
        assert_eq!(web.ports.len(), 1);
        let server = echo_peer(&path, 80, 1);
        assert_eq!(ask("[::1]:8080"), None);
        assert_eq!(ask("127.0.0.1:8080").as_deref(), Some("10.204.1.1"));
        server.join().expect("server");
        let asked = Endpoint {
            ports: vec![port(Protocol::Tcp, Some("::1"), 8081, 80)],
            ..endpoint(&net, "other", 3)
        };
        let error = host.reserve_ports(&net, &asked).expect_err("refused");
        assert!(
            error.to_string().contains("--userland-proxy=false"),
            "{error}"
        );
        stop(&host, &net, &web);
    });
}
