//! The values that describe networks and endpoints. They are what the engine stores (serde), and what everything else here is derived from.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// A network: what `docker network create` asked for, with the blanks filled in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Network {
    /// 64 lower hex.
    pub id: String,
    /// The user's name for it.
    pub name: String,
    /// `bridge`, `host`, `none` (Docker's `null` is accepted), `macvlan`, `ipvlan`, `overlay`.
    pub driver: String,
    /// No way out or in: no default route, no masquerade, forwarding dropped.
    pub internal: bool,
    /// Endpoints get IPv4 addresses.
    pub enable_ipv4: bool,
    /// Endpoints get IPv6 addresses.
    pub enable_ipv6: bool,
    /// Address pools, at most one per family is used by the drivers here.
    pub subnets: Vec<Subnet>,
    /// Driver options as the user gave them (`com.docker.network.*`, `parent`, `macvlan_mode`, ...).
    pub options: BTreeMap<String, String>,
    /// Name of the bridge link (`docker0`, `br-<12 hex>`); empty for other drivers.
    pub bridge: String,
    /// Bytes; 0 leaves the kernel's default (1500).
    pub mtu: u32,
    /// Containers of this network may talk to one another.
    pub icc: bool,
    /// Packets leaving the bridge get the host's address.
    pub masquerade: bool,
    /// Where ports published without an address are bound, instead of all addresses.
    pub host_binding: Option<IpAddr>,
    /// Prefix of interface names inside containers (`eth`).
    pub interface_prefix: String,
    /// The bridge keeps whatever address it has (`com.docker.network.bridge.inhibit_ipv4`).
    pub inhibit_ipv4: bool,
}

impl Default for Network {
    fn default() -> Self {
        Network {
            id: String::new(),
            name: String::new(),
            driver: "bridge".to_owned(),
            internal: false,
            enable_ipv4: true,
            enable_ipv6: false,
            subnets: Vec::new(),
            options: BTreeMap::new(),
            bridge: String::new(),
            mtu: 0,
            icc: true,
            masquerade: true,
            host_binding: None,
            interface_prefix: "eth".to_owned(),
            inhibit_ipv4: false,
        }
    }
}

impl Network {
    /// Reads the driver options that this crate knows into the fields, and derives the bridge's name from the id when none is given.
    /// Keys of other meaning are left alone. Source: dockerd's `docker network create` reference, "Bridge driver options".
    pub fn apply_options(&mut self) -> Result<()> {
        for (key, value) in &self.options {
            match key.as_str() {
                "com.docker.network.bridge.name" => self.bridge = link_name(key, value)?,
                "com.docker.network.bridge.enable_icc" => self.icc = boolean(key, value)?,
                "com.docker.network.bridge.enable_ip_masquerade" => {
                    self.masquerade = boolean(key, value)?
                }
                "com.docker.network.bridge.inhibit_ipv4" => {
                    self.inhibit_ipv4 = boolean(key, value)?
                }
                "com.docker.network.bridge.host_binding_ipv4" => {
                    self.host_binding = Some(
                        value
                            .parse()
                            .map_err(|_| option_error(key, value, "not an IP address"))?,
                    );
                }
                "com.docker.network.driver.mtu" => {
                    self.mtu = value
                        .parse()
                        .map_err(|_| option_error(key, value, "not a number of bytes"))?;
                }
                "com.docker.network.container_iface_prefix" => {
                    self.interface_prefix = link_name(key, value)?
                }
                _ => {}
            }
        }
        if self.driver == "bridge" && self.bridge.is_empty() {
            self.bridge = format!("br-{}", self.id.get(..12).unwrap_or(&self.id));
        }
        Ok(())
    }

    /// The IPv4 pool, where IPv4 is enabled.
    pub fn ipv4_subnet(&self) -> Option<&Subnet> {
        self.subnets
            .iter()
            .find(|s| self.enable_ipv4 && matches!(s.cidr, IpNet::V4(_)))
    }

    /// The IPv6 pool, where IPv6 is enabled.
    pub fn ipv6_subnet(&self) -> Option<&Subnet> {
        self.subnets
            .iter()
            .find(|s| self.enable_ipv6 && matches!(s.cidr, IpNet::V6(_)))
    }
}

fn option_error(option: &str, value: &str, why: &'static str) -> Error {
    Error::Option {
        option: option.to_owned(),
        value: value.to_owned(),
        why,
    }
}

fn boolean(key: &str, value: &str) -> Result<bool> {
    // Go's strconv.ParseBool.
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(option_error(key, value, "not a boolean")),
    }
}

/// A name that the kernel takes for a link: dev_valid_name() in net/core/dev.c.
fn link_name(key: &str, value: &str) -> Result<String> {
    let bad = |c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control();
    if value.is_empty() || value.len() > 15 || value == "." || value == ".." || value.contains(bad)
    {
        return Err(option_error(
            key,
            value,
            "not a link name (1 to 15 bytes without '/', ':' and spaces)",
        ));
    }
    Ok(value.to_owned())
}

/// One address pool of a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subnet {
    /// The pool, truncated to its network address.
    pub cidr: IpNet,
    /// The host's address in it.
    pub gateway: Option<IpAddr>,
    /// Where addresses are chosen from, when narrower than the pool (`--ip-range`, `--fixed-cidr`).
    #[serde(default)]
    pub range: Option<IpNet>,
    /// Never given out (`--aux-address name=ip`).
    #[serde(default)]
    pub reserved: BTreeMap<String, IpAddr>,
}

/// A container's place on a network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Endpoint {
    /// 64 lower hex.
    pub id: String,
    /// The network's id.
    pub network_id: String,
    /// The container's id, empty for none.
    pub container_id: String,
    /// The container's name, for error sentences.
    pub container_name: String,
    /// Interface name inside the container; empty lets `connect` choose `<prefix><n>`.
    pub interface: String,
    /// None lets the driver choose: from the IPv4 address as Docker does, else from the endpoint's id.
    pub mac: Option<MacAddr>,
    /// Address with the pool's prefix length.
    pub ipv4: Option<Ipv4Net>,
    /// Address with the pool's prefix length.
    pub ipv6: Option<Ipv6Net>,
    /// Further addresses of the interface, given by the user (`--link-local-ip`).
    pub link_local: Vec<IpNet>,
    /// IPv4 gateway, where the network has one.
    pub gateway4: Option<Ipv4Addr>,
    /// IPv6 gateway, where the network has one.
    pub gateway6: Option<Ipv6Addr>,
    /// Names that DNS answers on this network: container name and short id.
    pub names: Vec<String>,
    /// Further names (`--network-alias`).
    pub aliases: Vec<String>,
    /// What this container alone calls others on this network (`--link`): alias to name.
    #[serde(default)]
    pub link_names: BTreeMap<String, String>,
    /// Published ports, resolved: one entry per host address (see `Host::reserve_ports`).
    pub ports: Vec<PortMapping>,
    /// This endpoint carries the container's default route.
    pub default_route: bool,
    /// Addresses that may be reached although the network forbids talk between containers (`--link` under `icc=false`).
    pub links: Vec<IpAddr>,
}

/// A published port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PortMapping {
    /// Transport.
    pub protocol: Protocol,
    /// Port in the container.
    pub container_port: u16,
    /// None in a request: every address of the host. Always set in what `Host::reserve_ports` returns.
    pub host_ip: Option<IpAddr>,
    /// 0 in a request: the host chooses.
    pub host_port: u16,
    /// Last port of a range to choose from; 0 or equal to `host_port` for one port.
    #[serde(default)]
    pub host_port_end: u16,
}

impl PortMapping {
    /// `host address:port` as Docker prints it (`0.0.0.0:8080`, `[::]:8080`).
    pub fn host_address(&self) -> String {
        let ip = self.host_ip.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        SocketAddr::new(ip, self.host_port).to_string()
    }
}

/// Transport protocols that can be published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// IANA number, as in the IP header.
    pub fn number(self) -> u8 {
        match self {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Sctp => 132,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        })
    }
}

impl FromStr for Protocol {
    type Err = Error;

    /// Docker's spelling, any case.
    fn from_str(text: &str) -> Result<Self> {
        match text.to_ascii_lowercase().as_str() {
            "tcp" => Ok(Protocol::Tcp),
            "udp" => Ok(Protocol::Udp),
            "sctp" => Ok(Protocol::Sctp),
            _ => Err(Error::Invalid(format!("invalid proto: {text}"))),
        }
    }
}

/// A 48-bit hardware address, written `02:42:ac:11:00:02`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// Docker's rule: 02:42 and the four bytes of the address. The bridge never meets two of them, and ARP caches stay right over restarts.
    pub fn from_ipv4(ip: Ipv4Addr) -> MacAddr {
        let [a, b, c, d] = ip.octets();
        MacAddr([0x02, 0x42, a, b, c, d])
    }

    /// A locally administered unicast address out of an endpoint's id, so that it stays the same over restarts.
    pub fn from_id(id: &str) -> MacAddr {
        let mut bytes = [0u8; 6];
        for (i, chunk) in id.as_bytes().chunks(2).take(6).enumerate() {
            bytes[i] = std::str::from_utf8(chunk)
                .ok()
                .and_then(|h| u8::from_str_radix(h, 16).ok())
                .unwrap_or(0x42);
        }
        bytes[0] = bytes[0] & 0xfc | 0x02;
        MacAddr(bytes)
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for MacAddr {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = || Error::Invalid(format!("{text} is not a valid mac address"));
        let mut bytes = [0u8; 6];
        let mut parts = text.split([':', '-']);
        for byte in &mut bytes {
            let is_byte = |p: &&str| p.len() == 2 && p.bytes().all(|b| b.is_ascii_hexdigit());
            let part = parts.next().filter(is_byte).ok_or_else(bad)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| bad())?;
        }
        if parts.next().is_some() {
            Err(bad())
        } else {
            Ok(MacAddr(bytes))
        }
    }
}

impl Serialize for MacAddr {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MacAddr {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}
