//! Rows of `ps` and of `system df -v`.

use super::{ellipsis, header, labels_text, number, row, short_id, text};
use crate::go::strconv;
use crate::go::time::{since, unix_string};
use crate::go::units::{human_duration, human_size_precision};
use crate::template::Row;
use hull_oci::reference::Reference;
use serde_json::Value;

const TABLE: &str =
    "table {{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}";

/// The format of `ps` for what was asked.
pub fn format(source: &str, quiet: bool, size: bool) -> String {
    match source {
        "" | "table" => match (quiet, size) {
            (true, _) => "{{.ID}}".into(),
            (false, true) => format!("{TABLE}\t{{{{.Size}}}}"),
            (false, false) => TABLE.into(),
        },
        "raw" if quiet => "container_id: {{.ID}}".into(),
        "raw" => {
            let size = if size { "size: {{.Size}}\\n" } else { "" };
            format!(
                "container_id: {{{{.ID}}}}\nimage: {{{{.Image}}}}\ncommand: {{{{.Command}}}}\ncreated_at: {{{{.CreatedAt}}}}\nstate: {{{{- pad .State 1 0}}}}\n\
                 status: {{{{- pad .Status 1 0}}}}\nnames: {{{{.Names}}}}\nlabels: {{{{- pad .Labels 1 0}}}}\nports: {{{{- pad .Ports 1 0}}}}\n{size}"
            )
        }
        _ if quiet => "{{.ID}}".into(),
        source => source.to_owned(),
    }
}

/// Titles of the columns.
pub fn heads() -> Row {
    header(&[
        ("ID", "CONTAINER ID"),
        ("Names", "NAMES"),
        ("Image", "IMAGE"),
        ("Command", "COMMAND"),
        ("CreatedAt", "CREATED AT"),
        ("RunningFor", "CREATED"),
        ("Ports", "PORTS"),
        ("State", "STATE"),
        ("Status", "STATUS"),
        ("Size", "SIZE"),
        ("Labels", "LABELS"),
        ("Mounts", "MOUNTS"),
        ("LocalVolumes", "LOCAL VOLUMES"),
        ("Networks", "NETWORKS"),
        ("Platform", "PLATFORM"),
    ])
}

/// The row of one container summary; `trunc` cuts ids, commands and mounts.
pub fn columns(container: &Value, trunc: bool) -> Row {
    let id = text(container, "Id");
    let labels = container.get("Labels").and_then(Value::as_object);
    let command = text(container, "Command");
    let created = number(container, "Created");
    let mounts = container
        .get("Mounts")
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default();
    let mut networks: Vec<&str> = container["NetworkSettings"]["Networks"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, _)| name.as_str())
        .collect();
    networks.sort_unstable();
    let mut row = row(
        "*formatter.ContainerContext",
        [
            ("ID", (if trunc { short_id(id) } else { id }).into()),
            ("Names", names(container, trunc).into()),
            ("Image", image(container, trunc).into()),
            (
                "Command",
                strconv::quote(&if trunc {
                    ellipsis(command, 20)
                } else {
                    command.to_owned()
                })
                .into(),
            ),
            ("CreatedAt", unix_string(created).into()),
            (
                "RunningFor",
                format!("{} ago", human_duration(since(created))).into(),
            ),
            (
                "Ports",
                ports(
                    container
                        .get("Ports")
                        .and_then(Value::as_array)
                        .map(Vec::as_slice)
                        .unwrap_or_default(),
                )
                .into(),
            ),
            ("State", text(container, "State").into()),
            ("Status", text(container, "Status").into()),
            ("Size", size(container).into()),
            ("Labels", labels_text(labels).into()),
            (
                "Mounts",
                mounts
                    .iter()
                    .map(|mount| mount_name(mount, trunc))
                    .collect::<Vec<_>>()
                    .join(",")
                    .into(),
            ),
            (
                "LocalVolumes",
                mounts
                    .iter()
                    .filter(|mount| text(mount, "Driver") == "local")
                    .count()
                    .to_string()
                    .into(),
            ),
            ("Networks", networks.join(",").into()),
            ("Platform", platform(container)),
        ],
    );
    row.labels = Some(labels.cloned().unwrap_or_default());
    row
}

fn names(container: &Value, trunc: bool) -> String {
    let names = container["Names"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str);
    let names: Vec<&str> = names
        .map(|name| name.strip_prefix('/').unwrap_or(name))
        .collect();
    if trunc && let Some(own) = names.iter().find(|name| !name.contains('/')) {
        return (*own).to_owned();
    }
    names.join(",")
}

fn image(container: &Value, trunc: bool) -> String {
    let image = text(container, "Image");
    if image.is_empty() {
        return "<no image>".into();
    }
    if !trunc {
        return image.to_owned();
    }
    let id = short_id(text(container, "ImageID"));
    if id == short_id(image) {
        return id.to_owned();
    }
    match Reference::parse_normalized(image) {
        Ok(mut reference) => {
            reference.digest = None;
            reference.familiar()
        }
        Err(_) => image.to_owned(),
    }
}

fn mount_name(mount: &Value, trunc: bool) -> String {
    let name = match text(mount, "Name") {
        "" => text(mount, "Source"),
        name => name,
    };
    if trunc {
        ellipsis(name, 15)
    } else {
        name.to_owned()
    }
}

fn size(container: &Value) -> String {
    let own = human_size_precision(number(container, "SizeRw") as f64, 3);
    match number(container, "SizeRootFs") {
        ..=0 => own,
        all => format!("{own} (virtual {})", human_size_precision(all as f64, 3)),
    }
}

fn platform(container: &Value) -> Value {
    let platform = &container["ImageManifestDescriptor"]["platform"];
    match (platform["os"].as_str(), platform["architecture"].as_str()) {
        (Some(os), Some(arch)) => match platform["variant"]
            .as_str()
            .filter(|variant| !variant.is_empty())
        {
            Some(variant) => format!("{os}/{arch}/{variant}").into(),
            None => format!("{os}/{arch}").into(),
        },
        _ => Value::Null,
    }
}

/// `net.JoinHostPort`.
pub fn join_host_port(host: &str, port: &str) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

/// `0.0.0.0:80->9090/tcp, 9988/tcp`: runs of ports are drawn together.
pub fn ports(ports: &[Value]) -> String {
    struct Group {
        key: String,
        first: i64,
        last: i64,
    }
    let mut sorted: Vec<&Value> = ports.iter().collect();
    sorted.sort_by(|a, b| {
        let key = |port: &Value| {
            (
                number(port, "PrivatePort"),
                text(port, "IP").to_owned(),
                number(port, "PublicPort"),
                text(port, "Type").to_owned(),
            )
        };
        key(a).cmp(&key(b))
    });
    let (mut groups, mut result, mut mapped): (Vec<Group>, Vec<String>, Vec<String>) =
        Default::default();
    for port in sorted {
        let (private, public, kind, ip) = (
            number(port, "PrivatePort"),
            number(port, "PublicPort"),
            text(port, "Type"),
            text(port, "IP"),
        );
        let mut key = kind.to_owned();
        if !ip.is_empty() {
            if public != private {
                mapped.push(format!(
                    "{}->{private}/{kind}",
                    join_host_port(ip, &public.to_string())
                ));
                continue;
            }
            key = format!("{ip}/{kind}");
        }
        match groups.iter_mut().find(|group| group.key == key) {
            None => groups.push(Group {
                key,
                first: private,
                last: private,
            }),
            Some(group) if private == group.last + 1 => group.last = private,
            Some(group) => {
                result.push(group_text(&group.key, group.first, group.last));
                (group.first, group.last) = (private, private);
            }
        }
    }
    result.extend(
        groups
            .iter()
            .map(|group| group_text(&group.key, group.first, group.last)),
    );
    result.extend(mapped);
    result.join(", ")
}

fn group_text(key: &str, first: i64, last: i64) -> String {
    let range = if first == last {
        first.to_string()
    } else {
        format!("{first}-{last}")
    };
    match key.split_once('/') {
        Some((ip, kind)) => format!("{}->{range}/{kind}", join_host_port(ip, &range)),
        None => format!("{range}/{key}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn ports_are_drawn_together() {
        let port = |private: i64, public: i64, ip: &str, kind: &str| json!({"PrivatePort": private, "PublicPort": public, "IP": ip, "Type": kind});
        let list = [
            port(80, 8080, "0.0.0.0", "tcp"),
            port(80, 8080, "::", "tcp"),
            json!({"PrivatePort": 443, "Type": "tcp"}),
            port(90, 90, "0.0.0.0", "udp"),
            port(91, 91, "0.0.0.0", "udp"),
        ];
        assert_eq!(
            ports(&list),
            "0.0.0.0:90-91->90-91/udp, 443/tcp, 0.0.0.0:8080->80/tcp, [::]:8080->80/tcp"
        );
    }

    #[test]
    fn a_row() {
        let container = json!({
            "Id": "0123456789abcdef", "Names": ["/other/alias", "/web"], "Image": "nginx:1@sha256:4bcff63911fcb4448bd4fdacec207030997caf25e9bea4045fa6c8c44de311d1",
            "ImageID": "sha256:ffff", "Command": "/docker-entrypoint.sh nginx -g", "Created": 0, "State": "running", "Status": "Up 2 hours",
            "Labels": {"b": "2", "a": "1"}, "Mounts": [{"Name": "a-very-long-volume-name", "Driver": "local"}], "NetworkSettings": {"Networks": {"bridge": {}}},
            "SizeRw": 2, "SizeRootFs": 21_500_000,
        });
        let row = columns(&container, true);
        let get = |name: &str| row.fields[name].as_str().unwrap_or("?").to_owned();
        assert_eq!(get("ID"), "0123456789ab");
        assert_eq!(get("Names"), "web");
        assert_eq!(get("Image"), "nginx:1");
        assert_eq!(get("Command"), "\"/docker-entrypoint.…\"");
        assert_eq!(get("Labels"), "a=1,b=2");
        assert_eq!(get("Mounts"), "a-very-long-vo…");
        assert_eq!(get("Size"), "2B (virtual 21.5MB)");
    }
}
