//! Who is called what on which network, and the answer to a query. Pure: bytes in, a decision out; nothing here knows a socket.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, PTR};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

use crate::model::{Endpoint, Network};

/// Seconds that an answer of ours may be kept: Docker's respTTL.
const TTL_SECONDS: u32 = 600;
/// A bound on the addresses in one answer, far above what fits into a datagram.
const ADDRESSES_MAX: usize = 256;
/// The least that every resolver takes by UDP (RFC 1035, 4.2.1), and the most that we send (RFC 9715).
const DATAGRAM_MIN: u16 = 512;
const DATAGRAM_MAX: u16 = 1232;

/// The names of every network.
#[derive(Debug, Default)]
pub struct Names {
    endpoints: HashMap<String, Entry>,
    /// Network id -> name -> endpoint ids.
    by_name: HashMap<String, BTreeMap<String, BTreeSet<String>>>,
    /// Sandbox key -> its endpoints, in the order of connecting.
    by_sandbox: HashMap<String, Vec<String>>,
}

#[derive(Debug)]
struct Entry {
    sandbox: String,
    network_id: String,
    network: String,
    /// The first is the container's name, which reverse lookups answer.
    names: Vec<String>,
    addresses: Vec<IpAddr>,
    /// What this endpoint's container alone calls others: alias to name.
    links: HashMap<String, String>,
}

/// How a query came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// One datagram.
    Udp,
    /// A stream: answers are never cut.
    Tcp,
}

/// What to do with a query.
#[derive(Debug, PartialEq, Eq)]
pub enum Decision {
    /// Send this back.
    Reply(Vec<u8>),
    /// Not a name of ours: ask upstream.
    Forward,
    /// Not a query: answering could make two servers talk for ever.
    Ignore,
}

impl Names {
    /// Makes an endpoint's names known on its network, and lets the sandbox see that network. Replaces what was known of the endpoint.
    pub fn register(&mut self, sandbox: &str, network: &Network, endpoint: &Endpoint) {
        self.unregister(&endpoint.id);
        let own = [&endpoint.container_name]
            .into_iter()
            .chain(&endpoint.names)
            .chain(&endpoint.aliases);
        let mut names: Vec<String> = Vec::new();
        for name in own
            .map(|name| name.to_ascii_lowercase())
            .filter(|name| !name.is_empty())
        {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        let zone = self.by_name.entry(network.id.clone()).or_default();
        for name in &names {
            zone.entry(name.clone())
                .or_default()
                .insert(endpoint.id.clone());
        }
        self.by_sandbox
            .entry(sandbox.to_owned())
            .or_default()
            .push(endpoint.id.clone());
        let v4 = endpoint.ipv4.map(|net| IpAddr::V4(net.addr()));
        let v6 = endpoint.ipv6.map(|net| IpAddr::V6(net.addr()));
        let entry = Entry {
            sandbox: sandbox.to_owned(),
            network_id: network.id.clone(),
            network: network.name.to_ascii_lowercase(),
            names,
            addresses: v4.into_iter().chain(v6).collect(),
            links: endpoint
                .link_names
                .iter()
                .map(|(alias, name)| (alias.to_ascii_lowercase(), name.to_ascii_lowercase()))
                .collect(),
        };
        self.endpoints.insert(endpoint.id.clone(), entry);
    }

    /// Forgets an endpoint.
    pub fn unregister(&mut self, endpoint_id: &str) {
        let Some(entry) = self.endpoints.remove(endpoint_id) else {
            return;
        };
        if let Some(zone) = self.by_name.get_mut(&entry.network_id) {
            for name in &entry.names {
                if let Some(ids) = zone.get_mut(name) {
                    ids.remove(endpoint_id);
                    if ids.is_empty() {
                        zone.remove(name);
                    }
                }
            }
            if zone.is_empty() {
                self.by_name.remove(&entry.network_id);
            }
        }
        if let Some(ids) = self.by_sandbox.get_mut(&entry.sandbox) {
            ids.retain(|id| id != endpoint_id);
            if ids.is_empty() {
                self.by_sandbox.remove(&entry.sandbox);
            }
        }
    }

    /// Addresses of `name` as the sandbox sees it; None when it is no name of ours. The first network that knows the name answers.
    fn addresses(&self, sandbox: &str, name: &str) -> Option<Vec<IpAddr>> {
        let networks = self
            .by_sandbox
            .get(sandbox)?
            .iter()
            .filter_map(|id| self.endpoints.get(id));
        networks.into_iter().find_map(|own| {
            let zone = self.by_name.get(&own.network_id)?;
            let name = own.links.get(name).map_or(name, String::as_str);
            let qualified = || name.strip_suffix(&own.network)?.strip_suffix('.');
            let ids = zone.get(name).or_else(|| zone.get(qualified()?))?;
            let addresses = ids
                .iter()
                .filter_map(|id| self.endpoints.get(id))
                .flat_map(|e| &e.addresses);
            Some(addresses.copied().take(ADDRESSES_MAX).collect())
        })
    }

    /// `name.network` of an address on one of the sandbox's networks.
    fn reverse(&self, sandbox: &str, address: IpAddr) -> Option<String> {
        let networks: Vec<&str> = self
            .by_sandbox
            .get(sandbox)?
            .iter()
            .filter_map(|id| self.endpoints.get(id))
            .map(|entry| entry.network_id.as_str())
            .collect();
        let found = self.endpoints.values().find(|e| {
            networks.contains(&e.network_id.as_str()) && e.addresses.contains(&address)
        })?;
        Some(format!("{}.{}", found.names.first()?, found.network))
    }

    /// Decides on one packet from inside a sandbox. The packet is whatever a container sent.
    pub fn decide(&self, sandbox: &str, packet: &[u8], transport: Transport) -> Decision {
        let Ok(query) = Message::from_vec(packet) else {
            return format_error(packet);
        };
        if query.metadata.message_type != MessageType::Query {
            return Decision::Ignore;
        }
        if query.metadata.op_code != OpCode::Query {
            return reply(&query, ResponseCode::NotImp, Vec::new(), transport);
        }
        let [question] = query.queries.as_slice() else {
            return reply(&query, ResponseCode::FormErr, Vec::new(), transport);
        };
        if question.query_class() != DNSClass::IN {
            return Decision::Forward;
        }
        let (name, kind) = (question.name(), question.query_type());
        let records = match kind {
            RecordType::PTR => self.pointer(sandbox, name),
            _ => self.forward_records(sandbox, name, kind),
        };
        match records {
            Some(records) => reply(&query, ResponseCode::NoError, records, transport),
            None => Decision::Forward,
        }
    }

    fn pointer(&self, sandbox: &str, name: &Name) -> Option<Vec<Record>> {
        let address = name
            .parse_arpa_name()
            .ok()
            .filter(|net| net.prefix_len() == net.max_prefix_len())?
            .addr();
        let target = Name::from_ascii(self.reverse(sandbox, address)? + ".").ok()?;
        Some(vec![Record::from_rdata(
            name.clone(),
            TTL_SECONDS,
            RData::PTR(PTR(target)),
        )])
    }

    /// A known name without a record of that kind has an empty answer (NODATA), never "no such name": a resolver that asks for AAAA first
    /// would give up.
    fn forward_records(&self, sandbox: &str, name: &Name, kind: RecordType) -> Option<Vec<Record>> {
        let text = name.to_ascii().trim_end_matches('.').to_ascii_lowercase();
        let mut addresses = self.addresses(sandbox, &text)?;
        if !addresses.is_empty() {
            // Clients take the first: spread them over the containers that share an alias.
            let start = rand::random_range(0..addresses.len());
            addresses.rotate_left(start);
        }
        let data = addresses
            .into_iter()
            .filter_map(|address| match (address, kind) {
                (IpAddr::V4(ip), RecordType::A) => Some(RData::A(A(ip))),
                (IpAddr::V6(ip), RecordType::AAAA) => Some(RData::AAAA(AAAA(ip))),
                _ => None,
            });
        Some(
            data.map(|data| Record::from_rdata(name.clone(), TTL_SECONDS, data))
                .collect(),
        )
    }
}

/// The answer to what cannot be read, if it has at least a header that says "query".
fn format_error(packet: &[u8]) -> Decision {
    match packet {
        [high, low, flags, _, ..] if packet.len() >= 12 && flags & 0x80 == 0 => {
            let id = u16::from_be_bytes([*high, *low]);
            encode(&Message::error_msg(
                id,
                OpCode::Query,
                ResponseCode::FormErr,
            ))
        }
        _ => Decision::Ignore,
    }
}

fn encode(message: &Message) -> Decision {
    // Encoding fails for records that are too long only, and ours are not.
    message.to_vec().map_or(Decision::Ignore, Decision::Reply)
}

fn reply(
    query: &Message,
    code: ResponseCode,
    records: Vec<Record>,
    transport: Transport,
) -> Decision {
    let mut answer = Message::response(query.metadata.id, query.metadata.op_code);
    answer.metadata.recursion_desired = query.metadata.recursion_desired;
    answer.metadata.recursion_available = true;
    answer.metadata.response_code = code;
    answer.add_queries(query.queries.iter().cloned());
    answer.add_answers(records);
    if query.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(DATAGRAM_MAX);
        answer.set_edns(edns);
    }
    let limit = usize::from(query.max_payload().clamp(DATAGRAM_MIN, DATAGRAM_MAX));
    match encode(&answer) {
        Decision::Reply(bytes) if transport == Transport::Udp && bytes.len() > limit => {
            encode(&answer.truncate())
        }
        decision => decision,
    }
}

/// A failure answer to a packet that `decide` said to forward.
pub(crate) fn server_failure(packet: &[u8], transport: Transport) -> Decision {
    match Message::from_vec(packet) {
        Ok(query) => reply(&query, ResponseCode::ServFail, Vec::new(), transport),
        Err(_) => Decision::Ignore,
    }
}

/// The answer of an upstream server belongs to the question: same id, and the same question where there is one (RFC 5452, 9.1).
pub(crate) fn answers(packet: &[u8], id: u16, query: &[u8]) -> Option<ResponseCode> {
    let answer = Message::from_vec(packet).ok()?;
    let query = Message::from_vec(query).ok()?;
    let matches = answer.metadata.id == id
        && answer.metadata.message_type == MessageType::Response
        && (answer.queries.is_empty() || answer.queries == query.queries);
    matches.then_some(answer.metadata.response_code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::op::Query;
    use proptest::prelude::*;

    fn names() -> Names {
        let mut names = Names::default();
        let network = |n: u8| Network {
            id: format!("n{n}"),
            name: format!("Net{n}"),
            ..Network::default()
        };
        let endpoint = |id: &str, name: &str, ip: &str, alias: &str| Endpoint {
            id: id.to_owned(),
            container_name: name.to_owned(),
            ipv4: Some(format!("{ip}/24").parse().expect("net")),
            aliases: vec![alias.to_owned()],
            ..Endpoint::default()
        };
        names.register(
            "one",
            &network(1),
            &endpoint("e1", "Web", "10.204.1.2", "www"),
        );
        names.register(
            "two",
            &network(1),
            &endpoint("e2", "db", "10.204.1.3", "www"),
        );
        names.register(
            "two",
            &network(2),
            &endpoint("e3", "db", "10.204.2.3", "store"),
        );
        names.register(
            "three",
            &network(2),
            &endpoint("e4", "far", "10.204.2.4", "store"),
        );
        names
    }

    fn ask(names: &Names, sandbox: &str, name: &str, kind: RecordType) -> String {
        let mut query = Message::new(7, MessageType::Query, OpCode::Query);
        query.add_query(Query::query(Name::from_ascii(name).expect("name"), kind));
        match names.decide(sandbox, &query.to_vec().expect("bytes"), Transport::Udp) {
            Decision::Reply(bytes) => {
                let answer = Message::from_vec(&bytes).expect("answer");
                assert_eq!(answer.metadata.id, 7);
                let mut texts: Vec<String> =
                    answer.answers.iter().map(|r| r.data.to_string()).collect();
                texts.sort();
                format!("{:?} {}", answer.metadata.response_code, texts.join(" "))
            }
            Decision::Forward => "forward".to_owned(),
            Decision::Ignore => "ignore".to_owned(),
        }
    }

    #[test]
    fn names_are_seen_on_shared_networks_only() {
        let names = names();
        assert_eq!(
            ask(&names, "one", "db.", RecordType::A),
            "NoError 10.204.1.3"
        );
        assert_eq!(
            ask(&names, "two", "WEB", RecordType::A),
            "NoError 10.204.1.2"
        );
        assert_eq!(
            ask(&names, "two", "web.net1.", RecordType::A),
            "NoError 10.204.1.2"
        );
        assert_eq!(
            ask(&names, "one", "www.", RecordType::A),
            "NoError 10.204.1.2 10.204.1.3"
        );
        assert_eq!(ask(&names, "one", "far.", RecordType::A), "forward");
        assert_eq!(
            ask(&names, "two", "db.net2.", RecordType::A),
            "NoError 10.204.2.3"
        );
        assert_eq!(ask(&names, "stranger", "db.", RecordType::A), "forward");
        assert_eq!(ask(&names, "one", "example.org.", RecordType::A), "forward");
    }

    #[test]
    fn known_names_without_the_family_have_no_data() {
        let names = names();
        assert_eq!(ask(&names, "one", "db.", RecordType::AAAA), "NoError ");
        assert_eq!(ask(&names, "one", "db.", RecordType::MX), "NoError ");
    }

    #[test]
    fn addresses_have_names() {
        let names = names();
        assert_eq!(
            ask(&names, "two", "2.1.204.10.in-addr.arpa.", RecordType::PTR),
            "NoError web.net1."
        );
        assert_eq!(
            ask(&names, "one", "4.2.204.10.in-addr.arpa.", RecordType::PTR),
            "forward"
        );
        assert_eq!(
            ask(&names, "one", "204.10.in-addr.arpa.", RecordType::PTR),
            "forward"
        );
    }

    #[test]
    fn forgotten_endpoints_leave_nothing() {
        let mut names = names();
        for id in ["e1", "e2", "e3", "e4", "e4"] {
            names.unregister(id);
        }
        assert!(
            names.by_name.is_empty() && names.by_sandbox.is_empty() && names.endpoints.is_empty()
        );
    }

    #[test]
    fn long_answers_are_cut_for_datagrams_only() {
        let mut names = Names::default();
        let network = Network {
            id: "n".to_owned(),
            name: "n".to_owned(),
            ..Network::default()
        };
        for n in 2..200 {
            let endpoint = Endpoint {
                id: format!("e{n}"),
                container_name: format!("c{n}"),
                aliases: vec!["all".to_owned()],
                ipv4: Some(format!("10.204.1.{n}/24").parse().expect("net")),
                ..Endpoint::default()
            };
            names.register("one", &network, &endpoint);
        }
        let mut query = Message::new(7, MessageType::Query, OpCode::Query);
        query.add_query(Query::query(
            Name::from_ascii("all.").expect("name"),
            RecordType::A,
        ));
        let query = query.to_vec().expect("bytes");
        let Decision::Reply(cut) = names.decide("one", &query, Transport::Udp) else {
            panic!("reply")
        };
        assert!(cut.len() <= 512 && Message::from_vec(&cut).expect("answer").metadata.truncation);
        let Decision::Reply(whole) = names.decide("one", &query, Transport::Tcp) else {
            panic!("reply")
        };
        assert_eq!(
            Message::from_vec(&whole).expect("answer").answers.len(),
            198
        );
    }

    proptest! {
        /// Whatever a container sends, the server survives and never answers an answer.
        #[test]
        fn rubbish_is_survived(mut bytes in proptest::collection::vec(any::<u8>(), 0..600), tcp: bool) {
            let transport = if tcp { Transport::Tcp } else { Transport::Udp };
            let names = names();
            let _ = names.decide("one", &bytes, transport);
            let _ = server_failure(&bytes, transport);
            let _ = answers(&bytes, 7, &bytes);
            if bytes.len() > 2 {
                bytes[2] |= 0x80;
                prop_assert_eq!(names.decide("one", &bytes, transport), Decision::Ignore);
            }
        }

        /// Likewise for damaged real queries.
        #[test]
        fn damaged_queries_are_survived(at in 0usize..40, value: u8, cut in 0usize..40) {
            let mut query = Message::new(7, MessageType::Query, OpCode::Query);
            query.add_query(Query::query(Name::from_ascii("web.net1.").expect("name"), RecordType::A));
            let mut bytes = query.to_vec().expect("bytes");
            let length = bytes.len();
            bytes[at % length] = value;
            bytes.truncate(length - cut.min(length));
            let _ = names().decide("two", &bytes, Transport::Udp);
        }
    }
}
