//! API versions, and the differences between them that lie at the edge.

use std::fmt;

use serde_json::{Map, Value};

use crate::container::ContainerCreateRequest;
use crate::events::EventMessage;

/// A version of the Engine API, such as 1.44.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// Always 1 so far.
    pub major: u16,
    /// Counts the changes.
    pub minor: u16,
}

impl Version {
    /// The oldest that the daemon speaks.
    pub const MIN: Version = Version::new(40);
    /// The newest, and the one meant by a path without version.
    pub const CURRENT: Version = Version::new(55);
    /// Sums in `system df`; legacy members of events and of network settings are gone.
    pub const V1_52: Version = Version::new(52);

    /// Version 1.`minor`.
    pub const fn new(minor: u16) -> Self {
        Version { major: 1, minor }
    }

    /// Reads `1.44`.
    pub fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.split_once('.')?;
        let number = |t: &str| {
            t.bytes()
                .all(|b| b.is_ascii_digit())
                .then(|| t.parse().ok())
                .flatten()
        };
        Some(Version {
            major: number(major)?,
            minor: number(minor)?,
        })
    }

    /// Refuses what the daemon does not speak.
    ///
    /// # Errors
    /// Docker's sentence (status 400).
    pub fn check(self) -> Result<Self, String> {
        if self < Self::MIN {
            return Err(format!(
                "client version {self} is too old. Minimum supported API version is {}, please upgrade your client to a newer version",
                Self::MIN
            ));
        }
        if self > Self::CURRENT {
            return Err(format!(
                "client version {self} is too new. Maximum supported API version is {}",
                Self::CURRENT
            ));
        }
        Ok(self)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// Brings an older client's create request to the current meaning.
pub fn adapt_create(version: Version, request: &mut ContainerCreateRequest) {
    let host = &mut request.host_config;
    if version < Version::new(41) && host.cgroupns_mode.is_empty() {
        // These clients know no private cgroup namespace.
        "host".clone_into(&mut host.cgroupns_mode);
    }
    if version >= Version::new(42) {
        host.resources.kernel_memory = 0;
    }
    if version < Version::new(42) {
        // Before 1.42 these had no effect on Linux or meant nothing: the fields were not read.
        host.annotations.clear();
    }
    if version < Version::new(44) {
        if let Some(health) = &mut request.config.healthcheck {
            health.start_interval = 0;
        }
        for mount in &mut host.mounts {
            if let Some(bind) = &mut mount.bind_options {
                // Read-only bind mounts were not recursive before 1.44.
                bind.read_only_non_recursive = mount.read_only;
                bind.read_only_force_recursive = false;
            }
        }
    }
}

/// Brings an event to the client's version: up to 1.51 containers and images have `status`, `id` and `from` as well.
pub fn adapt_event(version: Version, event: &mut EventMessage) {
    if version >= Version::V1_52 {
        event.status.clear();
        event.id.clear();
        event.from.clear();
        return;
    }
    match event.kind.as_str() {
        "container" => {
            event.from = event
                .actor
                .attributes
                .get("image")
                .cloned()
                .unwrap_or_default();
            event.status.clone_from(&event.action);
            event.id.clone_from(&event.actor.id);
        }
        "image" => {
            event.status.clone_from(&event.action);
            event.id.clone_from(&event.actor.id);
        }
        _ => {}
    }
}

/// Brings a container's inspect to the client's version: up to 1.51 the settings of the default bridge stand beside the
/// networks as well.
pub fn adapt_inspect(version: Version, inspect: &mut Value) {
    if version >= Version::V1_52 {
        return;
    }
    let default_network = inspect
        .pointer("/HostConfig/NetworkMode")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let bridge = match default_network {
        "default" | "bridge" => inspect.pointer("/NetworkSettings/Networks/bridge").cloned(),
        _ => None,
    };
    let Some(settings) = inspect
        .pointer_mut("/NetworkSettings")
        .and_then(Value::as_object_mut)
    else {
        return;
    };
    let empty = Value::Object(Map::new());
    let bridge = bridge.unwrap_or(empty);
    for (key, zero) in [
        ("EndpointID", Value::from("")),
        ("Gateway", Value::from("")),
        ("GlobalIPv6Address", Value::from("")),
        ("GlobalIPv6PrefixLen", Value::from(0)),
        ("IPAddress", Value::from("")),
        ("IPPrefixLen", Value::from(0)),
        ("IPv6Gateway", Value::from("")),
        ("MacAddress", Value::from("")),
    ] {
        settings.insert(key.to_owned(), bridge.get(key).cloned().unwrap_or(zero));
    }
    for (key, value) in [
        ("Bridge", Value::from("")),
        ("HairpinMode", Value::from(false)),
        ("LinkLocalIPv6Address", Value::from("")),
        ("LinkLocalIPv6PrefixLen", Value::from(0)),
        ("SecondaryIPAddresses", Value::Null),
        ("SecondaryIPv6Addresses", Value::Null),
    ] {
        settings.insert(key.to_owned(), value);
    }
}

/// Brings a list of images to the client's version: up to 1.43 each has a `VirtualSize`.
pub fn adapt_image_list(version: Version, images: &mut Value) {
    if version >= Version::new(44) {
        return;
    }
    for image in images
        .as_array_mut()
        .into_iter()
        .flatten()
        .filter_map(Value::as_object_mut)
    {
        if let Some(size) = image.get("Size").cloned() {
            image.insert("VirtualSize".to_owned(), size);
        }
    }
}

/// Brings an image's inspect to the client's version: from 1.50 its configuration has no empty members and none that only
/// containers have; up to 1.43 there is a `VirtualSize`.
pub fn adapt_image_inspect(version: Version, inspect: &mut Value) {
    if version < Version::new(44)
        && let Some(size) = inspect.get("Size").cloned()
        && let Some(object) = inspect.as_object_mut()
    {
        object.insert("VirtualSize".to_owned(), size);
    }
    if version < Version::new(50) {
        return;
    }
    if let Some(config) = inspect.get_mut("Config").and_then(Value::as_object_mut) {
        config.retain(|key, value| is_image_member(key) && !is_empty(value));
    }
}

fn is_image_member(key: &str) -> bool {
    !matches!(
        key,
        "Hostname"
            | "Domainname"
            | "AttachStdin"
            | "AttachStdout"
            | "AttachStderr"
            | "Tty"
            | "OpenStdin"
            | "StdinOnce"
            | "Image"
    )
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(b) => !b,
        Value::Number(_) => false,
        Value::String(s) => s.is_empty(),
        Value::Array(a) => a.is_empty(),
        Value::Object(o) => o.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_clients_get_what_they_know() {
        let mut request = ContainerCreateRequest::default();
        adapt_create(Version::new(40), &mut request);
        assert_eq!(request.host_config.cgroupns_mode, "host");
        let mut list = serde_json::json!([{"Size": 5}]);
        adapt_image_list(Version::new(43), &mut list);
        assert_eq!(list[0]["VirtualSize"], 5);
        let mut inspect = serde_json::json!({
            "HostConfig": {"NetworkMode": "bridge"},
            "NetworkSettings": {"Networks": {"bridge": {"IPAddress": "10.0.0.2", "IPPrefixLen": 16}}},
        });
        adapt_inspect(Version::new(51), &mut inspect);
        assert_eq!(inspect["NetworkSettings"]["IPAddress"], "10.0.0.2");
        assert_eq!(inspect["NetworkSettings"]["MacAddress"], "");
        let mut image =
            serde_json::json!({"Config": {"Cmd": ["sh"], "Env": [], "Hostname": "", "Tty": false}});
        adapt_image_inspect(Version::new(50), &mut image);
        assert_eq!(image["Config"], serde_json::json!({"Cmd": ["sh"]}));
    }

    #[test]
    fn checks_versions_in_dockers_words() {
        let check = |text: &str| Version::parse(text).map(|v| v.check().map(|v| v.to_string()));
        assert_eq!(check("1.44"), Some(Ok("1.44".into())));
        assert_eq!(
            check("1.39"),
            Some(Err("client version 1.39 is too old. Minimum supported API version is 1.40, please upgrade your client to a newer version".into()))
        );
        assert_eq!(
            check("1.56"),
            Some(Err(
                "client version 1.56 is too new. Maximum supported API version is 1.55".into()
            ))
        );
        assert_eq!(check("2.0").map(|r| r.is_err()), Some(true));
        for bad in ["", "1", "1.", ".44", "1.-4", "1.+4", "a.b", "1.44.1"] {
            assert_eq!(check(bad), None, "{bad}");
        }
    }
}
