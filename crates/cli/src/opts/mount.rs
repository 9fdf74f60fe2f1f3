//! `--mount type=bind,source=..,target=..`: gives a `Mount` of the API.

use super::csv;
use crate::go::{strconv, units};
use serde_json::{Map, Value, json};

/// Reads one `--mount`.
pub fn parse(text: &str) -> Result<Value, String> {
    let mut mount = Mount {
        kind: "volume".into(),
        ..Mount::default()
    };
    for field in csv(text)? {
        match field.split_once('=') {
            Some((key, value)) => mount.set(&key.to_lowercase(), value, &field)?,
            None => mount.flag(&field)?,
        }
    }
    mount.check()?;
    Ok(mount.into_json())
}

#[derive(Default)]
struct Mount {
    kind: String,
    source: String,
    target: String,
    read_only: bool,
    consistency: String,
    bind: Option<Map<String, Value>>,
    volume: Option<Map<String, Value>>,
    image: Option<Map<String, Value>>,
    tmpfs: Option<Map<String, Value>>,
}

fn put(options: &mut Option<Map<String, Value>>, key: &str, value: impl Into<Value>) {
    options
        .get_or_insert_default()
        .insert(key.into(), value.into());
}

/// `{"DriverConfig": {"Options": {k: v}}}` and the like: the map at `path`, made where it is missing.
fn entry<'m>(
    options: &'m mut Option<Map<String, Value>>,
    path: &[&str],
) -> Option<&'m mut Map<String, Value>> {
    let mut map = options.get_or_insert_default();
    for key in path {
        map = map
            .entry(*key)
            .or_insert_with(|| json!({}))
            .as_object_mut()?;
    }
    Some(map)
}

fn put_pair(options: &mut Option<Map<String, Value>>, path: &[&str], pair: &str) {
    let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
    if let Some(map) = entry(options, path)
        && !key.is_empty()
    {
        map.insert(key.into(), value.into());
    }
}

impl Mount {
    fn flag(&mut self, field: &str) -> Result<(), String> {
        match field.to_lowercase().as_str() {
            "readonly" | "ro" => self.read_only = true,
            "volume-nocopy" => put(&mut self.volume, "NoCopy", true),
            "bind-nonrecursive" => put(&mut self.bind, "NonRecursive", true),
            _ => return Err(format!("invalid field '{field}' must be a key=value pair")),
        }
        Ok(())
    }

    fn set(&mut self, key: &str, value: &str, field: &str) -> Result<(), String> {
        let flag =
            || strconv::parse_bool(value).map_err(|_| format!("invalid value for {key}: {value}"));
        match key {
            "type" => self.kind = value.to_lowercase(),
            "source" | "src" => self.source = absolute(value),
            "target" | "dst" | "destination" => self.target = value.into(),
            "readonly" | "ro" => self.read_only = flag()?,
            "consistency" => self.consistency = value.to_lowercase(),
            "bind-propagation" => put(&mut self.bind, "Propagation", value.to_lowercase()),
            "bind-nonrecursive" => put(&mut self.bind, "NonRecursive", flag()?),
            "bind-recursive" => match value {
                "enabled" => {}
                "disabled" => put(&mut self.bind, "NonRecursive", true),
                "writable" => put(&mut self.bind, "ReadOnlyNonRecursive", true),
                "readonly" => put(&mut self.bind, "ReadOnlyForceRecursive", true),
                _ => {
                    return Err(format!(
                        "invalid value for {key}: {value} (must be \"enabled\", \"disabled\", \"writable\", or \"readonly\")"
                    ));
                }
            },
            "bind-create-src" => put(&mut self.bind, "CreateMountpoint", flag()?),
            "volume-subpath" => put(&mut self.volume, "Subpath", value),
            "volume-nocopy" => put(&mut self.volume, "NoCopy", flag()?),
            "volume-label" => put_pair(&mut self.volume, &["Labels"], value),
            "volume-driver" => {
                if let Some(driver) = entry(&mut self.volume, &["DriverConfig"]) {
                    driver.insert("Name".into(), value.into());
                }
            }
            "volume-opt" => put_pair(&mut self.volume, &["DriverConfig", "Options"], value),
            "image-subpath" => put(&mut self.image, "Subpath", value),
            "tmpfs-size" => {
                let size = units::ram_in_bytes(value)
                    .map_err(|_| format!("invalid value for {key}: {value}"))?;
                put(&mut self.tmpfs, "SizeBytes", size);
            }
            "tmpfs-mode" => {
                let digits = Some(value).filter(|v| !v.starts_with('+')).unwrap_or("");
                let mode = u32::from_str_radix(digits, 8)
                    .map_err(|_| format!("invalid value for {key}: {value}"))?;
                put(&mut self.tmpfs, "Mode", mode);
            }
            _ => return Err(format!("unexpected key '{key}' in '{field}'")),
        }
        Ok(())
    }

    fn check(&self) -> Result<(), String> {
        if self.kind.is_empty() {
            return Err("type is required".into());
        }
        if self.target.is_empty() {
            return Err("target is required".into());
        }
        for (options, kind) in [
            (&self.volume, "volume"),
            (&self.image, "image"),
            (&self.bind, "bind"),
            (&self.tmpfs, "tmpfs"),
        ] {
            if options.is_some() && self.kind != kind {
                return Err(format!(
                    "cannot mix '{kind}-*' options with mount type '{}'",
                    self.kind
                ));
            }
        }
        let Some(bind) = &self.bind else {
            return Ok(());
        };
        if bind.contains_key("ReadOnlyNonRecursive") && !self.read_only {
            return Err("option 'bind-recursive=writable' requires 'readonly' to be specified in conjunction".into());
        }
        if bind.contains_key("ReadOnlyForceRecursive") {
            if !self.read_only {
                return Err("option 'bind-recursive=readonly' requires 'readonly' to be specified in conjunction".into());
            }
            if bind.get("Propagation").and_then(Value::as_str) != Some("rprivate") {
                return Err("option 'bind-recursive=readonly' requires 'bind-propagation=rprivate' to be specified in conjunction".into());
            }
        }
        Ok(())
    }

    fn into_json(self) -> Value {
        let mut out = Map::new();
        out.insert("Type".into(), self.kind.into());
        for (key, text) in [
            ("Source", self.source),
            ("Target", self.target),
            ("Consistency", self.consistency),
        ] {
            if !text.is_empty() {
                out.insert(key.into(), text.into());
            }
        }
        if self.read_only {
            out.insert("ReadOnly".into(), true.into());
        }
        for (key, options) in [
            ("BindOptions", self.bind),
            ("VolumeOptions", self.volume),
            ("ImageOptions", self.image),
            ("TmpfsOptions", self.tmpfs),
        ] {
            if let Some(options) = options {
                out.insert(key.into(), options.into());
            }
        }
        out.into()
    }
}

/// `./x` made absolute; names and absolute paths as they are.
fn absolute(path: &str) -> String {
    if !path.starts_with('.') {
        return path.to_owned();
    }
    super::volume::absolute(path)
}

#[cfg(test)]
mod tests {
    use super::parse;
    use expect_test::{Expect, expect};
    use proptest::prelude::*;

    fn check(text: &str, expected: Expect) {
        expected.assert_eq(&parse(text).map_or_else(|error| error, |value| value.to_string()));
    }

    #[test]
    fn mounts() {
        check(
            "type=bind,src=/a,dst=/b,ro,bind-propagation=rslave",
            expect![[
                r#"{"Type":"bind","Source":"/a","Target":"/b","ReadOnly":true,"BindOptions":{"Propagation":"rslave"}}"#
            ]],
        );
        check(
            "source=v,target=/b,volume-opt=type=nfs,volume-label=a=b,volume-nocopy",
            expect![[
                r#"{"Type":"volume","Source":"v","Target":"/b","VolumeOptions":{"DriverConfig":{"Options":{"type":"nfs"}},"Labels":{"a":"b"},"NoCopy":true}}"#
            ]],
        );
        check(
            "type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=1777",
            expect![[
                r#"{"Type":"tmpfs","Target":"/t","TmpfsOptions":{"SizeBytes":1048576,"Mode":1023}}"#
            ]],
        );
        check("type=foo", expect!["target is required"]);
        check(
            "foo",
            expect!["invalid field 'foo' must be a key=value pair"],
        );
        check("x=y", expect!["unexpected key 'x' in 'x=y'"]);
        check(
            "type=tmpfs,dst=/a,bind-propagation=shared",
            expect!["cannot mix 'bind-*' options with mount type 'tmpfs'"],
        );
        check("type=bind,dst=/a,ro=x", expect!["invalid value for ro: x"]);
    }

    proptest! {
        #[test]
        fn any_text_is_answered(text in "\\PC{0,30}") {
            let _ = parse(&text);
        }
    }
}
