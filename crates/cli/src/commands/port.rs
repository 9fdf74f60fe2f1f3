//! `hull port`.

use crate::app::Cli;
use crate::failure::{Failure, Outcome};
use crate::format::container::join_host_port;
use crate::format::text;
use crate::go::strconv;
use crate::registry::Run;
use clap::Args;
use hull_client::Query;
use serde_json::Value;

/// `hull port`: List port mappings or a specific mapping for the container.
#[derive(Args, Debug)]
pub struct Port {
    args: Vec<String>,
}

impl Run for Port {
    async fn run(self, cli: &Cli) -> Outcome {
        let name = &self.args[0];
        let container: Value = cli
            .client()?
            .get(Query::segments(&["containers", name, "json"]))
            .await?;
        let ports = container["NetworkSettings"]["Ports"].as_object();
        let address =
            |binding: &Value| join_host_port(text(binding, "HostIp"), text(binding, "HostPort"));
        let mut lines: Vec<String> = match self.args.get(1).filter(|port| !port.is_empty()) {
            Some(wanted) => {
                let (port, protocol) = wanted.split_once('/').unwrap_or((wanted, "tcp"));
                strconv::parse_uint_decimal(port, 16)
                    .map_err(|error| format!("Error: invalid port ({port}): {error}"))?;
                let protocol = if protocol.is_empty() { "tcp" } else { protocol };
                let bindings = ports
                    .and_then(|ports| ports.get(&format!("{port}/{protocol}")))
                    .and_then(Value::as_array);
                let bindings = bindings.filter(|bindings| !bindings.is_empty());
                let bindings = bindings.ok_or_else(|| {
                    Failure::new(format!(
                        "Error: No public port '{wanted}' published for {name}"
                    ))
                })?;
                bindings.iter().map(address).collect()
            }
            None => {
                let all = ports.into_iter().flatten();
                all.flat_map(|(port, bindings)| {
                    bindings
                        .as_array()
                        .into_iter()
                        .flatten()
                        .map(move |binding| format!("{port} -> {}", address(binding)))
                })
                .collect()
            }
        };
        lines.sort_by_key(|line| natural(line));
        if !lines.is_empty() {
            cli.line(lines.join("\n"))?;
        }
        Ok(0)
    }
}

/// A key that sorts runs of digits as numbers.
pub fn natural(line: &str) -> Vec<(u64, String)> {
    let mut key: Vec<(u64, String)> = Vec::new();
    for c in line.chars() {
        match (c.to_digit(10), key.last_mut()) {
            (Some(digit), Some((number, rest))) if rest.is_empty() => {
                *number = number.saturating_mul(10).saturating_add(digit.into())
            }
            (Some(digit), _) => key.push((digit.into(), String::new())),
            (None, Some((_, rest))) => rest.push(c),
            (None, None) => key.push((0, c.to_string())),
        }
    }
    key
}

#[cfg(test)]
mod tests {
    #[test]
    fn numbers_sort_as_numbers() {
        let mut lines = [
            "443/tcp -> 0.0.0.0:1",
            "80/tcp -> [::]:8080",
            "80/tcp -> 0.0.0.0:8080",
        ];
        lines.sort_by_key(|line| super::natural(line));
        assert_eq!(
            lines,
            [
                "80/tcp -> 0.0.0.0:8080",
                "80/tcp -> [::]:8080",
                "443/tcp -> 0.0.0.0:1"
            ]
        );
    }
}
