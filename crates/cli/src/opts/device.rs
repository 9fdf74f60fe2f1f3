//! `--device`, `--gpus`, `--ulimit`, and the block device rates and weights.

use super::csv;
use super::volume::clean;
use crate::go::{strconv, units};
use serde_json::{Map, Value, json};

/// What one `--device` means.
#[derive(Debug, PartialEq)]
pub enum Device {
    /// `vendor.com/class=name`: resolved by the daemon.
    Cdi(String),
    /// A `DeviceMapping` of the API.
    Mapping(Value),
}

/// Reads one `--device`.
pub fn device(text: &str) -> Result<Device, String> {
    if is_cdi(text) {
        return Ok(Device::Cdi(text.to_owned()));
    }
    let parts: Vec<&str> = text.split(':').collect();
    if parts.len() > 3 || parts[0].is_empty() {
        return Err(format!("bad format for path: {text}"));
    }
    let (source, target, mode) = match parts.as_slice() {
        [source] => (clean(source), clean(source), "rwm"),
        [source, mode] if is_mode(mode) => (clean(source), clean(source), *mode),
        [source, target] => ((*source).to_owned(), clean(target), "rwm"),
        [source, target, mode] => {
            if !is_mode(mode) {
                return Err(format!("bad mode specified: {mode}"));
            }
            ((*source).to_owned(), (*target).to_owned(), *mode)
        }
        _ => return Err(format!("invalid device specification: {text}")),
    };
    if !target.starts_with('/') {
        return Err(format!("{target} is not an absolute path"));
    }
    Ok(Device::Mapping(
        json!({"PathOnHost": source, "PathInContainer": target, "CgroupPermissions": mode}),
    ))
}

fn is_mode(text: &str) -> bool {
    let once = |c| text.matches(c).count() <= 1;
    !text.is_empty()
        && text.chars().all(|c| matches!(c, 'r' | 'w' | 'm'))
        && once('r')
        && once('w')
        && once('m')
}

/// A qualified CDI name: `vendor/class=name`.
fn is_cdi(text: &str) -> bool {
    let word = |part: &str, extra: &str| {
        part.starts_with(|c: char| c.is_ascii_alphanumeric())
            && part.ends_with(|c: char| c.is_ascii_alphanumeric())
            && part
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || extra.contains(c))
    };
    let Some((kind, name)) = text.split_once('=') else {
        return false;
    };
    let Some((vendor, class)) = kind.split_once('/') else {
        return false;
    };
    vendor.starts_with(|c: char| c.is_ascii_alphabetic())
        && word(vendor, "_-.")
        && class.starts_with(|c: char| c.is_ascii_alphabetic())
        && word(class, "_-")
        && word(name, "_-.:")
}

/// Reads one `--gpus`: gives a `DeviceRequest`.
pub fn gpus(text: &str) -> Result<Value, String> {
    let mut seen: Vec<String> = Vec::new();
    let mut request = Map::new();
    for field in csv(text)? {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (field.as_str(), None),
        };
        if seen.iter().any(|known| known == key) {
            return Err(format!(
                "gpu request key '{key}' can be specified only once"
            ));
        }
        seen.push(key.to_owned());
        let Some(value) = value else {
            seen.push("count".into());
            request.insert("Count".into(), gpu_count(key)?.into());
            continue;
        };
        match key {
            "driver" => request.insert("Driver".into(), value.into()),
            "count" => request.insert("Count".into(), gpu_count(value)?.into()),
            "device" => request.insert("DeviceIDs".into(), value.split(',').collect()),
            "capabilities" => request.insert(
                "Capabilities".into(),
                json!([value.split(',').chain(["gpu"]).collect::<Vec<_>>()]),
            ),
            "options" => {
                let fields =
                    csv(value).map_err(|error| format!("failed to read gpu options: {error}"))?;
                let options: Map<String, Value> = fields
                    .iter()
                    .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
                    .map(|(k, v)| (k.to_owned(), v.into()))
                    .collect();
                request.insert("Options".into(), options.into())
            }
            _ => return Err(format!("unexpected key '{key}' in '{field}'")),
        };
    }
    if !seen.iter().any(|key| key == "count") && !request.contains_key("DeviceIDs") {
        request.insert("Count".into(), 1.into());
    }
    let defaults = [
        ("Driver", json!("")),
        ("Count", json!(0)),
        ("DeviceIDs", Value::Null),
        ("Capabilities", json!([["gpu"]])),
        ("Options", json!({})),
    ];
    for (key, value) in defaults {
        request.entry(key).or_insert(value);
    }
    Ok(request.into())
}

fn gpu_count(text: &str) -> Result<i64, String> {
    if text == "all" {
        return Ok(-1);
    }
    strconv::parse_int_decimal(text).map_err(|error| {
        let reason = error.rsplit(": ").next().unwrap_or_default().to_owned();
        format!("invalid count ({text}): value must be either \"all\" or an integer: {reason}")
    })
}

const ULIMITS: [&str; 15] = [
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// Reads one `--ulimit name=soft[:hard]`: gives `{Name, Soft, Hard}`.
pub fn ulimit(text: &str) -> Result<Value, String> {
    let (name, limits) = text
        .split_once('=')
        .ok_or_else(|| format!("invalid ulimit argument: {text}"))?;
    if !ULIMITS.contains(&name) {
        return Err(format!("invalid ulimit type: {name}"));
    }
    let parts: Vec<&str> = limits.split(':').collect();
    let (soft, hard) = match parts.as_slice() {
        [soft] => (*soft, *soft),
        [soft, hard] => (*soft, *hard),
        _ => {
            return Err(format!(
                "too many limit value arguments - {limits}, can only have up to two, `soft[:hard]`"
            ));
        }
    };
    let hard = strconv::parse_int_decimal(hard)?;
    let soft = strconv::parse_int_decimal(soft)?;
    if hard != -1 && soft == -1 {
        return Err(format!(
            "ulimit soft limit must be less than or equal to hard limit: soft: -1 (unlimited), hard: {hard}"
        ));
    }
    if hard != -1 && soft > hard {
        return Err(format!(
            "ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}"
        ));
    }
    Ok(json!({"Name": name, "Soft": soft, "Hard": hard}))
}

fn device_path(text: &str) -> Result<(&str, &str), String> {
    let (path, value) = text
        .split_once(':')
        .filter(|(path, _)| !path.is_empty())
        .ok_or_else(|| format!("bad format: {text}"))?;
    if !path.starts_with("/dev/") {
        return Err(format!("bad format for device path: {text}"));
    }
    Ok((path, value))
}

/// Reads `/dev/sda:1mb`: gives `{Path, Rate}` in bytes per second.
pub fn rate_bytes(text: &str) -> Result<Value, String> {
    let (path, value) = device_path(text)?;
    let rate = units::ram_in_bytes(value).map_err(|_| {
        format!("invalid rate for device: {text}. The correct format is <device-path>:<number>[<unit>]. Number must be a positive integer. Unit is optional and can be kb, mb, or gb")
    })?;
    Ok(json!({"Path": path, "Rate": rate}))
}

/// Reads `/dev/sda:100`: gives `{Path, Rate}` in operations per second.
pub fn rate_io(text: &str) -> Result<Value, String> {
    let (path, value) = device_path(text)?;
    let rate = strconv::parse_uint_decimal(value, 64)
        .map_err(|_| format!("invalid rate for device: {text}. The correct format is <device-path>:<number>. Number must be a positive integer"))?;
    Ok(json!({"Path": path, "Rate": rate}))
}

/// Reads `/dev/sda:500`: gives `{Path, Weight}`.
pub fn weight(text: &str) -> Result<Value, String> {
    let (path, value) = device_path(text)?;
    let bad = || format!("invalid weight for device: {text}");
    let weight = strconv::parse_uint_decimal(value, 16).map_err(|_| bad())?;
    if weight > 0 && !(10..=1000).contains(&weight) {
        return Err(bad());
    }
    Ok(json!({"Path": path, "Weight": weight}))
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};
    use proptest::prelude::*;

    fn check(answer: Result<Value, String>, expected: Expect) {
        expected.assert_eq(&answer.map_or_else(|error| error, |value| value.to_string()));
    }

    #[test]
    fn devices() {
        assert_eq!(
            device("nvidia.com/gpu=all"),
            Ok(Device::Cdi("nvidia.com/gpu=all".into()))
        );
        let mapping = |text| match device(text) {
            Ok(Device::Mapping(value)) => Ok(value),
            Ok(Device::Cdi(name)) => Err(name),
            Err(error) => Err(error),
        };
        check(
            mapping("/dev/null:/dev/x:rw"),
            expect![[
                r#"{"PathOnHost":"/dev/null","PathInContainer":"/dev/x","CgroupPermissions":"rw"}"#
            ]],
        );
        check(
            mapping("/dev/null:r"),
            expect![[
                r#"{"PathOnHost":"/dev/null","PathInContainer":"/dev/null","CgroupPermissions":"r"}"#
            ]],
        );
        check(mapping("null"), expect!["null is not an absolute path"]);
        check(mapping("/a:/b:x"), expect!["bad mode specified: x"]);
        check(
            mapping("/a:/b:r:x"),
            expect!["bad format for path: /a:/b:r:x"],
        );
    }

    #[test]
    fn gpu_and_limits() {
        check(
            gpus("all"),
            expect![[
                r#"{"Count":-1,"Driver":"","DeviceIDs":null,"Capabilities":[["gpu"]],"Options":{}}"#
            ]],
        );
        check(gpus("x=y"), expect!["unexpected key 'x' in 'x=y'"]);
        check(
            gpus("foo"),
            expect![[
                r#"invalid count (foo): value must be either "all" or an integer: invalid syntax"#
            ]],
        );
        check(
            ulimit("nofile=10:20"),
            expect![[r#"{"Name":"nofile","Soft":10,"Hard":20}"#]],
        );
        check(ulimit("a"), expect!["invalid ulimit argument: a"]);
        check(
            ulimit("nofile=20:10"),
            expect!["ulimit soft limit must be less than or equal to hard limit: 20 > 10"],
        );
        check(
            rate_bytes("/dev/sda:1mb"),
            expect![[r#"{"Path":"/dev/sda","Rate":1048576}"#]],
        );
        check(
            rate_io("/dev/sda:x"),
            expect![
                "invalid rate for device: /dev/sda:x. The correct format is <device-path>:<number>. Number must be a positive integer"
            ],
        );
        check(
            weight("/dev/sda:5"),
            expect!["invalid weight for device: /dev/sda:5"],
        );
    }

    proptest! {
        #[test]
        fn any_text_is_answered(text in "\\PC{0,20}") {
            let _ = (device(&text), gpus(&text), ulimit(&text), rate_bytes(&text), rate_io(&text), weight(&text));
        }
    }
}
