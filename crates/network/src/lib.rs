//! Network drivers, IPAM, published ports, firewall (nftables, iptables) and embedded DNS.
//!
//! What lives here: the values that describe a network and an endpoint ([`Network`], [`Endpoint`]), the pure decisions
//! about them ([`ipam`], [`driver::Driver::plan`], [`firewall::ruleset`]) and one type that applies decisions to the
//! kernel ([`Host`]). What does not: which containers exist, who holds which address (the engine leases them in the
//! database), and names beyond those handed over in `Host::dns_register`.
//!
//! Everything blocks; an async caller uses `spawn_blocking`. Nothing is read back from the kernel to learn intent: the
//! firewall, links and DNS tables are derived from the values handed in, and rewritten whole or by element.
#![forbid(unsafe_code)]

pub mod dns;
pub mod driver;
pub mod error;
pub mod firewall;
mod forward;
pub mod host;
pub mod hosts;
pub mod ipam;
pub mod model;
mod netlink;
mod netns;
mod ports;
pub mod resolv;

pub use driver::{Driver, HostFacts, NetPlan};
pub use error::{Error, ErrorKind, Result};
pub use host::{Connected, DnsConfig, Firewall, Host, HostOptions, InterfaceStats};
pub use model::{Endpoint, MacAddr, Network, PortMapping, Protocol, Subnet};
