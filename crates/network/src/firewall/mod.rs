//! The firewall: [`ruleset`] derives it from networks and endpoints, as a value; `netlink::nft` and `iptables` write that value to the kernel.
//!
//! Publishing a port is one element of a map, never a rule of its own, so that a thousand ports cost a packet what one does.

pub mod iptables;
pub(crate) mod legacy;
pub mod rules;
mod text;

pub use rules::{FirewallOptions, elements, resolver, ruleset};

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4};

use ipnet::IpNet;

use crate::model::Protocol;

/// Everything of one daemon, one table per family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ruleset {
    /// Table name, the same in every family.
    pub name: String,
    /// The tables.
    pub tables: Vec<Table>,
}

/// A table of one family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Its family.
    pub family: Family,
    /// Sets and maps.
    pub sets: Vec<Set>,
    /// Chains.
    pub chains: Vec<Chain>,
}

/// Protocol families.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    Ip,
    /// IPv6.
    Ip6,
}

/// A set, or with `data` a map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    /// Its name.
    pub name: &'static str,
    /// Types of the key's parts.
    pub key: Vec<DataType>,
    /// Types of the value's parts; empty for a set.
    pub data: Vec<DataType>,
    /// What is in it.
    pub elements: Vec<Element>,
}

/// A member of a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Element {
    /// The key's parts.
    pub key: Vec<Value>,
    /// The value's parts; empty in a set.
    pub data: Vec<Value>,
}

/// Types of parts, named as in nft(8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataType {
    /// `ifname`
    Ifname,
    /// `ipv4_addr`
    Ipv4,
    /// `ipv6_addr`
    Ipv6,
    /// `inet_proto`
    Proto,
    /// `inet_service`
    Service,
}

/// A part's value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Value {
    /// Name of a link.
    Ifname(String),
    /// IPv4 address.
    Ipv4(Ipv4Addr),
    /// IPv6 address.
    Ipv6(Ipv6Addr),
    /// IANA protocol number.
    Proto(u8),
    /// Port.
    Service(u16),
}

/// A chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// Its name.
    pub name: &'static str,
    /// Where it hangs; None for one that is jumped to.
    pub base: Option<Base>,
    /// Its rules, in order.
    pub rules: Vec<Rule>,
}

/// A base chain's place. The policy is always accept: dropping is said by rules, about our bridges only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Base {
    /// What the chain does there.
    pub kind: ChainKind,
    /// The hook.
    pub hook: Hook,
    /// Order among the chains of a hook, ascending.
    pub priority: i32,
}

/// Kinds of base chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChainKind {
    /// `filter`
    Filter,
    /// `nat`
    Nat,
}

/// Hooks of the IP families.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// Before routing.
    Prerouting,
    /// From one link to another.
    Forward,
    /// Made by this host.
    Output,
    /// After routing.
    Postrouting,
}

/// A rule: all matches, then the action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// All must hold.
    pub matches: Vec<Match>,
    /// What happens then.
    pub action: Action,
}

/// Conditions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Match {
    /// The packet came in by this link.
    Iif(String),
    /// It goes out by this link.
    Oif(String),
    /// It goes out by another link.
    OifNot(String),
    /// It came in by a link of this set.
    IifIn(&'static str),
    /// It goes out by a link of this set.
    OifIn(&'static str),
    /// Link in and link out are a pair of this set.
    IifOifIn(&'static str),
    /// Source within this network.
    Saddr(IpNet),
    /// Destination within this network.
    Daddr(IpNet),
    /// Source and destination are a pair of this set.
    SaddrDaddrIn(&'static str),
    /// Destination port of a protocol.
    Port(Protocol, u16),
    /// The destination is an address of this host.
    DaddrLocal,
    /// Of a connection seen before, or related to one.
    Established,
    /// Of a connection whose destination was translated.
    Translated,
}

/// Ends of rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// On to the next hook.
    Accept,
    /// Gone.
    Drop,
    /// Back to the calling chain, or out of a base chain.
    Return,
    /// Into another chain.
    Jump(&'static str),
    /// Source becomes the address of the link out.
    Masquerade,
    /// Destination becomes this.
    TranslateTo(SocketAddrV4),
    /// Destination by this map, keyed by protocol and port.
    TranslateByPort(&'static str),
    /// Destination by this map, keyed by protocol, address and port.
    TranslateByAddress(&'static str),
}
