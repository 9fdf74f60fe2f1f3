//! Networks, the endpoints of containers in them, leased addresses and published ports.

use std::net::IpAddr;

use rusqlite::{Row, params};

use crate::{Error, Result, Tx};

/// A network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// 64 lower hex digits.
    pub id: String,
    /// Unique.
    pub name: String,
    /// `bridge`, ...
    pub driver: String,
    /// RFC 3339.
    pub created: String,
    /// The engine's record, JSON.
    pub record: String,
}

/// A container's place in a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// 64 lower hex digits.
    pub id: String,
    /// The network's id.
    pub network_id: String,
    /// The container's id.
    pub container_id: String,
    /// The engine's record, JSON.
    pub record: String,
}

/// A published port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
    /// The host's address, `0.0.0.0` or `::` for all.
    pub host_ip: String,
    /// The host's port.
    pub host_port: u16,
    /// Whose it is.
    pub endpoint_id: String,
}

fn read(row: &Row) -> rusqlite::Result<Network> {
    Ok(Network {
        id: row.get(0)?,
        name: row.get(1)?,
        driver: row.get(2)?,
        created: row.get(3)?,
        record: row.get(4)?,
    })
}

fn read_endpoint(row: &Row) -> rusqlite::Result<Endpoint> {
    Ok(Endpoint {
        id: row.get(0)?,
        network_id: row.get(1)?,
        container_id: row.get(2)?,
        record: row.get(3)?,
    })
}

const COLUMNS: &str = "id, name, driver, created, record";
const ENDPOINT_COLUMNS: &str = "id, network_id, container_id, record";

/// The network with this full id; [`Error::NotFound`] when absent.
pub fn get(tx: &Tx, id: &str) -> Result<Network> {
    tx.first(
        "read a network",
        &format!("SELECT {COLUMNS} FROM networks WHERE id = ?1"),
        [id],
        read,
    )?
    .ok_or_else(|| Error::not_found("network", id))
}

/// The network for what a user wrote, in Docker's order: full id, name, id prefix.
pub fn find(tx: &Tx, wanted: &str) -> Result<Network> {
    let none = || Error::not_found("network", wanted);
    let sql = format!(
        "SELECT {COLUMNS} FROM networks WHERE id = ?1 OR name = ?1 ORDER BY id = ?1 DESC LIMIT 1"
    );
    if let Some(found) = tx.first("find a network", &sql, [wanted], read)? {
        return Ok(found);
    }
    if wanted.is_empty()
        || !wanted
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    {
        return Err(none());
    }
    let upper = format!("{wanted}g");
    let sql = format!("SELECT {COLUMNS} FROM networks WHERE id >= ?1 AND id < ?2 LIMIT 2");
    let found = tx.all("find a network", &sql, [wanted, &upper], read)?;
    if found.len() > 1 {
        return Err(Error::Ambiguous {
            noun: "network",
            prefix: wanted.to_owned(),
        });
    }
    found.into_iter().next().ok_or_else(none)
}

/// All networks in the order they were made.
pub fn list(tx: &Tx) -> Result<Vec<Network>> {
    tx.all(
        "list the networks",
        &format!("SELECT {COLUMNS} FROM networks ORDER BY created, id"),
        [],
        read,
    )
}

/// Adds a network. [`Error::Taken`] when the name is in use.
pub fn insert(tx: &Tx, network: &Network) -> Result<()> {
    let holder = tx.first(
        "find a network's name",
        "SELECT id FROM networks WHERE name = ?1",
        [&network.name],
        |row| row.get(0),
    )?;
    if let Some(holder) = holder {
        return Err(Error::Taken {
            noun: "network",
            key: network.name.clone(),
            holder,
        });
    }
    tx.execute(
        "insert a network",
        "INSERT INTO networks(id, name, driver, created, record) VALUES(?1, ?2, ?3, ?4, ?5)",
        [
            &network.id,
            &network.name,
            &network.driver,
            &network.created,
            &network.record,
        ],
    )?;
    Ok(())
}

/// Writes a network's record.
pub fn set_record(tx: &Tx, id: &str, record: &str) -> Result<()> {
    let changed = tx.execute(
        "write a network",
        "UPDATE networks SET record = ?2 WHERE id = ?1",
        [id, record],
    )?;
    if changed == 0 {
        Err(Error::not_found("network", id))
    } else {
        Ok(())
    }
}

/// Forgets a network without endpoints; says whether it was there. [`Error::Taken`] names an endpoint, when there is one.
pub fn remove(tx: &Tx, id: &str) -> Result<bool> {
    if let Some(endpoint) = endpoints_of_network(tx, id)?.into_iter().next() {
        return Err(Error::Taken {
            noun: "network",
            key: id.to_owned(),
            holder: endpoint.id,
        });
    }
    Ok(tx.execute(
        "remove a network",
        "DELETE FROM networks WHERE id = ?1",
        [id],
    )? > 0)
}

/// Adds an endpoint.
pub fn insert_endpoint(tx: &Tx, endpoint: &Endpoint) -> Result<()> {
    tx.execute(
        "insert an endpoint",
        "INSERT INTO endpoints(id, network_id, container_id, record) VALUES(?1, ?2, ?3, ?4)",
        [
            &endpoint.id,
            &endpoint.network_id,
            &endpoint.container_id,
            &endpoint.record,
        ],
    )?;
    Ok(())
}

/// Writes an endpoint's record.
pub fn set_endpoint_record(tx: &Tx, id: &str, record: &str) -> Result<()> {
    let changed = tx.execute(
        "write an endpoint",
        "UPDATE endpoints SET record = ?2 WHERE id = ?1",
        [id, record],
    )?;
    if changed == 0 {
        Err(Error::not_found("endpoint", id))
    } else {
        Ok(())
    }
}

/// Forgets an endpoint with its addresses and ports. Fine when absent.
pub fn remove_endpoint(tx: &Tx, id: &str) -> Result<()> {
    tx.execute(
        "remove an endpoint",
        "DELETE FROM endpoints WHERE id = ?1",
        [id],
    )?;
    Ok(())
}

/// Forgets all endpoints of a container; returns them.
pub fn remove_endpoints_of_container(tx: &Tx, container_id: &str) -> Result<Vec<Endpoint>> {
    let sql = format!("DELETE FROM endpoints WHERE container_id = ?1 RETURNING {ENDPOINT_COLUMNS}");
    tx.all(
        "remove a container's endpoints",
        &sql,
        [container_id],
        read_endpoint,
    )
}

/// All endpoints.
pub fn endpoints(tx: &Tx) -> Result<Vec<Endpoint>> {
    tx.all(
        "list the endpoints",
        &format!("SELECT {ENDPOINT_COLUMNS} FROM endpoints ORDER BY id"),
        [],
        read_endpoint,
    )
}

/// The endpoints of a network.
pub fn endpoints_of_network(tx: &Tx, network_id: &str) -> Result<Vec<Endpoint>> {
    let sql = format!("SELECT {ENDPOINT_COLUMNS} FROM endpoints WHERE network_id = ?1 ORDER BY id");
    tx.all(
        "list a network's endpoints",
        &sql,
        [network_id],
        read_endpoint,
    )
}

/// The endpoints of a container.
pub fn endpoints_of_container(tx: &Tx, container_id: &str) -> Result<Vec<Endpoint>> {
    let sql =
        format!("SELECT {ENDPOINT_COLUMNS} FROM endpoints WHERE container_id = ?1 ORDER BY id");
    tx.all(
        "list a container's endpoints",
        &sql,
        [container_id],
        read_endpoint,
    )
}

/// Leases an address to an endpoint. [`Error::Taken`] names the endpoint that has it.
pub fn lease_address(tx: &Tx, network_id: &str, address: IpAddr, endpoint_id: &str) -> Result<()> {
    let address = address.to_string();
    let sql = "SELECT endpoint_id FROM addresses WHERE network_id = ?1 AND address = ?2";
    if let Some(holder) = tx.first("find an address", sql, [network_id, &address], |row| {
        row.get(0)
    })? {
        return Err(Error::Taken {
            noun: "address",
            key: address,
            holder,
        });
    }
    let sql = "INSERT INTO addresses(network_id, address, endpoint_id) VALUES(?1, ?2, ?3)";
    tx.execute("lease an address", sql, [network_id, &address, endpoint_id])?;
    Ok(())
}

/// The leased addresses of a network.
pub fn addresses(tx: &Tx, network_id: &str) -> Result<Vec<IpAddr>> {
    let found: Vec<String> = tx.all(
        "list a network's addresses",
        "SELECT address FROM addresses WHERE network_id = ?1",
        [network_id],
        |row| row.get(0),
    )?;
    Ok(found
        .iter()
        .filter_map(|address| address.parse().ok())
        .collect())
}

/// Records a published port. [`Error::Taken`] names the endpoint that has it.
pub fn insert_port(tx: &Tx, port: &Port) -> Result<()> {
    let sql =
        "SELECT endpoint_id FROM ports WHERE protocol = ?1 AND host_ip = ?2 AND host_port = ?3";
    let key = params![port.protocol, port.host_ip, port.host_port];
    if let Some(holder) = tx.first("find a port", sql, key, |row| row.get(0))? {
        return Err(Error::Taken {
            noun: "port",
            key: format!("{}:{}/{}", port.host_ip, port.host_port, port.protocol),
            holder,
        });
    }
    tx.execute(
        "insert a port",
        "INSERT INTO ports(protocol, host_ip, host_port, endpoint_id) VALUES(?1, ?2, ?3, ?4)",
        params![
            port.protocol,
            port.host_ip,
            port.host_port,
            port.endpoint_id
        ],
    )?;
    Ok(())
}

/// All published ports.
pub fn ports(tx: &Tx) -> Result<Vec<Port>> {
    let sql = "SELECT protocol, host_ip, host_port, endpoint_id FROM ports ORDER BY host_port, protocol, host_ip";
    tx.all("list the ports", sql, [], |row| {
        Ok(Port {
            protocol: row.get(0)?,
            host_ip: row.get(1)?,
            host_port: row.get(2)?,
            endpoint_id: row.get(3)?,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Db, containers};

    #[test]
    fn a_container_takes_its_endpoints_addresses_and_ports_along() {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open(dir.path().join("state.db")).unwrap();
        let address: IpAddr = "10.207.0.2".parse().unwrap();
        let port = Port {
            protocol: "tcp".into(),
            host_ip: "0.0.0.0".into(),
            host_port: 8080,
            endpoint_id: "e1".into(),
        };
        db.write(|tx| {
            let network = Network {
                id: "aa1".into(),
                name: "net".into(),
                driver: "bridge".into(),
                created: "now".into(),
                record: "{}".into(),
            };
            insert(tx, &network)?;
            assert!(matches!(
                insert(
                    tx,
                    &Network {
                        id: "aa2".into(),
                        ..network
                    }
                ),
                Err(Error::Taken { .. })
            ));
            containers::insert(
                tx,
                &containers::Container {
                    id: "c1".into(),
                    name: "web".into(),
                    image_id: String::new(),
                    snapshot_key: "c1".into(),
                    created: "now".into(),
                    record: "{}".into(),
                    phase: "{}".into(),
                },
            )?;
            insert_endpoint(
                tx,
                &Endpoint {
                    id: "e1".into(),
                    network_id: "aa1".into(),
                    container_id: "c1".into(),
                    record: "{}".into(),
                },
            )?;
            lease_address(tx, "aa1", address, "e1")?;
            insert_port(tx, &port)
        })
        .unwrap();
        assert_eq!(db.read(|tx| find(tx, "aa")).unwrap().name, "net");
        assert!(matches!(
            db.write(|tx| lease_address(tx, "aa1", address, "e1")),
            Err(Error::Taken { .. })
        ));
        assert!(matches!(
            db.write(|tx| insert_port(tx, &port)),
            Err(Error::Taken { .. })
        ));
        assert!(matches!(
            db.write(|tx| remove(tx, "aa1")),
            Err(Error::Taken { .. })
        ));
        db.write(|tx| containers::remove(tx, "c1")).unwrap();
        db.read(|tx| {
            assert!(addresses(tx, "aa1")?.is_empty());
            assert!(ports(tx)?.is_empty());
            assert!(endpoints(tx)?.is_empty());
            Ok(())
        })
        .unwrap();
        assert!(db.write(|tx| remove(tx, "aa1")).unwrap());
    }
}
