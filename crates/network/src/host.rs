//! [`Host`]: applies plans to the kernel this daemon runs on.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::driver::HostFacts;
use crate::error::{Error, Result};
use crate::model::{Endpoint, MacAddr, Network, PortMapping};

/// Which program of the kernel filters and translates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Firewall {
    /// nf_tables by netlink: the default.
    Nftables,
    /// `iptables-restore` (`--firewall-backend=iptables`).
    Iptables,
    /// None (`--iptables=false`): nothing is masqueraded, isolated or published.
    None,
}

/// How a [`Host`] is opened.
#[derive(Debug, Clone)]
pub struct HostOptions {
    /// Pinned namespaces live in `<exec_root>/netns`.
    pub exec_root: PathBuf,
    /// Short name of this daemon on this host, part of the names of its firewall tables (`[a-z0-9-]`, at most 20 bytes).
    pub instance: String,
    /// The firewall.
    pub firewall: Firewall,
    /// Manage the IPv6 firewall too (`--ip6tables`).
    pub ip6tables: bool,
    /// Switch on `net.ipv4.ip_forward` when a bridge network is made (`--ip-forward`).
    pub ip_forward: bool,
}

/// What [`Host::connect`] made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connected {
    /// Interface name inside the container; empty when the driver makes none.
    pub interface: String,
    /// Its hardware address.
    pub mac: Option<MacAddr>,
}

/// How the embedded DNS server of one sandbox behaves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DnsConfig {
    /// Servers asked, in order, for names that are not ours; empty: such names do not exist.
    pub upstreams: Vec<SocketAddr>,
}

/// Counters of one interface, named as in Docker's `networks` of stats.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InterfaceStats {
    /// Interface name inside the container.
    pub interface: String,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Packets received.
    pub rx_packets: u64,
    /// Receive errors.
    pub rx_errors: u64,
    /// Packets dropped on receive.
    pub rx_dropped: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Send errors.
    pub tx_errors: u64,
    /// Packets dropped on send.
    pub tx_dropped: u64,
}

/// The networks of one daemon on one host. All methods take `&self` and may be called from any thread in the daemon's own network namespace.
pub struct Host {
    options: HostOptions,
}

fn missing<T>(what: &str) -> Result<T> {
    Err(Error::NotImplemented {
        what: format!("network: {what}"),
    })
}

impl Host {
    /// Opens the kernel's interfaces. Makes nothing yet but `<exec_root>/netns`.
    pub fn open(options: HostOptions) -> Result<Host> {
        Ok(Host { options })
    }

    /// What plans and pool choices depend on, read now.
    pub fn facts(&self) -> Result<HostFacts> {
        missing("facts")
    }

    /// Makes the network's link on the host, or takes over one that exists. Idempotent; called at boot for every network too.
    pub fn ensure_network(&self, _network: &Network) -> Result<()> {
        missing("ensure_network")
    }

    /// Removes what `ensure_network` made. A link that was there before it is left alone.
    pub fn remove_network(&self, _network: &Network) -> Result<()> {
        missing("remove_network")
    }

    /// Makes and pins a network namespace with loopback up. The path is what the runtime joins.
    pub fn create_sandbox(&self, _key: &str) -> Result<PathBuf> {
        missing("create_sandbox")
    }

    /// Where the sandbox of that key is pinned.
    pub fn sandbox_path(&self, key: &str) -> PathBuf {
        self.options.exec_root.join("netns").join(key)
    }

    /// Unpins a namespace. The kernel removes it, with its links, after the last process has left it, on its own time.
    pub fn remove_sandbox(&self, _key: &str) -> Result<()> {
        missing("remove_sandbox")
    }

    /// Makes the endpoint's interface inside the sandbox. Either all of it or nothing.
    pub fn connect(
        &self,
        _key: &str,
        _network: &Network,
        _endpoint: &Endpoint,
    ) -> Result<Connected> {
        missing("connect")
    }

    /// Removes one endpoint's interface from a sandbox that lives on (10-26 ms; not needed before `remove_sandbox`).
    pub fn disconnect(&self, _key: &str, _network: &Network, _endpoint: &Endpoint) -> Result<()> {
        missing("disconnect")
    }

    /// Takes the host ports that `endpoint.ports` asks for, all or none, and returns them resolved: one mapping per host address, each with
    /// its port. Held until `release_ports`. Resolved mappings may be given again (after a restart).
    pub fn reserve_ports(
        &self,
        _network: &Network,
        _endpoint: &Endpoint,
    ) -> Result<Vec<PortMapping>> {
        missing("reserve_ports")
    }

    /// Gives back what `reserve_ports` took for this endpoint.
    pub fn release_ports(&self, _endpoint_id: &str) {}

    /// Writes the whole firewall of this daemon, in one transaction. For boot, and after networks were made or removed.
    pub fn sync_firewall(&self, _networks: &[Network], _endpoints: &[Endpoint]) -> Result<()> {
        missing("sync_firewall")
    }

    /// Opens the endpoint's (resolved) published ports: one map element each.
    pub fn publish(&self, _network: &Network, _endpoint: &Endpoint) -> Result<()> {
        missing("publish")
    }

    /// Closes them again.
    pub fn unpublish(&self, _network: &Network, _endpoint: &Endpoint) -> Result<()> {
        missing("unpublish")
    }

    /// Serves DNS at 127.0.0.11 inside the sandbox. For containers on user-defined networks, and again for each after a restart of the daemon.
    pub fn dns_start(&self, _key: &str, _config: DnsConfig) -> Result<()> {
        missing("dns_start")
    }

    /// Ends that.
    pub fn dns_stop(&self, _key: &str) {}

    /// Makes the endpoint's names known on its network, and lets the sandbox see that network's names.
    pub fn dns_register(&self, _key: &str, _network: &Network, _endpoint: &Endpoint) {}

    /// Forgets an endpoint.
    pub fn dns_unregister(&self, _endpoint_id: &str) {}

    /// Removes what a crash left: pinned namespaces, links and firewall tables of this daemon that are not among the known.
    pub fn sweep(&self, _sandboxes: &[String], _networks: &[Network]) -> Result<()> {
        missing("sweep")
    }

    /// Counters of every interface of the sandbox but loopback.
    pub fn traffic(&self, _key: &str) -> Result<Vec<InterfaceStats>> {
        missing("traffic")
    }
}
