//! Rulesets in nft(8)'s syntax: what golden files hold and `nft list table` prints.

use std::fmt::{self, Display, Formatter};

use ipnet::IpNet;

use super::{
    Action, Base, Chain, ChainKind, DataType, Element, Family, Hook, Match, Rule, Ruleset, Set,
    Value,
};

impl Display for Ruleset {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for table in &self.tables {
            writeln!(f, "table {} {} {{", table.family, self.name)?;
            let sets = table.sets.iter().map(ToString::to_string);
            let chains = table.chains.iter().map(|chain| chain.text(table.family));
            let parts: Vec<String> = sets.chain(chains).collect();
            f.write_str(&parts.join("\n"))?;
            f.write_str("}\n")?;
        }
        Ok(())
    }
}

impl Display for Family {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Family::Ip => "ip",
            Family::Ip6 => "ip6",
        })
    }
}

fn joined<T: Display>(parts: &[T]) -> String {
    parts
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(" . ")
}

impl Display for Set {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (word, data) = match self.data.is_empty() {
            true => ("set", String::new()),
            false => ("map", format!(" : {}", joined(&self.data))),
        };
        writeln!(f, "\t{word} {} {{", self.name)?;
        writeln!(f, "\t\ttype {}{data}", joined(&self.key))?;
        if !self.elements.is_empty() {
            let elements: Vec<String> = self.elements.iter().map(ToString::to_string).collect();
            writeln!(
                f,
                "\t\telements = {{ {} }}",
                elements.join(",\n\t\t\t     ")
            )?;
        }
        writeln!(f, "\t}}")
    }
}

impl Display for Element {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&joined(&self.key))?;
        if self.data.is_empty() {
            Ok(())
        } else {
            write!(f, " : {}", joined(&self.data))
        }
    }
}

impl Display for DataType {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DataType::Ifname => "ifname",
            DataType::Ipv4 => "ipv4_addr",
            DataType::Ipv6 => "ipv6_addr",
            DataType::Proto => "inet_proto",
            DataType::Service => "inet_service",
        })
    }
}

impl Display for Value {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Value::Ifname(name) => write!(f, "\"{name}\""),
            Value::Ipv4(ip) => Display::fmt(ip, f),
            Value::Ipv6(ip) => Display::fmt(ip, f),
            Value::Proto(6) => f.write_str("tcp"),
            Value::Proto(17) => f.write_str("udp"),
            Value::Proto(132) => f.write_str("sctp"),
            Value::Proto(number) => Display::fmt(number, f),
            Value::Service(port) => Display::fmt(port, f),
        }
    }
}

impl Base {
    fn text(&self) -> String {
        let kind = match self.kind {
            ChainKind::Filter => "filter",
            ChainKind::Nat => "nat",
        };
        let hook = match self.hook {
            Hook::Prerouting => "prerouting",
            Hook::Forward => "forward",
            Hook::Output => "output",
            Hook::Postrouting => "postrouting",
        };
        // nft prints the names that it knows for some priorities: nft(8), "Standard priority names". dstnat is one in prerouting only.
        let priority = match (self.priority, self.hook) {
            (-300, _) => "raw".to_owned(),
            (0, _) => "filter".to_owned(),
            (-100, Hook::Prerouting) => "dstnat".to_owned(),
            (100, Hook::Postrouting) => "srcnat".to_owned(),
            (number, _) => number.to_string(),
        };
        format!("type {kind} hook {hook} priority {priority}; policy accept;")
    }
}

impl Chain {
    fn text(&self, family: Family) -> String {
        let mut out = format!("\tchain {} {{\n", self.name);
        if let Some(base) = &self.base {
            out += &format!("\t\t{}\n", base.text());
        }
        for rule in &self.rules {
            out += &format!("\t\t{}\n", rule.text(family));
        }
        out + "\t}\n"
    }
}

impl Rule {
    fn text(&self, family: Family) -> String {
        let mut words: Vec<String> = self.matches.iter().map(|m| m.text(family)).collect();
        words.push(match &self.action {
            Action::Accept => "accept".to_owned(),
            Action::Drop => "drop".to_owned(),
            Action::Return => "return".to_owned(),
            Action::Jump(chain) => format!("jump {chain}"),
            Action::Masquerade => "masquerade".to_owned(),
            Action::TranslateTo(target) => format!("dnat to {target}"),
            Action::TranslateByPort(map) => {
                format!("dnat {family} to meta l4proto . th dport map @{map}")
            }
            Action::TranslateByAddress(map) => {
                format!("dnat {family} to meta l4proto . {family} daddr . th dport map @{map}")
            }
        });
        words.join(" ")
    }
}

impl Match {
    fn text(&self, family: Family) -> String {
        match self {
            Match::Iif(name) => format!("iifname \"{name}\""),
            Match::Oif(name) => format!("oifname \"{name}\""),
            Match::OifNot(name) => format!("oifname != \"{name}\""),
            Match::IifIn(set) => format!("iifname @{set}"),
            Match::OifIn(set) => format!("oifname @{set}"),
            Match::IifOifIn(set) => format!("iifname . oifname @{set}"),
            Match::Saddr(net) => format!("{family} saddr {}", network(net)),
            Match::Daddr(net) => format!("{family} daddr {}", network(net)),
            Match::SaddrDaddrIn(set) => format!("{family} saddr . {family} daddr @{set}"),
            Match::Port(protocol, port) => format!("{protocol} dport {port}"),
            Match::DaddrLocal => "fib daddr type local".to_owned(),
            Match::Established => "ct state established,related".to_owned(),
            Match::Translated => "ct status dnat".to_owned(),
        }
    }
}

/// nft leaves out the length of a whole address.
fn network(net: &IpNet) -> String {
    if net.prefix_len() == net.max_prefix_len() {
        net.addr().to_string()
    } else {
        net.to_string()
    }
}
