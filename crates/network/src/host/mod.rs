//! [`Host`]: applies plans to the kernel this daemon runs on.

mod apply;
mod bridge;
pub(crate) mod sysctl;

use std::collections::{HashMap, HashSet};
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::dns;
use crate::driver::{self, HostFacts, InterfaceName, NetPlan};
use crate::error::{Error, Result};
use crate::firewall::{self, Element, Family, FirewallOptions, Ruleset, iptables, legacy};
use crate::model::{Endpoint, MacAddr, Network, PortMapping, Protocol};
use crate::netlink::conntrack;
use crate::netlink::nft::{self, Nft};
use crate::netlink::route::Route;
use crate::netns::{self, Sandbox};
use crate::ports::{Ports, Ways};

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
    /// Forward in this process what the firewall cannot translate (`--userland-proxy`): see `forward.rs`.
    pub userland_proxy: bool,
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
    /// Servers asked, in order, from the host's namespace, for names that are not ours; empty: SERVFAIL, as in Docker.
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
    netns_dir: PathBuf,
    /// What does not change while the daemon runs; no routes.
    facts: HostFacts,
    route: Mutex<Route>,
    /// By network id: what was asked for, and the index of the bridge that was made of it. Locked after `route`.
    ensured: Mutex<HashMap<String, (Network, u32)>>,
    firewall: Backend,
    sandboxes: Mutex<Sandboxes>,
    ports: Ports,
    dns: dns::Server,
}

/// Namespaces by key.
#[derive(Default)]
struct Sandboxes {
    open: HashMap<String, Arc<Sandbox>>,
    /// Being unpinned: opened again now they would live on with nobody to close them.
    leaving: HashSet<String>,
}

/// The firewall in use.
enum Backend {
    Nftables(Mutex<Tables>),
    Iptables(Mutex<Known>),
    None,
}

/// nf_tables, and what else of the host's firewall stands in the way of our bridges.
struct Tables {
    nft: Nft,
    bridges: Vec<String>,
    /// Families in which our bridges were let through somebody else's FORWARD chain.
    let_through: Vec<Family>,
}

/// What iptables is rewritten from: it has no elements to add or remove.
#[derive(Default)]
struct Known {
    networks: Vec<Network>,
    endpoints: Vec<Endpoint>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Host {
    /// Opens the kernel's interfaces. Makes nothing yet but `<exec_root>/netns`.
    pub fn open(options: HostOptions) -> Result<Host> {
        let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if options.instance.is_empty()
            || options.instance.len() > 20
            || !options.instance.chars().all(good)
        {
            return Err(Error::Invalid(format!(
                "invalid network instance name {:?}",
                options.instance
            )));
        }
        let netns_dir = options.exec_root.join("netns");
        fs::create_dir_all(&netns_dir).map_err(|source| Error::File {
            operation: "create",
            path: netns_dir.clone(),
            source,
        })?;
        let firewall = match options.firewall {
            Firewall::Nftables => {
                let tables = Tables {
                    nft: Nft::open()?,
                    bridges: Vec::new(),
                    let_through: Vec::new(),
                };
                Backend::Nftables(Mutex::new(tables))
            }
            Firewall::Iptables => Backend::Iptables(Mutex::default()),
            Firewall::None => Backend::None,
        };
        let facts = HostFacts {
            ipv6: sysctl::get("ipv6/conf/all/disable_ipv6").as_deref() == Some("0"),
            bridge_netfilter: sysctl::get("bridge/bridge-nf-call-iptables").is_some(),
            ..HostFacts::default()
        };
        let ways = Ways {
            ipv6: facts.ipv6,
            forward: options.userland_proxy,
            translate: options.firewall != Firewall::None,
        };
        Ok(Host {
            netns_dir,
            facts,
            route: Mutex::new(Route::open()?),
            ensured: Mutex::default(),
            firewall,
            sandboxes: Mutex::default(),
            ports: Ports::new(ways),
            dns: dns::Server::default(),
            options,
        })
    }

    /// What plans and pool choices depend on, read now.
    pub fn facts(&self) -> Result<HostFacts> {
        let mut route = lock(&self.route);
        let (routes, default_index) = route.routes()?;
        let default_link = match default_index {
            Some(index) => route
                .links()?
                .into_iter()
                .find(|link| link.index == index)
                .map(|link| link.name),
            None => None,
        };
        Ok(HostFacts {
            routes,
            default_link,
            ..self.facts.clone()
        })
    }

    /// The addresses of a link of the host: for `--bridge NAME` of a bridge that exists, whose subnet is then the network's. None when there
    /// is no such link.
    pub fn link_addresses(&self, name: &str) -> Result<Option<Vec<IpNet>>> {
        let mut route = lock(&self.route);
        match route.link(name)? {
            Some(link) => route.addresses(link.index).map(Some),
            None => Ok(None),
        }
    }

    /// Makes the network's link on the host, or takes over one that exists. Idempotent, and quick when nothing has
    /// changed: for boot, and before each `connect` in case somebody removed the bridge.
    pub fn ensure_network(&self, network: &Network) -> Result<()> {
        let driver = driver::by_name(&network.driver)?;
        driver.validate(network)?;
        if network.driver != "bridge" {
            return Ok(());
        }
        let mut route = lock(&self.route);
        let mut ensured = lock(&self.ensured);
        if let Some((known, index)) = ensured.get(&network.id)
            && known == network
            && route
                .link(&network.bridge)?
                .is_some_and(|link| link.index == *index)
        {
            return Ok(());
        }
        if self.options.ip_forward {
            bridge::forward(self.facts.ipv6 && network.ipv6_subnet().is_some())?;
        }
        let alias = bridge::alias(&self.options.instance);
        let index = bridge::ensure(&mut route, network, &alias, &self.facts)?;
        ensured.insert(network.id.clone(), (network.clone(), index));
        Ok(())
    }

    /// Removes what `ensure_network` made. A link that was there before it is left alone.
    pub fn remove_network(&self, network: &Network) -> Result<()> {
        if network.driver != "bridge" {
            return Ok(());
        }
        let mut route = lock(&self.route);
        lock(&self.ensured).remove(&network.id);
        match route.link(&network.bridge)? {
            Some(link) if link.alias == bridge::alias(&self.options.instance) => {
                bridge::delete(&mut route, &network.bridge)
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Makes and pins a network namespace with loopback up. The path is what the runtime joins. One of that key that an earlier life of
    /// this daemon left is replaced; one made by this life is an error.
    pub fn create_sandbox(&self, key: &str) -> Result<PathBuf> {
        let path = self.checked_path(key)?;
        if !lock(&self.sandboxes).open.contains_key(key) && path.exists() {
            netns::remove(&path)?;
        }
        let sandbox = Sandbox::create(&path)?;
        lock(&self.sandboxes)
            .open
            .insert(key.to_owned(), Arc::new(sandbox));
        Ok(path)
    }

    /// Pins a namespace that somebody else made (one that belongs to a container's own user namespace cannot be made here), and brings its
    /// loopback up.
    pub fn adopt_sandbox(&self, key: &str, netns: BorrowedFd<'_>) -> Result<PathBuf> {
        let path = self.checked_path(key)?;
        let sandbox = Sandbox::adopt(&path, netns)?;
        lock(&self.sandboxes)
            .open
            .insert(key.to_owned(), Arc::new(sandbox));
        Ok(path)
    }

    /// Where the sandbox of that key is pinned.
    pub fn sandbox_path(&self, key: &str) -> PathBuf {
        self.netns_dir.join(key)
    }

    /// Unpins a namespace. The kernel removes it, with its links, after the last process has left it, on its own time. One that is not
    /// there is no error.
    pub fn remove_sandbox(&self, key: &str) -> Result<()> {
        let path = self.checked_path(key)?;
        {
            let mut sandboxes = lock(&self.sandboxes);
            sandboxes.open.remove(key);
            sandboxes.leaving.insert(key.to_owned());
        }
        let removed = netns::remove(&path);
        lock(&self.sandboxes).leaving.remove(key);
        removed
    }

    fn checked_path(&self, key: &str) -> Result<PathBuf> {
        let good = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if key.is_empty() || key.len() > 200 || !key.chars().all(good) {
            return Err(Error::Invalid(format!(
                "invalid network sandbox key {key:?}"
            )));
        }
        Ok(self.netns_dir.join(key))
    }

    fn sandbox(&self, key: &str) -> Result<Arc<Sandbox>> {
        let path = self.checked_path(key)?;
        let mut sandboxes = lock(&self.sandboxes);
        if let Some(sandbox) = sandboxes.open.get(key) {
            return Ok(Arc::clone(sandbox));
        }
        let none = || Error::NoSandbox {
            key: key.to_owned(),
        };
        if sandboxes.leaving.contains(key) {
            return Err(none());
        }
        // Pinned by an earlier life of this daemon.
        let sandbox = Arc::new(Sandbox::open(&path)?.ok_or_else(none)?);
        sandboxes.open.insert(key.to_owned(), Arc::clone(&sandbox));
        Ok(sandbox)
    }

    /// Makes the endpoint's interface inside the sandbox. Either all of it or nothing.
    pub fn connect(&self, key: &str, network: &Network, endpoint: &Endpoint) -> Result<Connected> {
        let facts = self.facts_for(network)?;
        match driver::by_name(&network.driver)?.plan(network, endpoint, &facts)? {
            NetPlan::Nothing => Ok(Connected {
                interface: String::new(),
                mac: None,
            }),
            NetPlan::Interface(plan) => {
                let sandbox = self.sandbox(key)?;
                self.let_through()?;
                apply::connect(&mut lock(&self.route), &sandbox, &plan, &facts)
            }
        }
    }

    /// Bridges need nothing that takes a look at every route.
    fn facts_for(&self, network: &Network) -> Result<HostFacts> {
        match network.driver.as_str() {
            "macvlan" | "ipvlan" => self.facts(),
            _ => Ok(self.facts.clone()),
        }
    }

    /// Removes one endpoint's interface from a sandbox that lives on (10-26 ms; not needed before `remove_sandbox`). Of an endpoint whose
    /// connecting was cut off nobody wrote down the interface's name: then it is the one that looks as planned, if there is one.
    pub fn disconnect(&self, key: &str, network: &Network, endpoint: &Endpoint) -> Result<()> {
        let facts = self.facts_for(network)?;
        match driver::by_name(&network.driver)?.plan(network, endpoint, &facts)? {
            NetPlan::Nothing => Ok(()),
            NetPlan::Interface(plan) => match plan.name {
                InterfaceName::Exact(name) => apply::disconnect(&*self.sandbox(key)?, &name),
                InterfaceName::Prefix(_) => apply::disconnect_planned(&*self.sandbox(key)?, &plan),
            },
        }
    }

    /// Moves the container's default route to this endpoint, e.g. because the one that carried it is to be disconnected.
    pub fn set_default_route(
        &self,
        key: &str,
        network: &Network,
        endpoint: &Endpoint,
    ) -> Result<()> {
        let endpoint = Endpoint {
            default_route: true,
            ..endpoint.clone()
        };
        let facts = self.facts_for(network)?;
        match driver::by_name(&network.driver)?.plan(network, &endpoint, &facts)? {
            NetPlan::Interface(plan) if !plan.gateways.is_empty() => {
                apply::set_gateways(&*self.sandbox(key)?, &endpoint.interface, &plan.gateways)
            }
            NetPlan::Interface(_) | NetPlan::Nothing => Ok(()),
        }
    }

    /// Takes the host ports that `endpoint.ports` asks for, all or none, and returns them resolved: one mapping per host address, each with
    /// its port. Held, and forwarded where the firewall does not translate, until `release_ports`. Resolved mappings may be given again (after a restart).
    pub fn reserve_ports(
        &self,
        network: &Network,
        endpoint: &Endpoint,
    ) -> Result<Vec<PortMapping>> {
        self.ports.reserve(network, endpoint)
    }

    /// Gives back what `reserve_ports` took for this endpoint.
    pub fn release_ports(&self, endpoint_id: &str) {
        self.ports.release(endpoint_id);
    }

    /// Name of this daemon's tables.
    fn table(&self) -> String {
        format!("hull-{}", self.options.instance)
    }

    fn families(&self) -> impl Iterator<Item = Family> {
        let ipv6 = self.facts.ipv6 && self.options.ip6tables;
        [Family::Ip, Family::Ip6]
            .into_iter()
            .filter(move |family| ipv6 || *family == Family::Ip)
    }

    fn rules(&self, networks: &[Network], endpoints: &[Endpoint]) -> Ruleset {
        let ipv6 = self.facts.ipv6 && self.options.ip6tables;
        firewall::ruleset(
            networks,
            endpoints,
            &FirewallOptions {
                table: self.table(),
                ipv6,
            },
        )
    }

    /// Writes the whole firewall of this daemon, in one transaction. For boot, and after networks were made or removed.
    pub fn sync_firewall(&self, networks: &[Network], endpoints: &[Endpoint]) -> Result<()> {
        let rules = self.rules(networks, endpoints);
        match &self.firewall {
            Backend::Nftables(tables) => {
                let mut tables = lock(tables);
                let bridges = networks
                    .iter()
                    .filter(|n| n.driver == "bridge")
                    .map(|n| n.bridge.clone());
                tables.bridges = bridges.collect();
                tables.nft.replace(&rules)?;
                self.families()
                    .try_for_each(|family| tables.sync_forward(family, &self.comment()))
            }
            Backend::Iptables(known) => {
                // Held while the program runs, so that the last writer wrote the last state.
                let mut known = lock(known);
                *known = Known {
                    networks: networks.to_vec(),
                    endpoints: endpoints.to_vec(),
                };
                iptables::apply(&rules)
            }
            Backend::None => Ok(()),
        }
    }

    /// The mark on rules of ours in other people's chains.
    fn comment(&self) -> String {
        bridge::alias(&self.options.instance)
    }

    /// A dockerd may have come after us and closed FORWARD: looked at before each new interface, 20 microseconds.
    fn let_through(&self) -> Result<()> {
        let Backend::Nftables(tables) = &self.firewall else {
            return Ok(());
        };
        let mut tables = lock(tables);
        for family in self.families() {
            if !tables.let_through.contains(&family) && tables.forward_drops(family)? {
                tables.sync_forward(family, &self.comment())?;
            }
        }
        Ok(())
    }

    fn elements(
        &self,
        network: &Network,
        endpoint: &Endpoint,
    ) -> Vec<(Family, &'static str, Element)> {
        let of = |family| {
            firewall::elements(family, network, endpoint)
                .into_iter()
                .map(move |(set, e)| (family, set, e))
        };
        self.families().flat_map(of).collect()
    }

    /// Opens the endpoint's (resolved) published ports: one map element each.
    pub fn publish(&self, network: &Network, endpoint: &Endpoint) -> Result<()> {
        let elements = self.elements(network, endpoint);
        let done = match &self.firewall {
            Backend::Nftables(tables) => {
                let nft = &mut lock(tables).nft;
                match nft.add(&self.table(), &elements) {
                    // The port is ours by reservation, so an element with another value is what a crash left.
                    Err(error) if error.errno() == Some(libc::EEXIST) => {
                        remove_each(nft, &self.table(), &elements)?;
                        nft.add(&self.table(), &elements)
                    }
                    other => other,
                }
            }
            Backend::Iptables(known) => self.change_known(known, &elements, |endpoints| {
                endpoints.retain(|known| known.id != endpoint.id);
                endpoints.push(endpoint.clone());
            }),
            Backend::None => Ok(()),
        };
        if done.is_ok() {
            self.forget_udp(endpoint);
        }
        done
    }

    /// Closes them again. Ports that are not open are no error.
    pub fn unpublish(&self, network: &Network, endpoint: &Endpoint) -> Result<()> {
        let elements = self.elements(network, endpoint);
        let done = match &self.firewall {
            Backend::Nftables(tables) => {
                let nft = &mut lock(tables).nft;
                match nft.remove(&self.table(), &elements) {
                    Err(error) if error.errno() == Some(libc::ENOENT) => {
                        remove_each(nft, &self.table(), &elements)
                    }
                    other => other,
                }
            }
            Backend::Iptables(known) => self.change_known(known, &elements, |endpoints| {
                endpoints.retain(|known| known.id != endpoint.id)
            }),
            Backend::None => Ok(()),
        };
        self.forget_udp(endpoint);
        done
    }

    /// Lets UDP clients of the endpoint's ports begin anew: what the kernel remembers of them was made under other rules. They are reached
    /// without it too, once they have been silent for a while, so a failure is only logged.
    fn forget_udp(&self, endpoint: &Endpoint) {
        let udp = endpoint
            .ports
            .iter()
            .filter(|port| port.protocol == Protocol::Udp);
        let udp: Vec<(IpAddr, u16)> = udp
            .filter_map(|port| Some((port.host_ip?, port.host_port)))
            .collect();
        for family in self.families() {
            let of_family = udp
                .iter()
                .filter(|(ip, _)| ip.is_ipv4() == (family == Family::Ip))
                .copied();
            if let Err(error) = conntrack::forget_udp(family, &of_family.collect::<Vec<_>>()) {
                tracing::warn!(%error, "UDP clients may not reach a port at once");
            }
        }
    }

    /// Rewrites iptables, unless the endpoint has nothing in it.
    fn change_known(
        &self,
        known: &Mutex<Known>,
        elements: &[(Family, &'static str, Element)],
        change: impl FnOnce(&mut Vec<Endpoint>),
    ) -> Result<()> {
        let mut known = lock(known);
        change(&mut known.endpoints);
        if elements.is_empty() {
            Ok(())
        } else {
            iptables::apply(&self.rules(&known.networks, &known.endpoints))
        }
    }

    /// Serves DNS at 127.0.0.11 inside the sandbox. For containers on user-defined networks, and again for each after a restart of the daemon.
    pub fn dns_start(&self, key: &str, config: DnsConfig) -> Result<()> {
        self.dns.start(key, &*self.sandbox(key)?, config.upstreams)
    }

    /// Ends that.
    pub fn dns_stop(&self, key: &str) {
        self.dns.stop(key);
    }

    /// Makes the endpoint's names known on its network, and lets the sandbox see that network's names.
    pub fn dns_register(&self, key: &str, network: &Network, endpoint: &Endpoint) {
        self.dns.register(key, network, endpoint);
    }

    /// Forgets an endpoint.
    pub fn dns_unregister(&self, endpoint_id: &str) {
        self.dns.unregister(endpoint_id);
    }

    /// Removes what a crash left: pinned namespaces and bridges of this daemon that are not among the known. Goes on to the end and reports
    /// every failure. The firewall's leftovers go with the next `sync_firewall`, veth pairs with their namespace.
    pub fn sweep(&self, sandboxes: &[String], networks: &[Network]) -> Result<()> {
        let mut errors = Vec::new();
        match pinned(&self.netns_dir) {
            Ok(keys) => {
                let lost = keys.into_iter().filter(|key| !sandboxes.contains(key));
                errors.extend(lost.filter_map(|key| self.remove_sandbox(&key).err()));
            }
            Err(error) => errors.push(error),
        }
        let mut route = lock(&self.route);
        let alias = bridge::alias(&self.options.instance);
        match route.links() {
            Ok(links) => {
                let known = |name: &str| networks.iter().any(|n| n.bridge == name);
                let lost = links
                    .into_iter()
                    .filter(|l| l.alias == alias && l.kind == "bridge" && !known(&l.name));
                errors.extend(lost.filter_map(|link| bridge::delete(&mut route, &link.name).err()));
            }
            Err(error) => errors.push(error),
        }
        Error::collect(errors)
    }

    /// Removes this daemon's firewall tables. With `remove_network` and `remove_sandbox` of everything known, nothing is left on the host.
    pub fn remove_firewall(&self) -> Result<()> {
        match &self.firewall {
            Backend::Nftables(tables) => {
                let mut tables = lock(tables);
                tables.bridges.clear();
                let mut errors: Vec<Error> = self
                    .families()
                    .filter_map(|family| tables.sync_forward(family, &self.comment()).err())
                    .collect();
                errors.extend(tables.nft.remove_tables(&self.table()).err());
                Error::collect(errors)
            }
            Backend::Iptables(known) => {
                *lock(known) = Known::default();
                iptables::remove(&self.rules(&[], &[]))
            }
            Backend::None => Ok(()),
        }
    }

    /// Counters of every interface of the sandbox but loopback.
    pub fn traffic(&self, key: &str) -> Result<Vec<InterfaceStats>> {
        let links = self.sandbox(key)?.route().links()?;
        // Index 1 is loopback in every namespace.
        Ok(links
            .into_iter()
            .filter(|link| link.index != 1)
            .map(|link| link.stats)
            .collect())
    }
}

impl Tables {
    fn sync_forward(&mut self, family: Family, comment: &str) -> Result<()> {
        self.nft.sync_forward(family, comment, &self.bridges)?;
        legacy::sync_forward(family, comment, &self.bridges)?;
        self.let_through.retain(|known| *known != family);
        if self.forward_drops(family)? {
            self.let_through.push(family);
        }
        Ok(())
    }

    fn forward_drops(&mut self, family: Family) -> Result<bool> {
        Ok(self.nft.forward_drops(family)? || legacy::forward_drops(family)?)
    }
}

/// One by one, since a transaction fails as a whole.
fn remove_each(
    nft: &mut Nft,
    table: &str,
    elements: &[(Family, &'static str, Element)],
) -> Result<()> {
    let failures = elements
        .iter()
        .filter_map(|element| {
            nft::absence_is_fine(nft.remove(table, std::slice::from_ref(element))).err()
        })
        .collect();
    Error::collect(failures)
}

/// Names in the directory of pinned namespaces.
fn pinned(dir: &Path) -> Result<Vec<String>> {
    let failed = |source| Error::File {
        operation: "read",
        path: dir.to_owned(),
        source,
    };
    let entries = fs::read_dir(dir).map_err(failed)?;
    let names = entries.map(|entry| entry.map(|e| e.file_name().to_string_lossy().into_owned()));
    names.collect::<Result<Vec<_>, _>>().map_err(failed)
}
