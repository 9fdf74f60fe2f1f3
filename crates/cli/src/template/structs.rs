//! Go structures behind JSON objects: `%v` of one has its fields' values in their order and not their names. The ones that people print
//! whole are known here by their members (docker 28.2's api/types); any other object is taken for a map.

use serde_json::{Map, Value};

/// What a member is: how it looks where JSON leaves it out, or has null.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Number,
    Flag,
    List,
    Map,
    /// Of a structure.
    Pointer,
}

use Kind::{Flag, List, Number, Pointer, Text};

struct Field {
    key: &'static str,
    kind: Kind,
    /// JSON may leave it out.
    omitted: bool,
}

const fn field(key: &'static str, kind: Kind) -> Field {
    Field {
        key,
        kind,
        omitted: false,
    }
}

const fn omitted(key: &'static str, kind: Kind) -> Field {
    Field {
        key,
        kind,
        omitted: true,
    }
}

type Shape = &'static [Field];

const STATE: Shape = &[
    field("Status", Text),
    field("Running", Flag),
    field("Paused", Flag),
    field("Restarting", Flag),
    field("OOMKilled", Flag),
    field("Dead", Flag),
    field("Pid", Number),
    field("ExitCode", Number),
    field("Error", Text),
    field("StartedAt", Text),
    field("FinishedAt", Text),
    omitted("Health", Pointer),
];

const MOUNT_POINT: Shape = &[
    field("Type", Text),
    omitted("Name", Text),
    field("Source", Text),
    field("Destination", Text),
    omitted("Driver", Text),
    field("Mode", Text),
    field("RW", Flag),
    field("Propagation", Text),
];

const PORT_BINDING: Shape = &[field("HostIp", Text), field("HostPort", Text)];

const RESTART_POLICY: Shape = &[field("Name", Text), field("MaximumRetryCount", Number)];

const LOG_CONFIG: Shape = &[field("Type", Text), field("Config", Kind::Map)];

const DEVICE_MAPPING: Shape = &[
    field("PathOnHost", Text),
    field("PathInContainer", Text),
    field("CgroupPermissions", Text),
];

const GRAPH_DRIVER: Shape = &[field("Data", Kind::Map), field("Name", Text)];

const ROOT_FS: Shape = &[field("Type", Text), omitted("Layers", List)];

const IPAM: Shape = &[
    field("Driver", Text),
    field("Options", Kind::Map),
    field("Config", List),
];

const IPAM_CONFIG: Shape = &[
    field("Subnet", Text),
    omitted("IPRange", Text),
    omitted("Gateway", Text),
    omitted("AuxiliaryAddresses", Kind::Map),
];

const ENDPOINT: Shape = &[
    field("Name", Text),
    field("EndpointID", Text),
    field("MacAddress", Text),
    field("IPv4Address", Text),
    field("IPv6Address", Text),
];

const SHAPES: [Shape; 11] = [
    STATE,
    MOUNT_POINT,
    PORT_BINDING,
    RESTART_POLICY,
    LOG_CONFIG,
    DEVICE_MAPPING,
    GRAPH_DRIVER,
    ROOT_FS,
    IPAM,
    IPAM_CONFIG,
    ENDPOINT,
];

fn is(kind: Kind, value: &Value) -> bool {
    match value {
        Value::Null => matches!(kind, List | Kind::Map | Pointer),
        Value::Bool(_) => kind == Flag,
        Value::Number(_) => kind == Number,
        Value::String(_) => kind == Text,
        Value::Array(_) => kind == List,
        Value::Object(_) => matches!(kind, Kind::Map | Pointer),
    }
}

fn fits(shape: Shape, map: &Map<String, Value>) -> bool {
    let known = |key: &String| shape.iter().any(|field| field.key == key);
    map.keys().all(known)
        && shape.iter().all(|field| match map.get(field.key) {
            Some(value) => is(field.kind, value),
            None => field.omitted,
        })
}

/// The values of a structure in Go's order; an `Err` is what a member that has no value looks like. `None`: it is a map.
pub(super) fn values(map: &Map<String, Value>) -> Option<Vec<Result<&Value, &'static str>>> {
    let shape = SHAPES.into_iter().find(|shape| fits(shape, map))?;
    let value = |field: &Field| match map.get(field.key) {
        Some(Value::Null) | None => Err(match field.kind {
            Text => "",
            Number => "0",
            Flag => "false",
            List => "[]",
            Kind::Map => "map[]",
            Pointer => "<nil>",
        }),
        Some(value) => Ok(value),
    };
    Some(shape.iter().map(value).collect())
}

/// How the value of a map's member looks, where its key tells what it is: ports' bindings are a list even if there are none, and sets
/// of ports and paths have empty structures.
pub(super) fn member(key: &str, value: &Value) -> Option<&'static str> {
    let is_port = key.split_once('/').is_some_and(|(number, protocol)| {
        number.parse::<u16>().is_ok() && matches!(protocol, "tcp" | "udp" | "sctp")
    });
    match value {
        Value::Null if is_port => Some("[]"),
        Value::Object(map) if map.is_empty() && (is_port || key.starts_with('/')) => Some("{}"),
        _ => None,
    }
}
