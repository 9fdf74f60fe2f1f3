//! rtnetlink(7) requests: links, addresses, routes. Builders add one request to a [`Batch`]; [`Route`] sends.

use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{Batch, Connection, find, text};
use crate::driver::{IpvlanFlag, IpvlanMode, MacvlanMode};
use crate::error::{Error, Result};
use crate::host::InterfaceStats;
use crate::model::MacAddr;

/// The operation that an error of [`Batch::veth`] names.
pub(crate) const CREATE_VETH: &str = "create veth";
const ACK: i32 = libc::NLM_F_ACK;
const CREATE: i32 = libc::NLM_F_ACK | libc::NLM_F_CREATE | libc::NLM_F_EXCL;
const UP: u32 = libc::IFF_UP as u32;
/// `IF_OPER_UP` (linux/if.h).
const OPERSTATE_UP: u8 = 6;
/// `VETH_INFO_PEER` (linux/veth.h).
const VETH_INFO_PEER: u16 = 1;
/// `IFLA_MACVLAN_MODE`, `IFLA_IPVLAN_MODE`, `IFLA_IPVLAN_FLAGS` (linux/if_link.h).
const MACVLAN_MODE: u16 = 1;
const IPVLAN_MODE: u16 = 1;
const IPVLAN_FLAGS: u16 = 2;
/// `IFLA_BR_NF_CALL_IPTABLES`, `IFLA_BR_NF_CALL_IP6TABLES` (linux/if_link.h).
const BRIDGE_NF_CALL_IPTABLES: u16 = 36;
const BRIDGE_NF_CALL_IP6TABLES: u16 = 37;
/// `IFLA_INET6_ADDR_GEN_MODE` and its value `IN6_ADDR_GEN_MODE_NONE` (linux/if_link.h).
const INET6_ADDR_GEN_MODE: u16 = 8;
const ADDR_GEN_NONE: u8 = 1;
/// `IFLA_BRPORT_MODE`, `IFLA_BRPORT_ISOLATED` (linux/if_link.h).
const BRPORT_HAIRPIN: u16 = 4;
const BRPORT_ISOLATED: u16 = 33;

/// `struct ifinfomsg`.
fn link_header(family: u8, index: u32, flags: u32, change: u32) -> [u8; 16] {
    let mut header = [0u8; 16];
    header[0] = family;
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..16].copy_from_slice(&change.to_ne_bytes());
    header
}

/// One end of a veth pair, or a link of its own.
#[derive(Default)]
pub(crate) struct End<'a> {
    pub(crate) name: &'a str,
    pub(crate) mac: Option<MacAddr>,
    pub(crate) mtu: Option<u32>,
    pub(crate) netns: Option<BorrowedFd<'a>>,
    /// Index of the bridge it is put on.
    pub(crate) master: Option<u32>,
}

impl End<'_> {
    fn write(&self, batch: &mut Batch) {
        batch.text(libc::IFLA_IFNAME, self.name);
        if let Some(mac) = self.mac {
            batch.attr(libc::IFLA_ADDRESS, &mac.0);
        }
        if let Some(mtu) = self.mtu {
            batch.u32(libc::IFLA_MTU, mtu);
        }
        if let Some(netns) = self.netns {
            batch.u32(libc::IFLA_NET_NS_FD, netns.as_raw_fd() as u32);
        }
        if let Some(master) = self.master {
            batch.u32(libc::IFLA_MASTER, master);
        }
    }
}

impl Batch {
    /// A veth pair, each end in its place already: one request, so a crash leaves both ends or none, and the pair goes with the namespace
    /// of `peer`. Our end is up; the peer cannot be yet (veth_open() says ENOTCONN before the two know one another).
    pub(crate) fn veth(&mut self, end: &End<'_>, peer: &End<'_>) {
        self.begin(
            libc::RTM_NEWLINK,
            CREATE,
            &link_header(0, 0, UP, UP),
            CREATE_VETH,
            end.name.to_owned(),
        );
        end.write(self);
        self.nest(libc::IFLA_LINKINFO, |b| {
            b.text(libc::IFLA_INFO_KIND, "veth");
            b.nest(libc::IFLA_INFO_DATA, |b| {
                b.nest(VETH_INFO_PEER, |b| {
                    b.raw(&link_header(0, 0, 0, 0));
                    peer.write(b);
                });
            });
        });
    }

    pub(crate) fn bridge(&mut self, end: &End<'_>) {
        self.begin(
            libc::RTM_NEWLINK,
            CREATE,
            &link_header(0, 0, UP, UP),
            "create bridge",
            end.name.to_owned(),
        );
        end.write(self);
        self.nest(libc::IFLA_LINKINFO, |b| {
            b.text(libc::IFLA_INFO_KIND, "bridge")
        });
    }

    /// The bridge's packets meet the IP firewall, whatever the sysctls of br_netfilter say for all bridges.
    pub(crate) fn bridge_firewall(&mut self, index: u32, name: &str) {
        let header = link_header(0, index, 0, 0);
        self.begin(
            libc::RTM_NEWLINK,
            ACK,
            &header,
            "switch on firewall of bridge",
            name.to_owned(),
        );
        self.nest(libc::IFLA_LINKINFO, |b| {
            b.text(libc::IFLA_INFO_KIND, "bridge");
            b.nest(libc::IFLA_INFO_DATA, |b| {
                b.attr(BRIDGE_NF_CALL_IPTABLES, &[1]);
                b.attr(BRIDGE_NF_CALL_IP6TABLES, &[1]);
            });
        });
    }

    /// A child of `parent`. It is made in the target namespace directly, down: it is brought up there.
    pub(crate) fn macvlan(&mut self, end: &End<'_>, parent: u32, mode: MacvlanMode) {
        self.begin(
            libc::RTM_NEWLINK,
            CREATE,
            &link_header(0, 0, 0, 0),
            "create macvlan",
            end.name.to_owned(),
        );
        end.write(self);
        self.u32(libc::IFLA_LINK, parent);
        let mode: u32 = match mode {
            MacvlanMode::Private => 1,
            MacvlanMode::Vepa => 2,
            MacvlanMode::Bridge => 4,
            MacvlanMode::Passthru => 8,
        };
        self.nest(libc::IFLA_LINKINFO, |b| {
            b.text(libc::IFLA_INFO_KIND, "macvlan");
            b.nest(libc::IFLA_INFO_DATA, |b| b.u32(MACVLAN_MODE, mode));
        });
    }

    /// Likewise for ipvlan.
    pub(crate) fn ipvlan(
        &mut self,
        end: &End<'_>,
        parent: u32,
        mode: IpvlanMode,
        flag: IpvlanFlag,
    ) {
        self.begin(
            libc::RTM_NEWLINK,
            CREATE,
            &link_header(0, 0, 0, 0),
            "create ipvlan",
            end.name.to_owned(),
        );
        end.write(self);
        self.u32(libc::IFLA_LINK, parent);
        let mode: u16 = match mode {
            IpvlanMode::L2 => 0,
            IpvlanMode::L3 => 1,
            IpvlanMode::L3s => 2,
        };
        let flag: u16 = match flag {
            IpvlanFlag::Bridge => 0,
            IpvlanFlag::Private => 1,
            IpvlanFlag::Vepa => 2,
        };
        self.nest(libc::IFLA_LINKINFO, |b| {
            b.text(libc::IFLA_INFO_KIND, "ipvlan");
            b.nest(libc::IFLA_INFO_DATA, |b| {
                b.u16(IPVLAN_MODE, mode);
                b.u16(IPVLAN_FLAGS, flag);
            });
        });
    }

    pub(crate) fn link_up(&mut self, index: u32, name: &str) {
        self.begin(
            libc::RTM_NEWLINK,
            ACK,
            &link_header(0, index, UP, UP),
            "set up",
            name.to_owned(),
        );
    }

    pub(crate) fn link_alias(&mut self, name: &str, alias: &str) {
        self.begin(
            libc::RTM_NEWLINK,
            ACK,
            &link_header(0, 0, 0, 0),
            "set alias of",
            name.to_owned(),
        );
        self.text(libc::IFLA_IFNAME, name);
        self.text(libc::IFLA_IFALIAS, alias);
    }

    pub(crate) fn link_mtu(&mut self, index: u32, name: &str, mtu: u32) {
        self.begin(
            libc::RTM_NEWLINK,
            ACK,
            &link_header(0, index, 0, 0),
            "set MTU of",
            name.to_owned(),
        );
        self.u32(libc::IFLA_MTU, mtu);
    }

    /// Options of a link that is a port of a bridge. `isolated`: it talks to the bridge itself but to no other isolated port.
    ///
    /// Hairpin is on for all: where br_netfilter hands bridged packets to the firewall, a container's packet to its own published port
    /// is translated inside the bridge and must leave by the port that it came from. `ipv6`: the host has it, so the port is told to
    /// make no address for itself: nobody talks to a port, and each would be announced to all containers.
    pub(crate) fn bridge_port(&mut self, name: &str, isolated: bool, ipv6: bool) {
        let object = name.to_owned();
        self.begin(
            libc::RTM_NEWLINK,
            ACK,
            &link_header(0, 0, 0, 0),
            "set up bridge port",
            object,
        );
        self.text(libc::IFLA_IFNAME, name);
        self.nest(libc::IFLA_LINKINFO, |b| {
            b.text(libc::IFLA_INFO_SLAVE_KIND, "bridge");
            b.nest(libc::IFLA_INFO_SLAVE_DATA, |b| {
                b.attr(BRPORT_HAIRPIN, &[1]);
                b.attr(BRPORT_ISOLATED, &[isolated.into()]);
            });
        });
        if ipv6 {
            self.nest(libc::IFLA_AF_SPEC, |b| {
                b.nest(libc::AF_INET6 as u16, |b| {
                    b.attr(INET6_ADDR_GEN_MODE, &[ADDR_GEN_NONE])
                });
            });
        }
    }

    pub(crate) fn delete_link(&mut self, name: &str) {
        self.begin(
            libc::RTM_DELLINK,
            ACK,
            &link_header(0, 0, 0, 0),
            "delete link",
            name.to_owned(),
        );
        self.text(libc::IFLA_IFNAME, name);
    }

    /// IPv6 addresses come without duplicate address detection (RFC 4862, 5.4): IPAM has chosen them, and a server that binds at once must
    /// not meet a tentative address.
    pub(crate) fn address(&mut self, index: u32, link: &str, address: IpNet) {
        let (family, bytes, prefix, flags) = parts(address);
        let mut header = [0u8; 8];
        header[0] = family;
        header[1] = prefix;
        header[2] = flags;
        header[4..8].copy_from_slice(&index.to_ne_bytes());
        self.begin(
            libc::RTM_NEWADDR,
            CREATE,
            &header,
            "add address",
            format!("{address} to {link}"),
        );
        self.attr(libc::IFA_LOCAL, &bytes);
        self.attr(libc::IFA_ADDRESS, &bytes);
        if let IpNet::V4(net) = address
            && net.prefix_len() < 31
        {
            self.attr(libc::IFA_BROADCAST, &net.broadcast().octets());
        }
    }

    /// The bridge sends what is for `mac` to this port from now on. A container's address, and with it its MAC, is often that of a
    /// container that has just gone and whose port still dies.
    pub(crate) fn learned(&mut self, port: u32, mac: MacAddr) {
        let header = neighbour_header(libc::AF_BRIDGE, port, libc::NUD_NOARP, libc::NTF_MASTER);
        let flags = ACK | libc::NLM_F_CREATE | libc::NLM_F_REPLACE;
        self.begin(
            libc::RTM_NEWNEIGH,
            flags,
            &header,
            "add forwarding entry for",
            mac.to_string(),
        );
        self.attr(libc::NDA_LLADDR, &mac.0);
    }

    /// The host knows the container by ARP already: taken at once, confirmed with the first packets.
    pub(crate) fn neighbour(&mut self, link: u32, address: IpAddr, mac: MacAddr) {
        let (family, bytes) = match address {
            IpAddr::V4(ip) => (libc::AF_INET, ip.octets().to_vec()),
            IpAddr::V6(ip) => (libc::AF_INET6, ip.octets().to_vec()),
        };
        let header = neighbour_header(family, link, libc::NUD_STALE, 0);
        let flags = ACK | libc::NLM_F_CREATE | libc::NLM_F_REPLACE;
        self.begin(
            libc::RTM_NEWNEIGH,
            flags,
            &header,
            "add neighbour",
            address.to_string(),
        );
        self.attr(libc::NDA_DST, &bytes);
        self.attr(libc::NDA_LLADDR, &mac.0);
    }

    /// A default route, in place of the one that is there.
    pub(crate) fn replace_default_route(&mut self, index: u32, gateway: IpAddr) {
        self.default_route(index, gateway);
        self.set_flags(ACK | libc::NLM_F_CREATE | libc::NLM_F_REPLACE);
    }

    /// A default route.
    pub(crate) fn default_route(&mut self, index: u32, gateway: IpAddr) {
        let mut header = [0u8; 12];
        let (family, bytes) = match gateway {
            IpAddr::V4(ip) => (libc::AF_INET, ip.octets().to_vec()),
            IpAddr::V6(ip) => (libc::AF_INET6, ip.octets().to_vec()),
        };
        header[0] = family as u8;
        header[4] = libc::RT_TABLE_MAIN;
        header[5] = libc::RTPROT_BOOT;
        header[6] = libc::RT_SCOPE_UNIVERSE;
        header[7] = libc::RTN_UNICAST;
        self.begin(
            libc::RTM_NEWROUTE,
            CREATE,
            &header,
            "add default route via",
            gateway.to_string(),
        );
        self.attr(libc::RTA_GATEWAY, &bytes);
        self.u32(libc::RTA_OIF, index);
    }
}

/// `struct ndmsg`.
fn neighbour_header(family: i32, link: u32, state: u16, flags: u8) -> [u8; 12] {
    let mut header = [0u8; 12];
    header[0] = family as u8;
    header[4..8].copy_from_slice(&link.to_ne_bytes());
    header[8..10].copy_from_slice(&state.to_ne_bytes());
    header[10] = flags;
    header
}

/// Family, bytes, prefix length and flags of an address.
fn parts(address: IpNet) -> (u8, Vec<u8>, u8, u8) {
    match address {
        IpNet::V4(net) => (
            libc::AF_INET as u8,
            net.addr().octets().to_vec(),
            net.prefix_len(),
            0,
        ),
        IpNet::V6(net) => (
            libc::AF_INET6 as u8,
            net.addr().octets().to_vec(),
            net.prefix_len(),
            libc::IFA_F_NODAD as u8,
        ),
    }
}

/// What the kernel says of a link.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
    pub(crate) alias: String,
    pub(crate) kind: String,
    pub(crate) mac: Option<MacAddr>,
    /// It carries packets (RFC 2863's "up").
    pub(crate) up: bool,
    pub(crate) stats: InterfaceStats,
}

/// An rtnetlink socket.
pub(crate) struct Route(Connection);

impl Route {
    /// In the caller's network namespace.
    pub(crate) fn open() -> Result<Route> {
        Connection::open(libc::NETLINK_ROUTE).map(Route)
    }

    pub(crate) fn execute(&mut self, batch: Batch) -> Result<()> {
        self.0.execute(batch).map(|_| ())
    }

    /// The link of that name, if there is one.
    ///
    /// Asking also makes the kernel act on a change of the link's carrier now (rtnl_getlink(), since Linux 6.9), and not when its work
    /// queue comes to it.
    pub(crate) fn link(&mut self, name: &str) -> Result<Option<Link>> {
        let mut batch = Batch::new();
        batch.begin(
            libc::RTM_GETLINK,
            0,
            &link_header(0, 0, 0, 0),
            "look up link",
            name.to_owned(),
        );
        batch.text(libc::IFLA_IFNAME, name);
        match self.0.execute(batch) {
            Ok(messages) => Ok(messages.first().and_then(|m| read_link(&m.body))),
            Err(error) if error.errno() == Some(libc::ENODEV) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Every link of the namespace.
    pub(crate) fn links(&mut self) -> Result<Vec<Link>> {
        let mut batch = Batch::new();
        batch.begin(
            libc::RTM_GETLINK,
            libc::NLM_F_DUMP,
            &link_header(0, 0, 0, 0),
            "list",
            "links".to_owned(),
        );
        let messages = self.0.execute(batch)?;
        Ok(messages
            .iter()
            .filter(|m| m.kind == libc::RTM_NEWLINK)
            .filter_map(|m| read_link(&m.body))
            .collect())
    }

    /// The addresses of one link.
    pub(crate) fn addresses(&mut self, index: u32) -> Result<Vec<IpNet>> {
        let mut batch = Batch::new();
        batch.begin(
            libc::RTM_GETADDR,
            libc::NLM_F_DUMP,
            &[0; 8],
            "list",
            "addresses".to_owned(),
        );
        let messages = self.0.execute(batch)?;
        let of_link = |body: &[u8]| body.get(4..8) == Some(&index.to_ne_bytes()[..]);
        Ok(messages
            .iter()
            .filter(|m| of_link(&m.body))
            .filter_map(|m| read_address(&m.body))
            .collect())
    }

    /// Destinations in the main table, and the link of the IPv4 default route.
    pub(crate) fn routes(&mut self) -> Result<(Vec<IpNet>, Option<u32>)> {
        let mut batch = Batch::new();
        batch.begin(
            libc::RTM_GETROUTE,
            libc::NLM_F_DUMP,
            &[0; 12],
            "list",
            "routes".to_owned(),
        );
        let mut destinations = Vec::new();
        let mut default_link = None;
        for message in self.0.execute(batch)? {
            let Some((header, attributes)) = message.body.split_at_checked(12) else {
                continue;
            };
            if header[4] != libc::RT_TABLE_MAIN || header[7] != libc::RTN_UNICAST {
                continue;
            }
            match find(attributes, libc::RTA_DST).and_then(|dst| network(dst, header[1])) {
                Some(net) => destinations.push(net),
                None if header[1] == 0
                    && header[0] == libc::AF_INET as u8
                    && default_link.is_none() =>
                {
                    default_link = find(attributes, libc::RTA_OIF).and_then(number);
                }
                None => {}
            }
        }
        Ok((destinations, default_link))
    }
}

fn number(value: &[u8]) -> Option<u32> {
    value.get(..4)?.try_into().ok().map(u32::from_ne_bytes)
}

fn network(bytes: &[u8], prefix: u8) -> Option<IpNet> {
    if let Ok(octets) = <[u8; 4]>::try_from(bytes) {
        return Ipv4Net::new(octets.into(), prefix).ok().map(IpNet::V4);
    }
    let octets = <[u8; 16]>::try_from(bytes).ok()?;
    Ipv6Net::new(octets.into(), prefix).ok().map(IpNet::V6)
}

fn read_address(body: &[u8]) -> Option<IpNet> {
    let (header, attributes) = body.split_at_checked(8)?;
    let bytes =
        find(attributes, libc::IFA_LOCAL).or_else(|| find(attributes, libc::IFA_ADDRESS))?;
    network(bytes, header[1])
}

fn read_link(body: &[u8]) -> Option<Link> {
    let (header, attributes) = body.split_at_checked(16)?;
    let mut link = Link {
        index: number(&header[4..8])?,
        ..Link::default()
    };
    for (kind, value) in super::attributes(attributes) {
        match kind {
            libc::IFLA_IFNAME => link.name = text(value),
            libc::IFLA_OPERSTATE => link.up = value == [OPERSTATE_UP],
            libc::IFLA_IFALIAS => link.alias = text(value),
            libc::IFLA_ADDRESS => link.mac = <[u8; 6]>::try_from(value).ok().map(MacAddr),
            libc::IFLA_LINKINFO => {
                link.kind = find(value, libc::IFLA_INFO_KIND)
                    .map(text)
                    .unwrap_or_default()
            }
            libc::IFLA_STATS64 => link.stats = read_stats(value),
            _ => {}
        }
    }
    link.stats.interface = link.name.clone();
    Some(link)
}

/// `struct rtnl_link_stats64`.
fn read_stats(value: &[u8]) -> InterfaceStats {
    let word = |n: usize| {
        value
            .get(n * 8..n * 8 + 8)
            .and_then(|b| b.try_into().ok())
            .map(u64::from_ne_bytes)
            .unwrap_or_default()
    };
    InterfaceStats {
        interface: String::new(),
        rx_packets: word(0),
        tx_packets: word(1),
        rx_bytes: word(2),
        tx_bytes: word(3),
        rx_errors: word(4),
        tx_errors: word(5),
        rx_dropped: word(6),
        tx_dropped: word(7),
    }
}

/// `Ok` also when the kernel says that the thing is already there.
pub(crate) fn exists_is_fine(result: Result<()>) -> Result<()> {
    match result {
        Err(Error::Kernel { source, .. }) if source.raw_os_error() == Some(libc::EEXIST) => Ok(()),
        other => other,
    }
}

/// `Ok` also when the kernel says that the thing is not there.
pub(crate) fn absence_is_fine(result: Result<()>) -> Result<()> {
    match result {
        Err(error)
            if matches!(
                error.errno(),
                Some(libc::ENODEV | libc::ENOENT | libc::ESRCH)
            ) =>
        {
            Ok(())
        }
        other => other,
    }
}
