//! The variables that `--link` gives a container on the default bridge (docs.docker.com/engine/network/links): where the
//! other container's ports are, its name, and its environment.

use std::net::Ipv4Addr;

use crate::record::ContainerRecord;
use crate::world::World;

/// The variables of all links of `record`. Links whose target does not run were refused before.
pub(crate) fn environment(world: &World, record: &ContainerRecord) -> Vec<String> {
    let mut env = Vec::new();
    for link in &record.links {
        let Ok(handle) = world.registry.find(&link.target) else {
            continue;
        };
        let view = handle.view();
        let address = view
            .attachments
            .iter()
            .find_map(|attachment| attachment.endpoint.ipv4);
        if let Some(address) = address {
            variables(&mut env, record, &view.record, &link.alias, address.addr());
        }
    }
    env
}

fn variables(
    env: &mut Vec<String>,
    parent: &ContainerRecord,
    child: &ContainerRecord,
    alias: &str,
    ip: Ipv4Addr,
) {
    let prefix = alias.replace('-', "_").to_uppercase();
    let mut ports: Vec<(u16, &str)> = child
        .config
        .exposed_ports
        .iter()
        .chain(child.host.port_bindings.keys())
        .filter_map(|port| {
            let (number, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
            Some((number.parse().ok()?, protocol))
        })
        .collect();
    ports.sort_unstable();
    ports.dedup();
    if let Some((port, protocol)) = ports.first() {
        env.push(format!("{prefix}_PORT={protocol}://{ip}:{port}"));
    }
    for (port, protocol) in ports {
        let name = format!("{prefix}_PORT_{port}_{}", protocol.to_uppercase());
        env.push(format!("{name}={protocol}://{ip}:{port}"));
        env.push(format!("{name}_ADDR={ip}"));
        env.push(format!("{name}_PORT={port}"));
        env.push(format!("{name}_PROTO={protocol}"));
    }
    env.push(format!("{prefix}_NAME=/{}/{alias}", parent.name));
    for entry in &child.config.env {
        // As in Docker: these two would only mislead.
        if !entry.starts_with("HOME=") && !entry.starts_with("PATH=") {
            env.push(format!("{prefix}_ENV_{entry}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_name_and_environment() {
        let parent = ContainerRecord {
            name: "web".into(),
            ..ContainerRecord::default()
        };
        let mut child = ContainerRecord::default();
        child.config.exposed_ports.insert("6379/tcp".into());
        child.config.env = vec!["PATH=/bin".into(), "FOO=1".into()];
        let mut env = Vec::new();
        variables(
            &mut env,
            &parent,
            &child,
            "my-db",
            Ipv4Addr::new(10, 0, 0, 2),
        );
        assert_eq!(
            env,
            [
                "MY_DB_PORT=tcp://10.0.0.2:6379",
                "MY_DB_PORT_6379_TCP=tcp://10.0.0.2:6379",
                "MY_DB_PORT_6379_TCP_ADDR=10.0.0.2",
                "MY_DB_PORT_6379_TCP_PORT=6379",
                "MY_DB_PORT_6379_TCP_PROTO=tcp",
                "MY_DB_NAME=/web/my-db",
                "MY_DB_ENV_FOO=1",
            ]
        );
    }
}
