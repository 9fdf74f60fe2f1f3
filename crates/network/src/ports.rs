//! Host ports: who holds which. A port is held by a bound socket, so that no other program takes what the firewall would translate away;
//! what the firewall does not translate reaches that socket, and goes on by [`crate::forward`].

use std::collections::HashMap;
use std::fs;
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::net::{
    AddressFamily, Protocol as IpProtocol, SocketFlags, SocketType, bind, ipproto, listen,
    socket_with, sockopt,
};

use crate::error::{Error, Result};
use crate::forward::Forwarder;
use crate::host::sysctl;
use crate::model::{Endpoint, Network, PortMapping, Protocol};

/// The ports held by this daemon.
pub(crate) struct Ports {
    held: Mutex<Held>,
    forwarder: Forwarder,
    ways: Ways,
}

/// How ports lead to containers on this host.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ways {
    /// The host has IPv6.
    pub(crate) ipv6: bool,
    /// What is not translated is forwarded (`--userland-proxy`).
    pub(crate) forward: bool,
    /// The firewall translates.
    pub(crate) translate: bool,
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
    /// None where the kernel has no such protocol (SCTP): then only this table holds it; or where the forwarder has it.
    socket: Option<OwnedFd>,
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
    pub(crate) fn new(ways: Ways) -> Ports {
        Ports {
            held: Mutex::default(),
            forwarder: Forwarder::default(),
            ways,
        }
    }

    /// All of `endpoint.ports`, or none.
    pub(crate) fn reserve(
        &self,
        network: &Network,
        endpoint: &Endpoint,
    ) -> Result<Vec<PortMapping>> {
        let mut held = self.lock();
        let mut out = Vec::new();
        for request in &endpoint.ports {
            let reserved = held
                .reserve_one(network, endpoint, request, self.ways)
                .and_then(|mappings| {
                    out.extend(mappings.iter().copied());
                    mappings
                        .iter()
                        .try_for_each(|mapping| self.forward(&mut held, endpoint, mapping))
                });
            if let Err(error) = reserved {
                // One that was there already stays: it is the running container's own.
                for mapping in out {
                    held.release(&endpoint.id, &mapping);
                }
                return Err(error);
            }
        }
        Ok(out)
    }

    /// Lets what is not translated go on from the socket that holds the port.
    fn forward(&self, held: &mut Held, endpoint: &Endpoint, mapping: &PortMapping) -> Result<()> {
        let Some(ip) = mapping.host_ip else {
            return Ok(());
        };
        let (ipv4, ipv6) = (
            endpoint.ipv4.map(|net| IpAddr::V4(net.addr())),
            endpoint.ipv6.map(|net| IpAddr::V6(net.addr())),
        );
        let target = match ip {
            IpAddr::V4(_) => ipv4,
            IpAddr::V6(_) => ipv6.or(ipv4),
        };
        let wanted = self.ways.forward && (ip.is_ipv6() || !self.ways.translate);
        let (Some(target), true) = (target, wanted) else {
            return Ok(());
        };
        let holdings = held
            .by_port
            .get_mut(&(mapping.protocol, mapping.host_port))
            .into_iter()
            .flatten();
        let mut own = holdings.filter(|h| h.endpoint_id == endpoint.id && h.ip == ip);
        let Some(socket) = own.find_map(|holding| holding.socket.take()) else {
            return Ok(());
        };
        let target = SocketAddr::new(target, mapping.container_port);
        self.forwarder
            .add(&endpoint.id, mapping.protocol, socket, target)
            .map_err(|error| {
                let why = Refusal::Bind { ip, error };
                refused(endpoint, mapping, mapping.host_port, why)
            })
    }

    pub(crate) fn release(&self, endpoint_id: &str) {
        let mut held = self.lock();
        self.forwarder.remove(endpoint_id);
        held.by_port.retain(|_, holdings| {
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
        ways: Ways,
    ) -> Result<Vec<PortMapping>> {
        let addresses = host_addresses(network, endpoint, request, ways)?;
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
                        socket,
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

/// Where a request without an address is bound: on all addresses of the families by which the endpoint can be reached, which is IPv6
/// also where the forwarder leads on to IPv4.
fn host_addresses(
    network: &Network,
    endpoint: &Endpoint,
    request: &PortMapping,
    ways: Ways,
) -> Result<Vec<IpAddr>> {
    // Ports may be reserved before an address is leased: then by what the network has.
    let leased = endpoint.ipv4.is_some() || endpoint.ipv6.is_some();
    let (ipv4, ipv6) = if leased {
        (endpoint.ipv4.is_some(), endpoint.ipv6.is_some())
    } else {
        let (ipv4, ipv6) = (network.ipv4_subnet(), network.ipv6_subnet());
        (ipv4.is_some(), ipv6.is_some())
    };
    let forwarded = ways.forward && request.protocol != Protocol::Sctp;
    let has = |ip: &IpAddr| match ip {
        IpAddr::V4(_) => ipv4,
        IpAddr::V6(_) => ways.ipv6 && (ipv6 || (ipv4 && forwarded)),
    };
    let all = [
        IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    ];
    // `--ip 0.0.0.0` is Docker's default, and means every address.
    let all_of_host = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let binding = network.host_binding.filter(|ip| *ip != all_of_host);
    let addresses: Vec<IpAddr> = match request.host_ip.or(binding) {
        Some(ip) => vec![ip],
        None => all.into_iter().filter(|ip| has(ip)).collect(),
    };
    match addresses.iter().find(|ip| !has(ip)) {
        None if !addresses.is_empty() => Ok(addresses),
        Some(ip @ IpAddr::V6(_)) => Err(Error::Invalid(format!(
            "cannot publish port {} on {ip}: the container has no IPv6 address on network {} (create it with --ipv6), and nothing forwards to its IPv4 address (--userland-proxy=false, or a host without IPv6)",
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

/// A port given back a moment ago is taken until a child that was just then between fork and execve has closed its copy of the socket:
/// how often it is tried again, and after how long.
const HOLD_TRIES: usize = 5;
const HOLD_WAIT: Duration = Duration::from_millis(2);

fn hold(protocol: Protocol, ip: IpAddr, port: u16) -> io::Result<Option<OwnedFd>> {
    let mut tries = 1;
    loop {
        match hold_once(protocol, ip, port) {
            Err(error) if error.raw_os_error() == Some(libc::EADDRINUSE) && tries < HOLD_TRIES => {
                tries += 1;
                std::thread::sleep(HOLD_WAIT);
            }
            other => return other,
        }
    }
}

fn hold_once(protocol: Protocol, ip: IpAddr, port: u16) -> io::Result<Option<OwnedFd>> {
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
                Some(libc::EADDRINUSE) => holder(request.protocol, ip, port).unwrap_or_default(),
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

/// The most that is read of one of the kernel's tables or of a command line, in bytes.
const TABLE_MAX: u64 = 16 << 20;
/// How long the search for the process may take: it only helps the message.
const SEARCH_MAX: Duration = Duration::from_millis(300);

/// ` (held by process 123 (nginx))`, by /proc/net's inode (proc_pid_net(5)) and whoever has it open. Of sockets that are bound and
/// do not listen the kernel's tables know nothing, and such are those of Hull's daemons: then another one of this network namespace.
fn holder(protocol: Protocol, ip: IpAddr, port: u16) -> Option<String> {
    let files = match protocol {
        Protocol::Tcp => ["tcp", "tcp6"],
        Protocol::Udp => ["udp", "udp6"],
        Protocol::Sctp => return None,
    };
    let inode = files
        .iter()
        .filter_map(|name| read(&format!("/proc/thread-self/net/{name}")))
        .find_map(|table| inode_of(&table, ip, port));
    let Some(inode) = inode else {
        let (pid, root) = process(other_daemon)?;
        return Some(format!(
            " (nothing listens there: perhaps a container of process {pid}, a Hull daemon with exec-root {root})"
        ));
    };
    let socket = format!("socket:[{inode}]");
    let (pid, ()) = process(|pid| {
        let mut fds = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten();
        fds.any(|fd| fs::read_link(fd.path()).is_ok_and(|link| link.as_os_str() == socket.as_str()))
            .then_some(())
    })?;
    let name = read(&format!("/proc/{pid}/comm")).unwrap_or_default();
    let daemon = other_daemon(pid)
        .map(|root| format!(", a Hull daemon with exec-root {root}"))
        .unwrap_or_default();
    Some(format!(
        " (held by process {pid} ({}){daemon})",
        name.trim_end()
    ))
}

/// The first process of which `look` finds something, and that.
fn process<T>(look: impl Fn(u32) -> Option<T>) -> Option<(u32, T)> {
    let end = Instant::now() + SEARCH_MAX;
    let entries = fs::read_dir("/proc").ok()?.flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.take_while(|_| Instant::now() < end)
        .find_map(|pid| Some((pid, look(pid)?)))
}

/// The exec-root of a process that is another Hull daemon in this network namespace.
fn other_daemon(pid: u32) -> Option<String> {
    let cmdline = read(&format!("/proc/{pid}/cmdline"))?;
    let root = daemon_of(&cmdline).filter(|_| pid != std::process::id())?;
    let netns = fs::read_link(format!("/proc/{pid}/ns/net")).ok()?;
    (netns == fs::read_link("/proc/thread-self/ns/net").ok()?).then(|| root.to_owned())
}

fn read(path: &str) -> Option<String> {
    let mut text = Vec::new();
    let file = fs::File::open(path).ok()?;
    file.take(TABLE_MAX).read_to_end(&mut text).ok()?;
    Some(String::from_utf8_lossy(&text).into_owned())
}

/// The exec-root of the Hull daemon with this /proc/PID/cmdline, which is what tells daemons of one host apart: the port is a
/// container's of that one. None for other programs.
fn daemon_of(cmdline: &str) -> Option<&str> {
    let mut words = cmdline.split('\0');
    let program = words.next()?.rsplit('/').next()?;
    if program != "hull" || words.next() != Some("daemon") {
        return None;
    }
    while let Some(word) = words.next() {
        match word.strip_prefix("--exec-root") {
            Some("") => return words.next(),
            Some(rest) if rest.starts_with('=') => return rest.get(1..),
            _ => {}
        }
    }
    Some("/run/hull")
}

/// The inode of the socket that is bound to `port`, on an address that excludes `ip`, and that no peer is connected to.
fn inode_of(table: &str, ip: IpAddr, port: u16) -> Option<u64> {
    table.lines().skip(1).find_map(|line| {
        let mut fields = line.split_whitespace();
        let (local, local_port) = fields.nth(1)?.rsplit_once(':')?;
        let remote = fields.next()?;
        let inode: u64 = fields.nth(6)?.parse().ok()?;
        let local_port = u16::from_str_radix(local_port, 16).ok()?;
        let local = table_address(local)?;
        // A socket on `::` has the port of IPv4 too, unless told otherwise.
        let clash = overlap(&local, &ip) || local == IpAddr::V6(Ipv6Addr::UNSPECIFIED);
        (local_port == port && clash && remote.ends_with(":0000") && inode != 0).then_some(inode)
    })
}

/// An address of the kernel's tables: words of 32 bits, each in the machine's order of bytes.
fn table_address(hex: &str) -> Option<IpAddr> {
    let word = |at: usize| {
        let word = u32::from_str_radix(hex.get(at..at + 8)?, 16).ok()?;
        Some(word.to_ne_bytes())
    };
    match hex.len() {
        8 => Some(Ipv4Addr::from(word(0)?).into()),
        32 => {
            let words = [word(0)?, word(8)?, word(16)?, word(24)?];
            let bytes: [u8; 16] = words.concat().try_into().ok()?;
            Some(IpAddr::from(bytes).to_canonical())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_listener_is_found_in_the_kernels_table() {
        // Port 8080 (1F90): a connection to it, then its listener.
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   0: 0100007F:1F90 0100007F:A0B2 01 00000000:00000000 00:00000000 00000000     0        0 11 1\n   1: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 22 1\n";
        let any = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        assert_eq!(inode_of(table, any, 8080), Some(22));
        assert_eq!(inode_of(table, any, 8081), None);
        assert_eq!(inode_of("header\nrubbish\n 1: x y", any, 8080), None);
        // Listeners on 127.0.0.1 and on ::, with whom only some addresses clash.
        let [four, six] = ["0100007F", "00000000000000000000000000000000"].map(|local| {
            format!("header\n 1: {local}:1F90 0:0000 0A 00000000:00000000 00:00000000 00000000 0 0 33 1\n")
        });
        let ip = |text: &str| text.parse::<IpAddr>().expect("ip");
        assert_eq!(inode_of(&four, ip("127.0.0.1"), 8080), Some(33));
        assert_eq!(inode_of(&four, ip("127.0.0.2"), 8080), None);
        assert_eq!(inode_of(&six, ip("127.0.0.2"), 8080), Some(33));
    }

    #[test]
    fn addresses_of_the_kernels_tables() {
        let written = |text: &str| {
            let bytes = match text.parse::<IpAddr>().expect("ip") {
                IpAddr::V4(ip) => ip.octets().to_vec(),
                IpAddr::V6(ip) => ip.octets().to_vec(),
            };
            let (words, _) = bytes.as_chunks::<4>();
            let words = words.iter().map(|word| u32::from_ne_bytes(*word));
            words.map(|word| format!("{word:08X}")).collect::<String>()
        };
        for text in ["127.0.0.1", "192.0.2.7", "::1", "2001:db8::1:2"] {
            assert_eq!(table_address(&written(text)), text.parse().ok(), "{text}");
        }
        assert_eq!(
            table_address(&written("::ffff:192.0.2.7")),
            "192.0.2.7".parse().ok()
        );
        for bad in ["", "0100007", "0100007é", "xxxxxxxx"] {
            assert_eq!(table_address(bad), None, "{bad}");
        }
    }

    #[test]
    fn daemons_are_known_by_their_command_line() {
        for (cmdline, root) in [
            ("/usr/bin/hull\0daemon\0", Some("/run/hull")),
            ("hull\0daemon\0--debug\0--exec-root\0/x\0", Some("/x")),
            ("hull\0daemon\0--exec-root=/x\0-H\0y\0", Some("/x")),
            ("hull\0ps\0", None),
            ("nginx\0daemon\0", None),
            ("", None),
        ] {
            assert_eq!(daemon_of(cmdline), root, "{cmdline:?}");
        }
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
