//! `-p [ip:][host[-host]:]container[-container][/proto]` and `--expose`.

use crate::go::strconv;
use serde_json::{Map, Value, json};

/// Ports to expose and their bindings, as the API's maps.
#[derive(Debug, Default, PartialEq)]
pub struct Ports {
    /// `{"80/tcp": {}}`
    pub exposed: Map<String, Value>,
    /// `{"80/tcp": [{"HostIp": "", "HostPort": "8080"}]}`
    pub bindings: Map<String, Value>,
}

/// Reads all `--publish` and `--expose` values.
pub fn parse(publish: &[String], expose: &[String]) -> Result<Ports, String> {
    let mut ports = Ports::default();
    let standard: Vec<String> = publish
        .iter()
        .map(|text| standard_notation(text))
        .collect::<Result<_, _>>()?;
    for text in &standard {
        publish_one(&mut ports, text)?;
    }
    for text in expose {
        expose_one(&mut ports, text)?;
    }
    Ok(ports)
}

/// `published=8080,target=80,protocol=tcp` as `8080:80/tcp`.
fn standard_notation(text: &str) -> Result<String, String> {
    if !text.contains('=') {
        return Ok(text.to_owned());
    }
    let (mut published, mut target, mut protocol) = ("", "", "tcp");
    for param in text.split(',') {
        let pair = param.split_once('=').filter(|(key, _)| !key.is_empty());
        let (key, value) = pair.ok_or_else(|| {
            format!("invalid publish opts format (should be name=value but got '{param}')")
        })?;
        match key {
            "published" => published = value,
            "target" => target = value,
            "protocol" => protocol = value,
            _ => {}
        }
    }
    Ok(format!("{published}:{target}/{protocol}"))
}

/// (protocol, port), `tcp` where none is named.
fn split_protocol(text: &str) -> (&str, &str) {
    let mut parts = text.split('/');
    match (parts.next().unwrap_or(""), parts.next()) {
        ("", _) => ("", ""),
        (port, None | Some("")) => ("tcp", port),
        (port, Some(protocol)) => (protocol, port),
    }
}

/// `a-b` or `a`.
pub fn parse_range(text: &str) -> Result<(u16, u16), String> {
    if text.is_empty() {
        return Err("empty string specified for ports".into());
    }
    let number = |text: &str| strconv::parse_uint_decimal(text, 16).map(|n| n as u16);
    let mut parts = text.split('-');
    let start = number(parts.next().unwrap_or(""))?;
    let end = match parts.next() {
        Some(end) => number(end)?,
        None => start,
    };
    if end < start {
        Err(format!("invalid range specified for port: {text}"))
    } else {
        Ok((start, end))
    }
}

fn split_address(text: &str) -> (String, &str, &str) {
    let parts: Vec<&str> = text.split(':').collect();
    match parts.as_slice() {
        [] => (String::new(), "", ""),
        [container] => (String::new(), "", container),
        [host, container] => (String::new(), host, container),
        [ip @ .., host, container] => (ip.join(":"), host, container),
    }
}

fn publish_one(ports: &mut Ports, text: &str) -> Result<(), String> {
    let (ip, host, container) = split_address(text);
    let (protocol, container) = split_protocol(container);
    let bare = match ip.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').ok_or_else(|| {
            format!("invalid IP address {ip}: address {ip}:: missing ']' in address")
        })?,
        None => &ip,
    };
    if !bare.is_empty() && bare.parse::<std::net::IpAddr>().is_err() {
        return Err(format!("invalid IP address: {bare}"));
    }
    if container.is_empty() {
        return Err(format!("no port specified: {text}<empty>"));
    }
    let (start, end) =
        parse_range(container).map_err(|_| format!("invalid containerPort: {container}"))?;
    let (host_start, host_end) = match host {
        "" => (0, 0),
        host => parse_range(host).map_err(|_| format!("invalid hostPort: {host}"))?,
    };
    if !host.is_empty() && end - start != host_end - host_start && end != start {
        return Err(format!(
            "invalid ranges specified for container and host Ports: {container} and {host}"
        ));
    }
    let protocol_lower = protocol.to_lowercase();
    if !matches!(protocol_lower.as_str(), "tcp" | "udp" | "sctp") {
        return Err(format!("invalid proto: {protocol}"));
    }
    for port in start..=end {
        let host_port = match host {
            "" => String::new(),
            _ if start == end && host_start != host_end => format!("{host_start}-{host_end}"),
            _ => (u32::from(host_start) + u32::from(port - start)).to_string(),
        };
        let key = format!("{port}/{protocol_lower}");
        ports.exposed.insert(key.clone(), json!({}));
        let list = ports.bindings.entry(key).or_insert_with(|| json!([]));
        if let Some(list) = list.as_array_mut() {
            list.push(json!({"HostIp": bare, "HostPort": host_port}));
        }
    }
    Ok(())
}

fn expose_one(ports: &mut Ports, text: &str) -> Result<(), String> {
    if text.contains(':') {
        return Err(format!("invalid port format for --expose: {text}"));
    }
    let (protocol, port) = split_protocol(text);
    let (start, end) = parse_range(port)
        .map_err(|error| format!("invalid range format for --expose: {text}, error: {error}"))?;
    for port in start..=end {
        ports
            .exposed
            .insert(format!("{port}/{protocol}"), json!({}));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};
    use proptest::prelude::*;

    fn check(text: &str, expected: Expect) {
        let answer = parse(&[text.to_owned()], &[]).map_or_else(
            |error| error,
            |ports| Value::from(ports.bindings).to_string(),
        );
        expected.assert_eq(&answer);
    }

    #[test]
    fn ports() {
        check(
            "8080:80",
            expect![[r#"{"80/tcp":[{"HostIp":"","HostPort":"8080"}]}"#]],
        );
        check(
            "80",
            expect![[r#"{"80/tcp":[{"HostIp":"","HostPort":""}]}"#]],
        );
        check(
            "127.0.0.1::53/UDP",
            expect![[r#"{"53/udp":[{"HostIp":"127.0.0.1","HostPort":""}]}"#]],
        );
        check(
            "[::1]:8000-8001:80-81",
            expect![[
                r#"{"80/tcp":[{"HostIp":"::1","HostPort":"8000"}],"81/tcp":[{"HostIp":"::1","HostPort":"8001"}]}"#
            ]],
        );
        check(
            "8000-8010:80",
            expect![[r#"{"80/tcp":[{"HostIp":"","HostPort":"8000-8010"}]}"#]],
        );
        check(
            "published=8080,target=80,protocol=udp",
            expect![[r#"{"80/udp":[{"HostIp":"","HostPort":"8080"}]}"#]],
        );
        check("foo", expect!["invalid containerPort: foo"]);
        check("foo:80", expect!["invalid hostPort: foo"]);
        check("80:80:80:80", expect!["invalid IP address: 80:80"]);
        check("80:", expect!["no port specified: 80:<empty>"]);
        check(
            "1-3:80-81",
            expect!["invalid ranges specified for container and host Ports: 80-81 and 1-3"],
        );
        check("80/foo", expect!["invalid proto: foo"]);
        check("70000", expect!["invalid containerPort: 70000"]);
    }

    #[test]
    fn exposed() {
        assert_eq!(
            parse(&[], &["x".into()]).unwrap_err(),
            "invalid range format for --expose: x, error: strconv.ParseUint: parsing \"x\": invalid syntax"
        );
        assert_eq!(parse(&[], &["1-2/udp".into()]).unwrap().exposed.len(), 2);
    }

    proptest! {
        #[test]
        fn any_text_is_answered(text in "[0-9a:/\\-\\[\\].=,]{0,20}") {
            let _ = parse(std::slice::from_ref(&text), std::slice::from_ref(&text));
        }
    }
}
