//! Connections that the kernel remembers: UDP ones outlive the rules that they were made under.
//!
//! A client that sends before its port is published, or on after the container has gone, keeps its entry alive, and with it the old
//! destination; TCP begins anew. dockerd deletes such entries for the same reason. Source: linux/netfilter/nfnetlink_conntrack.h.

use std::net::IpAddr;

use super::nft::{header, number};
use super::{Batch, Connection, find};
use crate::error::Result;
use crate::firewall::Family;

const SUBSYSTEM: u16 = 1 << 8;
const GET: u16 = SUBSYSTEM | 1;
const DELETE: u16 = SUBSYSTEM | 2;
/// `CTA_TUPLE_ORIG`, `CTA_TUPLE_IP`, `CTA_TUPLE_PROTO`, `CTA_IP_V4_DST`, `CTA_IP_V6_DST`, `CTA_PROTO_NUM`, `CTA_PROTO_DST_PORT`, `CTA_ID`.
const TUPLE_ORIG: u16 = 1;
const TUPLE_IP: u16 = 1;
const TUPLE_PROTO: u16 = 2;
const IP_V4_DST: u16 = 2;
const IP_V6_DST: u16 = 4;
const PROTO_NUM: u16 = 1;
const PROTO_DST_PORT: u16 = 3;
const ID: u16 = 12;
const NESTED: u16 = 0x8000;
const UDP: u8 = 17;

/// Forgets UDP connections to these ports of the host.
pub(crate) fn forget_udp(family: Family, ports: &[(IpAddr, u16)]) -> Result<()> {
    if ports.is_empty() {
        return Ok(());
    }
    let mut connection = Connection::open(libc::NETLINK_NETFILTER)?;
    let mut batch = Batch::new();
    batch.begin(
        GET,
        libc::NLM_F_DUMP,
        &header(number(family), 0),
        "list",
        "tracked connections".to_owned(),
    );
    let messages = connection.execute(batch)?;
    for message in messages {
        let Some(attributes) = message.body.get(4..) else {
            continue;
        };
        let Some(tuple) = find(attributes, TUPLE_ORIG).filter(|tuple| leads_to(tuple, ports))
        else {
            continue;
        };
        let mut batch = Batch::new();
        let object = "tracked connection".to_owned();
        batch.begin(
            DELETE,
            libc::NLM_F_ACK,
            &header(number(family), 0),
            "delete",
            object,
        );
        batch.attr(TUPLE_ORIG | NESTED, tuple);
        if let Some(id) = find(attributes, ID) {
            batch.attr(ID, id);
        }
        // Gone by itself since.
        super::route::absence_is_fine(connection.execute(batch).map(|_| ()))?;
    }
    Ok(())
}

/// The connection was opened to one of the ports.
fn leads_to(tuple: &[u8], ports: &[(IpAddr, u16)]) -> bool {
    let address = || {
        let ip = find(tuple, TUPLE_IP)?;
        if let Some(bytes) = find(ip, IP_V4_DST) {
            return <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from);
        }
        <[u8; 16]>::try_from(find(ip, IP_V6_DST)?)
            .ok()
            .map(IpAddr::from)
    };
    let port = || {
        let proto = find(tuple, TUPLE_PROTO)?;
        let bytes =
            find(proto, PROTO_DST_PORT).filter(|_| find(proto, PROTO_NUM) == Some(&[UDP]))?;
        <[u8; 2]>::try_from(bytes).ok().map(u16::from_be_bytes)
    };
    match (address(), port()) {
        (Some(ip), Some(port)) => ports
            .iter()
            .any(|(wanted, p)| *p == port && (wanted.is_unspecified() || *wanted == ip)),
        _ => false,
    }
}
