//! nf_tables by netlink: a [`Ruleset`] written as one transaction, or single elements of its sets.
//!
//! Source: linux/netfilter/nf_tables.h for the attributes and net/netfilter/nf_tables_api.c for what the kernel makes of them; nft(8)'s
//! `--debug=netlink` shows the same expressions for the same text. docs/decisions/0005-nftables-by-netlink.md says why not a library.

use ipnet::IpNet;

use super::{Batch, Connection};
use crate::error::{Error, Result};
use crate::firewall::{
    Action, Base, Chain, ChainKind, DataType, Element, Family, Hook, Match, Rule, Ruleset, Set,
    Table, Value,
};

pub(super) const SUBSYSTEM: u16 = 10 << 8;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NEWTABLE: u16 = SUBSYSTEM;
const GETTABLE: u16 = SUBSYSTEM | 1;
const DELTABLE: u16 = SUBSYSTEM | 2;
const NEWCHAIN: u16 = SUBSYSTEM | 3;
pub(super) const NEWRULE: u16 = SUBSYSTEM | 6;
const NEWSET: u16 = SUBSYSTEM | 9;
const NEWSETELEM: u16 = SUBSYSTEM | 12;
const DELSETELEM: u16 = SUBSYSTEM | 14;

/// First of the 32-bit registers (`NFT_REG32_00`); an address of 16 bytes takes four.
const REG: u32 = 8;
const REG_VERDICT: u32 = 0;
/// `NFTA_LIST_ELEM`, `NFTA_DATA_VALUE`, `NFTA_DATA_VERDICT`.
const LIST_ELEM: u16 = 1;
const DATA_VALUE: u16 = 1;
const DATA_VERDICT: u16 = 2;
/// `NFT_SET_MAP`.
const SET_MAP: u32 = 8;
/// Elements in one message: the list's length is a 16-bit number, and an element here takes at most 120 bytes.
const ELEMENTS_PER_MESSAGE: usize = 256;
/// The socket's send buffer: a transaction is one send.
const SEND_BYTES: usize = 16 << 20;

/// An nf_tables socket.
pub(crate) struct Nft(pub(super) Connection);

impl Nft {
    pub(crate) fn open() -> Result<Nft> {
        let connection = Connection::open(libc::NETLINK_NETFILTER)?;
        connection.enlarge_send_buffer(SEND_BYTES);
        Ok(Nft(connection))
    }

    /// Writes the ruleset; `EEXIST` when a table of its name is there.
    ///
    /// Where nothing is there to be deleted this is the quick way: closing an nf_tables socket waits 5-15 ms for the kernel to have freed
    /// what was deleted last.
    pub(crate) fn create(&mut self, rules: &Ruleset) -> Result<()> {
        let mut batch = begin();
        for table in &rules.tables {
            batch.table(
                NEWTABLE,
                libc::NLM_F_CREATE | libc::NLM_F_EXCL,
                table.family,
                &rules.name,
            );
            batch.write_table(table, &rules.name);
        }
        self.commit(batch)
    }

    /// Writes the ruleset in place of what its tables held, at once: no packet meets half of it.
    pub(crate) fn replace(&mut self, rules: &Ruleset) -> Result<()> {
        let mut batch = begin();
        for table in &rules.tables {
            // Made first, so that deleting never fails: there is no "delete if there" before Linux 6.3.
            batch.table(NEWTABLE, libc::NLM_F_CREATE, table.family, &rules.name);
            batch.table(DELTABLE, 0, table.family, &rules.name);
            batch.table(NEWTABLE, libc::NLM_F_CREATE, table.family, &rules.name);
            batch.write_table(table, &rules.name);
        }
        self.commit(batch)
    }

    /// Adds elements. One that is there already with the same value is no error, with another value it is `EEXIST`.
    pub(crate) fn add(
        &mut self,
        table: &str,
        elements: &[(Family, &'static str, Element)],
    ) -> Result<()> {
        self.change(NEWSETELEM, libc::NLM_F_CREATE, table, elements)
    }

    /// Removes elements, all or none; `ENOENT` when one is not there.
    pub(crate) fn remove(
        &mut self,
        table: &str,
        elements: &[(Family, &'static str, Element)],
    ) -> Result<()> {
        self.change(DELSETELEM, 0, table, elements)
    }

    fn change(
        &mut self,
        kind: u16,
        flags: i32,
        table: &str,
        elements: &[(Family, &'static str, Element)],
    ) -> Result<()> {
        if elements.is_empty() {
            return Ok(());
        }
        let mut batch = begin();
        for (family, set, element) in elements {
            batch.elements(
                kind,
                flags,
                *family,
                table,
                set,
                std::slice::from_ref(element),
            );
        }
        self.commit(batch)
    }

    /// Removes the tables of that name, where they are.
    pub(crate) fn remove_tables(&mut self, name: &str) -> Result<()> {
        for family in [Family::Ip, Family::Ip6] {
            if !self.has_table(family, name)? {
                continue;
            }
            let mut batch = begin();
            batch.table(DELTABLE, 0, family, name);
            self.commit(batch)?;
        }
        Ok(())
    }

    pub(crate) fn has_table(&mut self, family: Family, name: &str) -> Result<bool> {
        let mut batch = Batch::new();
        batch.table(GETTABLE, 0, family, name);
        match self.0.execute(batch) {
            Ok(messages) => Ok(!messages.is_empty()),
            Err(error) if error.errno() == Some(libc::ENOENT) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Only the last message asks for an acknowledgement: refusals come unasked, and one acknowledgement for each of a thousand messages
    /// would overrun the socket.
    pub(super) fn commit(&mut self, mut batch: Batch) -> Result<()> {
        batch.add_flags(libc::NLM_F_ACK);
        batch.begin(
            BATCH_END,
            0,
            &header(0, SUBSYSTEM >> 8),
            "commit",
            "firewall".to_owned(),
        );
        self.0.execute(batch).map(|_| ())
    }
}

/// `struct nfgenmsg`.
pub(super) fn header(family: u8, resource: u16) -> [u8; 4] {
    let [high, low] = resource.to_be_bytes();
    [family, 0, high, low]
}

pub(super) fn begin() -> Batch {
    let mut batch = Batch::new();
    batch.begin(
        BATCH_BEGIN,
        0,
        &header(0, SUBSYSTEM >> 8),
        "begin",
        "firewall transaction".to_owned(),
    );
    batch
}

pub(super) fn number(family: Family) -> u8 {
    match family {
        Family::Ip => libc::NFPROTO_IPV4 as u8,
        Family::Ip6 => libc::NFPROTO_IPV6 as u8,
    }
}

impl Batch {
    fn table(&mut self, kind: u16, flags: i32, family: Family, name: &str) {
        let operation = match kind {
            NEWTABLE => "create nf_tables table",
            DELTABLE => "delete nf_tables table",
            _ => "look up nf_tables table",
        };
        self.begin(
            kind,
            flags,
            &header(number(family), 0),
            operation,
            format!("{family} {name}"),
        );
        self.text(1, name);
    }

    fn write_table(&mut self, table: &Table, name: &str) {
        for (id, set) in table.sets.iter().enumerate() {
            self.set(table.family, name, set, id as u32 + 1);
        }
        for chain in &table.chains {
            self.chain(table.family, name, chain);
        }
        for set in &table.sets {
            for elements in set.elements.chunks(ELEMENTS_PER_MESSAGE) {
                self.elements(
                    NEWSETELEM,
                    libc::NLM_F_CREATE,
                    table.family,
                    name,
                    set.name,
                    elements,
                );
            }
        }
        for chain in &table.chains {
            for rule in &chain.rules {
                self.rule(table.family, name, chain.name, rule);
            }
        }
    }

    /// `NFTA_SET_*`
    fn set(&mut self, family: Family, table: &str, set: &Set, id: u32) {
        let object = format!("{family} {table} {}", set.name);
        self.begin(
            NEWSET,
            libc::NLM_F_CREATE,
            &header(number(family), 0),
            "create nf_tables set",
            object,
        );
        self.text(1, table);
        self.text(2, set.name);
        self.be32(3, if set.data.is_empty() { 0 } else { SET_MAP });
        self.be32(4, type_number(&set.key));
        self.be32(5, length(&set.key));
        if !set.data.is_empty() {
            self.be32(6, type_number(&set.data));
            self.be32(7, length(&set.data));
        }
        self.be32(10, id);
        if set.key == [DataType::Ifname] {
            // For nft(8) alone: NFTNL_UDATA_SET_KEYBYTEORDER is the host's, else it prints the names backwards.
            let mut data = vec![0, 4];
            data.extend_from_slice(&1u32.to_ne_bytes());
            self.attr(13, &data);
        }
    }

    /// `NFTA_SET_ELEM_LIST_*`, `NFTA_SET_ELEM_*`
    fn elements(
        &mut self,
        kind: u16,
        flags: i32,
        family: Family,
        table: &str,
        set: &str,
        elements: &[Element],
    ) {
        let operation = if kind == NEWSETELEM {
            "add to nf_tables set"
        } else {
            "remove from nf_tables set"
        };
        let object = match elements {
            [one] => format!("{family} {table} {set}: {one}"),
            many => format!("{family} {table} {set}: {} elements", many.len()),
        };
        self.begin(kind, flags, &header(number(family), 0), operation, object);
        self.text(1, table);
        self.text(2, set);
        self.nest(3, |b| {
            for element in elements {
                b.nest(LIST_ELEM, |b| {
                    b.nest(1, |b| b.attr(DATA_VALUE, &bytes(&element.key)));
                    if !element.data.is_empty() {
                        b.nest(2, |b| b.attr(DATA_VALUE, &bytes(&element.data)));
                    }
                });
            }
        });
    }

    /// `NFTA_CHAIN_*`, `NFTA_HOOK_*`
    fn chain(&mut self, family: Family, table: &str, chain: &Chain) {
        let object = format!("{family} {table} {}", chain.name);
        self.begin(
            NEWCHAIN,
            libc::NLM_F_CREATE,
            &header(number(family), 0),
            "create nf_tables chain",
            object,
        );
        self.text(1, table);
        self.text(3, chain.name);
        let Some(Base {
            kind,
            hook,
            priority,
        }) = chain.base
        else {
            return;
        };
        let hook = match hook {
            Hook::Prerouting => 0,
            Hook::Forward => 2,
            Hook::Output => 3,
            Hook::Postrouting => 4,
        };
        self.nest(4, |b| {
            b.be32(1, hook);
            b.be32(2, priority as u32);
        });
        self.be32(5, libc::NF_ACCEPT as u32);
        self.text(
            7,
            match kind {
                ChainKind::Filter => "filter",
                ChainKind::Nat => "nat",
            },
        );
    }

    /// `NFTA_RULE_*`
    pub(super) fn rule(&mut self, family: Family, table: &str, chain: &str, rule: &Rule) {
        let flags = libc::NLM_F_CREATE | libc::NLM_F_APPEND;
        let object = format!("{family} {table} {chain}");
        self.begin(
            NEWRULE,
            flags,
            &header(number(family), 0),
            "add rule to",
            object,
        );
        self.text(1, table);
        self.text(2, chain);
        self.nest(4, |b| {
            for condition in &rule.matches {
                b.condition(family, condition);
            }
            b.action(family, &rule.action);
        });
    }

    /// `NFTA_EXPR_*`
    fn expression(&mut self, name: &str, inside: impl FnOnce(&mut Batch)) {
        self.nest(LIST_ELEM, |b| {
            b.text(1, name);
            b.nest(2, inside);
        });
    }

    fn condition(&mut self, family: Family, condition: &Match) {
        let (source, destination, size) = addresses(family);
        match condition {
            Match::Iif(name) => self.compare_name(META_IIFNAME, name, true),
            Match::Oif(name) => self.compare_name(META_OIFNAME, name, true),
            Match::OifNot(name) => self.compare_name(META_OIFNAME, name, false),
            Match::IifIn(set) => {
                self.meta(META_IIFNAME, REG);
                self.lookup(set, None);
            }
            Match::OifIn(set) => {
                self.meta(META_OIFNAME, REG);
                self.lookup(set, None);
            }
            Match::IifOifIn(set) => {
                self.meta(META_IIFNAME, REG);
                self.meta(META_OIFNAME, REG + 4);
                self.lookup(set, None);
            }
            Match::Saddr(net) => self.compare_network(source, net),
            Match::Daddr(net) => self.compare_network(destination, net),
            Match::SaddrDaddrIn(set) => {
                self.payload(BASE_NETWORK, source, size, REG);
                self.payload(BASE_NETWORK, destination, size, REG + size / 4);
                self.lookup(set, None);
            }
            Match::Port(protocol, port) => {
                self.meta(META_L4PROTO, REG);
                self.compare(true, &[protocol.number()]);
                self.payload(BASE_TRANSPORT, 2, 2, REG);
                self.compare(true, &port.to_be_bytes());
            }
            Match::DaddrLocal => {
                // NFTA_FIB_*: the type (3) of the destination's (flag 2) route, RTN_LOCAL.
                self.expression("fib", |b| {
                    b.be32(1, REG);
                    b.be32(2, 3);
                    b.be32(3, 2);
                });
                self.compare(true, &u32::from(libc::RTN_LOCAL).to_ne_bytes());
            }
            // Bits of NFT_CT_STATE: established 2, related 4. Bit of NFT_CT_STATUS: IPS_DST_NAT.
            Match::Established => self.connection_has(0, 2 | 4),
            Match::Translated => self.connection_has(2, 1 << 5),
        }
    }

    fn action(&mut self, family: Family, action: &Action) {
        let (_, destination, size) = addresses(family);
        match action {
            Action::Accept => self.verdict(libc::NF_ACCEPT, None),
            Action::Drop => self.verdict(libc::NF_DROP, None),
            Action::Return => self.verdict(libc::NFT_RETURN, None),
            Action::Jump(chain) => self.verdict(libc::NFT_JUMP, Some(chain)),
            Action::Masquerade => self.expression("masq", |_| {}),
            Action::TranslateTo(target) => {
                self.constant(REG, &target.ip().octets());
                self.constant(REG + 1, &target.port().to_be_bytes());
                self.nat(family, REG + 1);
            }
            Action::TranslateByPort(map) => {
                self.meta(META_L4PROTO, REG);
                self.payload(BASE_TRANSPORT, 2, 2, REG + 1);
                self.translate(family, map);
            }
            Action::TranslateByAddress(map) => {
                self.meta(META_L4PROTO, REG);
                self.payload(BASE_NETWORK, destination, size, REG + 1);
                self.payload(BASE_TRANSPORT, 2, 2, REG + 1 + size / 4);
                self.translate(family, map);
            }
        }
    }

    /// Destination and port from the map's value.
    fn translate(&mut self, family: Family, map: &str) {
        let (_, _, size) = addresses(family);
        self.lookup(map, Some(REG));
        self.nat(family, REG + size / 4);
    }

    /// `NFTA_NAT_*`: the destination becomes the address in `REG` and the port in `port`.
    fn nat(&mut self, family: Family, port: u32) {
        self.expression("nat", |b| {
            b.be32(1, 1);
            b.be32(2, u32::from(number(family)));
            b.be32(3, REG);
            b.be32(5, port);
        });
    }

    fn meta(&mut self, key: u32, register: u32) {
        self.expression("meta", |b| {
            b.be32(1, register);
            b.be32(2, key);
        });
    }

    fn constant(&mut self, register: u32, value: &[u8]) {
        self.expression("immediate", |b| {
            b.be32(1, register);
            b.nest(2, |b| b.attr(DATA_VALUE, value));
        });
    }

    fn payload(&mut self, base: u32, offset: u32, size: u32, register: u32) {
        self.expression("payload", |b| {
            b.be32(1, register);
            b.be32(2, base);
            b.be32(3, offset);
            b.be32(4, size);
        });
    }

    fn lookup(&mut self, set: &str, into: Option<u32>) {
        self.expression("lookup", |b| {
            b.text(1, set);
            b.be32(2, REG);
            if let Some(register) = into {
                b.be32(3, register);
            }
        });
    }

    fn compare(&mut self, equal: bool, with: &[u8]) {
        self.expression("cmp", |b| {
            b.be32(1, REG);
            b.be32(2, u32::from(!equal));
            b.nest(3, |b| b.attr(DATA_VALUE, with));
        });
    }

    fn compare_name(&mut self, key: u32, name: &str, equal: bool) {
        self.meta(key, REG);
        self.compare(equal, &ifname(name));
    }

    fn mask(&mut self, mask: &[u8]) {
        self.expression("bitwise", |b| {
            b.be32(1, REG);
            b.be32(2, REG);
            b.be32(3, mask.len() as u32);
            b.nest(4, |b| b.attr(DATA_VALUE, mask));
            b.nest(5, |b| b.attr(DATA_VALUE, &vec![0; mask.len()]));
        });
    }

    fn compare_network(&mut self, offset: u32, net: &IpNet) {
        let (address, mask) = match net {
            IpNet::V4(net) => (
                net.network().octets().to_vec(),
                net.netmask().octets().to_vec(),
            ),
            IpNet::V6(net) => (
                net.network().octets().to_vec(),
                net.netmask().octets().to_vec(),
            ),
        };
        // As nft does: whole bytes are read short instead of masked.
        let prefix = usize::from(net.prefix_len());
        if prefix != 0 && prefix.is_multiple_of(8) {
            self.payload(BASE_NETWORK, offset, prefix as u32 / 8, REG);
            self.compare(true, &address[..prefix / 8]);
        } else {
            self.payload(BASE_NETWORK, offset, address.len() as u32, REG);
            self.mask(&mask);
            self.compare(true, &address);
        }
    }

    fn connection_has(&mut self, key: u32, bits: u32) {
        self.expression("ct", |b| {
            b.be32(1, REG);
            b.be32(2, key);
        });
        self.mask(&bits.to_ne_bytes());
        self.compare(false, &[0; 4]);
    }

    /// `NFTA_VERDICT_*`
    fn verdict(&mut self, code: i32, chain: Option<&str>) {
        self.expression("immediate", |b| {
            b.be32(1, REG_VERDICT);
            b.nest(2, |b| {
                b.nest(DATA_VERDICT, |b| {
                    b.be32(1, code as u32);
                    if let Some(chain) = chain {
                        b.text(2, chain);
                    }
                });
            });
        });
    }
}

const META_IIFNAME: u32 = 6;
const META_OIFNAME: u32 = 7;
const META_L4PROTO: u32 = 16;
const BASE_NETWORK: u32 = 1;
const BASE_TRANSPORT: u32 = 2;

/// Offsets of source and destination in the family's header, and an address's size.
fn addresses(family: Family) -> (u32, u32, u32) {
    match family {
        Family::Ip => (12, 16, 4),
        Family::Ip6 => (8, 24, 16),
    }
}

/// nft(8)'s numbers of types, which the kernel only keeps for whoever lists the set. A concatenation has six bits for each.
fn type_number(types: &[DataType]) -> u32 {
    types.iter().fold(0, |sum, part| {
        sum << 6
            | match part {
                DataType::Ipv4 => 7,
                DataType::Ipv6 => 8,
                DataType::Proto => 12,
                DataType::Service => 13,
                DataType::Ifname => 41,
            }
    })
}

/// Bytes of a key, each part in registers of its own when there are several.
fn length(types: &[DataType]) -> u32 {
    let size = |part: &DataType| match part {
        DataType::Ifname | DataType::Ipv6 => 16,
        DataType::Ipv4 => 4,
        DataType::Proto => 1,
        DataType::Service => 2,
    };
    match types {
        [one] => size(one),
        several => several
            .iter()
            .map(|part| size(part).next_multiple_of(4))
            .sum(),
    }
}

fn ifname(name: &str) -> [u8; 16] {
    let mut bytes = [0u8; 16];
    let length = name.len().min(15);
    bytes[..length].copy_from_slice(&name.as_bytes()[..length]);
    bytes
}

fn bytes(values: &[Value]) -> Vec<u8> {
    let mut out = Vec::with_capacity(40);
    for value in values {
        match value {
            Value::Ifname(name) => out.extend_from_slice(&ifname(name)),
            Value::Ipv4(ip) => out.extend_from_slice(&ip.octets()),
            Value::Ipv6(ip) => out.extend_from_slice(&ip.octets()),
            Value::Proto(number) => out.push(*number),
            Value::Service(port) => out.extend_from_slice(&port.to_be_bytes()),
        }
        if values.len() > 1 {
            out.resize(out.len().next_multiple_of(4), 0);
        }
    }
    out
}

/// `Ok` also when the element was not there.
pub(crate) fn absence_is_fine(result: Result<()>) -> Result<()> {
    match result {
        Err(Error::Kernel { source, .. }) if source.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        other => other,
    }
}
