//! `--network NAME` and `--network name=..,alias=..`, and the endpoints they make.

use super::csv;
use crate::go::strconv;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// One network that a container is to be connected to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Attachment {
    /// Name, id or mode (`bridge`, `host`, `container:x`).
    pub target: String,
    /// Other names of the container there.
    pub aliases: Vec<String>,
    /// Options of the network's driver.
    pub driver_opts: BTreeMap<String, String>,
    /// `name:alias` of other containers.
    pub links: Vec<String>,
    /// Wanted address.
    pub ipv4: String,
    /// Wanted address.
    pub ipv6: String,
    /// Wanted link-local addresses.
    pub link_local_ips: Vec<String>,
    /// Wanted hardware address.
    pub mac: String,
    /// Which network's gateway becomes the default: the highest.
    pub gw_priority: i64,
}

/// Reads one `--network`.
pub fn parse(text: &str) -> Result<Attachment, String> {
    if !is_long(text) {
        return Ok(Attachment {
            target: text.to_owned(),
            ..Attachment::default()
        });
    }
    let mut net = Attachment::default();
    for field in csv(text)? {
        let lower = field.to_lowercase();
        let (key, value) = lower
            .split_once('=')
            .filter(|(key, _)| !key.is_empty())
            .ok_or_else(|| format!("invalid field {field}"))?;
        let value = value.trim().to_owned();
        match key.trim() {
            "name" => net.target = value,
            "alias" => net.aliases.push(value),
            "ip" => net.ipv4 = value,
            "ip6" => net.ipv6 = value,
            "mac-address" => net.mac = value,
            "link-local-ip" => net.link_local_ips.push(value),
            "driver-opt" => {
                let (key, value) = value
                    .split_once('=')
                    .filter(|(key, _)| !key.is_empty())
                    .ok_or("invalid key value pair format in driver options")?;
                net.driver_opts
                    .insert(key.trim().into(), value.trim().into());
            }
            "gw-priority" => {
                net.gw_priority = strconv::parse_int_decimal(&value).map_err(|error| {
                    format!(
                        "invalid gw-priority ({value}): {}",
                        error.rsplit(": ").next().unwrap_or(&error)
                    )
                })?;
            }
            key => return Err(format!("invalid field key {key}")),
        }
    }
    if net.target.is_empty() {
        return Err("network name/id is not specified".into());
    }
    Ok(net)
}

/// Docker takes anything with `word=word` in it as the long form.
fn is_long(text: &str) -> bool {
    let word = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_');
    text.char_indices().any(|(at, c)| {
        c == '=' && word(text[..at].chars().next_back()) && word(text[at + 1..].chars().next())
    })
}

/// Whether a mode is the name of a network that somebody made.
pub fn is_user_defined(mode: &str) -> bool {
    !matches!(mode, "" | "default" | "bridge" | "host" | "none") && !mode.starts_with("container:")
}

/// The endpoint settings of one attachment; `None` when nothing was asked for.
pub fn endpoint(net: &Attachment) -> Result<Option<Value>, String> {
    if net.target.trim().is_empty() {
        return Err("no name set for network".into());
    }
    if !is_user_defined(&net.target) {
        if !net.aliases.is_empty() {
            return Err(
                "network-scoped aliases are only supported for user-defined networks".into(),
            );
        }
        if !net.links.is_empty() {
            return Err("links are only supported for user-defined networks".into());
        }
    }
    if !net.mac.is_empty() && !is_mac(&net.mac) {
        return Err(format!("{} is not a valid mac address", net.mac));
    }
    let mut out = Map::new();
    if !net.aliases.is_empty() {
        out.insert("Aliases".into(), json!(net.aliases));
    }
    if !net.driver_opts.is_empty() {
        out.insert("DriverOpts".into(), json!(net.driver_opts));
    }
    if !net.links.is_empty() {
        out.insert("Links".into(), json!(net.links));
    }
    if !(net.ipv4.is_empty() && net.ipv6.is_empty() && net.link_local_ips.is_empty()) {
        let mut ipam = Map::new();
        for (key, value) in [("IPv4Address", &net.ipv4), ("IPv6Address", &net.ipv6)] {
            if !value.is_empty() {
                ipam.insert(key.into(), value.as_str().into());
            }
        }
        if !net.link_local_ips.is_empty() {
            ipam.insert("LinkLocalIPs".into(), json!(net.link_local_ips));
        }
        out.insert("IPAMConfig".into(), ipam.into());
    }
    if !net.mac.is_empty() {
        out.insert("MacAddress".into(), net.mac.as_str().into());
    }
    if net.gw_priority != 0 {
        out.insert("GwPriority".into(), net.gw_priority.into());
    }
    Ok((!out.is_empty()).then(|| out.into()))
}

/// Whether `text` is a 48-bit hardware address, with `:`, `-` or `.` between.
pub fn is_mac(text: &str) -> bool {
    let hex = |part: &str, digits: usize| {
        part.len() == digits && part.chars().all(|c| c.is_ascii_hexdigit())
    };
    [':', '-'].iter().any(|&c| {
        text.contains(c)
            && matches!(text.split(c).count(), 6 | 8 | 20)
            && text.split(c).all(|part| hex(part, 2))
    }) || (matches!(text.split('.').count(), 3 | 4 | 10)
        && text.split('.').all(|part| hex(part, 4)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks() {
        assert_eq!(parse("host").unwrap().target, "host");
        let net = parse("name=n,alias=a,ip=10.0.0.2,gw-priority=3").unwrap();
        assert_eq!((net.target.as_str(), net.gw_priority), ("n", 3));
        assert_eq!(
            endpoint(&net).unwrap().unwrap().to_string(),
            r#"{"Aliases":["a"],"IPAMConfig":{"IPv4Address":"10.0.0.2"},"GwPriority":3}"#
        );
        assert_eq!(parse("a=b,c").unwrap_err(), "invalid field key a");
        assert_eq!(
            parse("alias=b").unwrap_err(),
            "network name/id is not specified"
        );
        assert_eq!(
            parse("name=n,gw-priority=x").unwrap_err(),
            "invalid gw-priority (x): invalid syntax"
        );
        assert_eq!(
            endpoint(&Attachment {
                target: "host".into(),
                aliases: vec!["a".into()],
                ..Attachment::default()
            })
            .unwrap_err(),
            "network-scoped aliases are only supported for user-defined networks"
        );
        assert!(is_mac("92:d0:c6:0a:29:33") && !is_mac("92:d0") && !is_mac("x"));
    }
}
