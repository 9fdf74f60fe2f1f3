//! Port bindings: from the API's text to what is published. Pure.

use std::net::IpAddr;

use hull_api::host::{PortBinding, PortMap};
use hull_network::{PortMapping, Protocol};

use crate::error::{Error, Result};
use crate::record::ContainerRecord;

/// Reads `80/tcp`, `80` or a range of them as protocol, first and last port.
pub(crate) fn parse_port(text: &str) -> Result<(Protocol, u16, u16)> {
    let bad = || Error::invalid(format!("invalid port specification: {text:?}"));
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.parse::<Protocol>().map_err(|_| {
        Error::invalid(format!(
            "invalid port specification: {text:?}: invalid proto"
        ))
    })?;
    let (first, last) = range(ports).ok_or_else(bad)?;
    if first == 0 {
        return Err(bad());
    }
    Ok((protocol, first, last))
}

fn range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last).then_some((first, last))
}

/// Everything that the container wants published: its bindings, and with `--publish-all` its exposed ports too.
pub(crate) fn requested(record: &ContainerRecord) -> Result<Vec<PortMapping>> {
    let mut mappings = Vec::new();
    for (port, bindings) in &record.host.port_bindings {
        let (protocol, first, _) = parse_port(port)?;
        let bindings = bindings.as_deref().unwrap_or_default();
        for binding in bindings {
            mappings.push(one(protocol, first, binding)?);
        }
        if bindings.is_empty() && record.host.publish_all_ports {
            mappings.push(one(protocol, first, &PortBinding::default())?);
        }
    }
    if record.host.publish_all_ports {
        for port in &record.config.exposed_ports {
            let (protocol, first, last) = parse_port(port)?;
            for container_port in first..=last {
                let known = |mapping: &PortMapping| {
                    mapping.protocol == protocol && mapping.container_port == container_port
                };
                if !mappings.iter().any(known) {
                    mappings.push(one(protocol, container_port, &PortBinding::default())?);
                }
            }
        }
    }
    Ok(mappings)
}

fn one(protocol: Protocol, container_port: u16, binding: &PortBinding) -> Result<PortMapping> {
    let host_ip: Option<IpAddr> = match binding.host_ip.as_str() {
        "" => None,
        text => Some(
            text.trim_start_matches('[')
                .trim_end_matches(']')
                .parse()
                .map_err(|_| Error::invalid(format!("invalid IP address: {text}")))?,
        ),
    };
    let (host_port, host_port_end) = match binding.host_port.as_str() {
        "" | "0" => (0, 0),
        text => range(text)
            .ok_or_else(|| Error::invalid(format!("invalid port specification: {text:?}")))?,
    };
    Ok(PortMapping {
        protocol,
        container_port,
        host_ip,
        host_port,
        host_port_end,
    })
}

/// Checks bindings at create.
pub(crate) fn check(bindings: &PortMap) -> Result<()> {
    for (port, list) in bindings {
        let (protocol, first, _) = parse_port(port)?;
        for binding in list.iter().flatten() {
            one(protocol, first, binding)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bindings_ranges_and_all() {
        let mut record = ContainerRecord::default();
        let binding = |ip: &str, port: &str| PortBinding {
            host_ip: ip.into(),
            host_port: port.into(),
        };
        record.host.port_bindings.insert(
            "80/tcp".into(),
            Some(vec![binding("127.0.0.1", "8080"), binding("", "9000-9010")]),
        );
        record
            .config
            .exposed_ports
            .extend(["80/tcp".to_owned(), "53/udp".to_owned()]);
        let some = requested(&record).unwrap();
        assert_eq!(some.len(), 2);
        assert_eq!(
            (some[0].host_port, some[0].host_ip),
            (8080, Some("127.0.0.1".parse().unwrap()))
        );
        assert_eq!(
            (some[1].host_port, some[1].host_port_end, some[1].host_ip),
            (9000, 9010, None)
        );
        record.host.publish_all_ports = true;
        let all = requested(&record).unwrap();
        assert_eq!(all.len(), 3);
        assert_eq!(
            (all[2].protocol, all[2].container_port, all[2].host_port),
            (Protocol::Udp, 53, 0)
        );
        for bad in ["http/tcp", "0/tcp", "80/icmp", "90-80/tcp", "70000/tcp"] {
            assert!(parse_port(bad).is_err(), "{bad}");
        }
    }
}
