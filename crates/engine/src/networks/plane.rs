//! The blocking half of networking: records and leases in the database, and the host's links, ports and names.
//!
//! Addresses and ports are leased in one transaction, then applied to the kernel; what is applied is always derived from
//! what is recorded. Used from blocking threads.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;

use hull_api::network::{ConfigReference, EndpointSettings, Ipam};
use hull_network::ipam::{self, Pool};
use hull_network::{DnsConfig, Endpoint, Host, MacAddr, Network, PortMapping};
use hull_state::{Db, Tx, networks as rows};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result, chain, failed};
use crate::failpoint::Failpoints;
use crate::id::{new_id, short};

/// A network with what only the API cares for: the JSON column of its row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct NetworkRecord {
    pub(crate) network: Network,
    /// RFC 3339.
    pub(crate) created: String,
    #[serde(default)]
    pub(crate) attachable: bool,
    #[serde(default)]
    pub(crate) ingress: bool,
    #[serde(default)]
    pub(crate) config_only: bool,
    #[serde(default)]
    pub(crate) config_from: ConfigReference,
    #[serde(default)]
    pub(crate) labels: BTreeMap<String, String>,
    /// As shown: driver, options, subnets.
    #[serde(default)]
    pub(crate) ipam: Ipam,
}

impl NetworkRecord {
    /// One of the three that are always there.
    pub(crate) fn is_predefined(&self) -> bool {
        matches!(self.network.name.as_str(), "bridge" | "host" | "none")
    }

    /// Names are resolved on it by the embedded server.
    pub(crate) fn has_dns(&self) -> bool {
        !self.is_predefined()
    }

    pub(crate) fn decode(row: &rows::Network) -> Result<NetworkRecord> {
        serde_json::from_str(&row.record)
            .map_err(failed(format!("decode the record of network {}", row.name)))
    }

    pub(crate) fn encode(&self) -> Result<String> {
        serde_json::to_string(self).map_err(failed("encode a network's record"))
    }

    pub(crate) fn row(&self) -> Result<rows::Network> {
        Ok(rows::Network {
            id: self.network.id.clone(),
            name: self.network.name.clone(),
            driver: self.network.driver.clone(),
            created: self.created.clone(),
            record: self.encode()?,
        })
    }
}

/// A container's end on a network, leased.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Attachment {
    pub(crate) network: Arc<NetworkRecord>,
    pub(crate) endpoint: Endpoint,
}

impl From<hull_network::Error> for Error {
    fn from(error: hull_network::Error) -> Error {
        use hull_network::ErrorKind as K;
        let kind = match error.kind() {
            K::NotFound => Kind::NotFound,
            K::InvalidParameter => Kind::InvalidParameter,
            K::Conflict => Kind::Conflict,
            K::Forbidden => Kind::Forbidden,
            K::NotImplemented => Kind::NotImplemented,
            K::Internal => Kind::Internal,
        };
        Error::new(kind, chain(&error))
    }
}

/// What a container wants of one network.
#[derive(Debug, Clone)]
pub(crate) struct Wanted<'a> {
    /// Name or id.
    pub(crate) network: &'a str,
    pub(crate) settings: &'a EndpointSettings,
}

/// Who wants it.
#[derive(Debug, Clone)]
pub(crate) struct Owner<'a> {
    pub(crate) id: &'a str,
    pub(crate) name: &'a str,
    pub(crate) hostname: &'a str,
    /// What is to be published, as asked.
    pub(crate) ports: &'a [PortMapping],
    /// Legacy field of the container's configuration, for the network of its mode.
    pub(crate) mac_address: &'a str,
}

pub(crate) struct Plane {
    pub(crate) db: Db,
    pub(crate) host: Host,
    pub(crate) pools: Vec<Pool>,
}

impl Plane {
    /// By id, name or id prefix, with Docker's sentence.
    pub(crate) fn find(&self, wanted: &str) -> Result<NetworkRecord> {
        let row = self
            .db
            .read(|tx| rows::find(tx, wanted))
            .map_err(|error| match error {
                hull_state::Error::NotFound { .. } => {
                    Error::not_found(format!("network {wanted} not found"))
                }
                hull_state::Error::Ambiguous { .. } => Error::invalid(format!(
                    "network {wanted} is ambiguous (2 matches found based on ID prefix)"
                )),
                other => other.into(),
            })?;
        NetworkRecord::decode(&row)
    }

    pub(crate) fn all(&self) -> Result<Vec<NetworkRecord>> {
        self.db
            .read(rows::list)?
            .iter()
            .map(NetworkRecord::decode)
            .collect()
    }

    /// Writes the firewall anew from the rows: after a network was made or removed.
    pub(crate) fn sync_firewall(&self) -> Result<()> {
        let networks: Vec<_> = self.all()?.into_iter().map(|one| one.network).collect();
        let attachments = self.attachments()?;
        let endpoints: Vec<_> = attachments.into_iter().map(|one| one.endpoint).collect();
        Ok(self.host.sync_firewall(&networks, &endpoints)?)
    }

    /// All endpoints with their networks.
    pub(crate) fn attachments(&self) -> Result<Vec<Attachment>> {
        let networks: BTreeMap<String, Arc<NetworkRecord>> = self
            .all()?
            .into_iter()
            .map(|record| (record.network.id.clone(), Arc::new(record)))
            .collect();
        let rows = self.db.read(rows::endpoints)?;
        rows.iter()
            .filter_map(|row| {
                let network = networks.get(&row.network_id)?.clone();
                Some(decode_endpoint(row).map(|endpoint| Attachment { network, endpoint }))
            })
            .collect()
    }

    /// Leases addresses and ports for a container in one transaction, in which `also` may write more.
    ///
    /// On error nothing is leased and no port is held.
    pub(crate) fn lease(
        &self,
        owner: &Owner<'_>,
        wanted: &[Wanted<'_>],
        also: impl FnOnce(&Tx) -> Result<()>,
    ) -> Result<Vec<Attachment>> {
        let mut leased: Vec<Attachment> = Vec::with_capacity(wanted.len());
        for want in wanted {
            let record = Arc::new(self.find(want.network)?);
            let endpoint = self.endpoint(owner, want, &record)?;
            leased.push(Attachment {
                network: record,
                endpoint,
            });
        }
        choose_default_route(&mut leased, wanted);
        let recorded = self.db.try_write(|tx| {
            for (attachment, want) in leased.iter_mut().zip(wanted) {
                choose_addresses(tx, attachment, want.settings)?;
            }
            // A port is published on the families of which the endpoint has an address, so the ports come second.
            if let Some(published) = leased.iter_mut().find(|attachment| publishes(attachment))
                && !owner.ports.is_empty()
            {
                published.endpoint.ports = owner.ports.to_vec();
                published.endpoint.ports = self
                    .host
                    .reserve_ports(&published.network.network, &published.endpoint)?;
            }
            for attachment in &leased {
                record_endpoint(tx, attachment)?;
            }
            also(tx)
        });
        match recorded {
            Ok(()) => Ok(leased),
            Err(error) => {
                self.release_ports(&leased);
                Err(error)
            }
        }
    }

    fn endpoint(
        &self,
        owner: &Owner<'_>,
        want: &Wanted<'_>,
        record: &NetworkRecord,
    ) -> Result<Endpoint> {
        if record.config_only {
            return Err(Error::new(
                Kind::Forbidden,
                "cannot create endpoint on configuration-only network",
            ));
        }
        let mac = [want.settings.mac_address.as_str(), owner.mac_address]
            .into_iter()
            .find(|mac| !mac.is_empty());
        let mut aliases = want.settings.aliases.clone();
        if record.has_dns()
            && !aliases.iter().any(|alias| alias == owner.hostname)
            && owner.hostname != short(owner.id)
        {
            aliases.push(owner.hostname.to_owned());
        }
        let link_names = want
            .settings
            .links
            .iter()
            .map(|link| {
                let (name, alias) = crate::record::parse_link(link)?;
                Ok((alias.to_owned(), name.to_owned()))
            })
            .collect::<Result<_>>()?;
        Ok(Endpoint {
            id: new_id(),
            network_id: record.network.id.clone(),
            container_id: owner.id.to_owned(),
            container_name: owner.name.to_owned(),
            mac: mac.map(str::parse::<MacAddr>).transpose()?,
            names: vec![owner.name.to_owned(), short(owner.id).to_owned()],
            aliases,
            link_names,
            ..Endpoint::default()
        })
    }

    /// Gives back leased rows. The ports stay reserved until [`Plane::release_ports`].
    pub(crate) fn forget(&self, container_id: &str) -> Result<()> {
        self.db
            .write(|tx| rows::remove_endpoints_of_container(tx, container_id).map(|_| ()))?;
        Ok(())
    }

    pub(crate) fn release_ports(&self, attachments: &[Attachment]) {
        for attachment in attachments {
            self.host.release_ports(&attachment.endpoint.id);
        }
    }

    /// Where the container's network namespace is pinned.
    pub(crate) fn sandbox_path(&self, container_id: &str) -> PathBuf {
        self.host.sandbox_path(container_id)
    }

    /// Makes the namespace and everything in it; `upstreams` is for the embedded DNS server, where one is needed;
    /// `made_by` is the process that made the namespace, where it must belong to that one's user namespace. On error
    /// what was made stays for [`Plane::take_down`].
    pub(crate) fn put_up(
        &self,
        container_id: &str,
        attachments: &mut [Attachment],
        upstreams: &[IpAddr],
        made_by: Option<i32>,
    ) -> Result<()> {
        match made_by {
            None => self.host.create_sandbox(container_id)?,
            Some(pid) => {
                let path = format!("/proc/{pid}/ns/net");
                let netns = std::fs::File::open(&path).map_err(failed(format!("open {path}")))?;
                self.host.adopt_sandbox(container_id, netns.as_fd())?
            }
        };
        if attachments
            .iter()
            .any(|attachment| attachment.network.has_dns())
        {
            self.host.dns_start(container_id, dns_config(upstreams))?;
        }
        for attachment in attachments {
            self.connect(container_id, attachment)?;
        }
        Ok(())
    }

    /// Joins one network: link, ports, names.
    pub(crate) fn connect(&self, container_id: &str, attachment: &mut Attachment) -> Result<()> {
        let network = &attachment.network.network;
        self.host.ensure_network(network)?;
        let connected = self
            .host
            .connect(container_id, network, &attachment.endpoint)?;
        attachment.endpoint.interface = connected.interface;
        attachment.endpoint.mac = connected.mac.or(attachment.endpoint.mac);
        if !attachment.endpoint.ports.is_empty() {
            self.host.publish(network, &attachment.endpoint)?;
        }
        if attachment.network.has_dns() {
            self.host
                .dns_register(container_id, network, &attachment.endpoint);
        }
        Ok(())
    }

    /// Ports and names: what others could collide with, or still be told of. Quick; goes on over errors.
    pub(crate) fn close(&self, attachments: &[Attachment]) -> Result<()> {
        let mut first = Ok(());
        for attachment in attachments {
            if !attachment.endpoint.ports.is_empty() {
                let closed = self
                    .host
                    .unpublish(&attachment.network.network, &attachment.endpoint);
                first = first.and(closed.map_err(Error::from));
                self.host.release_ports(&attachment.endpoint.id);
            }
            self.host.dns_unregister(&attachment.endpoint.id);
        }
        first
    }

    /// Takes one end out of a container that runs on: ports, names, interface, row. Goes on over errors, not over a failure point.
    pub(crate) fn drop_endpoint(
        &self,
        container_id: &str,
        leaving: &Attachment,
        failpoints: &Failpoints,
    ) -> Result<()> {
        failpoints.pass("network.disconnect.record")?;
        let closed = self.close(std::slice::from_ref(leaving));
        failpoints.pass("network.disconnect.closed")?;
        let network = &leaving.network.network;
        let link = self
            .host
            .disconnect(container_id, network, &leaving.endpoint)
            .map_err(Error::from);
        failpoints.pass("network.disconnect.link")?;
        // Last: its address is given to nobody while the interface may still have it.
        let row = self
            .db
            .write(|tx| rows::remove_endpoint(tx, &leaving.endpoint.id))
            .map_err(Error::from);
        closed.and(link).and(row)
    }

    /// The namespace itself. Fine when it is not there.
    pub(crate) fn take_down(&self, container_id: &str) -> Result<()> {
        self.host.dns_stop(container_id);
        self.host.remove_sandbox(container_id)?;
        Ok(())
    }
}

pub(crate) fn dns_config(upstreams: &[IpAddr]) -> DnsConfig {
    DnsConfig {
        upstreams: upstreams
            .iter()
            .map(|address| SocketAddr::new(*address, 53))
            .collect(),
    }
}

pub(crate) fn decode_endpoint(row: &rows::Endpoint) -> Result<Endpoint> {
    serde_json::from_str(&row.record)
        .map_err(failed(format!("decode the record of endpoint {}", row.id)))
}

/// The endpoint that can be reached from outside: ports are published there.
fn publishes(attachment: &Attachment) -> bool {
    attachment.endpoint.default_route
        && attachment.network.network.driver == "bridge"
        && !attachment.network.network.internal
}

/// The default route goes by the highest priority, then by the network's name; never over an internal network.
fn choose_default_route(leased: &mut [Attachment], wanted: &[Wanted<'_>]) {
    let best = leased
        .iter()
        .zip(wanted)
        .enumerate()
        .filter(|(_, (attachment, _))| {
            !attachment.network.network.internal && !attachment.network.network.subnets.is_empty()
        })
        .min_by_key(|(_, (attachment, want))| {
            (
                -want.settings.gw_priority,
                attachment.network.network.name.clone(),
            )
        })
        .map(|(at, _)| at);
    if let Some(at) = best {
        leased[at].endpoint.default_route = true;
    }
}

/// Chooses the addresses.
fn choose_addresses(
    tx: &Tx,
    attachment: &mut Attachment,
    settings: &EndpointSettings,
) -> Result<()> {
    let network = attachment.network.clone();
    let endpoint = &mut attachment.endpoint;
    let asked = settings.ipam_config.clone().unwrap_or_default();
    endpoint.link_local = crate::containers::validate::link_local(&asked.link_local_ips)?;
    let in_use: BTreeSet<IpAddr> = rows::addresses(tx, &network.network.id)?
        .into_iter()
        .collect();
    if let Some(subnet) = network.network.ipv4_subnet() {
        let address = ipam::choose_address(subnet, &in_use, wanted_address(&asked.ipv4_address)?)?;
        if let (IpAddr::V4(address), IpNet::V4(cidr)) = (address, subnet.cidr) {
            endpoint.ipv4 = Some(Ipv4Net::new_assert(address, cidr.prefix_len()));
        }
        endpoint.gateway4 = subnet.gateway.and_then(|gateway| match gateway {
            IpAddr::V4(gateway) if !network.network.internal => Some(gateway),
            IpAddr::V4(_) | IpAddr::V6(_) => None,
        });
    }
    if let Some(subnet) = network.network.ipv6_subnet() {
        let address = ipam::choose_address(subnet, &in_use, wanted_address(&asked.ipv6_address)?)?;
        if let (IpAddr::V6(address), IpNet::V6(cidr)) = (address, subnet.cidr) {
            endpoint.ipv6 = Some(Ipv6Net::new_assert(address, cidr.prefix_len()));
        }
        endpoint.gateway6 = subnet.gateway.and_then(|gateway| match gateway {
            IpAddr::V6(gateway) if !network.network.internal => Some(gateway),
            IpAddr::V4(_) | IpAddr::V6(_) => None,
        });
    }
    Ok(())
}

/// Writes what connecting has added: the interface's name, without which a later daemon could not disconnect it.
pub(crate) fn record_connected(tx: &Tx, attachments: &[Attachment]) -> Result<()> {
    for Attachment { endpoint, .. } in attachments {
        let text = serde_json::to_string(endpoint).map_err(failed("encode an endpoint"))?;
        rows::set_endpoint_record(tx, &endpoint.id, &text)?;
    }
    Ok(())
}

/// Writes the rows.
fn record_endpoint(tx: &Tx, attachment: &Attachment) -> Result<()> {
    let Attachment { network, endpoint } = attachment;
    let row = rows::Endpoint {
        id: endpoint.id.clone(),
        network_id: network.network.id.clone(),
        container_id: endpoint.container_id.clone(),
        record: serde_json::to_string(endpoint).map_err(failed("encode an endpoint"))?,
    };
    // Somebody may have removed the network since it was looked up.
    if rows::get(tx, &row.network_id).is_err() {
        return Err(Error::not_found(format!(
            "network {} not found",
            network.network.name
        )));
    }
    rows::insert_endpoint(tx, &row)?;
    let addresses = endpoint.ipv4.map(|net| IpAddr::V4(net.addr())).into_iter();
    for address in addresses.chain(endpoint.ipv6.map(|net| IpAddr::V6(net.addr()))) {
        rows::lease_address(tx, &network.network.id, address, &endpoint.id)?;
    }
    for port in &endpoint.ports {
        let row = rows::Port {
            protocol: port.protocol.to_string(),
            host_ip: port
                .host_ip
                .unwrap_or(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED))
                .to_string(),
            host_port: port.host_port,
            endpoint_id: endpoint.id.clone(),
        };
        rows::insert_port(tx, &row)?;
    }
    Ok(())
}

fn wanted_address(text: &str) -> Result<Option<IpAddr>> {
    match text {
        "" => Ok(None),
        address => address
            .parse()
            .map(Some)
            .map_err(|_| Error::invalid(format!("invalid IP address: {address}"))),
    }
}
