//! Host ports: who holds which. A port is held by a bound socket, so that no other program takes what the firewall would translate away.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::net::{
    AddressFamily, Protocol as IpProtocol, SocketFlags, SocketType, bind, ipproto, listen,
    socket_with, sockopt,
};

use crate::error::{Error, Result};
use crate::host::sysctl;
use crate::model::{Endpoint, Network, PortMapping, Protocol};

/// The ports held by this daemon.
#[derive(Default)]
pub(crate) struct Ports {
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    by_port: HashMap<(Protocol, u16), Vec<Holding>>,
    /// The last port chosen out of the ephemeral range: the next search goes on after it, so that a port just given back rests.
    last: u16,
}

struct Holding {
    ip: IpAddr,
    endpoint_id: String,
    container: String,
    /// None where the kernel has no such protocol (SCTP): then only this table holds it.
    _socket: Option<OwnedFd>,
}

/// Why one port could not be had.
enum Refusal {
    Held {
        address: SocketAddr,
        container: String,
    },
    Bind {
        ip: IpAddr,
        error: io::Error,
    },
}

impl Ports {
    /// All of `endpoint.ports`, or none.
    pub(crate) fn reserve(
        &self,
        network: &Network,
        endpoint: &Endpoint,
        ipv6: bool,
    ) -> Result<Vec<PortMapping>> {
        let mut held = self.lock();
        let mut out = Vec::new();
        for request in &endpoint.ports {
            match held.reserve_one(network, endpoint, request, ipv6) {
                Ok(mappings) => out.extend(mappings),
                Err(error) => {
                    for mapping in out {
                        held.release(&endpoint.id, &mapping);
                    }
                    return Err(error);
                }
            }
        }
        Ok(out)
    }

    pub(crate) fn release(&self, endpoint_id: &str) {
        self.lock().by_port.retain(|_, holdings| {
            holdings.retain(|h| h.endpoint_id != endpoint_id);
            !holdings.is_empty()
        });
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn reserve_one(
        &mut self,
        network: &Network,
        endpoint: &Endpoint,
        request: &PortMapping,
        ipv6: bool,
    ) -> Result<Vec<PortMapping>> {
        let addresses = host_addresses(network, endpoint, request, ipv6)?;
        let mut refusal = None;
        for port in candidates(request, self.last) {
            match self.take(endpoint, request.protocol, &addresses, port) {
                Ok(()) => {
                    if request.host_port == 0 {
                        self.last = port;
                    }
                    let mapping = |ip: &IpAddr| PortMapping {
                        host_ip: Some(*ip),
                        host_port: port,
                        host_port_end: 0,
                        ..*request
                    };
                    return Ok(addresses.iter().map(mapping).collect());
                }
                Err(why) => refusal = Some((port, why)),
            }
        }
        let single = request.host_port != 0 && request.host_port_end <= request.host_port;
        Err(match refusal {
            Some((port, why)) if single => refused(endpoint, request, port, why),
            Some(_) | None => Error::PortsExhausted {
                endpoint: endpoint.container_name.clone(),
                endpoint_id: endpoint.id.clone(),
            },
        })
    }

    /// One port on every address, or on none.
    fn take(
        &mut self,
        endpoint: &Endpoint,
        protocol: Protocol,
        addresses: &[IpAddr],
        port: u16,
    ) -> Result<(), Refusal> {
        let mut new = Vec::new();
        let holdings = self.by_port.entry((protocol, port)).or_default();
        for ip in addresses {
            let clash = holdings.iter().find(|h| overlap(&h.ip, ip));
            match clash {
                // Asked for again, after the daemon's own restart or by a retry.
                Some(h) if h.endpoint_id == endpoint.id && h.ip == *ip => {}
                Some(h) => {
                    let address = SocketAddr::new(*ip, port);
                    return Err(Refusal::Held {
                        address,
                        container: h.container.clone(),
                    });
                }
                None => {
                    let socket = hold(protocol, *ip, port)
                        .map_err(|error| Refusal::Bind { ip: *ip, error })?;
                    new.push(Holding {
                        ip: *ip,
                        endpoint_id: endpoint.id.clone(),
                        container: endpoint.container_name.clone(),
                        _socket: socket,
                    });
                }
            }
        }
        holdings.extend(new);
        Ok(())
    }

    fn release(&mut self, endpoint_id: &str, mapping: &PortMapping) {
        if let Some(holdings) = self.by_port.get_mut(&(mapping.protocol, mapping.host_port)) {
            holdings.retain(|h| h.endpoint_id != endpoint_id || Some(h.ip) != mapping.host_ip);
        }
    }
}

/// Ports to try, in order.
fn candidates(request: &PortMapping, last: u16) -> Box<dyn Iterator<Item = u16>> {
    if request.host_port != 0 {
        return Box::new(request.host_port..=request.host_port_end.max(request.host_port));
    }
    let (first, end) = ephemeral_range();
    let start = if (first..end).contains(&last) {
        last + 1
    } else {
        first
    };
    Box::new((start..=end).chain(first..start))
}

/// Where a request without an address is bound: on all addresses of the families that the endpoint has.
fn host_addresses(
    network: &Network,
    endpoint: &Endpoint,
    request: &PortMapping,
    ipv6: bool,
) -> Result<Vec<IpAddr>> {
    // Ports may be reserved before an address is leased: then by what the network has.
    let leased = endpoint.ipv4.is_some() || endpoint.ipv6.is_some();
    let has = |ip: &IpAddr| match ip {
        IpAddr::V4(_) if leased => endpoint.ipv4.is_some(),
        IpAddr::V4(_) => network.ipv4_subnet().is_some(),
        IpAddr::V6(_) if leased => endpoint.ipv6.is_some() && ipv6,
        IpAddr::V6(_) => network.ipv6_subnet().is_some() && ipv6,
    };
    let all = [
        IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    ];
    let addresses: Vec<IpAddr> = match request.host_ip.or(network.host_binding) {
        Some(ip) => vec![ip],
        None => all.into_iter().filter(|ip| has(ip)).collect(),
    };
    match addresses.iter().find(|ip| !has(ip)) {
        None if !addresses.is_empty() => Ok(addresses),
        Some(ip @ IpAddr::V6(_)) => Err(Error::Invalid(format!(
            "cannot publish port {} on {ip}: the container has no IPv6 address on network {} (create it with --ipv6)",
            request.container_port, network.name
        ))),
        Some(IpAddr::V4(_)) | None => Err(Error::Invalid(format!(
            "cannot publish port {}: the container has no address on network {}",
            request.container_port, network.name
        ))),
    }
}

fn overlap(a: &IpAddr, b: &IpAddr) -> bool {
    a == b || (a.is_ipv4() == b.is_ipv4() && (a.is_unspecified() || b.is_unspecified()))
}

/// `net.ipv4.ip_local_port_range`: where Docker, too, takes ports that nobody asked for.
fn ephemeral_range() -> (u16, u16) {
    let text = sysctl::get("ipv4/ip_local_port_range").unwrap_or_default();
    let mut numbers = text.split_whitespace().map_while(|word| word.parse().ok());
    match (numbers.next(), numbers.next()) {
        (Some(first), Some(last)) if 0 < first && first <= last => (first, last),
        _ => (32768, 60999),
    }
}

fn hold(protocol: Protocol, ip: IpAddr, port: u16) -> io::Result<Option<OwnedFd>> {
    match bound(protocol, ip, port, false) {
        // Connections of an earlier server in TIME_WAIT also refuse a bind: tell them from a living one by SO_REUSEADDR and listen(2).
        Err(error)
            if protocol == Protocol::Tcp && error.raw_os_error() == Some(libc::EADDRINUSE) =>
        {
            let socket = bound(protocol, ip, port, true)?;
            listen(&socket, 0)?;
            Ok(Some(socket))
        }
        Err(error)
            if matches!(
                error.raw_os_error(),
                Some(libc::EPROTONOSUPPORT | libc::ESOCKTNOSUPPORT)
            ) =>
        {
            Ok(None)
        }
        other => other.map(Some),
    }
}

fn bound(protocol: Protocol, ip: IpAddr, port: u16, reuse: bool) -> io::Result<OwnedFd> {
    let family = if ip.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let (kind, protocol): (SocketType, Option<IpProtocol>) = match protocol {
        Protocol::Tcp => (SocketType::STREAM, Some(ipproto::TCP)),
        Protocol::Udp => (SocketType::DGRAM, Some(ipproto::UDP)),
        Protocol::Sctp => (SocketType::STREAM, Some(ipproto::SCTP)),
    };
    let socket = socket_with(family, kind, SocketFlags::CLOEXEC, protocol)?;
    if ip.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    if reuse {
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    bind(&socket, &SocketAddr::new(ip, port))?;
    Ok(socket)
}

fn refused(endpoint: &Endpoint, request: &PortMapping, port: u16, why: Refusal) -> Error {
    let (name, id) = (endpoint.container_name.clone(), endpoint.id.clone());
    match why {
        Refusal::Held { address, container } => Error::PortAllocated {
            endpoint: name,
            endpoint_id: id,
            address: address.to_string(),
            holder: container,
        },
        Refusal::Bind { ip, error } => {
            let inside = if ip.is_ipv4() {
                endpoint.ipv4.map(|net| IpAddr::V4(net.addr()))
            } else {
                endpoint.ipv6.map(|net| IpAddr::V6(net.addr()))
            };
            let host = SocketAddr::new(ip, port);
            let mapping = match inside {
                Some(inside) => {
                    format!("{host}:{}", SocketAddr::new(inside, request.container_port))
                }
                None => host.to_string(),
            };
            let holder = match error.raw_os_error() {
                Some(libc::EADDRINUSE) => holder(request.protocol, port).unwrap_or_default(),
                _ => String::new(),
            };
            Error::PortBind {
                endpoint: name,
                endpoint_id: id,
                mapping,
                protocol: request.protocol,
                holder,
                source: error,
            }
        }
    }
}

/// ` (held by process 123 (nginx))`, by /proc/net's inode (proc_pid_net(5)) and whoever has it open.
fn holder(protocol: Protocol, port: u16) -> Option<String> {
    let files = match protocol {
        Protocol::Tcp => ["tcp", "tcp6"],
        Protocol::Udp => ["udp", "udp6"],
        Protocol::Sctp => return None,
    };
    let tables = files
        .iter()
        .filter_map(|name| fs::read_to_string(format!("/proc/thread-self/net/{name}")).ok());
    let inode = tables
        .into_iter()
        .find_map(|table| inode_of(&table, port))?;
    let socket = format!("socket:[{inode}]");
    let pid = fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let mut fds = fs::read_dir(entry.path().join("fd")).ok()?.flatten();
        fds.any(|fd| fs::read_link(fd.path()).is_ok_and(|link| link.as_os_str() == socket.as_str()))
            .then_some(pid)
    })?;
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    Some(format!(" (held by process {pid} ({}))", name.trim_end()))
}

/// The inode of the socket bound to `port` that no peer is connected to.
fn inode_of(table: &str, port: u16) -> Option<u64> {
    table.lines().skip(1).find_map(|line| {
        let mut fields = line.split_whitespace();
        let local = fields.nth(1)?;
        let remote = fields.next()?;
        let inode: u64 = fields.nth(6)?.parse().ok()?;
        let local_port = u16::from_str_radix(local.rsplit(':').next()?, 16).ok()?;
        (local_port == port && remote.ends_with(":0000") && inode != 0).then_some(inode)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_listener_is_found_in_the_kernels_table() {
        // Port 8080 (1F90): a connection to it, then its listener.
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   0: 0100007F:1F90 0100007F:A0B2 01 00000000:00000000 00:00000000 00000000     0        0 11 1\n   1: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 22 1\n";
        assert_eq!(inode_of(table, 8080), Some(22));
        assert_eq!(inode_of(table, 8081), None);
        assert_eq!(inode_of("header\nrubbish\n 1: x y", 8080), None);
    }

    #[test]
    fn ports_are_tried_in_order_and_go_round() {
        let request = |host_port, host_port_end| PortMapping {
            protocol: Protocol::Tcp,
            container_port: 80,
            host_ip: None,
            host_port,
            host_port_end,
        };
        assert_eq!(candidates(&request(80, 0), 0).collect::<Vec<_>>(), [80]);
        assert_eq!(
            candidates(&request(80, 82), 0).collect::<Vec<_>>(),
            [80, 81, 82]
        );
        let (first, last) = ephemeral_range();
        let ports: Vec<u16> = candidates(&request(0, 0), first + 4).collect();
        assert_eq!(
            (ports[0], ports.len()),
            (first + 5, usize::from(last - first) + 1)
        );
        assert_eq!(ports.last(), Some(&(first + 4)));
    }

    #[test]
    fn wildcards_overlap_their_family_only() {
        let ip = |text: &str| text.parse::<IpAddr>().expect("ip");
        assert!(overlap(&ip("0.0.0.0"), &ip("127.0.0.1")));
        assert!(!overlap(&ip("127.0.0.1"), &ip("127.0.0.2")));
        assert!(!overlap(&ip("0.0.0.0"), &ip("::")));
    }
}
