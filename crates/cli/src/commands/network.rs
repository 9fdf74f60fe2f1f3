//! `hull network`: create, connect, disconnect, ls, rm.

use super::ps::filters;
use crate::app::Cli;
use crate::failure::{Failure, Outcome};
use crate::format::{FORMAT_HELP, Format, header, labels_text, row, short_id, text};
use crate::go::time::created_text;
use crate::registry::Run;
use crate::template::Row;
use crate::values;
use clap::Args;
use hull_client::Query;
use ipnet::IpNet;
use serde_json::{Map, Value, json};
use std::net::IpAddr;

/// `hull network create`: Create a network.
#[derive(Args, Debug)]
pub struct NetworkCreate {
    /// Enable manual container attachment
    #[arg(long)]
    attachable: bool,
    /// Auxiliary IPv4 or IPv6 addresses used by Network driver (default map[])
    #[arg(long, value_name = "map")]
    aux_address: Vec<String>,
    /// The network from which to copy the configuration
    #[arg(long, value_name = "string")]
    config_from: Option<String>,
    /// Create a configuration only network
    #[arg(long)]
    config_only: bool,
    /// Driver to manage the Network (default "bridge")
    #[arg(short = 'd', long, value_name = "string")]
    driver: Option<String>,
    /// IPv4 or IPv6 Gateway for the master subnet
    #[arg(long, value_name = "strings", value_delimiter = ',')]
    gateway: Vec<String>,
    /// Create swarm routing-mesh network
    #[arg(long)]
    ingress: bool,
    /// Restrict external access to the network
    #[arg(long)]
    internal: bool,
    /// Allocate container ip from a sub-range
    #[arg(long, value_name = "strings", value_delimiter = ',')]
    ip_range: Vec<String>,
    /// IP Address Management Driver (default "default")
    #[arg(long, value_name = "string")]
    ipam_driver: Option<String>,
    /// Set IPAM driver specific options (default map[])
    #[arg(long, value_name = "map")]
    ipam_opt: Vec<String>,
    /// Enable or disable IPv4 address assignment (default true)
    #[arg(long, value_name = "BOOL")]
    ipv4: Option<bool>,
    /// Enable or disable IPv6 address assignment
    #[arg(long, value_name = "BOOL")]
    ipv6: Option<bool>,
    /// Set metadata on a network
    #[arg(long, value_name = "list", value_parser = values::label)]
    label: Vec<String>,
    /// Set driver specific options (default map[])
    #[arg(short = 'o', long, value_name = "map")]
    opt: Vec<String>,
    /// Control the network's scope
    #[arg(long, value_name = "string")]
    scope: Option<String>,
    /// Subnet in CIDR format that represents a network segment
    #[arg(long, value_name = "strings", value_delimiter = ',')]
    subnet: Vec<String>,
    args: Vec<String>,
}

fn pairs(list: &[String]) -> Map<String, Value> {
    list.iter()
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(key, value)| (key.to_owned(), value.into()))
        .collect()
}

impl Run for NetworkCreate {
    async fn run(self, cli: &Cli) -> Outcome {
        let mut body = json!({
            "Name": self.args[0],
            "Driver": self.driver.as_deref().unwrap_or("bridge"),
            "Scope": self.scope.as_deref().unwrap_or(""),
            "IPAM": {"Driver": self.ipam_driver.as_deref().unwrap_or("default"), "Options": pairs(&self.ipam_opt), "Config": self.ipam()?},
            "Internal": self.internal,
            "Attachable": self.attachable,
            "Ingress": self.ingress,
            "ConfigOnly": self.config_only,
            "ConfigFrom": self.config_from.as_ref().map(|network| json!({"Network": network})),
            "Options": pairs(&self.opt),
            "Labels": pairs(&self.label),
        });
        for (key, flag) in [("EnableIPv4", self.ipv4), ("EnableIPv6", self.ipv6)] {
            if let Some(flag) = flag {
                body[key] = flag.into();
            }
        }
        let answer: Value = cli.client()?.post_json("/networks/create", &body).await?;
        if let Some(warning) = answer["Warning"]
            .as_str()
            .filter(|warning| !warning.is_empty())
        {
            eprintln!("WARNING: {warning}");
        }
        cli.line(text(&answer, "Id"))?;
        Ok(0)
    }
}

/// One subnet and what the flags say about it.
struct Pool {
    subnet: IpNet,
    range: Option<String>,
    gateway: Option<String>,
    aux: Map<String, Value>,
}

fn cidr(text: &str) -> Result<IpNet, String> {
    text.parse()
        .map_err(|_| format!("invalid CIDR address: {text}"))
}

/// The address of `10.0.0.1` or of `10.0.0.0/24`.
fn address(text: &str) -> Result<IpAddr, String> {
    match text.contains('/') {
        true => Ok(cidr(text)?.addr()),
        false => text
            .parse()
            .map_err(|_| format!("invalid IP address: {text}")),
    }
}

impl NetworkCreate {
    /// Sorts ranges, gateways and auxiliary addresses to their subnets.
    fn ipam(&self) -> Result<Value, String> {
        if self.subnet.len() < self.ip_range.len() || self.subnet.len() < self.gateway.len() {
            return Err("every ip-range or gateway must have a corresponding subnet".into());
        }
        let mut pools: Vec<Pool> = Vec::new();
        for subnet in &self.subnet {
            let net = cidr(subnet)?;
            if pools
                .iter()
                .any(|pool| pool.subnet.contains(&net.addr()) || net.contains(&pool.subnet.addr()))
            {
                return Err("multiple overlapping subnet configuration is not supported".into());
            }
            pools.push(Pool {
                subnet: net,
                range: None,
                gateway: None,
                aux: Map::new(),
            });
        }
        for range in &self.ip_range {
            let wanted = cidr(range)?.addr();
            let pool = pools
                .iter_mut()
                .find(|pool| pool.subnet.contains(&wanted))
                .ok_or_else(|| format!("no matching subnet for range {range}"))?;
            if let Some(other) = pool.range.replace(range.clone()) {
                return Err(format!(
                    "cannot configure multiple ranges ({range}, {other}) on the same subnet ({})",
                    pool.subnet
                ));
            }
        }
        for gateway in &self.gateway {
            let wanted = address(gateway)?;
            let pool = pools
                .iter_mut()
                .find(|pool| pool.subnet.contains(&wanted))
                .ok_or_else(|| format!("no matching subnet for gateway {gateway}"))?;
            if let Some(other) = pool.gateway.replace(gateway.clone()) {
                return Err(format!(
                    "cannot configure multiple gateways ({gateway}, {other}) for the same subnet ({})",
                    pool.subnet
                ));
            }
        }
        for (key, value) in pairs(&self.aux_address) {
            let text = value.as_str().unwrap_or("");
            let wanted = address(text)?;
            let pool = pools
                .iter_mut()
                .find(|pool| pool.subnet.contains(&wanted))
                .ok_or_else(|| format!("no matching subnet for aux-address {text}"))?;
            pool.aux.insert(key, value);
        }
        Ok(pools
            .iter()
            .zip(&self.subnet)
            .map(|(pool, subnet)| pool.json(subnet))
            .collect())
    }
}

impl Pool {
    fn json(&self, subnet: &str) -> Value {
        let mut out = json!({"Subnet": subnet});
        for (key, value) in [("IPRange", &self.range), ("Gateway", &self.gateway)] {
            if let Some(value) = value {
                out[key] = value.as_str().into();
            }
        }
        if !self.aux.is_empty() {
            out["AuxiliaryAddresses"] = self.aux.clone().into();
        }
        out
    }
}

/// `hull network connect`: Connect a container to a network.
#[derive(Args, Debug)]
pub struct NetworkConnect {
    /// Add network-scoped alias for the container
    #[arg(long, value_name = "strings", value_delimiter = ',')]
    alias: Vec<String>,
    /// driver options for the network
    #[arg(long, value_name = "strings", value_delimiter = ',')]
    driver_opt: Vec<String>,
    /// Highest gw-priority provides the default gateway.
    #[arg(long, value_name = "int", value_parser = values::go_int, help = "Highest gw-priority provides the default gateway. Accepts positive and negative values.")]
    gw_priority: Option<i64>,
    /// IPv4 address (e.g., "172.30.100.104")
    #[arg(long, value_name = "string")]
    ip: Option<String>,
    /// IPv6 address (e.g., "2001:db8::33")
    #[arg(long, value_name = "string")]
    ip6: Option<String>,
    /// Add link to another container
    #[arg(long, value_name = "list", value_parser = values::link)]
    link: Vec<String>,
    /// Add a link-local address for the container
    #[arg(long, value_name = "strings", value_delimiter = ',')]
    link_local_ip: Vec<String>,
    args: Vec<String>,
}

impl Run for NetworkConnect {
    async fn run(self, cli: &Cli) -> Outcome {
        let mut options = Map::new();
        for option in &self.driver_opt {
            let pair = option
                .split_once('=')
                .map(|(key, value)| (key.trim(), value.trim()))
                .filter(|(key, _)| !key.is_empty());
            let (key, value) = pair
                .ok_or_else(|| Failure::new("invalid key/value pair format in driver options"))?;
            options.insert(key.into(), value.into());
        }
        let mut ipam = Map::new();
        for (key, value) in [("IPv4Address", &self.ip), ("IPv6Address", &self.ip6)] {
            if let Some(value) = value {
                ipam.insert(key.into(), value.as_str().into());
            }
        }
        if !self.link_local_ip.is_empty() {
            ipam.insert("LinkLocalIPs".into(), json!(self.link_local_ip));
        }
        let body = json!({"Container": self.args[1], "EndpointConfig": {
            "IPAMConfig": ipam, "Links": self.link, "Aliases": self.alias, "DriverOpts": options, "GwPriority": self.gw_priority.unwrap_or(0),
        }});
        post(cli, &self.args[0], "connect", &body).await
    }
}

async fn post(cli: &Cli, network: &str, action: &str, body: &Value) -> Outcome {
    let query = Query::segments(&["networks", network, action]);
    let mut answer = cli
        .client()?
        .request(
            http::Method::POST,
            &query,
            Some(body.to_string().into()),
            http::HeaderMap::new(),
        )
        .await?;
    answer.bytes().await?;
    Ok(0)
}

/// `hull network disconnect`: Disconnect a container from a network.
#[derive(Args, Debug)]
pub struct NetworkDisconnect {
    /// Force the container to disconnect from a network
    #[arg(short = 'f', long)]
    force: bool,
    args: Vec<String>,
}

impl Run for NetworkDisconnect {
    async fn run(self, cli: &Cli) -> Outcome {
        post(
            cli,
            &self.args[0],
            "disconnect",
            &json!({"Container": self.args[1], "Force": self.force}),
        )
        .await
    }
}

/// `hull network ls`: List networks.
#[derive(Args, Debug)]
pub struct NetworkLs {
    /// Provide filter values (e.g. "driver=bridge")
    #[arg(short = 'f', long, value_name = "filter", value_parser = values::filter)]
    filter: Vec<String>,
    /// Format output using a custom template
    #[arg(long, value_name = "string", help = FORMAT_HELP)]
    format: Option<String>,
    /// Do not truncate the output
    #[arg(long)]
    no_trunc: bool,
    /// Only display network IDs
    #[arg(short = 'q', long)]
    quiet: bool,
    args: Vec<String>,
}

impl Run for NetworkLs {
    async fn run(self, cli: &Cli) -> Outcome {
        let mut networks: Vec<Value> = cli
            .client()?
            .get(Query::new("/networks").set_some("filters", filters(&self.filter)))
            .await?;
        networks.sort_by_key(|network| super::port::natural(text(network, "Name")));
        let source = match self.format.as_deref().unwrap_or("") {
            "" if !self.quiet && !cli.config.text("networksFormat").is_empty() => {
                cli.config.text("networksFormat")
            }
            "" | "table" if self.quiet => "{{.ID}}",
            "" | "table" => "table {{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}",
            "raw" if self.quiet => "network_id: {{.ID}}",
            "raw" => {
                "network_id: {{.ID}}\\nname: {{.Name}}\\ndriver: {{.Driver}}\\nscope: {{.Scope}}\\n"
            }
            source => source,
        };
        let heads = header(&[
            ("ID", "NETWORK ID"),
            ("Name", "NAME"),
            ("Driver", "DRIVER"),
            ("Scope", "SCOPE"),
            ("IPv4", "IPV4"),
            ("IPv6", "IPV6"),
            ("Internal", "INTERNAL"),
            ("Labels", "LABELS"),
            ("CreatedAt", "CREATED AT"),
        ]);
        let rows: Vec<Row> = networks
            .iter()
            .map(|network| columns(network, !self.no_trunc))
            .collect();
        cli.out(Format::parse(source)?.render(&heads, &rows)?)?;
        Ok(0)
    }
}

fn columns(network: &Value, trunc: bool) -> Row {
    let id = text(network, "Id");
    let labels = network["Labels"].as_object();
    let flag = |key: &str| Value::from((network[key] == true).to_string());
    let mut row = row(
        "*network.networkContext",
        [
            ("ID", (if trunc { short_id(id) } else { id }).into()),
            ("Name", text(network, "Name").into()),
            ("Driver", text(network, "Driver").into()),
            ("Scope", text(network, "Scope").into()),
            ("IPv4", flag("EnableIPv4")),
            ("IPv6", flag("EnableIPv6")),
            ("Internal", flag("Internal")),
            ("Labels", labels_text(labels).into()),
            ("CreatedAt", created_text(text(network, "Created")).into()),
        ],
    );
    row.labels = Some(labels.cloned().unwrap_or_default());
    row
}

/// `hull network rm`: Remove one or more networks.
#[derive(Args, Debug)]
pub struct NetworkRm {
    /// Do not error if the network does not exist
    #[arg(short = 'f', long)]
    force: bool,
    args: Vec<String>,
}

impl Run for NetworkRm {
    async fn run(self, cli: &Cli) -> Outcome {
        let mut failed = false;
        for name in &self.args {
            match cli
                .client()?
                .delete(Query::segments(&["networks", name]))
                .await
            {
                Ok(_) => cli.line(name)?,
                Err(error) if self.force && error.is_not_found() => {}
                Err(error) => {
                    eprintln!("{error}");
                    failed = true;
                }
            }
        }
        if failed {
            Err(Failure::new("exit status 1"))
        } else {
            Ok(0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ipam(subnet: &[&str], range: &[&str], gateway: &[&str]) -> Result<Value, String> {
        let own = |list: &[&str]| {
            list.iter()
                .map(|text| (*text).to_owned())
                .collect::<Vec<_>>()
        };
        let command = NetworkCreate {
            attachable: false,
            aux_address: Vec::new(),
            config_from: None,
            config_only: false,
            driver: None,
            gateway: own(gateway),
            ingress: false,
            internal: false,
            ip_range: own(range),
            ipam_driver: None,
            ipam_opt: Vec::new(),
            ipv4: None,
            ipv6: None,
            label: Vec::new(),
            opt: Vec::new(),
            scope: None,
            subnet: own(subnet),
            args: Vec::new(),
        };
        command.ipam()
    }

    #[test]
    fn pools() {
        assert_eq!(
            ipam(&["10.1.0.0/16"], &["10.1.2.0/24"], &["10.1.0.1"]).unwrap(),
            json!([{"Subnet": "10.1.0.0/16", "IPRange": "10.1.2.0/24", "Gateway": "10.1.0.1"}])
        );
        assert_eq!(
            ipam(&[], &[], &["10.1.0.1"]).unwrap_err(),
            "every ip-range or gateway must have a corresponding subnet"
        );
        assert_eq!(
            ipam(&["10.1.0.0/16", "10.1.1.0/24"], &[], &[]).unwrap_err(),
            "multiple overlapping subnet configuration is not supported"
        );
        assert_eq!(
            ipam(&["10.1.0.0/16"], &[], &["10.2.0.1"]).unwrap_err(),
            "no matching subnet for gateway 10.2.0.1"
        );
        assert_eq!(
            ipam(&["x"], &[], &[]).unwrap_err(),
            "invalid CIDR address: x"
        );
    }
}
