//! A host of its own for each test: a thread in a new network namespace, so that the machine's firewall and links are never touched,
//! with a neighbour in another namespace behind a link.
#![allow(dead_code)]

use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::mount::{MountPropagationFlags, mount_change};

use hull_network::{Endpoint, Firewall, Host, HostOptions, Network, PortMapping, Protocol, Subnet};

pub const TIMEOUT: Duration = Duration::from_millis(1500);

/// Runs `test` in a thread with a network namespace of its own, loopback up, and a mount namespace of its own, so that whatever fails, no
/// pinned namespace stays. The test gets a directory.
pub fn machine(test: impl FnOnce(&Path) + Send) {
    let dir = tempfile::tempdir().expect("directory");
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let flags = hull_sys::clone::CLONE_NEWNET | hull_sys::clone::CLONE_NEWNS;
            hull_sys::ns::unshare(flags).expect("tests run as root");
            let private = MountPropagationFlags::REC | MountPropagationFlags::PRIVATE;
            mount_change("/", private).expect("private mounts");
            ip("link set lo up");
            test(dir.path());
        });
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

/// Runs a program in the calling thread's namespace.
pub fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().expect(program);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{program} {args:?}: {error}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs `work` inside the namespace at `path`.
pub fn inside<T: Send>(path: &Path, work: impl FnOnce() -> T + Send) -> T {
    let netns = File::open(path).expect("namespace");
    std::thread::scope(|scope| {
        let thread = scope.spawn(move || {
            hull_sys::ns::setns(netns.as_fd(), hull_sys::clone::CLONE_NEWNET).expect("setns");
            work()
        });
        match thread.join() {
            Ok(value) => value,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

pub fn open(dir: &Path) -> Host {
    open_with(dir, Firewall::Nftables)
}

pub fn open_with(dir: &Path, firewall: Firewall) -> Host {
    open_instance(dir, "test", firewall)
}

pub fn open_instance(dir: &Path, instance: &str, firewall: Firewall) -> Host {
    Host::open(HostOptions {
        exec_root: dir.to_owned(),
        instance: instance.to_owned(),
        firewall,
        ip6tables: true,
        ip_forward: true,
        userland_proxy: true,
    })
    .expect("host")
}

/// Network `n`: bridge `hnt<n>`, 10.204.<n>.0/24.
pub fn network(n: u8) -> Network {
    let cidr = format!("10.204.{n}.0/24").parse().expect("subnet");
    Network {
        id: format!("{n:064x}"),
        name: format!("net{n}"),
        bridge: format!("hnt{n}"),
        subnets: vec![Subnet {
            cidr,
            gateway: Some(hull_network::ipam::default_gateway(&cidr)),
            range: None,
            reserved: Default::default(),
        }],
        ..Network::default()
    }
}

/// The same with fd00:204:<n>::/64.
pub fn dual(n: u8) -> Network {
    let mut network = network(n);
    let cidr = format!("fd00:204:{n}::/64").parse().expect("subnet");
    network.enable_ipv6 = true;
    network.subnets.push(Subnet {
        cidr,
        gateway: Some(hull_network::ipam::default_gateway(&cidr)),
        range: None,
        reserved: Default::default(),
    });
    network
}

/// Endpoint of container `name` with the pools' address number `n`.
pub fn endpoint(network: &Network, name: &str, n: u8) -> Endpoint {
    let (mut v4, mut v6) = (None, None);
    let (mut gateway4, mut gateway6) = (None, None);
    for subnet in &network.subnets {
        match (subnet.cidr, subnet.gateway) {
            (ipnet::IpNet::V4(net), Some(IpAddr::V4(gateway))) => {
                let ip = u32::from(net.network()) + u32::from(n);
                v4 = Some(ipnet::Ipv4Net::new_assert(ip.into(), net.prefix_len()));
                gateway4 = Some(gateway);
            }
            (ipnet::IpNet::V6(net), Some(IpAddr::V6(gateway))) => {
                let ip = u128::from(net.network()) + u128::from(n);
                v6 = Some(ipnet::Ipv6Net::new_assert(ip.into(), net.prefix_len()));
                gateway6 = Some(gateway);
            }
            _ => {}
        }
    }
    Endpoint {
        id: format!("{:0>64}", hex(name)),
        network_id: network.id.clone(),
        container_id: format!("{:0<64}", hex(name)),
        container_name: name.to_owned(),
        ipv4: v4,
        ipv6: v6,
        gateway4,
        gateway6,
        names: vec![name.to_owned()],
        default_route: true,
        ..Endpoint::default()
    }
}

fn hex(text: &str) -> String {
    text.bytes().map(|b| format!("{b:02x}")).collect()
}

pub fn port(
    protocol: Protocol,
    host_ip: Option<&str>,
    host_port: u16,
    container_port: u16,
) -> PortMapping {
    PortMapping {
        protocol,
        container_port,
        host_ip: host_ip.map(|ip| ip.parse().expect("ip")),
        host_port,
        host_port_end: 0,
    }
}

/// The whole start of a container's networking.
pub fn start(host: &Host, network: &Network, endpoint: &mut Endpoint) -> std::path::PathBuf {
    let path = host
        .create_sandbox(&endpoint.container_name)
        .expect("sandbox");
    attach(host, network, endpoint);
    path
}

pub fn attach(host: &Host, network: &Network, endpoint: &mut Endpoint) {
    endpoint.ports = host.reserve_ports(network, endpoint).expect("ports");
    let connected = host
        .connect(&endpoint.container_name, network, endpoint)
        .expect("connect");
    endpoint.interface = connected.interface;
    endpoint.mac = connected.mac;
    host.publish(network, endpoint).expect("publish");
}

/// And its end.
pub fn stop(host: &Host, network: &Network, endpoint: &Endpoint) {
    host.unpublish(network, endpoint).expect("unpublish");
    host.release_ports(&endpoint.id);
    host.remove_sandbox(&endpoint.container_name)
        .expect("remove sandbox");
}

/// A TCP server inside a sandbox that answers each connection with the client's address, `count` times.
pub fn echo_peer(path: &Path, port: u16, count: usize) -> std::thread::JoinHandle<()> {
    let listener = inside(path, || {
        TcpListener::bind(("0.0.0.0", port)).expect("listen")
    });
    serve(listener, count)
}

pub fn echo_peer6(path: &Path, port: u16, count: usize) -> std::thread::JoinHandle<()> {
    let listener = inside(path, || TcpListener::bind(("::", port)).expect("listen"));
    serve(listener, count)
}

fn serve(listener: TcpListener, count: usize) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        for _ in 0..count {
            let (mut stream, peer) = listener.accept().expect("accept");
            stream
                .write_all(peer.ip().to_string().as_bytes())
                .expect("answer");
        }
    })
}

/// Connects from the calling thread's namespace: what the server said, None when it cannot be reached.
pub fn ask(address: &str) -> Option<String> {
    let address: SocketAddr = address.parse().expect("address");
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT).ok()?;
    stream.set_read_timeout(Some(TIMEOUT)).expect("timeout");
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text)
}

/// Likewise from inside a sandbox.
pub fn ask_from(path: &Path, address: &str) -> Option<String> {
    inside(path, || ask(address))
}

/// A neighbour of the machine: a namespace `key` behind a link with 192.0.2.2, the machine having 192.0.2.1 on it (2001:db8::2 and 1).
pub fn neighbour(host: &Host, key: &str) -> std::path::PathBuf {
    let path = host.create_sandbox(key).expect("neighbour");
    ip("link add outside type veth peer name eth0");
    let netns = File::open(&path).expect("namespace");
    hull_sys::netdev::move_link("eth0", netns.as_fd(), "eth0").expect("move link");
    ip("addr add 192.0.2.1/24 dev outside");
    ip("-6 addr add 2001:db8::1/64 dev outside nodad");
    ip("link set outside up");
    inside(&path, || {
        std::fs::write("/proc/sys/net/ipv6/conf/eth0/disable_ipv6", "0").expect("ipv6");
        ip("addr add 192.0.2.2/24 dev eth0");
        ip("-6 addr add 2001:db8::2/64 dev eth0 nodad");
        ip("link set eth0 up");
    });
    path
}

/// `ip(8)` in the calling thread's namespace.
pub fn ip(arguments: &str) -> String {
    run("ip", &arguments.split(' ').collect::<Vec<_>>())
}

/// Links of the calling thread's namespace.
pub fn links() -> String {
    ip("-br link")
}

/// Their names alone.
pub fn link_names() -> Vec<String> {
    links()
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .map(str::to_owned)
        .collect()
}
