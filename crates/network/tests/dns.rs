//! The embedded DNS server on the real kernel, asked from inside a container's namespace.

mod support;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::path::Path;

use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use hull_network::DnsConfig;
use support::*;

fn query(name: &str, kind: RecordType) -> Vec<u8> {
    let mut message = Message::new(4711, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(Name::from_ascii(name).expect("name"), kind));
    message.metadata.recursion_desired = true;
    message.to_vec().expect("bytes")
}

fn summary(packet: &[u8]) -> String {
    let message = Message::from_vec(packet).expect("answer");
    assert_eq!(message.metadata.id, 4711);
    let data: Vec<String> = message.answers.iter().map(|r| r.data.to_string()).collect();
    format!("{:?} {}", message.metadata.response_code, data.join(" "))
}

fn udp(path: &Path, name: &str, kind: RecordType) -> String {
    inside(path, || {
        let socket = UdpSocket::bind("0.0.0.0:0").expect("socket");
        socket
            .set_read_timeout(Some(std::time::Duration::from_secs(8)))
            .expect("timeout");
        socket.connect("127.0.0.11:53").expect("connect");
        socket.send(&query(name, kind)).expect("send");
        let mut buffer = [0; 4096];
        let length = socket.recv(&mut buffer).expect("answer");
        summary(&buffer[..length])
    })
}

fn tcp(path: &Path, name: &str, kind: RecordType) -> String {
    inside(path, || {
        let mut stream = TcpStream::connect("127.0.0.11:53").expect("connect");
        stream
            .set_read_timeout(Some(std::time::Duration::from_secs(8)))
            .expect("timeout");
        let packet = query(name, kind);
        stream
            .write_all(&(packet.len() as u16).to_be_bytes())
            .expect("send");
        stream.write_all(&packet).expect("send");
        let mut length = [0; 2];
        stream.read_exact(&mut length).expect("length");
        let mut answer = vec![0; u16::from_be_bytes(length).into()];
        stream.read_exact(&mut answer).expect("answer");
        summary(&answer)
    })
}

fn example(packet: &[u8]) -> Vec<u8> {
    let query = Message::from_vec(packet).expect("query");
    let mut answer = Message::response(query.metadata.id, OpCode::Query);
    answer.add_queries(query.queries.clone());
    let data = RData::A(A(Ipv4Addr::new(203, 0, 113, 7)));
    answer.add_answer(Record::from_rdata(
        query.queries[0].name().clone(),
        60,
        data,
    ));
    answer.to_vec().expect("bytes")
}

/// A server on the host's loopback that answers everything with 203.0.113.7, once by UDP and once by TCP.
fn upstream() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("socket");
    let address = socket.local_addr().expect("address");
    let listener = std::net::TcpListener::bind(address).expect("listener");
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        let (length, from) = socket.recv_from(&mut buffer).expect("query");
        // Somebody else's answer first: it must be ignored.
        let mut forged = example(&buffer[..length]);
        forged[0] ^= 0xff;
        socket.send_to(&forged, from).expect("forged");
        socket
            .send_to(&example(&buffer[..length]), from)
            .expect("answer");
    });
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("accept");
        let mut length = [0; 2];
        stream.read_exact(&mut length).expect("length");
        let mut packet = vec![0; u16::from_be_bytes(length).into()];
        stream.read_exact(&mut packet).expect("query");
        let answer = example(&packet);
        stream
            .write_all(&(answer.len() as u16).to_be_bytes())
            .expect("length");
        stream.write_all(&answer).expect("answer");
    });
    address
}

#[test]
fn names_are_answered_and_others_go_upstream() {
    machine(|dir| {
        let host = open(dir);
        let net = network(1);
        host.ensure_network(&net).expect("network");
        host.sync_firewall(std::slice::from_ref(&net), &[])
            .expect("firewall");
        let mut web = endpoint(&net, "web", 2);
        let path = start(&host, &net, &mut web);
        let mut db = endpoint(&net, "db", 3);
        db.aliases = vec!["store".to_owned()];
        let db_path = start(&host, &net, &mut db);
        // Nothing listens at the first: refused at once.
        let upstreams = vec!["127.0.0.1:9".parse().expect("address"), upstream()];
        for one in [&web, &db] {
            host.dns_register(&one.container_name, &net, one);
            host.dns_start(
                &one.container_name,
                DnsConfig {
                    upstreams: upstreams.clone(),
                },
            )
            .expect("dns");
        }
        // The container keeps port 53 for itself.
        let own = inside(&path, || UdpSocket::bind("0.0.0.0:53").expect("own server"));

        assert_eq!(udp(&path, "db.", RecordType::A), "NoError 10.204.1.3");
        assert_eq!(
            udp(&path, "store.net1.", RecordType::A),
            "NoError 10.204.1.3"
        );
        assert_eq!(tcp(&db_path, "web.", RecordType::A), "NoError 10.204.1.2");
        assert_eq!(udp(&path, "db.", RecordType::AAAA), "NoError ");
        assert_eq!(
            udp(&path, "3.1.204.10.in-addr.arpa.", RecordType::PTR),
            "NoError db.net1."
        );
        assert_eq!(
            udp(&path, "example.org.", RecordType::A),
            "NoError 203.0.113.7"
        );
        assert_eq!(
            tcp(&path, "example.org.", RecordType::A),
            "NoError 203.0.113.7"
        );
        drop(own);

        // Again, as after a restart of the daemon; without servers upstream.
        host.dns_unregister(&db.id);
        host.dns_start("web", DnsConfig::default()).expect("dns");
        assert_eq!(udp(&path, "db.", RecordType::A), "ServFail ");
        assert_eq!(udp(&path, "web.", RecordType::A), "NoError 10.204.1.2");

        host.dns_stop("web");
        for one in [&web, &db] {
            stop(&host, &net, one);
        }
    });
}

#[test]
fn a_silent_server_is_given_up() {
    machine(|dir| {
        let host = open(dir);
        let path = host.create_sandbox("lone").expect("sandbox");
        let silent = UdpSocket::bind("127.0.0.1:0").expect("socket");
        let upstreams = vec![silent.local_addr().expect("address")];
        host.dns_start("lone", DnsConfig { upstreams })
            .expect("dns");
        let start = std::time::Instant::now();
        assert_eq!(udp(&path, "example.org.", RecordType::A), "ServFail ");
        assert!(start.elapsed() < std::time::Duration::from_secs(5));
        host.remove_sandbox("lone").expect("remove");
    });
}
