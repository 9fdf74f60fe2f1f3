//! The same [`Ruleset`] for iptables: every set is written out as one rule for each of its elements, and `iptables-restore` replaces our own
//! chains in one transaction of each table. For hosts whose administrator wants all rules in one place (`--firewall-backend=iptables`).

use std::io::Write;
use std::process::{Command, Stdio};

use super::{Action, Chain, ChainKind, Family, Hook, Match, Rule, Ruleset, Set, Table, Value};
use crate::error::{Error, Result};

/// Tables of iptables in which we have chains.
const TABLES: [&str; 3] = ["raw", "nat", "filter"];

/// The input of `iptables-restore --noflush`: our chains emptied and filled, nothing else touched.
pub fn script(rules: &Ruleset, table: &Table) -> String {
    let mut out = String::new();
    for name in TABLES {
        let chains: Vec<&Chain> = table
            .chains
            .iter()
            .filter(|chain| home(chain).0 == name)
            .collect();
        out += &format!("*{name}\n");
        for chain in &chains {
            out += &format!(":{} - [0:0]\n", chain_name(rules, chain.name));
        }
        for chain in &chains {
            for rule in &chain.rules {
                for line in lines(rules, table, rule) {
                    out += &format!("-A {}{line}\n", chain_name(rules, chain.name));
                }
            }
        }
        out += "COMMIT\n";
    }
    out
}

/// Writes the ruleset.
pub(crate) fn apply(rules: &Ruleset) -> Result<()> {
    for table in &rules.tables {
        restore(table.family, &script(rules, table))?;
        for (name, builtin, ours) in jumps(rules, table) {
            let program = program(table.family);
            if run(program, &["-w", "-t", name, "-C", builtin, "-j", &ours]).is_err() {
                run(program, &["-w", "-t", name, "-I", builtin, "-j", &ours])?;
            }
        }
    }
    Ok(())
}

/// Removes every chain of the ruleset, whatever is in it. Goes on to the end.
pub(crate) fn remove(rules: &Ruleset) -> Result<()> {
    let mut errors = Vec::new();
    for table in &rules.tables {
        let program = program(table.family);
        for (name, builtin, ours) in jumps(rules, table) {
            // Not there: nothing to remove.
            if run(program, &["-w", "-t", name, "-C", builtin, "-j", &ours]).is_ok() {
                errors.extend(run(program, &["-w", "-t", name, "-D", builtin, "-j", &ours]).err());
            }
        }
        // Emptied first: a chain that another one jumps to cannot be deleted.
        for action in ["-F", "-X"] {
            for chain in &table.chains {
                let (name, ours) = (home(chain).0, chain_name(rules, chain.name));
                if run(program, &["-w", "-t", name, "-S", &ours]).is_ok() {
                    errors.extend(run(program, &["-w", "-t", name, action, &ours]).err());
                }
            }
        }
    }
    Error::collect(errors)
}

/// (table, chain of the kernel's, chain of ours)
fn jumps(rules: &Ruleset, table: &Table) -> Vec<(&'static str, &'static str, String)> {
    let of = |chain: &Chain| {
        home(chain)
            .1
            .map(|builtin| (home(chain).0, builtin, chain_name(rules, chain.name)))
    };
    table.chains.iter().filter_map(of).collect()
}

/// The table that a chain belongs to, and the chain from which it is reached.
fn home(chain: &Chain) -> (&'static str, Option<&'static str>) {
    let Some(base) = chain.base else {
        return ("filter", None);
    };
    let builtin = match base.hook {
        Hook::Prerouting => "PREROUTING",
        Hook::Forward => "FORWARD",
        Hook::Output => "OUTPUT",
        Hook::Postrouting => "POSTROUTING",
    };
    let table = match (base.kind, base.hook) {
        (ChainKind::Nat, _) => "nat",
        (ChainKind::Filter, Hook::Prerouting) => "raw",
        (ChainKind::Filter, Hook::Forward | Hook::Output | Hook::Postrouting) => "filter",
    };
    (table, Some(builtin))
}

/// `HULL-<instance>-<letters>`: at most 28 bytes, as XT_EXTENSION_MAXNAMELEN wants.
fn chain_name(rules: &Ruleset, chain: &str) -> String {
    let letters = match chain {
        "prerouting" => "I",
        "output" => "O",
        "postrouting" => "P",
        "to_bridge" => "T",
        "forward" => "F",
        "raw" => "R",
        other => other,
    };
    let instance = rules.name.strip_prefix("hull-").unwrap_or(&rules.name);
    format!("HULL-{instance}-{letters}")
}

/// One rule as many, one for each combination of its sets' elements.
fn lines(rules: &Ruleset, table: &Table, rule: &Rule) -> Vec<String> {
    let mut out = vec![String::new()];
    let mut multiply = |alternatives: Vec<String>| {
        out = out
            .iter()
            .flat_map(|line| {
                alternatives
                    .iter()
                    .map(move |words| format!("{line} {words}"))
            })
            .collect();
    };
    for condition in &rule.matches {
        multiply(words(table, condition));
    }
    multiply(targets(rules, table, &rule.action));
    out
}

fn elements<'a>(table: &'a Table, name: &str) -> &'a [super::Element] {
    let set: Option<&Set> = table.sets.iter().find(|set| set.name == name);
    set.map(|set| set.elements.as_slice()).unwrap_or_default()
}

/// A value without nft's quotes.
fn plain(value: &Value) -> String {
    match value {
        Value::Ifname(name) => name.clone(),
        other => other.to_string(),
    }
}

fn words(table: &Table, condition: &Match) -> Vec<String> {
    let of_set = |set: &str, format: fn(&[String]) -> String| {
        let keys = elements(table, set)
            .iter()
            .map(|element| element.key.iter().map(plain).collect::<Vec<_>>());
        keys.map(|key| format(&key)).collect()
    };
    match condition {
        Match::Iif(name) => vec![format!("-i {name}")],
        Match::Oif(name) => vec![format!("-o {name}")],
        Match::OifNot(name) => vec![format!("! -o {name}")],
        Match::IifIn(set) => of_set(set, |key| format!("-i {}", key[0])),
        Match::OifIn(set) => of_set(set, |key| format!("-o {}", key[0])),
        Match::IifOifIn(set) => of_set(set, |key| format!("-i {} -o {}", key[0], key[1])),
        Match::Saddr(net) => vec![format!("-s {net}")],
        Match::Daddr(net) => vec![format!("-d {net}")],
        Match::SaddrDaddrIn(set) => of_set(set, |key| format!("-s {} -d {}", key[0], key[1])),
        Match::Port(protocol, port) => vec![format!("-p {protocol} --dport {port}")],
        Match::DaddrLocal => vec!["-m addrtype --dst-type LOCAL".to_owned()],
        Match::Established => vec!["-m conntrack --ctstate RELATED,ESTABLISHED".to_owned()],
        Match::Translated => vec!["-m conntrack --ctstate DNAT".to_owned()],
    }
}

fn targets(rules: &Ruleset, table: &Table, action: &Action) -> Vec<String> {
    let destination = |address: &Value, port: &Value| match address {
        Value::Ipv6(ip) => format!("-j DNAT --to-destination [{ip}]:{port}"),
        other => format!("-j DNAT --to-destination {other}:{port}"),
    };
    match action {
        Action::Accept => vec!["-j ACCEPT".to_owned()],
        Action::Drop => vec!["-j DROP".to_owned()],
        Action::Return => vec!["-j RETURN".to_owned()],
        Action::Jump(chain) => vec![format!("-j {}", chain_name(rules, chain))],
        Action::Masquerade => vec!["-j MASQUERADE".to_owned()],
        Action::TranslateTo(target) => vec![format!("-j DNAT --to-destination {target}")],
        Action::TranslateByPort(map) => elements(table, map)
            .iter()
            .map(|e| {
                format!(
                    "-p {} --dport {} {}",
                    e.key[0],
                    e.key[1],
                    destination(&e.data[0], &e.data[1])
                )
            })
            .collect(),
        Action::TranslateByAddress(map) => elements(table, map)
            .iter()
            .map(|e| {
                let (protocol, address, port) = (&e.key[0], &e.key[1], &e.key[2]);
                format!(
                    "-d {address} -p {protocol} --dport {port} {}",
                    destination(&e.data[0], &e.data[1])
                )
            })
            .collect(),
    }
}

fn program(family: Family) -> &'static str {
    match family {
        Family::Ip => "iptables",
        Family::Ip6 => "ip6tables",
    }
}

fn restore(family: Family, input: &str) -> Result<()> {
    let program = format!("{}-restore", program(family));
    let failed = |message: String| Error::Program {
        program: program.clone(),
        message,
    };
    let mut child = Command::new(&program)
        .args(["--noflush", "-w"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| failed(error.to_string()))?;
    // The program reads to the end before it says anything, and a broken pipe shows in its exit status.
    let written = child
        .stdin
        .take()
        .map_or(Ok(()), |mut pipe| pipe.write_all(input.as_bytes()));
    let output = child
        .wait_with_output()
        .map_err(|error| failed(error.to_string()))?;
    match written {
        Ok(()) if output.status.success() => Ok(()),
        _ => Err(failed(
            String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        )),
    }
}

/// Runs it, and returns what it printed.
pub(super) fn run(program: &str, arguments: &[&str]) -> Result<String> {
    let failed = |message: String| Error::Program {
        program: format!("{program} {}", arguments.join(" ")),
        message,
    };
    let output = Command::new(program)
        .args(arguments)
        .output()
        .map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(failed(
            String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::firewall::{FirewallOptions, ruleset};
    use crate::model::{Endpoint, Network, PortMapping, Protocol, Subnet};
    use expect_test::expect;

    #[test]
    fn sets_are_written_out() {
        let network = Network {
            id: "n".to_owned(),
            bridge: "br0".to_owned(),
            subnets: vec![Subnet {
                cidr: "10.204.1.0/24".parse().expect("net"),
                gateway: None,
                range: None,
                reserved: Default::default(),
            }],
            ..Network::default()
        };
        let port = |ip: &str, port| PortMapping {
            protocol: Protocol::Tcp,
            container_port: 80,
            host_ip: Some(ip.parse().expect("ip")),
            host_port: port,
            host_port_end: 0,
        };
        let endpoint = Endpoint {
            network_id: "n".to_owned(),
            ipv4: Some("10.204.1.2/24".parse().expect("net")),
            ports: vec![port("0.0.0.0", 8080), port("127.0.0.1", 8081)],
            ..Endpoint::default()
        };
        let options = FirewallOptions {
            table: "hull-x".to_owned(),
            ipv6: false,
        };
        let rules = ruleset(&[network], &[endpoint], &options);
        expect![[r#"
            *raw
            :HULL-x-R - [0:0]
            -A HULL-x-R -i br0 -d 127.0.0.0/8 -j DROP
            -A HULL-x-R -i br0 -s 127.0.0.0/8 -j DROP
            COMMIT
            *nat
            :HULL-x-I - [0:0]
            :HULL-x-O - [0:0]
            :HULL-x-P - [0:0]
            -A HULL-x-I -d 127.0.0.0/8 -j RETURN
            -A HULL-x-I -m addrtype --dst-type LOCAL -d 127.0.0.1 -p tcp --dport 8081 -j DNAT --to-destination 10.204.1.2:80
            -A HULL-x-I -m addrtype --dst-type LOCAL -p tcp --dport 8080 -j DNAT --to-destination 10.204.1.2:80
            -A HULL-x-O -m addrtype --dst-type LOCAL -d 127.0.0.1 -p tcp --dport 8081 -j DNAT --to-destination 10.204.1.2:80
            -A HULL-x-O -m addrtype --dst-type LOCAL -p tcp --dport 8080 -j DNAT --to-destination 10.204.1.2:80
            -A HULL-x-P -o br0 -s 127.0.0.0/8 -j MASQUERADE
            -A HULL-x-P -s 10.204.1.0/24 -o br0 -m conntrack --ctstate DNAT -j MASQUERADE
            -A HULL-x-P -s 10.204.1.0/24 ! -o br0 -j MASQUERADE
            COMMIT
            *filter
            :HULL-x-T - [0:0]
            :HULL-x-F - [0:0]
            -A HULL-x-T -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
            -A HULL-x-T -i br0 -o br0 -j ACCEPT
            -A HULL-x-T -m conntrack --ctstate DNAT -j ACCEPT
            -A HULL-x-T -j DROP
            -A HULL-x-F -o br0 -j HULL-x-T
            -A HULL-x-F -i br0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
            -A HULL-x-F -i br0 -j ACCEPT
            COMMIT
        "#]]
        .assert_eq(&script(&rules, &rules.tables[0]));
    }
}
