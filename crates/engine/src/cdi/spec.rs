//! One CDI file: its shape, and the rules that its values must keep. Pure.

use hull_oci::runtime::{Hook, IntelRdt};
use saphyr::{LoadableYamlNode, Scalar, Yaml};
use serde::Deserialize;
use serde_json::{Map, Number, Value};

/// Versions of the specification whose files are read.
const VERSIONS: [&str; 9] = [
    "0.3.0", "0.4.0", "0.5.0", "0.6.0", "0.7.0", "0.8.0", "1.0.0", "1.1.0", "v0.3.0",
];
/// Values inside one another, at most.
const DEPTH_MAX: usize = 32;

/// What one file says.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Spec {
    #[serde(default)]
    cdi_version: String,
    /// `vendor.com/class`.
    #[serde(default)]
    pub(super) kind: String,
    #[serde(default, rename = "annotations")]
    _annotations: std::collections::BTreeMap<String, String>,
    #[serde(default)]
    pub(super) devices: Vec<Device>,
    /// For every device of the file.
    #[serde(default)]
    pub(super) container_edits: Edits,
}

/// A device.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Device {
    #[serde(default)]
    pub(super) name: String,
    #[serde(default, rename = "annotations")]
    _annotations: std::collections::BTreeMap<String, String>,
    #[serde(default)]
    pub(super) container_edits: Edits,
}

/// What a device needs in a container.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct Edits {
    pub(super) env: Vec<String>,
    pub(super) device_nodes: Vec<DeviceNode>,
    pub(super) mounts: Vec<Mount>,
    pub(super) hooks: Vec<NamedHook>,
    #[serde(rename = "additionalGids")]
    pub(super) additional_gids: Vec<u32>,
    pub(super) intel_rdt: Option<IntelRdt>,
}

/// A device's node; what is absent is looked up at `host_path`, or at `path`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct DeviceNode {
    pub(super) path: String,
    pub(super) host_path: String,
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) major: i64,
    pub(super) minor: i64,
    pub(super) file_mode: Option<u32>,
    pub(super) permissions: String,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
}

/// A mount.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct Mount {
    pub(super) host_path: String,
    pub(super) container_path: String,
    pub(super) options: Vec<String>,
    #[serde(rename = "type")]
    pub(super) kind: String,
}

/// A hook, and when it is called.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct NamedHook {
    pub(super) hook_name: String,
    path: String,
    args: Vec<String>,
    env: Vec<String>,
    timeout: Option<i64>,
}

impl NamedHook {
    pub(super) fn to_oci(&self) -> Hook {
        Hook {
            path: self.path.clone(),
            args: self.args.clone(),
            env: self.env.clone(),
            timeout: self.timeout,
        }
    }
}

impl Spec {
    /// Reads JSON or YAML, and checks it.
    pub(super) fn parse(text: &str) -> Result<Spec, String> {
        // JSON first: YAML's parser reads it too, but says worse what is wrong with it.
        let spec: Spec = if text.trim_start().starts_with('{') {
            serde_json::from_str(text).map_err(|e| e.to_string())?
        } else {
            let documents = Yaml::load_from_str(text).map_err(|e| e.to_string())?;
            let value = to_json(documents.first().ok_or("an empty file")?, 0)?;
            serde_json::from_value(value).map_err(|e| e.to_string())?
        };
        spec.check()?;
        Ok(spec)
    }

    fn check(&self) -> Result<(), String> {
        if !VERSIONS.contains(&self.cdi_version.as_str()) {
            return Err(format!("invalid version {:?}", self.cdi_version));
        }
        let (vendor, class) = self
            .kind
            .split_once('/')
            .ok_or_else(|| format!("invalid kind {:?}", self.kind))?;
        let letters = |text: &str, more: &str| {
            text.chars()
                .all(|c| c.is_ascii_alphanumeric() || more.contains(c))
        };
        let named = |text: &str| {
            text.starts_with(|c: char| c.is_ascii_alphabetic())
                && text.ends_with(|c: char| c.is_ascii_alphanumeric())
        };
        if !named(vendor) || !letters(vendor, "_-.") {
            return Err(format!("invalid vendor {vendor:?}"));
        }
        if !named(class) || !letters(class, "_-") {
            return Err(format!("invalid class {class:?}"));
        }
        if self.devices.is_empty() {
            return Err("no devices".to_owned());
        }
        self.container_edits.check()?;
        for (number, device) in self.devices.iter().enumerate() {
            let name = device.name.as_str();
            let ends = |c: char| c.is_ascii_alphanumeric();
            if !name.starts_with(ends) || !name.ends_with(ends) || !letters(name, "_-.:") {
                return Err(format!("invalid device name {name:?}"));
            }
            if self.devices[..number]
                .iter()
                .any(|other| other.name == name)
            {
                return Err(format!("multiple device {name:?}"));
            }
            device
                .container_edits
                .check()
                .map_err(|why| format!("device {name:?}: {why}"))?;
        }
        Ok(())
    }
}

impl Edits {
    fn check(&self) -> Result<(), String> {
        if let Some(bad) = self.env.iter().find(|entry| !entry.contains('=')) {
            return Err(format!("invalid environment variable {bad:?}"));
        }
        for node in &self.device_nodes {
            if node.path.is_empty() {
                return Err("invalid (empty) device path".to_owned());
            }
            if !["", "b", "c", "u", "p"].contains(&node.kind.as_str()) {
                return Err(format!(
                    "device {:?}: invalid type {:?}",
                    node.path, node.kind
                ));
            }
            if node.permissions.chars().any(|c| !"rwm".contains(c)) {
                return Err(format!(
                    "device {:?}: invalid permissions {:?}",
                    node.path, node.permissions
                ));
            }
        }
        for mount in &self.mounts {
            if mount.host_path.is_empty() || mount.container_path.is_empty() {
                return Err("invalid mount, empty host or container path".to_owned());
            }
        }
        for hook in &self.hooks {
            if hook
                .hook_name
                .parse::<hull_oci::runtime::HookKind>()
                .is_err()
            {
                return Err(format!("invalid hook name {:?}", hook.hook_name));
            }
            if hook.path.is_empty() {
                return Err(format!("invalid hook {:?}: empty path", hook.hook_name));
            }
        }
        Ok(())
    }
}

/// A YAML value as JSON; only plain values and text keys.
fn to_json(yaml: &Yaml<'_>, depth: usize) -> Result<Value, String> {
    if depth > DEPTH_MAX {
        return Err("values lie too deep inside one another".to_owned());
    }
    Ok(match yaml {
        Yaml::Value(Scalar::Null) => Value::Null,
        Yaml::Value(Scalar::Boolean(value)) => Value::Bool(*value),
        Yaml::Value(Scalar::Integer(value)) => Value::Number(Number::from(*value)),
        Yaml::Value(Scalar::FloatingPoint(value)) => {
            Number::from_f64(value.into_inner()).map_or(Value::Null, Value::Number)
        }
        Yaml::Value(Scalar::String(value)) => Value::String(value.to_string()),
        Yaml::Sequence(items) => {
            let items: Result<_, _> = items.iter().map(|item| to_json(item, depth + 1)).collect();
            Value::Array(items?)
        }
        Yaml::Mapping(members) => {
            let mut object = Map::new();
            for (key, value) in members {
                let key = key.as_str().ok_or("a key that is not text")?;
                object.insert(key.to_owned(), to_json(value, depth + 1)?);
            }
            Value::Object(object)
        }
        other => return Err(format!("a value that CDI does not know: {other:?}")),
    })
}
