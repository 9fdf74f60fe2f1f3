//! Answers, brought to what an older client knows: members that came later are left out, and those that went are put back.

use serde_json::{Map, Value, json};

use super::Version;
use crate::events::EventMessage;
use crate::image::ImageSummary;
use crate::inspect::ContainerSummary;

/// Whether a client of this version is told of an event: `image create` came with 1.46.
pub fn shows_event(version: Version, event: &EventMessage) -> bool {
    version >= Version::new(46) || event.kind != "image" || event.action != "create"
}

/// Brings an event to the client's version: `status`, `id` and `from`, which the engine gives to containers and images, went with 1.52.
pub fn adapt_event(version: Version, event: &mut EventMessage) {
    if version >= Version::V1_52 {
        event.status.clear();
        event.id.clear();
        event.from.clear();
    }
}

/// Brings a list of containers to the client's version: annotations came with 1.46, the descriptor of the image with 1.48, the health
/// with 1.52.
pub fn adapt_container_list(version: Version, containers: &mut [ContainerSummary]) {
    for container in containers {
        if version < Version::new(46) {
            container.host_config.annotations.clear();
        }
        if version < Version::new(48) {
            container.image_manifest_descriptor = None;
        }
        if version < Version::V1_52 {
            container.health = None;
        }
    }
}

/// Members of the settings of the default bridge that stood beside the networks up to 1.51, and their zeros.
fn bridge_members() -> [(&'static str, Value); 8] {
    [
        ("EndpointID", json!("")),
        ("Gateway", json!("")),
        ("GlobalIPv6Address", json!("")),
        ("GlobalIPv6PrefixLen", json!(0)),
        ("IPAddress", json!("")),
        ("IPPrefixLen", json!(0)),
        ("IPv6Gateway", json!("")),
        ("MacAddress", json!("")),
    ]
}

/// Brings a container's inspect to the client's version: up to 1.51 the settings of the default bridge stand beside the
/// networks as well, and the configuration may have a MAC address; up to 1.44 the aliases have the names that DNS adds.
pub fn adapt_inspect(version: Version, inspect: &mut Value) {
    if version >= Version::V1_52 {
        if let Some(config) = member(inspect, "/Config") {
            config.remove("MacAddress");
        }
        return;
    }
    if version < Version::new(45) {
        add_aliases(inspect);
    }
    if version < Version::new(48)
        && let Some(top) = inspect.as_object_mut()
    {
        top.remove("ImageManifestDescriptor");
    }
    let bridge = inspect
        .pointer("/NetworkSettings/Networks/bridge")
        .cloned()
        .unwrap_or_default();
    let Some(settings) = member(inspect, "/NetworkSettings") else {
        return;
    };
    for (key, zero) in bridge_members() {
        settings.insert(key.to_owned(), bridge.get(key).cloned().unwrap_or(zero));
    }
    for (key, value) in [
        ("Bridge", json!("")),
        ("HairpinMode", json!(false)),
        ("LinkLocalIPv6Address", json!("")),
        ("LinkLocalIPv6PrefixLen", json!(0)),
        ("SecondaryIPAddresses", Value::Null),
        ("SecondaryIPv6Addresses", Value::Null),
    ] {
        settings.insert(key.to_owned(), value);
    }
}

fn member<'v>(value: &'v mut Value, pointer: &str) -> Option<&'v mut Map<String, Value>> {
    value.pointer_mut(pointer)?.as_object_mut()
}

/// The short id and the host name among the aliases on networks of the user's, once the container is connected: docker-compose 1.29
/// connects one anew, with its links, when it does not find them.
fn add_aliases(inspect: &mut Value) {
    let text = |pointer: &str| inspect.pointer(pointer).and_then(Value::as_str);
    let id: String = text("/Id").unwrap_or_default().chars().take(12).collect();
    let hostname = text("/Config/Hostname").unwrap_or_default().to_owned();
    let Some(networks) = member(inspect, "/NetworkSettings/Networks") else {
        return;
    };
    for (name, endpoint) in networks {
        let connected = endpoint["EndpointID"]
            .as_str()
            .is_some_and(|id| !id.is_empty());
        if matches!(name.as_str(), "bridge" | "host" | "none") || !connected {
            continue;
        }
        let mut aliases = endpoint["Aliases"].as_array().cloned().unwrap_or_default();
        for alias in [&id, &hostname] {
            let alias = Value::from(alias.as_str());
            if !aliases.contains(&alias) {
                aliases.push(alias);
            }
        }
        endpoint["Aliases"] = aliases.into();
    }
}

/// Brings a list of images to the client's version: up to 1.42 an image without names is called `<none>`, up to 1.43 each has a
/// `VirtualSize`, up to 1.47 no descriptor, and up to 1.50 its containers are not counted.
pub fn adapt_image_list(version: Version, images: &mut [ImageSummary]) -> Option<Value> {
    for image in images.iter_mut() {
        if version < Version::new(43) && image.repo_tags.is_empty() && image.repo_digests.is_empty()
        {
            image.repo_tags.push("<none>:<none>".to_owned());
            image.repo_digests.push("<none>@<none>".to_owned());
        }
        if version < Version::new(48) {
            image.descriptor = None;
        }
        if version < Version::new(51) {
            image.containers = -1;
        }
    }
    (version < Version::new(44)).then(|| with_virtual_size(images))
}

/// The images with `VirtualSize`, which went with 1.44.
pub(crate) fn with_virtual_size(images: &[ImageSummary]) -> Value {
    let one = |image: &ImageSummary| {
        let mut value = serde_json::to_value(image).unwrap_or_default();
        value["VirtualSize"] = json!(image.size);
        value
    };
    images.iter().map(one).collect()
}

/// Members of an image's configuration that were always there up to 1.51, and their zeros.
const CONFIG_UP_TO_51: &[&str] = &[
    "Cmd",
    "Entrypoint",
    "Env",
    "Labels",
    "OnBuild",
    "User",
    "Volumes",
    "WorkingDir",
];
/// And those that were there up to 1.49, although they say nothing about an image.
const CONFIG_UP_TO_49: &[&str] = &[
    "AttachStderr",
    "AttachStdin",
    "AttachStdout",
    "Domainname",
    "Hostname",
    "Image",
    "OpenStdin",
    "StdinOnce",
    "Tty",
];

/// Brings an image's inspect to the client's version.
pub fn adapt_image_inspect(version: Version, inspect: &mut Value) {
    let Some(top) = inspect.as_object_mut() else {
        return;
    };
    if version < Version::new(44) {
        top.insert(
            "VirtualSize".to_owned(),
            top.get("Size").cloned().unwrap_or(json!(0)),
        );
        top.entry("Created").or_insert(json!(crate::time::ZERO));
    }
    if version >= Version::new(45) {
        top.remove("Container");
        top.remove("ContainerConfig");
    }
    if version < Version::new(48) {
        top.remove("Descriptor");
    }
    if version < Version::V1_52 {
        for key in ["Parent", "Comment", "DockerVersion", "Author"] {
            top.entry(key).or_insert(json!(""));
        }
    }
    for pointer in ["/Config", "/ContainerConfig"] {
        if let Some(config) = member(inspect, pointer) {
            adapt_image_config(version, config);
        }
    }
}

fn adapt_image_config(version: Version, config: &mut Map<String, Value>) {
    config.retain(|key, value| {
        let key = key.as_str();
        // Only containers have these.
        let foreign = matches!(key, "NetworkDisabled" | "MacAddress" | "StopTimeout");
        match CONFIG_UP_TO_49.contains(&key) {
            true => version < Version::new(50),
            false if foreign => version < Version::new(50) && !is_empty(value),
            false if CONFIG_UP_TO_51.contains(&key) => version < Version::V1_52 || !is_empty(value),
            false => !is_empty(value),
        }
    });
    if version < Version::V1_52 {
        for key in CONFIG_UP_TO_51 {
            let zero = match *key {
                "User" | "WorkingDir" => json!(""),
                _ => Value::Null,
            };
            let value = config.entry(*key).or_insert(Value::Null);
            if is_empty(value) {
                *value = zero;
            }
        }
    }
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

/// Brings `info` to the client's version: the state of the runtimes came with 1.44, the firewall with 1.49, devices with 1.50; the
/// expected commits went with 1.49 and the bridge's packet filter with 1.50.
pub fn adapt_info(version: Version, info: &mut Value) {
    if version < Version::new(44) {
        let runtimes = member(info, "/Runtimes").into_iter().flatten();
        for (_, runtime) in runtimes {
            if let Some(runtime) = runtime.as_object_mut() {
                runtime.remove("status");
            }
        }
    }
    if version < Version::new(47)
        && let Some(registries) = member(info, "/RegistryConfig")
    {
        for key in [
            "AllowNondistributableArtifactsCIDRs",
            "AllowNondistributableArtifactsHostnames",
        ] {
            registries.insert(key.to_owned(), Value::Null);
        }
    }
    if version < Version::new(49) {
        for commit in ["/ContainerdCommit", "/RuncCommit", "/InitCommit"] {
            if let Some(commit) = member(info, commit) {
                let id = commit.get("ID").cloned().unwrap_or(json!(""));
                commit.insert("Expected".to_owned(), id);
            }
        }
    }
    let Some(top) = info.as_object_mut() else {
        return;
    };
    if version < Version::new(49) {
        top.remove("FirewallBackend");
    }
    if version < Version::new(50) {
        top.remove("DiscoveredDevices");
        for key in ["BridgeNfIptables", "BridgeNfIp6tables"] {
            top.insert(key.to_owned(), json!(false));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn container_inspect() {
        let inspect = json!({
            "Id": "0123456789abcdef",
            "Config": {"Hostname": "h", "MacAddress": "02:00:00:00:00:01"},
            "ImageManifestDescriptor": {},
            "NetworkSettings": {"Networks": {
                "bridge": {"IPAddress": "10.0.0.2", "IPPrefixLen": 16, "Aliases": null},
                "mine": {"Aliases": ["web"], "EndpointID": "e"},
                "later": {"Aliases": null, "EndpointID": ""},
            }},
        });
        let at = |minor| {
            let mut value = inspect.clone();
            adapt_inspect(Version::new(minor), &mut value);
            value
        };
        assert_eq!(
            at(40)["NetworkSettings"]["Networks"]["mine"]["Aliases"],
            json!(["web", "0123456789ab", "h"])
        );
        assert_eq!(
            at(45)["NetworkSettings"]["Networks"]["mine"]["Aliases"],
            json!(["web"])
        );
        assert_eq!(at(47).get("ImageManifestDescriptor"), None);
        assert_eq!(at(51)["NetworkSettings"]["IPAddress"], "10.0.0.2");
        assert_eq!(at(51)["NetworkSettings"]["MacAddress"], "");
        assert_eq!(at(51)["Config"]["MacAddress"], "02:00:00:00:00:01");
        assert_eq!(at(52)["NetworkSettings"].as_object().map(Map::len), Some(1));
        assert_eq!(at(52)["Config"].get("MacAddress"), None);
    }

    #[test]
    fn image_inspect() {
        let inspect = json!({
            "Size": 5, "Descriptor": {}, "Container": "", "ContainerConfig": {},
            "Config": {"Cmd": ["sh"], "Env": [], "User": "", "Hostname": "", "Tty": false, "StopSignal": "", "Healthcheck": {"Retries": 1}},
        });
        let at = |minor| {
            let mut value = inspect.clone();
            adapt_image_inspect(Version::new(minor), &mut value);
            value
        };
        let keys = |value: &Value| {
            let mut keys: Vec<&str> = value
                .as_object()
                .unwrap()
                .keys()
                .map(String::as_str)
                .collect();
            keys.sort_unstable();
            keys.join(" ")
        };
        assert_eq!(
            keys(&at(40)),
            "Author Comment Config Container ContainerConfig Created DockerVersion Parent Size VirtualSize"
        );
        assert_eq!(
            keys(&at(45)),
            "Author Comment Config DockerVersion Parent Size"
        );
        assert_eq!(
            keys(&at(51)),
            "Author Comment Config Descriptor DockerVersion Parent Size"
        );
        assert_eq!(keys(&at(52)), "Config Descriptor Size");
        assert_eq!(
            at(49)["Config"],
            json!({"Cmd": ["sh"], "Entrypoint": null, "Env": null, "Healthcheck": {"Retries": 1}, "Hostname": "", "Labels": null,
                "OnBuild": null, "Tty": false, "User": "", "Volumes": null, "WorkingDir": ""})
        );
        assert_eq!(
            at(51)["Config"],
            json!({"Cmd": ["sh"], "Entrypoint": null, "Env": null, "Healthcheck": {"Retries": 1}, "Labels": null, "OnBuild": null,
                "User": "", "Volumes": null, "WorkingDir": ""})
        );
        assert_eq!(
            at(52)["Config"],
            json!({"Cmd": ["sh"], "Healthcheck": {"Retries": 1}})
        );
    }

    #[test]
    fn lists() {
        let mut images = vec![ImageSummary {
            size: 5,
            containers: 2,
            ..ImageSummary::default()
        }];
        assert_eq!(adapt_image_list(Version::new(51), &mut images), None);
        assert_eq!(images[0].containers, 2);
        let old = adapt_image_list(Version::new(42), &mut images).unwrap();
        assert_eq!(
            (
                &old[0]["VirtualSize"],
                &old[0]["RepoTags"],
                &old[0]["Containers"]
            ),
            (&json!(5), &json!(["<none>:<none>"]), &json!(-1))
        );
        let mut containers = vec![ContainerSummary {
            health: Some(Default::default()),
            ..ContainerSummary::default()
        }];
        adapt_container_list(Version::new(52), &mut containers);
        assert!(containers[0].health.is_some());
        adapt_container_list(Version::new(51), &mut containers);
        assert!(containers[0].health.is_none());
    }

    #[test]
    fn info() {
        let info = json!({"Runtimes": {"runc": {"path": "runc", "status": {}}}, "RegistryConfig": {}, "RuncCommit": {"ID": "x"},
            "FirewallBackend": {}, "DiscoveredDevices": []});
        let at = |minor| {
            let mut value = info.clone();
            adapt_info(Version::new(minor), &mut value);
            value
        };
        assert_eq!(
            at(40),
            json!({"Runtimes": {"runc": {"path": "runc"}}, "RuncCommit": {"ID": "x", "Expected": "x"},
                "RegistryConfig": {"AllowNondistributableArtifactsCIDRs": null, "AllowNondistributableArtifactsHostnames": null},
                "BridgeNfIptables": false, "BridgeNfIp6tables": false})
        );
        assert_eq!(at(49)["BridgeNfIptables"], json!(false));
        assert!(
            at(49).get("FirewallBackend").is_some()
                && at(49)["RuncCommit"].get("Expected").is_none()
        );
        assert_eq!(at(50), info);
    }

    #[test]
    fn events() {
        let mut event = EventMessage {
            kind: "image".into(),
            action: "create".into(),
            status: "create".into(),
            ..EventMessage::default()
        };
        assert!(!shows_event(Version::new(45), &event) && shows_event(Version::new(46), &event));
        adapt_event(Version::new(51), &mut event);
        assert_eq!(event.status, "create");
        adapt_event(Version::V1_52, &mut event);
        assert_eq!(event.status, "");
    }
}
